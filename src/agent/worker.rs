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

use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};

use super::link::Link;
use super::process_error::AgentProcessError;
use super::sockets::Endpoint;
use super::{Keystore, PeerProcess, TokenWatcher};
use crate::ipc;

/// Maximum number of connections, both endpoints together.
const MAX_CONNECTIONS: usize = 4096;

/// Stack size of a connection's thread in bytes. Only used pages are allocated: an idle connection
/// uses some 10 KiB.
const STACK_BYTES: usize = 1024 * 1024;

/// Time limit for logging off at exit.
const LOG_OFF_TIMEOUT: Duration = Duration::from_secs(2);

/// Delay before a retry when the kernel temporarily refuses something (descriptors, memory).
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Serves until the supervisor exits; then ends every session.
///
/// # Errors
/// [`AgentProcessError`]: the supervisor has exited, or the system cannot start threads.
pub fn run(
    link: &Link,
    listeners: [UnixListener; 2],
    sandbox: String,
    keystore: &Arc<Keystore>,
) -> Result<(), AgentProcessError> {
    allow_descriptors();
    let _watcher = TokenWatcher::start(keystore).map_err(AgentProcessError::system("start a thread"))?;
    let connection_limit = ConnectionLimit::default();
    let [ssh, api] = listeners;
    for (listener, endpoint) in [(ssh, Endpoint::Ssh), (api, Endpoint::Api)] {
        let (connection_limit, keystore) = (connection_limit.clone(), Arc::clone(keystore));
        let thread = std::thread::Builder::new().name(format!("{} accept", endpoint.name())).stack_size(STACK_BYTES);
        thread
            .spawn(move || accept(&listener, endpoint, &connection_limit, &keystore))
            .map_err(AgentProcessError::system("start a thread"))?;
    }
    link.ready(sandbox).map_err(AgentProcessError::system("notify the supervisor"))?;
    link.wait_until_closed();
    log_off(keystore);
    Ok(())
}

/// Ends all sessions. If a token does not respond, the process exits without it, which ends its
/// sessions, too.
fn log_off(keystore: &Arc<Keystore>) {
    let (sender, done) = channel();
    let keystore = Arc::clone(keystore);
    let started = std::thread::Builder::new().spawn(move || {
        if let Err(error) = keystore.log_off(None) {
            tracing::warn!(%error, "cannot log off");
        }
        // The receiver is gone if this took too long.
        let _ = sender.send(());
    });
    if started.is_ok() && done.recv_timeout(LOG_OFF_TIMEOUT).is_err() {
        tracing::warn!("a token does not respond: exiting without logging off");
        // Kill at once: exit handlers would wait for the token, too.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Raises the limit of open files to the user's maximum: a thousand connections need a thousand
/// descriptors.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::info!(%error, "cannot raise the limit of open files");
    }
}

fn accept(listener: &UnixListener, endpoint: Endpoint, connection_limit: &ConnectionLimit, keystore: &Arc<Keystore>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                std::thread::sleep(RETRY_DELAY);
                continue;
            }
        };
        let Some(peer) = same_user(&stream) else {
            tracing::warn!(endpoint = endpoint.name(), "connection from another user's process: closed");
            continue;
        };
        let Some(permit) = connection_limit.take() else {
            tracing::warn!(endpoint = endpoint.name(), peer.pid, "too many connections: connection refused");
            refuse(&stream, endpoint);
            continue;
        };
        let thread = std::thread::Builder::new().name(endpoint.name().to_owned()).stack_size(STACK_BYTES);
        let keystore = Arc::clone(keystore);
        let started = thread.spawn(move || {
            serve(stream, endpoint, peer, &keystore);
            drop(permit);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot serve a connection");
            std::thread::sleep(RETRY_DELAY);
        }
    }
}

/// The peer, if it is a process of this user.
fn same_user(stream: &UnixStream) -> Option<PeerProcess> {
    PeerProcess::of(stream).filter(|peer| peer.is_same_user())
}

/// Sends the endpoint's "not now" without waiting for a client that does not read.
fn refuse(mut stream: &UnixStream, endpoint: Endpoint) {
    let answer: &[u8] = match endpoint {
        // SSH_AGENT_FAILURE
        Endpoint::Ssh => &[0, 0, 0, 1, 5],
        Endpoint::Api => {
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        }
    };
    // A client that does not read this is disconnected anyway.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(answer));
}

fn serve(stream: UnixStream, endpoint: Endpoint, peer: PeerProcess, keystore: &Arc<Keystore>) {
    tracing::debug!(endpoint = endpoint.name(), peer.pid, "connected");
    match endpoint {
        Endpoint::Ssh => super::ssh::serve(stream, peer, keystore),
        Endpoint::Api => match ipc::is_frame_next(&stream) {
            Ok(true) => super::operations::serve(stream, peer, keystore),
            Ok(false) => super::api::serve(stream, peer, keystore),
            Err(error) => tracing::debug!(%error, peer.pid, "a client's connection ended"),
        },
    }
}

/// Counts connections up to the limit.
#[derive(Clone, Debug, Default)]
struct ConnectionLimit(Arc<AtomicUsize>);

/// One connection's share of the limit, released when dropped.
#[derive(Debug)]
struct Permit(Arc<AtomicUsize>);

impl ConnectionLimit {
    fn take(&self) -> Option<Permit> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < MAX_CONNECTIONS).then_some(taken + 1))
            .is_ok()
            .then(|| Permit(self.0.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn connections_are_limited_and_permits_are_reused() {
        let connection_limit = ConnectionLimit::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| connection_limit.take()).collect();
        assert_eq!(taken.len(), MAX_CONNECTIONS);
        assert!(connection_limit.take().is_none());
        taken.pop();
        assert!(connection_limit.take().is_some());
    }

    #[test]
    fn excess_connections_are_refused_in_the_endpoints_protocol() {
        for (endpoint, expected) in [(Endpoint::Ssh, &[0u8, 0, 0, 1, 5][..]), (Endpoint::Api, b"HTTP/1.1 503 ")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            refuse(&ours, endpoint);
            drop(ours);
            let mut answer_bytes = Vec::new();
            theirs.read_to_end(&mut answer_bytes).unwrap();
            assert!(answer_bytes.starts_with(expected), "{answer_bytes:?}");
        }
    }

    #[test]
    fn a_process_of_this_user_is_identified_by_the_kernel() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = same_user(&ours).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
    }
}
