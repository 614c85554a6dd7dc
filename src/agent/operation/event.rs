//! The messages of an operation: the agent sends lines of JSON, the command posts replies.

use serde::{Deserialize, Serialize};

use super::{Bytes, OperationOutput};
use crate::keyset::{ErrorKind, NoPin, Notice, Prompt, Step};
use crate::token::{PinRule, TokenInfo, WhichPin};
use crate::transport::TransportError;

/// One line from the agent. The last line is `done` or `failed`; without it the operation was
/// interrupted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperationEvent {
    /// the operation has started; replies go to this identifier
    Begun {
        /// random, in hexadecimal
        id: String,
    },
    /// a question to the person; the operation waits for the reply
    Ask {
        /// counted from 1, together with network requests
        number: u32,
        question: ClientQuestion,
    },
    /// a request to the authority; the operation waits for the reply
    NetworkRequest {
        /// counted from 1, together with questions
        number: u32,
        request: NetworkRequest,
    },
    /// the step that the operation has reached
    Progress(Step),
    /// information for the user
    Notice(Notice),
    /// the operation succeeded
    Done(Box<OperationOutput>),
    /// the operation failed
    Failed {
        /// the kind of error, which decides the exit code
        kind: ErrorKind,
        /// the complete sentence
        message: String,
    },
}

/// A question to the person ([`crate::keyset::UserPrompter`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientQuestion {
    /// the token's current PIN
    Existing {
        /// the purpose, completing "to …"
        operation: String,
        token: TokenInfo,
    },
    /// the PIN that was new when an interrupted enrollment began
    Resumed { token: TokenInfo },
    /// a new PIN
    New {
        /// the label of the token
        label: String,
        /// its serial number; `None` if it is still to be created
        #[serde(default)]
        serial: Option<String>,
        /// the rule for the new PIN, if known
        #[serde(default)]
        rule: Option<PinRule>,
    },
    /// a new token's SO PIN
    NewSoPin {
        /// the label of the token
        label: String,
    },
    /// the token's current SO PIN
    SoPin { token: TokenInfo },
    /// whether to risk the last try of the SO PIN
    LastSoTry { token: TokenInfo },
    /// whether to risk the last try of the PIN
    LastTry { token: TokenInfo },
}

impl ClientQuestion {
    /// `None` for a question that the command must not answer: a confirmation of its own use.
    pub fn of(prompt: Prompt<'_>) -> Option<Self> {
        Some(match prompt {
            Prompt::Pin { operation, token } => {
                Self::Existing { operation: operation.to_owned(), token: token.clone() }
            }
            Prompt::ResumedPin { token } => Self::Resumed { token: token.clone() },
            Prompt::NewPin { label, serial, rule } => {
                Self::New { label: label.to_owned(), serial: serial.map(ToOwned::to_owned), rule }
            }
            Prompt::NewSoPin { label } => Self::NewSoPin { label: label.to_owned() },
            Prompt::SoPin { token } => Self::SoPin { token: token.clone() },
            Prompt::LastTry { token, which: WhichPin::User } => Self::LastTry { token: token.clone() },
            Prompt::LastTry { token, which: WhichPin::SecurityOfficer } => Self::LastSoTry { token: token.clone() },
            Prompt::Use { .. } => return None,
        })
    }

    /// The prompt, with the name of the operation that the user typed.
    pub fn prompt(&self, operation: &'static str) -> Prompt<'_> {
        match self {
            Self::Existing { token, .. } => Prompt::Pin { operation, token },
            Self::Resumed { token } => Prompt::ResumedPin { token },
            Self::New { label, serial, rule } => Prompt::NewPin { label, serial: serial.as_deref(), rule: *rule },
            Self::NewSoPin { label } => Prompt::NewSoPin { label },
            Self::SoPin { token } => Prompt::SoPin { token },
            Self::LastTry { token } => Prompt::LastTry { token, which: WhichPin::User },
            Self::LastSoTry { token } => Prompt::LastTry { token, which: WhichPin::SecurityOfficer },
        }
    }
}

/// A request to the authority ([`crate::transport::Transport`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkRequest {
    /// a CMP message, DER
    Cmp(Bytes),
    /// fetch the CA certificate
    CaCertificate {},
    /// search the certificates of an e-mail address
    SearchCertificates(String),
    /// fetch the instance number of the running authority
    Instance {},
    /// a signed statement, DER
    Statement(Bytes),
}

/// The command's reply to a question or a network request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientReply {
    /// the number of the question or network request
    pub number: u32,
    pub reply: ReplyValue,
}

/// The content of a reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReplyValue {
    /// the PIN, UTF-8, typed by a person
    Pin(Bytes),
    /// the PIN, UTF-8, from a file, a descriptor or a credential
    UnattendedPin(Bytes),
    /// no PIN, or no confirmation
    No(NoPin),
    /// confirmed
    Yes {},
    /// the authority's response
    NetworkReply(Bytes),
    /// the certificates found, each in DER
    Certificates(Vec<Bytes>),
    /// no response arrived
    NetworkFailed(TransportError),
}
