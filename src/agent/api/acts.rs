//! `/v1/acts`: runs an operation for one of tokenkeep's commands, which supplies PINs and network
//! access.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{ApiError, Status};
use super::http::Answer;
use crate::agent::act::{ActRequest, Conversation, Line, OnlineOrFile, RemoteCarrier, RemotePerson, ReplyTo};
use crate::agent::{ClientConnection, Keystore, Peer, Purpose, Usage};
use crate::keyset::ErrorKind;

/// The operations that run in this process, by the identifier that their replies name.
static GOING_ON: Mutex<Option<HashMap<String, Arc<Conversation>>>> = Mutex::new(None);

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Runs the operation over this connection, which closes with it.
pub fn serve(stream: &Arc<UnixStream>, request: ActRequest, peer: Peer, keystore: &Keystore) {
    let begun = (&**stream).write_all(HEAD).and_then(|()| Conversation::over(Arc::clone(stream)));
    let Ok(conversation) = begun else { return };
    let line = match Named::begin(&conversation) {
        Ok(named) => {
            conversation.say(&Line::Begun { id: named.0.clone() });
            let usage = Usage { peer, purpose: purpose(&request), client: ClientConnection::of(stream) };
            let mut person = RemotePerson(&conversation);
            match keystore.act(request, &mut person, &RemoteCarrier(&conversation), &usage) {
                Ok(answer) => Line::Done(Box::new(answer)),
                Err(error) => Line::Failed { kind: error.kind(), message: error.to_string() },
            }
        }
        Err(error) => {
            Line::Failed { kind: ErrorKind::Fault, message: format!("cannot {}: {error}", request.operation()) }
        }
    };
    conversation.end(&line);
}

/// `POST /v1/acts/{id}/answer`
pub fn answer(id: &str, answer: ReplyTo) -> Result<Answer, ApiError> {
    let conversation = going_on().as_ref().and_then(|acts| acts.get(id).cloned()).ok_or_else(|| {
        ApiError::new(Status::NOT_FOUND, ErrorKind::Absent, "cannot answer: no such operation is running")
    })?;
    conversation
        .answer(answer)
        .map_err(|reason| ApiError::new(Status::CONFLICT, ErrorKind::Refused, format!("cannot answer: {reason}")))?;
    Ok(Answer::done())
}

/// The purpose that a prompt of the agent shows.
fn purpose(request: &ActRequest) -> Purpose {
    match request {
        ActRequest::Sign { content, .. } => super::sign::purpose(content.as_slice()),
        ActRequest::Decrypt { message, .. } => super::open::purpose(message.as_slice()),
        ActRequest::Administer { order, way, .. } => Purpose::Statement {
            operation: order.name().to_owned(),
            target: order.target().map(str::to_owned),
            opens_letter: *way == OnlineOrFile::Online && order.brings_letter(),
        },
        other => Purpose::Act(other.operation()),
    }
}

/// Registers an operation while it runs.
struct Named(String);

impl Named {
    fn begin(conversation: &Arc<Conversation>) -> Result<Self, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let id = hex::encode(random);
        going_on().get_or_insert_default().insert(id.clone(), Arc::clone(conversation));
        Ok(Self(id))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(acts) = going_on().as_mut() {
            acts.remove(&self.0);
        }
    }
}

fn going_on() -> MutexGuard<'static, Option<HashMap<String, Arc<Conversation>>>> {
    GOING_ON.lock().unwrap_or_else(PoisonError::into_inner)
}
