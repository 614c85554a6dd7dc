//! The server side: takes connections from the fd channel and serves the main worker's requests
//! with its one module.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{Failed, LONGEST, LogInChange, News, Reply, Request};
use crate::agent::broker::BrokerError;
use crate::agent::keystore::{Event, Keystore};
use crate::agent::{AgentError, ClientConnection, Link, MappedCode, api, frame, handed, worker};
use crate::token::Pin;

/// Timeout of each wait for an event.
const GLANCE: Duration = Duration::from_mins(1);

/// Serves the main worker until the supervisor exits; then ends every session.
///
/// # Errors
/// [`BrokerError`]: the supervisor has exited, or the system cannot start threads.
pub fn run(
    link: &Link,
    corridor: UnixStream,
    sandbox: String,
    code: MappedCode,
    keystore: &Keystore,
) -> Result<(), BrokerError> {
    worker::allow_descriptors();
    code.give_back();
    let _watching = keystore.watch().map_err(BrokerError::system("start a thread"))?;
    let served = keystore.clone();
    std::thread::Builder::new()
        .name("fd-channel".to_owned())
        .spawn(move || accept(&corridor, &served))
        .map_err(BrokerError::system("start a thread"))?;
    link.ready(sandbox).map_err(BrokerError::system("notify the supervisor"))?;
    link.wait_for_its_end();
    worker::log_off(keystore);
    Ok(())
}

fn accept(corridor: &UnixStream, keystore: &Keystore) {
    // The limit equals the main worker's limit for clients.
    let places = worker::Places::default();
    loop {
        let sockets = match handed::take(corridor) {
            Ok(sockets) => sockets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The supervisor has exited; the link reports it, too.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            // Temporarily out of descriptors or memory.
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                std::thread::sleep(worker::BREATHER);
                continue;
            }
        };
        for stream in sockets.into_iter().map(UnixStream::from) {
            let Some(place) = places.take() else {
                tracing::warn!("too many connections: connection refused");
                continue;
            };
            let keystore = keystore.clone();
            let thread = std::thread::Builder::new().name("worker".to_owned()).stack_size(worker::STACK);
            let started = thread.spawn(move || {
                // Ends when the main worker closes the connection.
                let _ = serve(stream, &keystore);
                drop(place);
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
        let (mut request, secret) = frame::read::<Request>(&mut stream, LONGEST)?;
        if let Request::Sign { usage, .. } | Request::LogIn { usage, .. } = &mut request {
            // The main worker closes the connection when its client disconnects.
            usage.client = ClientConnection::of(&shared);
        }
        let reply = match request {
            Request::Watch {} => return tell(&mut stream, keystore),
            Request::Serve { peer } => {
                api::serve(shared.try_clone()?, peer, keystore);
                return Ok(());
            }
            request => answer(request, &secret, keystore).unwrap_or_else(|error| failed(&error)),
        };
        frame::write(&mut stream, &reply, b"", LONGEST)?;
    }
}

fn failed(error: &AgentError) -> Reply {
    Reply::Failed(Failed { kind: error.kind(), message: error.to_string() })
}

fn answer(request: Request, secret: &[u8], keystore: &Keystore) -> Result<Reply, AgentError> {
    match request {
        Request::Look { again, pins } => {
            if let Some(with_readers) = again {
                keystore.look_again(with_readers);
            }
            Ok(Reply::Told(keystore.seen(pins)))
        }
        Request::Sign { spki, hash, data, usage } => {
            let operation = usage.purpose.operation();
            let identity = keystore.find(spki.as_slice()).ok_or(AgentError::NoSuchKey { operation })?;
            let signature = keystore.sign(&identity, hash, data.as_slice(), &usage)?;
            Ok(Reply::Signature(signature.as_bytes().into()))
        }
        Request::LogIn { keyset, usage, attended } => {
            let reason = |reason: String| AgentError::System { operation: "log in", reason };
            let choice = keyset.to_choice().map_err(reason)?;
            match (secret, choice.token.as_ref()) {
                ([], _) => keystore.log_in(&choice, &usage)?,
                (secret, Some(token)) => {
                    let text = std::str::from_utf8(secret).map_err(|error| reason(error.to_string()))?;
                    let pin = Pin::new(text.to_owned()).map_err(|error| reason(error.to_string()))?;
                    keystore.log_in_with(token, pin.attended_if(attended), &usage)?
                }
                (_, None) => return Err(reason("no token was named".to_owned())),
            };
            Ok(Reply::Done {})
        }
        Request::Bound { token, seconds } => {
            if let Some(token) = keystore.own(&token) {
                keystore.bound_log_in(&token, Duration::from_secs(seconds));
            }
            Ok(Reply::Done {})
        }
        Request::LogOff { token: None, why } => Ok(Reply::Ended(keystore.end_log_ins(None, why))),
        Request::LogOff { token: Some(token), why } => {
            let own = keystore.own(&token);
            Ok(Reply::Ended(own.map_or(0, |token| keystore.end_log_ins(Some(&token), why))))
        }
        Request::Lock { locked } => {
            keystore.follow_lock(locked);
            Ok(Reply::Done {})
        }
        Request::Room {} => Ok(Reply::Room(keystore.has_room())),
        // The caller has handled these, because they take over the connection.
        Request::Watch {} | Request::Serve { .. } => {
            Err(AgentError::System { operation: "answer", reason: "unexpected request".to_owned() })
        }
    }
}

/// Sends the inventory now and after each event.
fn tell(stream: &mut &UnixStream, keystore: &Keystore) -> io::Result<()> {
    let events = keystore.events();
    let mut log_in = None;
    loop {
        frame::write(stream, &News { seen: keystore.seen(false), log_in: log_in.take() }, b"", LONGEST)?;
        loop {
            match events.next(GLANCE) {
                // No event, or one that the main worker detects itself.
                Some(Event::Expiring { .. }) | None => continue,
                Some(Event::LoggedIn(token)) => log_in = Some(LogInChange::Begun(token)),
                Some(Event::LoggedOff { token, why }) => log_in = Some(LogInChange::Ended(token, why)),
                Some(_) => {}
            }
            break;
        }
    }
}
