//! Questions that only a process with a module of its own can answer: does the module end the process that loads it, what
//! does a token say about its PIN now, is what was stored really there?
//!
//! A module that crashes takes its process with it; many keep what a token says from `C_Initialize` on; and SoftHSM on a
//! full disk shows objects to the process that wrote them, and to no other. So each question goes to a child that loads
//! the module afresh, answers and ends ([`answer`]). Who starts it is said once a process ([`run_checks_by`]): a command
//! starts it itself ([`CheckProcess`]), the agent's worker, which can start no program, has the broker do it. Where nobody
//! was named (in unit tests, and in the child itself), nothing is asked.
//!
//! A PIN goes along by a descriptor, and only one that has just been found right: no try is spent here.

mod child;
mod process;
mod tried;

use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Pin, PinStates};

pub use child::{answer, take_request};
pub use process::{CheckProcess, this_program};
pub use tried::{forget as forget_tried_module, is_refused};
pub(super) use tried::{has_been_well, must_survive};

/// The verb by which this program answers; no person types it.
pub const CHECK_VERB: &str = "token-check";

/// What is asked of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// the module, which the child loads
    pub module: PathBuf,
    /// what is asked
    pub question: CheckQuestion,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckQuestion {
    /// Can the module be loaded, started, asked for its tokens, and stopped?
    Load {},
    /// What do the module's tokens say about their PINs?
    PinStates {},
    /// Which of these objects are missing on the token of this serial number? Private ones are seen with its PIN alone.
    Stored {
        /// its serial number
        serial: String,
        /// what should be there
        objects: Vec<StoredObject>,
    },
}

/// Something that was stored on a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoredObject {
    /// a private key, with its public one
    Key {
        /// `CKA_ID`, hexadecimal
        id: String,
        /// SHA-256 of its `SubjectPublicKeyInfo`, hexadecimal; none: any
        sha256: Option<String>,
    },
    /// a secret key
    SecretKey {
        /// `CKA_ID`, hexadecimal
        id: String,
    },
    /// a certificate
    Certificate {
        /// `CKA_ID`, hexadecimal
        id: String,
        /// SHA-256 of its DER, hexadecimal; none: any
        sha256: Option<String>,
    },
    /// a data object
    Data {
        /// `CKA_APPLICATION`
        application: String,
        /// its label
        label: String,
        /// seen only after log-in?
        private: bool,
        /// SHA-256 of its value, hexadecimal
        sha256: String,
    },
}

/// What a child answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckReport {
    /// The module can be used; or all of what was asked for is there.
    Well {},
    /// What each token says about its PINs, by its serial number.
    PinStates(Vec<(String, PinStates)>),
    /// These are missing, in words.
    Missing(Vec<String>),
    /// The module was loaded, and the token is not as it should be.
    TokenFailed(String),
    /// The module cannot be loaded or started; it says so, and ends nobody.
    ModuleFailed(String),
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckOutcome {
    /// The child has answered.
    Answered(CheckReport),
    /// The child began with the module, and ended without an answer: how.
    Died(String),
    /// Nothing is known: no child could be started.
    Unknown(String),
    /// After so many seconds the module was not loaded yet, and the child was ended.
    LoadTookTooLong(u64),
    /// Nothing is known: after so many seconds it had not ended, and was ended.
    TookTooLong(u64),
}

impl CheckOutcome {
    /// Why what was asked for is not known.
    pub(super) fn why_unknown(&self) -> String {
        match self {
            Self::Answered(CheckReport::ModuleFailed(reason) | CheckReport::TokenFailed(reason))
            | Self::Unknown(reason) => reason.clone(),
            Self::Answered(_) => "the process that looked has answered something else".to_owned(),
            Self::Died(how) => format!("the process that looked ended {how}"),
            Self::LoadTookTooLong(seconds) => format!("the module was not loaded after {seconds} seconds"),
            Self::TookTooLong(seconds) => format!("the process that looked took longer than {seconds} seconds"),
        }
    }
}

/// Starts the children.
pub trait CheckRunner: Send + Sync {
    /// Has one child answer one question. The PIN goes to it by a descriptor.
    fn run(&self, request: &CheckRequest, pin: Option<&Pin>) -> CheckOutcome;
}

static RUNNER: OnceLock<Box<dyn CheckRunner>> = OnceLock::new();

/// From now on this process has its questions answered so. Once a process, before it loads a module.
pub fn run_checks_by(runner: impl CheckRunner + 'static) {
    // Who was named first stays it.
    let _ = RUNNER.set(Box::new(runner));
}

/// Asks; none where nobody was named who starts children.
pub(super) fn ask(request: &CheckRequest, pin: Option<&Pin>) -> Option<CheckOutcome> {
    let outcome = RUNNER.get()?.run(request, pin);
    tracing::debug!(module = %request.module.display(), ?outcome, "asked a process of its own");
    Some(outcome)
}

/// Text of a module's or of a token's, as one short line.
fn one_line(text: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).take(longest).collect()
}
