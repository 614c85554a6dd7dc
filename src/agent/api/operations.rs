//! `/v1/operations`: runs an operation for one of tokenkeep's commands, which supplies PINs and
//! network access.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{ApiError, HttpStatus};
use super::http::ApiResponse;
use crate::agent::operation::{
    ClientPrompter, ClientReply, ClientTransport, OperationEvent, OperationRequest, OperationSession,
    WireStatementChannel,
};
use crate::agent::{ClientConnection, Keystore, PeerProcess, Usage, UsagePurpose};
use crate::keyset::ErrorKind;

/// The operations that run in this process, by the identifier that their replies name.
static RUNNING_OPERATIONS: Mutex<Option<HashMap<String, Arc<OperationSession>>>> = Mutex::new(None);

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Runs the operation over this connection, which closes with it.
pub fn serve(stream: &Arc<UnixStream>, request: OperationRequest, peer: PeerProcess, keystore: &Keystore) {
    let begun = (&**stream).write_all(HEAD).and_then(|()| OperationSession::start(Arc::clone(stream)));
    let Ok(session) = begun else { return };
    let line = match RunningOperation::begin(&session) {
        Ok(named) => {
            session.send_event(&OperationEvent::Begun { id: named.0.clone() });
            let usage = Usage { peer, purpose: purpose(&request), client: ClientConnection::of(stream) };
            let mut person = ClientPrompter(&session);
            match keystore.run_operation(request, &mut person, &ClientTransport(&session), &usage) {
                Ok(answer) => OperationEvent::Done(Box::new(answer)),
                Err(error) => OperationEvent::Failed { kind: error.kind(), message: error.to_string() },
            }
        }
        Err(error) => OperationEvent::Failed {
            kind: ErrorKind::Fault,
            message: format!("cannot {}: {error}", request.operation()),
        },
    };
    session.end(&line);
}

/// `POST /v1/operations/{id}/answer`
pub fn answer(id: &str, answer: ClientReply) -> Result<ApiResponse, ApiError> {
    let session = running_operations().as_ref().and_then(|running| running.get(id).cloned()).ok_or_else(|| {
        ApiError::new(HttpStatus::NOT_FOUND, ErrorKind::Absent, "cannot answer: no such operation is running")
    })?;
    session.answer(answer).map_err(|reason| {
        ApiError::new(HttpStatus::CONFLICT, ErrorKind::Refused, format!("cannot answer: {reason}"))
    })?;
    Ok(ApiResponse::done())
}

/// The purpose that a prompt of the agent shows.
fn purpose(request: &OperationRequest) -> UsagePurpose {
    match request {
        OperationRequest::Sign { content, .. } => super::sign::purpose(content.as_slice()),
        OperationRequest::Decrypt { message, .. } => super::decrypt::purpose(message.as_slice()),
        OperationRequest::Administer { admin_operation, channel, .. } => UsagePurpose::Statement {
            operation: admin_operation.name().to_owned(),
            target: admin_operation.target().map(str::to_owned),
            opens_letter: *channel == WireStatementChannel::Online && admin_operation.returns_letter(),
        },
        other => UsagePurpose::Operation(other.operation()),
    }
}

/// Registers an operation while it runs.
struct RunningOperation(String);

impl RunningOperation {
    fn begin(session: &Arc<OperationSession>) -> Result<Self, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let id = hex::encode(random);
        running_operations().get_or_insert_default().insert(id.clone(), Arc::clone(session));
        Ok(Self(id))
    }
}

impl Drop for RunningOperation {
    fn drop(&mut self) {
        if let Some(running) = running_operations().as_mut() {
            running.remove(&self.0);
        }
    }
}

fn running_operations() -> MutexGuard<'static, Option<HashMap<String, Arc<OperationSession>>>> {
    RUNNING_OPERATIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
