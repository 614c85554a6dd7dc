//! The messages between a command and the agent. PINs, letters and messages to the authority are
//! the frames' payloads.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::agent::prompt_answer::PromptAnswer;
use crate::keyset::{KeysetError, Notice, Outcome, Prompt, Step};
use crate::transport::TransportError;

/// A call of the command. The payload is the operation's secret.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CommandCall {
    /// report the agent's status; the reply is [`AgentStatus`](crate::agent::AgentStatus)
    Status,
    /// run an operation
    Run {
        /// the name of its type ([`crate::keyset::OperationName`])
        operation: String,
        arguments: Box<RawValue>,
        /// which files accompany it, in this order
        has_input: bool,
        has_output: bool,
    },
}

/// The agent's reply to [`CommandCall::Run`]: the outcome with the operation's output, or its
/// error. The payload is the secret of the output.
pub(super) type OperationReply<T> = Result<Outcome<T>, KeysetError>;

/// A call of the agent while it runs an operation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AgentCall {
    Ask(Prompt),
    Network(NetworkRequest),
    /// no reply
    Progress(Step),
    /// no reply
    Notice(Notice),
}

/// A request to the authority ([`crate::transport::Transport`]). It has no address: the command's
/// own transport decides where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NetworkRequest {
    /// the payload is a CMP message, DER
    Cmp,
    /// fetch the CA certificate
    CaCertificate,
    /// search the certificates of an e-mail address
    SearchCertificates(String),
    /// fetch the instance number of the running authority
    Instance,
    /// the payload is a signed statement, DER
    Statement,
}

/// The command's reply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CommandReply {
    Prompt(PromptAnswer),
    /// the payload is the authority's response
    NetworkReply,
    /// the certificates found
    Certificates(Vec<FoundCertificate>),
    /// no response arrived
    NetworkFailed(TransportError),
}

/// A certificate in DER.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FoundCertificate(#[serde(with = "crate::base64_bytes")] pub Vec<u8>);
