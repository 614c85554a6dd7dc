//! The worker: the process that loads the modules, accepts connections and serves them.
//!
//! A thread accepts at each door, a thread serves each connection. Another user's process is hung up on at once. The worker
//! lives as long as its link to the broker; then it logs off and ends.

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

/// Connections at once, of both doors together.
const CONNECTIONS: usize = 4096;

/// Of a connection's thread. Only what is used of it is ever taken; a connection that waits uses some 10 KiB.
pub(super) const STACK: usize = 1024 * 1024;

/// How long logging off may take at the end.
const LOGGING_OFF: Duration = Duration::from_secs(2);

/// What the kernel may refuse for a moment (descriptors, memory) is asked for again after this.
pub(super) const BREATHER: Duration = Duration::from_millis(50);

/// Serves until the broker ends; then every log-in is over.
///
/// # Errors
/// [`BrokerError`]: the broker has gone already, or the system refuses threads.
pub fn run(
    link: &Link,
    listeners: [UnixListener; 2],
    sandbox: String,
    code: MappedCode,
    keystore: &Keystore,
) -> Result<(), BrokerError> {
    allow_descriptors();
    // While no other thread asks a module: it might load a library.
    code.give_back();
    let _watching = keystore.watch().map_err(BrokerError::system("start a thread"))?;
    let places = Places::default();
    let [ssh, api] = listeners;
    for (listener, door) in [(ssh, Door::Ssh), (api, Door::Api)] {
        let (places, keystore) = (places.clone(), keystore.clone());
        let thread = std::thread::Builder::new().name(format!("{} door", door.name())).stack_size(STACK);
        thread
            .spawn(move || accept(&listener, door, &places, &keystore))
            .map_err(BrokerError::system("start a thread"))?;
    }
    link.ready(sandbox).map_err(BrokerError::system("tell the broker"))?;
    link.wait_for_its_end();
    log_off(keystore);
    Ok(())
}

/// Ends the log-ins, unless a token does not answer: the process ends anyway, and with it what it was logged in to.
pub(super) fn log_off(keystore: &Keystore) {
    let (sender, done) = channel();
    let keystore = keystore.clone();
    let started = std::thread::Builder::new().spawn(move || {
        if let Err(error) = keystore.log_off(None) {
            tracing::warn!(%error, "cannot log off");
        }
        // Nobody waits any more if it took too long.
        let _ = sender.send(());
    });
    if started.is_ok() && done.recv_timeout(LOGGING_OFF).is_err() {
        tracing::warn!("a token does not answer: ending without logging off");
        // At once: whatever is given up on the way out would wait for the token, too.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// As many descriptors as this user may have: a thousand connections need a thousand.
pub(super) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::info!(%error, "cannot raise the number of open files");
    }
}

/// Schedules this process as one that computes, and all threads that it starts afterwards: called before the first one.
pub fn schedule_as_batch() {
    if let Err(error) = scheduling::as_batch() {
        tracing::info!(%error, "cannot be scheduled as a process that computes");
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
            tracing::warn!(door = door.name(), "another user's process connected: hung up");
            continue;
        };
        let Some(place) = places.take() else {
            tracing::warn!(door = door.name(), peer.pid, "too many connections: one is refused");
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

/// The kernel's word (`SO_PEERCRED`) on who is at the other end. Not even root is the same user.
fn same_user(stream: &UnixStream) -> Option<Peer> {
    let peer = Peer::of(stream)?;
    (peer.uid == geteuid().as_raw()).then_some(peer)
}

/// What the door's protocol has for "not now". It must not wait for a client that does not read.
fn refuse(mut stream: &UnixStream, door: Door) {
    let answer: &[u8] = match door {
        // SSH_AGENT_FAILURE
        Door::Ssh => &[0, 0, 0, 1, 5],
        Door::Api => {
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        }
    };
    // Whoever does not take even this is hung up on all the same.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(answer));
}

fn serve(stream: UnixStream, door: Door, peer: Peer, keystore: &Keystore) {
    tracing::debug!(door = door.name(), peer.pid, "connected");
    match door {
        Door::Ssh => super::ssh::serve(stream, peer, keystore),
        Door::Api => super::api::serve(stream, peer, keystore),
    }
}

/// How many connections there may still be.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One of them, until it is dropped.
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
