//! The worker: the process that loads the PKCS#11 modules, accepts connections and serves them.
//!
//! One thread accepts at each endpoint; one thread serves each connection. Connections from other
//! users' processes are closed at once. The worker runs as long as its link to the supervisor; then
//! it logs off and exits.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, geteuid, getpid, getrlimit, kill_process, setrlimit};

use super::broker::BrokerError;
use super::link::Link;
use super::sockets::Door;
use super::{Keystore, MappedCode, Peer, scheduling};

/// Maximum number of connections, both endpoints together.
const CONNECTIONS: usize = 4096;

/// Stack size of a connection's thread in bytes. Only used pages are allocated: an idle connection
/// uses some 10 KiB.
pub(super) const STACK: usize = 1024 * 1024;

/// Time limit for logging off at exit.
const LOGGING_OFF: Duration = Duration::from_secs(2);

/// Delay before a retry when the kernel temporarily refuses something (descriptors, memory).
pub(super) const BREATHER: Duration = Duration::from_millis(50);

/// Serves until the supervisor exits; then ends every session.
///
/// # Errors
/// [`BrokerError`]: the supervisor has exited, or the system cannot start threads.
pub fn run(
    link: &Link,
    listeners: [UnixListener; 2],
    sandbox: String,
    code: MappedCode,
    keystore: &Keystore,
) -> Result<(), BrokerError> {
    allow_descriptors();
    // Before other threads use a module, because a module might load a library.
    code.give_back();
    let _watching = keystore.watch().map_err(BrokerError::system("start a thread"))?;
    let places = Places::default();
    let [ssh, api] = listeners;
    for (listener, door) in [(ssh, Door::Ssh), (api, Door::Api)] {
        let (places, keystore) = (places.clone(), keystore.clone());
        let thread = std::thread::Builder::new().name(format!("{} accept", door.name())).stack_size(STACK);
        thread
            .spawn(move || accept(&listener, door, &places, &keystore))
            .map_err(BrokerError::system("start a thread"))?;
    }
    link.ready(sandbox).map_err(BrokerError::system("notify the supervisor"))?;
    link.wait_for_its_end();
    log_off(keystore);
    Ok(())
}

/// Ends all sessions. If a token does not respond, the process exits without it, which ends its
/// sessions, too.
pub(super) fn log_off(keystore: &Keystore) {
    let (sender, done) = channel();
    let keystore = keystore.clone();
    let started = std::thread::Builder::new().spawn(move || {
        if let Err(error) = keystore.log_off(None) {
            tracing::warn!(%error, "cannot log off");
        }
        // The receiver is gone if this took too long.
        let _ = sender.send(());
    });
    if started.is_ok() && done.recv_timeout(LOGGING_OFF).is_err() {
        tracing::warn!("a token does not respond: exiting without logging off");
        // Kill at once: exit handlers would wait for the token, too.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Raises the limit of open files to the user's maximum: a thousand connections need a thousand
/// descriptors.
pub(super) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::info!(%error, "cannot raise the limit of open files");
    }
}

/// Schedules this process, and all threads that it starts later, as batch; call it before starting
/// a thread.
pub fn schedule_as_batch() {
    if let Err(error) = scheduling::as_batch() {
        tracing::info!(%error, "cannot set the batch scheduling policy");
    }
}

fn accept(listener: &UnixListener, door: Door, places: &Places, keystore: &Keystore) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                std::thread::sleep(BREATHER);
                continue;
            }
        };
        let Some(peer) = same_user(&stream) else {
            tracing::warn!(door = door.name(), "connection from another user's process: closed");
            continue;
        };
        let Some(place) = places.take() else {
            tracing::warn!(door = door.name(), peer.pid, "too many connections: connection refused");
            refuse(&stream, door);
            continue;
        };
        let thread = std::thread::Builder::new().name(door.name().to_owned()).stack_size(STACK);
        let keystore = keystore.clone();
        let started = thread.spawn(move || {
            serve(stream, door, peer, &keystore);
            drop(place);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot serve a connection");
            std::thread::sleep(BREATHER);
        }
    }
}

/// The peer, if the kernel (`SO_PEERCRED`) reports this user. Even root counts as another user.
fn same_user(stream: &UnixStream) -> Option<Peer> {
    let peer = Peer::of(stream)?;
    (peer.uid == geteuid().as_raw()).then_some(peer)
}

/// Sends the endpoint's "not now" without waiting for a client that does not read.
fn refuse(mut stream: &UnixStream, door: Door) {
    let answer: &[u8] = match door {
        // SSH_AGENT_FAILURE
        Door::Ssh => &[0, 0, 0, 1, 5],
        Door::Api => {
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        }
    };
    // A client that does not read this is disconnected anyway.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(answer));
}

fn serve(stream: UnixStream, door: Door, peer: Peer, keystore: &Keystore) {
    tracing::debug!(door = door.name(), peer.pid, "connected");
    match door {
        Door::Ssh => super::ssh::serve(stream, peer, keystore),
        Door::Api => super::api::serve(stream, peer, keystore),
    }
}

/// Counts connections up to the limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One connection's share of the limit, released when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(super) fn take(&self) -> Option<Place> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < CONNECTIONS).then_some(taken + 1))
            .is_ok()
            .then(|| Place(self.0.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn there_are_so_many_places_and_one_that_is_left_can_be_taken_again() {
        let places = Places::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.len(), CONNECTIONS);
        assert!(places.take().is_none());
        taken.pop();
        assert!(places.take().is_some());
    }

    #[test]
    fn whoever_comes_too_late_is_told_in_the_doors_own_words() {
        for (door, expected) in [(Door::Ssh, &[0u8, 0, 0, 1, 5][..]), (Door::Api, b"HTTP/1.1 503 ")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            refuse(&ours, door);
            drop(ours);
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).unwrap();
            assert!(said.starts_with(expected), "{said:?}");
        }
    }

    #[test]
    fn a_process_of_this_user_is_known_by_the_kernels_word() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = same_user(&ours).unwrap();
        assert_eq!((peer.pid, peer.uid), (i32::try_from(std::process::id()).unwrap(), geteuid().as_raw()));
    }
}
