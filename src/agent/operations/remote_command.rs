//! The command behind a running operation: it is asked for PINs and for the network.

use std::cell::RefCell;

use super::protocol::{AgentCall, CommandReply, FoundCertificate, NetworkRequest};
use crate::agent::ClientConnection;
use crate::ipc::{Exchange, Frame, IpcError};
use crate::keyset::{NoPin, Notice, OperationObserver, Prompt, PromptReply, Step, UserPrompter};
use crate::transport::{Transport, TransportError};

/// The connection to the command. The first failure ends it: no further question is asked.
pub(super) struct RemoteCommand<'a> {
    exchange: &'a RefCell<Exchange>,
    client: &'a ClientConnection,
    ended: RefCell<Option<NoPin>>,
}

/// The command as an operation's [`UserPrompter`].
pub(super) struct RemotePrompter<'a>(pub &'a RemoteCommand<'a>);

/// The command as an operation's [`Transport`].
pub(super) struct RemoteTransport<'a>(pub &'a RemoteCommand<'a>);

impl<'a> RemoteCommand<'a> {
    pub fn new(exchange: &'a RefCell<Exchange>, client: &'a ClientConnection) -> Self {
        Self { exchange, client, ended: RefCell::default() }
    }

    fn call(&self, call: AgentCall, payload: &[u8]) -> Result<Frame<CommandReply>, NoPin> {
        if let Some(reason) = &*self.ended.borrow() {
            return Err(reason.clone());
        }
        let reply = self.exchange.borrow_mut().request(call, payload);
        let reason = match reply {
            // A reply that came before the command hung up is valid, but nobody waits for the
            // result.
            Ok(_) if self.client.has_hung_up() => NoPin::Withdrawn,
            Ok(reply) => return Ok(reply),
            Err(IpcError::Timeout) => NoPin::Cancelled,
            Err(_) => NoPin::Withdrawn,
        };
        Err(self.ended.borrow_mut().insert(reason).clone())
    }

    fn notify(&self, call: AgentCall) {
        if self.ended.borrow().is_none() && self.exchange.borrow().notify(call).is_err() {
            *self.ended.borrow_mut() = Some(NoPin::Withdrawn);
        }
    }
}

impl UserPrompter for RemotePrompter<'_> {
    fn ask(&mut self, prompt: &Prompt) -> Result<PromptReply, NoPin> {
        if matches!(prompt, Prompt::Use { .. }) {
            return Err(NoPin::Unavailable("a command cannot confirm its own request".to_owned()));
        }
        let Frame { message, payload, .. } = self.0.call(AgentCall::Ask(prompt.clone()), b"")?;
        match message {
            CommandReply::Prompt(answer) => answer.into_reply(&payload),
            _ => Err(NoPin::Unavailable("the command's reply does not match the question".to_owned())),
        }
    }
}

impl OperationObserver for RemotePrompter<'_> {
    fn progress(&mut self, step: Step) {
        self.0.notify(AgentCall::Progress(step));
    }

    fn notice(&mut self, notice: Notice) {
        self.0.notify(AgentCall::Notice(notice));
    }
}

impl RemoteTransport<'_> {
    fn call(&self, request: NetworkRequest, payload: &[u8]) -> Result<Frame<CommandReply>, TransportError> {
        match self.0.call(AgentCall::Network(request), payload) {
            Ok(Frame { message: CommandReply::NetworkFailed(error), .. }) => Err(error),
            Ok(reply) => Ok(reply),
            // As when the command is killed: the request may have arrived, and the same letter
            // resumes it.
            Err(_) => Err(unreachable("the command has exited")),
        }
    }

    fn bytes(&self, request: NetworkRequest, payload: &[u8]) -> Result<Vec<u8>, TransportError> {
        match self.call(request, payload)? {
            Frame { message: CommandReply::NetworkReply, mut payload, .. } => Ok(std::mem::take(&mut *payload)),
            _ => Err(unexpected_reply()),
        }
    }
}

impl Transport for RemoteTransport<'_> {
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::Cmp, message)
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::CaCertificate, b"")
    }

    fn search_certificates(&self, email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        match self.call(NetworkRequest::SearchCertificates(email.to_owned()), b"")?.message {
            CommandReply::Certificates(found) => Ok(found.into_iter().map(|FoundCertificate(der)| der).collect()),
            _ => Err(unexpected_reply()),
        }
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::Instance, b"")
    }

    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.bytes(NetworkRequest::Statement, statement)
    }
}

/// Reported as an interruption, not a refusal: an error of this protocol must not discard a letter.
fn unexpected_reply() -> TransportError {
    unreachable("the command's reply does not match the network request")
}

fn unreachable(reason: &str) -> TransportError {
    TransportError::Unreachable {
        url: "the other end of the command's connection".to_owned(),
        reason: reason.to_owned(),
    }
}
