//! Replies of the command to the agent: a person's answers to the agent's questions, and the
//! authority's answers to its network requests.
//!
//! This module must never answer a question without the person. A network request contains no
//! address: the command's own transport decides where it goes.

use crate::agent::operation::{ClientQuestion, NetworkRequest, ReplyValue};
use crate::keyset::{NoPin, Prompt, PromptReply, UserPrompter};
use crate::transport::Transport;

/// Asks the person the agent's question. `operation` is the one that the user typed.
pub fn answer_question(
    question: &ClientQuestion,
    operation: &'static str,
    person: &mut dyn UserPrompter,
) -> ReplyValue {
    match person.ask(question.prompt(operation)) {
        Ok(PromptReply::Pin(pin)) if pin.is_attended() => ReplyValue::Pin(pin.as_str().as_bytes().into()),
        Ok(PromptReply::Pin(pin)) => ReplyValue::UnattendedPin(pin.as_str().as_bytes().into()),
        Ok(PromptReply::Yes) => ReplyValue::Yes {},
        Err(reason) => ReplyValue::No(reason),
    }
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

/// For operations that ask nothing.
pub struct NoPrompter;

impl UserPrompter for NoPrompter {
    fn ask(&mut self, _prompt: Prompt<'_>) -> Result<PromptReply, NoPin> {
        Err(NoPin::Unavailable("this operation asks nothing".to_owned()))
    }
}
