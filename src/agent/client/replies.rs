//! Replies of the command to the agent: a person's answers to the agent's questions, and the
//! authority's answers to its network requests.
//!
//! This module must never answer a question without the person. A network request contains no
//! address: the command's own transport decides where it goes.

use std::os::unix::net::UnixStream;

use crate::agent::operation::{ClientQuestion, NetworkRequest, ReplyValue};
use crate::keyset::{NoPin, PinRequest, SoPrompter, UserPrompter};
use crate::token::{Pin, TokenInfo};
use crate::transport::Transport;

/// Asks the person the agent's question. `operation` is the one that the user typed.
pub fn answer_question(
    question: &ClientQuestion,
    operation: &'static str,
    person: &mut dyn UserPrompter,
) -> ReplyValue {
    let pin = match question {
        ClientQuestion::Existing { token, .. } => person.pin(PinRequest::Existing { operation, token }),
        ClientQuestion::Resumed { token } => person.pin(PinRequest::Resumed { token }),
        ClientQuestion::New { label, rule } => person.pin(PinRequest::New { label, rule: *rule }),
        ClientQuestion::NewSoPin { label } => person.pin(PinRequest::NewSoPin { label }),
        ClientQuestion::LastTry { token } => return confirmation_reply(person.confirm_last_try(token)),
        ClientQuestion::LastSoTry { token } => {
            return confirmation_reply(so_prompter(person).and_then(|so_prompter| so_prompter.confirm_last_try(token)));
        }
        ClientQuestion::SoPin { token } => so_prompter(person).and_then(|so_prompter| so_prompter.so_pin(token)),
        ClientQuestion::ReplacementPin { token, rule } => {
            so_prompter(person).and_then(|so_prompter| so_prompter.new_pin(token, *rule))
        }
    };
    match pin {
        Ok(pin) if pin.is_attended() => ReplyValue::Pin(pin.as_str().as_bytes().into()),
        Ok(pin) => ReplyValue::UnattendedPin(pin.as_str().as_bytes().into()),
        Err(reason) => ReplyValue::No(reason),
    }
}

fn confirmation_reply(answer: Result<(), NoPin>) -> ReplyValue {
    match answer {
        Ok(()) => ReplyValue::Yes {},
        Err(reason) => ReplyValue::No(reason),
    }
}

fn so_prompter(person: &mut dyn UserPrompter) -> Result<&mut dyn SoPrompter, NoPin> {
    person.so_prompter().ok_or_else(|| NoPin::Unavailable("no SO PIN is available here".to_owned()))
}

pub fn run_network_request(request: NetworkRequest, transport: &dyn Transport) -> ReplyValue {
    let reply = match request {
        NetworkRequest::Cmp(message) => transport.cmp(message.as_slice()),
        NetworkRequest::CaCertificate {} => transport.ca_certificate(),
        NetworkRequest::Instance {} => transport.instance(),
        NetworkRequest::Statement(statement) => transport.statement(statement.as_slice()),
        NetworkRequest::SearchCertificates(email) => {
            return match transport.search_certificates(&email) {
                Ok(found) => ReplyValue::Certificates(found.into_iter().map(Into::into).collect()),
                Err(error) => ReplyValue::NetworkFailed(error),
            };
        }
    };
    match reply {
        Ok(bytes) => ReplyValue::NetworkReply(bytes.into()),
        Err(error) => ReplyValue::NetworkFailed(error),
    }
}

/// The prompter of the operation that asks only for the SO PIN (`pin unblock`).
pub struct SoPinOnly<'a>(pub &'a mut dyn SoPrompter);

impl UserPrompter for SoPinOnly<'_> {
    fn pin(&mut self, _request: PinRequest<'_>) -> Result<Pin, NoPin> {
        Err(NoPin::Unavailable("this operation asks only for the SO PIN".to_owned()))
    }

    fn confirm_last_try(&mut self, _token: &TokenInfo) -> Result<(), NoPin> {
        Err(NoPin::LastTry)
    }

    fn so_prompter(&mut self) -> Option<&mut dyn SoPrompter> {
        Some(&mut *self.0)
    }

    fn watch_connection(&mut self, connection: &UnixStream) {
        self.0.watch_connection(connection);
    }
}

/// The prompter of operations that ask nothing.
pub struct NoPrompter;

impl UserPrompter for NoPrompter {
    fn pin(&mut self, _request: PinRequest<'_>) -> Result<Pin, NoPin> {
        Err(NoPin::Unavailable("this operation does not ask for a PIN".to_owned()))
    }

    fn confirm_last_try(&mut self, _token: &TokenInfo) -> Result<(), NoPin> {
        Err(NoPin::LastTry)
    }
}
