//! The agent's side: runs one operation for a command.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::protocol::{CommandCall, OperationReply};
use super::remote_command::{RemoteCommand, RemotePrompter, RemoteTransport};
use crate::agent::{ClientConnection, Keystore, PeerProcess, Requester};
use crate::ipc::{Exchange, Frame, IpcError, announce_build};
use crate::keyset::ops::{self, OperationVisitor};
use crate::keyset::{Attachments, ContentWatch, ErrorKind, KeysetError, Operation};

/// Maximum time that a command may take to send its call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum time that a command may take to reply, because others wait for the token. Its network
/// requests time out sooner.
const REPLY_TIMEOUT: Duration = Duration::from_mins(5);

/// Serves one call of a command; the connection ends with it.
pub fn serve(stream: UnixStream, peer: PeerProcess, keystore: &Arc<Keystore>) {
    if let Err(error) = serve_call(stream, peer, keystore) {
        tracing::debug!(%error, peer.pid, "the connection of a command ended");
    }
}

fn serve_call(stream: UnixStream, peer: PeerProcess, keystore: &Arc<Keystore>) -> Result<(), IpcError> {
    let stream = Arc::new(stream);
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    // A command that does not read its questions times out, too.
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    let mut exchange = Exchange::new(Arc::clone(&stream));
    let (number, Frame { message, payload, files }) = match exchange.receive_call() {
        Err(IpcError::OtherBuild) => return announce_build(&stream),
        received => received?,
    };
    match message {
        CommandCall::Status => exchange.reply(number, keystore.status(), b""),
        CommandCall::Run { operation, arguments, has_input, has_output } => {
            exchange.limit_replies(REPLY_TIMEOUT);
            let requester = Requester { peer, client: ClientConnection::of(&stream) };
            let mut attachments = match attach(files, [has_input, has_output], payload) {
                Ok(attachments) => attachments,
                Err(error) => {
                    let reply: OperationReply<()> = Err(unreadable(&operation, &error.to_string()));
                    return exchange.reply(number, reply, b"");
                }
            };
            attachments.watch = Some(is_wanted(keystore, &requester));
            let exchange = RefCell::new(exchange);
            let (reply, secret) = run(&operation, &arguments, attachments, &exchange, keystore, &requester);
            let exchange = exchange.into_inner();
            exchange.reply(number, reply, &secret)
        }
    }
}

/// Tells an operation that reads or writes a long content when to stop.
fn is_wanted(keystore: &Arc<Keystore>, requester: &Requester) -> ContentWatch {
    let (keystore, client) = (Arc::clone(keystore), requester.client.clone());
    Box::new(move || {
        if client.has_hung_up() {
            return Err(io::Error::other("the command has exited"));
        }
        if keystore.is_locked() { Err(io::Error::other("the agent was locked in the meantime")) } else { Ok(()) }
    })
}

/// The files that accompany an operation. They are regular files, so that no other process can make
/// an operation wait for it.
fn attach(files: Vec<OwnedFd>, has: [bool; 2], secret: Zeroizing<Vec<u8>>) -> Result<Attachments, IpcError> {
    let mut files = files.into_iter();
    let mut next = |wanted: bool| -> Result<Option<File>, IpcError> {
        if !wanted {
            return Ok(None);
        }
        let file = files.next().ok_or_else(|| IpcError::Unexpected("a file is missing".to_owned()))?;
        let mode = fstat(&file).map_err(io::Error::from)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Err(IpcError::Unexpected("a file is not a regular file".to_owned()));
        }
        Ok(Some(File::from(file)))
    };
    let [has_input, has_output] = has;
    Ok(Attachments { input: next(has_input)?, output: next(has_output)?, secret, watch: None })
}

/// Runs the operation; returns its reply in JSON, and its secret.
fn run(
    operation: &str,
    arguments: &RawValue,
    mut attachments: Attachments,
    exchange: &RefCell<Exchange>,
    keystore: &Keystore,
    requester: &Requester,
) -> (OperationReply<Box<RawValue>>, Zeroizing<Vec<u8>>) {
    let run = RunInKeystore { keystore, exchange, requester, attachments: &mut attachments };
    let reply = match ops::dispatch(operation, arguments, run) {
        Some(Ok(reply)) => reply,
        Some(Err(error)) => Err(unreadable(operation, &error.to_string())),
        None => Err(unreadable(operation, "there is no such operation")),
    };
    (reply, attachments.secret)
}

fn unreadable(operation: &str, reason: &str) -> KeysetError {
    KeysetError::Other { kind: ErrorKind::Fault, message: format!("cannot run the operation {operation}: {reason}") }
}

struct RunInKeystore<'a> {
    keystore: &'a Keystore,
    exchange: &'a RefCell<Exchange>,
    requester: &'a Requester,
    /// The operation replaces the received secret with the secret of its output.
    attachments: &'a mut Attachments,
}

impl OperationVisitor for RunInKeystore<'_> {
    type Result = OperationReply<Box<RawValue>>;

    fn visit<O: Operation>(self, operation: O) -> Self::Result {
        let command = RemoteCommand::new(self.exchange, &self.requester.client);
        let mut person = RemotePrompter(&command);
        let transport = RemoteTransport(&command);
        let done = self.keystore.run_operation(operation, &mut person, &transport, self.attachments, self.requester);
        done.map_err(KeysetError::from)?.try_map(|output| {
            serde_json::value::to_raw_value(&output).map_err(|error| unreadable(O::ID, &error.to_string()))
        })
    }
}
