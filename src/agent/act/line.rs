//! What the two sides of an act say to each other: the agent in lines of JSON, the command in answers to them.

use serde::{Deserialize, Serialize};

use super::{ActAnswer, Bytes};
use crate::carrier::CarrierError;
use crate::keyset::{ErrorKind, NoPin, Notice, PinRequest, Step};
use crate::token::{PinRule, TokenInfo};

/// One line from the agent. The last one is `done` or `failed`; without it the act did not come to its end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Line {
    /// the act has begun; answers go to this name
    Begun {
        /// random, hexadecimal
        id: String,
    },
    /// a question to the person; the act waits for the answer
    Ask {
        /// counted from 1, errands included
        number: u32,
        /// what
        question: Asked,
    },
    /// bytes to be taken to the authority; the act waits for the answer
    Carry {
        /// counted from 1, questions included
        number: u32,
        /// what
        errand: Errand,
    },
    /// how far the act is
    Progress(Step),
    /// something to know
    Notice(Notice),
    /// it is done
    Done(Box<ActAnswer>),
    /// it is not
    Failed {
        /// the end that this leads to
        kind: ErrorKind,
        /// the whole sentence
        message: String,
    },
}

/// A question to the person ([`crate::keyset::Person`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Asked {
    /// the PIN that the token has
    Existing {
        /// what for, completing "to …"
        operation: String,
        /// which token
        token: TokenInfo,
    },
    /// the PIN that was new when an enrollment began that was cut off
    Resumed {
        /// which token
        token: TokenInfo,
    },
    /// a new PIN
    New {
        /// for the token of this label
        label: String,
        /// what it has to be, where that is known
        #[serde(default)]
        rule: Option<PinRule>,
    },
    /// a new token's SO PIN
    NewSoPin {
        /// for the token of this label
        label: String,
    },
    /// the SO PIN that the token has
    SoPin {
        /// which token
        token: TokenInfo,
    },
    /// a new PIN in the place of one that is locked or forgotten
    NewInstead {
        /// on which token
        token: TokenInfo,
        /// what it has to be
        rule: PinRule,
    },
    /// whether to risk the last try of the SO PIN
    LastSoTry {
        /// which token
        token: TokenInfo,
    },
    /// whether to risk the token's last try
    LastTry {
        /// which token
        token: TokenInfo,
    },
}

impl From<PinRequest<'_>> for Asked {
    fn from(request: PinRequest<'_>) -> Self {
        match request {
            PinRequest::Existing { operation, token } => {
                Self::Existing { operation: operation.to_owned(), token: token.clone() }
            }
            PinRequest::Resumed { token } => Self::Resumed { token: token.clone() },
            PinRequest::New { label, rule } => Self::New { label: label.to_owned(), rule },
            PinRequest::NewSoPin { label } => Self::NewSoPin { label: label.to_owned() },
        }
    }
}

/// Something to be taken to the authority ([`crate::carrier::Carrier`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Errand {
    /// a CMP message, DER
    Cmp(Bytes),
    /// to fetch the CA certificate
    CaCertificate {},
    /// to look for the certificates of an e-mail address
    SearchCertificates(String),
    /// to fetch the number of the authority's run
    Instance {},
    /// a signed statement, DER
    Statement(Bytes),
}

/// The command's answer to a question or an errand.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyTo {
    /// the question's or errand's number
    pub number: u32,
    /// the answer
    pub reply: Reply,
}

/// What the command answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// the PIN, UTF-8, as a person has typed it
    Pin(Bytes),
    /// the PIN, UTF-8, from a file, a descriptor or a credential
    UnattendedPin(Bytes),
    /// there is none, or no yes
    No(NoPin),
    /// yes
    Yes {},
    /// what the authority answered
    Carried(Bytes),
    /// the certificates found, DER
    Certificates(Vec<Bytes>),
    /// no answer came back
    NotCarried(CarrierError),
}
