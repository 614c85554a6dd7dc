//! The server side: takes connections from the fd channel and serves the main worker's requests
//! with its one module.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{MAX_REQUEST_BYTES, ModuleWorkerReply, ModuleWorkerRequest, SessionChange, StateUpdate, WireError};
use crate::agent::keystore::{Event, Keystore};
use crate::agent::supervisor::AgentProcessError;
use crate::agent::{AgentError, ClientConnection, Link, MappedCode, api, fd_passing, frame, worker};
use crate::token::Pin;

/// Timeout of each wait for an event.
const EVENT_POLL_INTERVAL: Duration = Duration::from_mins(1);

/// Serves the main worker until the supervisor exits; then ends every session.
///
/// # Errors
/// [`AgentProcessError`]: the supervisor has exited, or the system cannot start threads.
pub fn run(
    link: &Link,
    fd_channel: UnixStream,
    sandbox: String,
    code: MappedCode,
    keystore: &Keystore,
) -> Result<(), AgentProcessError> {
    worker::allow_descriptors();
    code.release();
    let _watcher = keystore.watch().map_err(AgentProcessError::system("start a thread"))?;
    let served = keystore.clone();
    std::thread::Builder::new()
        .name("fd-channel".to_owned())
        .spawn(move || accept(&fd_channel, &served))
        .map_err(AgentProcessError::system("start a thread"))?;
    link.ready(sandbox).map_err(AgentProcessError::system("notify the supervisor"))?;
    link.wait_until_closed();
    worker::log_off(keystore);
    Ok(())
}

fn accept(fd_channel: &UnixStream, keystore: &Keystore) {
    // The limit equals the main worker's limit for clients.
    let connection_limit = worker::ConnectionLimit::default();
    loop {
        let sockets = match fd_passing::receive_fds(fd_channel) {
            Ok(sockets) => sockets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The supervisor has exited; the link reports it, too.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            // Temporarily out of descriptors or memory.
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                std::thread::sleep(worker::RETRY_DELAY);
                continue;
            }
        };
        for stream in sockets.into_iter().map(UnixStream::from) {
            let Some(permit) = connection_limit.take() else {
                tracing::warn!("too many connections: connection refused");
                continue;
            };
            let keystore = keystore.clone();
            let thread = std::thread::Builder::new().name("worker".to_owned()).stack_size(worker::STACK_BYTES);
            let started = thread.spawn(move || {
                // Ends when the main worker closes the connection.
                let _ = serve(stream, &keystore);
                drop(permit);
            });
            if let Err(error) = started {
                tracing::warn!(%error, "cannot serve a connection");
            }
        }
    }
}

fn serve(stream: UnixStream, keystore: &Keystore) -> io::Result<()> {
    let shared = Arc::new(stream);
    let mut stream = &*shared;
    loop {
        let (mut request, secret) = frame::read::<ModuleWorkerRequest>(&mut stream, MAX_REQUEST_BYTES)?;
        if let ModuleWorkerRequest::Sign { usage, .. } | ModuleWorkerRequest::LogIn { usage, .. } = &mut request {
            // The main worker closes the connection when its client disconnects.
            usage.client = ClientConnection::of(&shared);
        }
        let reply = match request {
            ModuleWorkerRequest::Watch {} => return send_updates(&mut stream, keystore),
            ModuleWorkerRequest::Serve { peer } => {
                api::serve(shared.try_clone()?, peer, keystore);
                return Ok(());
            }
            request => answer(request, &secret, keystore).unwrap_or_else(|error| failed(&error)),
        };
        frame::write(&mut stream, &reply, b"", MAX_REQUEST_BYTES)?;
    }
}

fn failed(error: &AgentError) -> ModuleWorkerReply {
    ModuleWorkerReply::Failed(WireError { kind: error.kind(), message: error.to_string() })
}

fn answer(request: ModuleWorkerRequest, secret: &[u8], keystore: &Keystore) -> Result<ModuleWorkerReply, AgentError> {
    match request {
        ModuleWorkerRequest::ReadInventory { rescan, pin_states } => {
            if let Some(with_readers) = rescan {
                keystore.rescan_modules(with_readers);
            }
            Ok(ModuleWorkerReply::Inventory(keystore.inventory(pin_states)))
        }
        ModuleWorkerRequest::Sign { spki, hash, data, usage } => {
            let operation = usage.purpose.operation();
            let identity = keystore.find(spki.as_slice()).ok_or(AgentError::NoSuchKey { operation })?;
            let signature = keystore.sign(&identity, hash, data.as_slice(), &usage)?;
            Ok(ModuleWorkerReply::Signature(signature.as_bytes().into()))
        }
        ModuleWorkerRequest::LogIn { keyset, usage, attended } => {
            let failed = |reason: String| AgentError::System { operation: "log in", reason };
            let choice = keyset.to_choice().map_err(failed)?;
            match (secret, choice.token.as_ref()) {
                ([], _) => keystore.log_in(&choice, &usage)?,
                (secret, Some(token)) => {
                    let text = std::str::from_utf8(secret).map_err(|error| failed(error.to_string()))?;
                    let pin = Pin::new(text.to_owned()).map_err(|error| failed(error.to_string()))?;
                    keystore.log_in_with(token, pin.attended_if(attended), &usage)?
                }
                (_, None) => return Err(failed("no token was named".to_owned())),
            };
            Ok(ModuleWorkerReply::Done {})
        }
        ModuleWorkerRequest::LimitSession { token, seconds } => {
            if let Some(token) = keystore.local_token(&token) {
                keystore.limit_session(&token, Duration::from_secs(seconds));
            }
            Ok(ModuleWorkerReply::Done {})
        }
        ModuleWorkerRequest::LogOff { token: None, reason } => {
            Ok(ModuleWorkerReply::Ended(keystore.end_sessions(None, reason)))
        }
        ModuleWorkerRequest::LogOff { token: Some(token), reason } => {
            let own = keystore.local_token(&token);
            Ok(ModuleWorkerReply::Ended(own.map_or(0, |token| keystore.end_sessions(Some(&token), reason))))
        }
        ModuleWorkerRequest::Lock { locked } => {
            keystore.follow_lock(locked);
            Ok(ModuleWorkerReply::Done {})
        }
        ModuleWorkerRequest::FreeSlot {} => Ok(ModuleWorkerReply::FreeSlot(keystore.has_free_slot())),
        // The caller has handled these, because they take over the connection.
        ModuleWorkerRequest::Watch {} | ModuleWorkerRequest::Serve { .. } => {
            Err(AgentError::System { operation: "answer", reason: "unexpected request".to_owned() })
        }
    }
}

/// Sends the inventory now and after each event.
fn send_updates(stream: &mut &UnixStream, keystore: &Keystore) -> io::Result<()> {
    let events = keystore.events();
    let mut session_change = None;
    loop {
        frame::write(
            stream,
            &StateUpdate { inventory: keystore.inventory(false), session_change: session_change.take() },
            b"",
            MAX_REQUEST_BYTES,
        )?;
        loop {
            match events.next(EVENT_POLL_INTERVAL) {
                // No event, or one that the main worker detects itself.
                Some(Event::Expiring { .. }) | None => continue,
                Some(Event::LoggedIn(token)) => session_change = Some(SessionChange::Started(token)),
                Some(Event::LoggedOff { token, reason }) => session_change = Some(SessionChange::Ended(token, reason)),
                Some(_) => {}
            }
            break;
        }
    }
}
