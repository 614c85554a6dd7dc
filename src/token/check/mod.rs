//! Checks that need a process of their own: whether a module ends the process that loads it, what a
//! token reports about its PINs now, and whether objects were really stored.
//!
//! A module that crashes takes its process with it. Many modules keep what a token reported at
//! `C_Initialize`. SoftHSM on a full disk shows new objects only to the process that wrote them.
//! Therefore each question goes to a child process, which loads the module, answers and exits
//! ([`super::answer_check`]). Each process sets once how children are started ([`run_checks_by`]):
//! a command starts them itself ([`CheckProcess`]); the agent's worker, which cannot start
//! programs, asks the supervisor. Without a setting (in unit tests and in the child itself) no
//! check runs.
//!
//! The child gets a PIN over a descriptor, and only a PIN that was just verified: a check spends no
//! try.

mod process;
mod progress;
mod tried_modules;

use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Pin, PinStates, TokenId};

pub use process::{CheckProcess, this_program};
pub(super) use progress::{BEGUN, LOADED};
pub use tried_modules::{forget as forget_tried_module, is_refused};
pub(super) use tried_modules::{has_been_well, refuse_crashing_module};

/// The hidden command with which this program runs as the child.
pub const CHECK_COMMAND: &str = "token-check";

/// The request to a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// the module that the child loads
    pub module: PathBuf,
    pub question: CheckQuestion,
}

/// A question to a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckQuestion {
    /// Loading, initializing, listing the tokens, and finalizing: the module survives all of it.
    Load {},
    /// The states of the PINs of the module's tokens.
    PinStates {},
    /// The objects of this list that are missing on the token. Private objects need its PIN.
    Stored {
        token: TokenId,
        /// the expected objects
        objects: Vec<StoredObject>,
    },
}

/// An object that was stored on a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoredObject {
    /// a private key and its public key
    Key {
        /// `CKA_ID`, hexadecimal
        id: String,
        /// SHA-256 of its `SubjectPublicKeyInfo`, hexadecimal; `None` accepts any
        sha256: Option<String>,
    },
    SecretKey {
        /// `CKA_ID`, hexadecimal
        id: String,
    },
    Certificate {
        /// `CKA_ID`, hexadecimal
        id: String,
        /// SHA-256 of its DER, hexadecimal; `None` accepts any
        sha256: Option<String>,
    },
    /// a data object
    Data {
        /// `CKA_APPLICATION`
        application: String,
        /// `CKA_LABEL`
        label: String,
        /// whether it is visible only after login (`CKA_PRIVATE`)
        private: bool,
        /// SHA-256 of its value, hexadecimal
        sha256: String,
    },
}

/// The answer of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TokenCheckReport {
    /// The module can be used, or all objects are present.
    Well {},
    /// The PIN states of each token.
    PinStates(Vec<(TokenId, PinStates)>),
    /// The missing objects, described for the user.
    Missing(Vec<String>),
    /// The module was loaded, but the token failed; the reason.
    TokenFailed(String),
    /// The module reported that it cannot be loaded or initialized; the process survived.
    ModuleFailed(String),
}

/// The outcome of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CheckOutcome {
    /// The child answered.
    Answered(TokenCheckReport),
    /// The child began to load the module and ended without an answer; how it ended.
    Died(String),
    /// The result is unknown because no child reached the module; the reason.
    Unknown(String),
    /// The module was not loaded after this number of seconds, and the child was killed.
    LoadTookTooLong(u64),
    /// The result is unknown: the child was killed after this number of seconds.
    TookTooLong(u64),
}

impl CheckOutcome {
    /// The reason why the answer is unknown.
    pub(super) fn why_unknown(&self) -> String {
        match self {
            Self::Answered(TokenCheckReport::ModuleFailed(reason) | TokenCheckReport::TokenFailed(reason))
            | Self::Unknown(reason) => reason.clone(),
            Self::Answered(_) => "the check process gave an unexpected answer".to_owned(),
            Self::Died(how) => format!("the check process ended {how}"),
            Self::LoadTookTooLong(seconds) => format!("the module was not loaded after {seconds} seconds"),
            Self::TookTooLong(seconds) => format!("the check process took longer than {seconds} seconds"),
        }
    }
}

/// Starts child processes.
pub trait CheckRunner: Send + Sync {
    /// Has one child answer one question. The child gets the PIN over a descriptor.
    fn run(&self, request: &CheckRequest, pin: Option<&Pin>) -> CheckOutcome;
}

static RUNNER: OnceLock<Box<dyn CheckRunner>> = OnceLock::new();

/// Sets how this process runs its checks. Call it once, before the first module is loaded.
pub fn run_checks_by(runner: impl CheckRunner + 'static) {
    // The first setting wins.
    let _ = RUNNER.set(Box::new(runner));
}

/// Runs the check; `None` if this process has no runner.
pub(super) fn ask(request: &CheckRequest, pin: Option<&Pin>) -> Option<CheckOutcome> {
    let outcome = RUNNER.get()?.run(request, pin);
    tracing::debug!(module = %request.module.display(), ?outcome, "ran a check in a child process");
    Some(outcome)
}

/// A text from a module or a token as one line of at most `longest` characters.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).take(longest).collect()
}
