//! The control socket, through which other commands of the authority's own user reach a running
//! `serve`. This file has the messages and the server; `client.rs` has the client.
//!
//! It is a private socket with one call for each connection, in frames of [`crate::ipc`]: answer a
//! statement from a file, or check the database. A statement must still be signed by an
//! administrator.

mod client;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::authority_api::AuthorityApi;
use super::blocking_pool::{BlockingPool, Job, JobError};
use super::shutdown::wait_for_close;
use super::{ServiceError, connection, limits};
use crate::authority::{DatabaseCheckReport, UnsignedError};
use crate::ipc::{
    Exchange, Frame, IpcError, PeerProcess, PrivateSocket, SocketFile, SocketPathError, announce_build, is_frame_next,
};
use crate::statement::StatementChannel;

#[cfg(test)]
pub(super) use client::forward_to;
pub use client::{forward_statement, is_running, request_check};

/// The source of jobs from the control socket, which belong to no network address.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A call of a command.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum ControlCall {
    /// Answer a statement from a file; the payload is the signed statement, DER.
    Answer,
    /// Check the whole database.
    Check,
}

/// The reply to a [`ControlCall`].
#[derive(Debug, Serialize, Deserialize)]
enum ControlReply {
    /// The payload is the signed response, DER.
    Response,
    Report(DatabaseCheckReport),
    /// The statement is not verified as an administrator's. Nothing was done.
    Unverified(String),
    /// A fault, or too much work.
    Failed(String),
}

/// The bound socket, whose file is removed on drop.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The part of the service that serves the calls.
#[derive(Clone)]
pub(super) struct ControlServer {
    pub(super) authority: Arc<dyn AuthorityApi>,
    pub(super) workers: BlockingPool,
}

impl ControlSocket {
    /// Creates the socket. Replaces a stale socket of a killed `serve`.
    ///
    /// # Errors
    /// [`ServiceError::Control`] if a process listens there, if the file is not a socket, or if the
    /// path is too long for a socket.
    pub(super) fn bind(path: &Path) -> Result<Self, ServiceError> {
        let refuse = |reason: String| ServiceError::Control { path: path.to_owned(), reason };
        let PrivateSocket { listener, file } = PrivateSocket::bind(path).map_err(|error| {
            refuse(match error {
                SocketPathError::InUse => "another `authority serve` uses this state directory".to_owned(),
                SocketPathError::TooLong => format!("{error}; choose a shorter `state`"),
                SocketPathError::NotASocket => format!("{error}; remove that file"),
                SocketPathError::OpenToOthers(_) => format!("{error}; stop the `authority serve` that listens on it"),
                SocketPathError::AnotherUsers => format!("{error}; run `serve` as that user, or remove the socket"),
                SocketPathError::System(error) => error.to_string(),
            })
        })?;
        let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        Ok(Self { listener: listener.map_err(|error| refuse(error.to_string()))?, file })
    }

    /// Accepts connections of the same user until `closed`; then removes the file and lets running
    /// calls finish.
    pub(super) async fn accept(self, server: ControlServer, mut closed: watch::Receiver<bool>) {
        let Self { listener, file } = self;
        let permits = Arc::new(Semaphore::new(limits::MAX_CONTROL_CONNECTIONS));
        let mut connections = JoinSet::new();
        let state = closed.clone();
        loop {
            tokio::select! {
                () = wait_for_close(&mut closed) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if PeerProcess::of(&stream).is_some_and(PeerProcess::is_same_user) => {
                        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
                        let (server, state) = (server.clone(), state.clone());
                        connections.spawn(async move {
                            serve_connection(stream, server, state).await;
                            drop(permit);
                        });
                    }
                    Ok(_) => tracing::warn!("rejected a connection of another user to the control socket"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection on the control socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(file);
        drop(listener);
        connection::drain(connections).await;
    }
}

/// Waits for a call, and serves it on a thread of its own. A connection without a call ends with
/// the service.
async fn serve_connection(stream: UnixStream, server: ControlServer, mut closed: watch::Receiver<bool>) {
    let first_byte = stream.async_io(Interest::READABLE, || is_frame_next(&stream));
    tokio::select! {
        () = wait_for_close(&mut closed) => return,
        begun = tokio::time::timeout(limits::HEAD_TIMEOUT, first_byte) => {
            if !matches!(begun, Ok(Ok(_))) {
                return;
            }
        }
    }
    let serving = tokio::task::spawn_blocking(move || server.serve_call(stream.into_std()?));
    match serving.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the control socket ended"),
        Err(error) => tracing::error!(%error, "a call through the control socket panicked"),
    }
}

impl ControlServer {
    /// Serves one call; the connection ends with it. Blocks.
    fn serve_call(&self, stream: BlockingStream) -> Result<(), IpcError> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(limits::BODY_TIMEOUT))?;
        stream.set_write_timeout(Some(limits::BODY_TIMEOUT))?;
        let stream = Arc::new(stream);
        let exchange = Exchange::with_limit(Arc::clone(&stream), limits::MAX_BODY_BYTES);
        let (number, Frame { message: call, payload: statement, .. }) = match exchange.receive_call() {
            Err(IpcError::OtherBuild) => return announce_build(&stream),
            received => received?,
        };
        let begin = Instant::now();
        let (reply, response) = match call {
            ControlCall::Answer => self.answer(statement.to_vec()),
            ControlCall::Check => (self.check(), Vec::new()),
        };
        tracing::info!(?call, milliseconds = begin.elapsed().as_millis(), "call through the control socket");
        exchange.reply(number, reply, &response).inspect_err(|error| {
            tracing::warn!(%error, ?call, "cannot reply through the control socket");
        })
    }

    /// The reply and the signed response.
    fn answer(&self, statement: Vec<u8>) -> (ControlReply, Vec<u8>) {
        let answered =
            self.run(move |authority| authority.answer_statement(&statement, StatementChannel::File, Timestamp::now()));
        let refusal = match answered {
            Ok(Ok(response)) => return (ControlReply::Response, response),
            Ok(Err(UnsignedError::Unverified(reason))) => ControlReply::Unverified(reason),
            Ok(Err(UnsignedError::Fault(reason))) => ControlReply::Failed(reason),
            Err(reason) => ControlReply::Failed(reason.to_string()),
        };
        (refusal, Vec::new())
    }

    fn check(&self) -> ControlReply {
        match self.run(AuthorityApi::check) {
            Ok(Ok(report)) => ControlReply::Report(report),
            Ok(Err(error)) => {
                tracing::error!(%error, "the check failed");
                ControlReply::Failed(error.to_string())
            }
            Err(reason) => ControlReply::Failed(reason.to_string()),
        }
    }

    /// Runs work of the authority when the pool allows it, and waits for its end.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn AuthorityApi) -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let job = Job { source: SOURCE, left: limits::BUDGET_CAPACITY, is_heavy: false };
        let authority = self.authority.clone();
        Handle::current().block_on(self.workers.run(job, move || work(&*authority)))
    }
}

#[cfg(test)]
mod tests;
