//! The client side of one request: connection, timeout, reply.
//!
//! A request that a worker may have read is never sent a second time.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::ModuleWorker;
use super::wire::{MAX_REQUEST_BYTES, ModuleWorkerReply, ModuleWorkerRequest, WireError};
use crate::agent::{AgentError, fd_passing, frame};
use crate::keyset::{KeysetError, NoPin};

/// Timeout for requests that block other clients. A module worker that has just started loads its
/// module first.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of idle connections kept for later signatures.
const MAX_IDLE_CONNECTIONS: usize = 16;

impl ModuleWorker {
    pub(super) fn connect(&self, operation: &'static str) -> Result<UnixStream, AgentError> {
        self.open_connection().map_err(|error| AgentError::System {
            operation,
            reason: format!("the worker of the module {} is not running ({error})", self.module.display()),
        })
    }

    /// Opens a connection. While the module worker restarts, the connection waits in the fd
    /// channel.
    pub(super) fn open_connection(&self) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        fd_passing::send_fds(&self.fd_channel, &[theirs.as_fd()])?;
        Ok(ours)
    }

    /// Sends a request and waits as long as a person may take to answer.
    pub(super) fn ask(
        &self,
        operation: &'static str,
        request: &ModuleWorkerRequest,
    ) -> Result<ModuleWorkerReply, AgentError> {
        let kept = self.idle().pop();
        let (mut stream, is_new) = match kept {
            Some(stream) => (stream, false),
            None => (self.connect(operation)?, true),
        };
        match frame::write(&mut stream, request, b"", MAX_REQUEST_BYTES) {
            Ok(()) => {}
            // The connection belonged to the previous worker, which read nothing of this request.
            Err(error) if !is_new && error.kind() == ErrorKind::BrokenPipe => {
                stream = self.connect(operation)?;
                frame::write(&mut stream, request, b"", MAX_REQUEST_BYTES).map_err(|_| self.ended(operation))?;
            }
            Err(_) => return Err(self.ended(operation)),
        }
        let reply = self.read_for(operation, &mut stream, request);
        let mut idle = self.idle();
        // If the client stopped waiting, this connection's reply is still to come: drop it.
        if !matches!(reply, Err(AgentError::WorkerEnded { .. } | AgentError::Keyset(KeysetError::NoPin { .. })))
            && idle.len() < MAX_IDLE_CONNECTIONS
        {
            idle.push(stream);
        }
        drop(idle);
        reply
    }

    /// Sends a request that needs no person.
    pub(super) fn ask_soon(
        &self,
        operation: &'static str,
        request: &ModuleWorkerRequest,
    ) -> Result<ModuleWorkerReply, AgentError> {
        self.ask_within(ANSWER_TIMEOUT, operation, request)
    }

    pub(super) fn ask_within(
        &self,
        timeout: Duration,
        operation: &'static str,
        request: &ModuleWorkerRequest,
    ) -> Result<ModuleWorkerReply, AgentError> {
        let mut stream = self.connect(operation)?;
        // Setting the timeout cannot fail on an open socket.
        let _ = stream.set_read_timeout(Some(timeout));
        frame::write(&mut stream, request, b"", MAX_REQUEST_BYTES).map_err(|_| self.ended(operation))?;
        self.read(operation, &mut stream, request)
    }

    /// Reads the reply while the client waits for it.
    pub(super) fn read_for(
        &self,
        operation: &'static str,
        stream: &mut UnixStream,
        request: &ModuleWorkerRequest,
    ) -> Result<ModuleWorkerReply, AgentError> {
        if let ModuleWorkerRequest::Sign { usage, .. } | ModuleWorkerRequest::LogIn { usage, .. } = request
            && !usage.client.waits_for(stream)
        {
            // The module worker sees this and withdraws its prompt.
            let _ = stream.shutdown(Shutdown::Both);
            return Err(KeysetError::NoPin { operation, token: None, reason: NoPin::Withdrawn }.into());
        }
        self.read(operation, stream, request)
    }

    fn read(
        &self,
        operation: &'static str,
        stream: &mut UnixStream,
        request: &ModuleWorkerRequest,
    ) -> Result<ModuleWorkerReply, AgentError> {
        match frame::read::<ModuleWorkerReply>(stream, request.max_reply_bytes()) {
            Ok((ModuleWorkerReply::Failed(WireError { kind, message }), _)) => {
                Err(KeysetError::Remote { kind, message }.into())
            }
            Ok((reply, _)) => Ok(reply),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                *self.unresponsive_since() = Some(Instant::now());
                let reason = format!("the worker of the module {} does not answer", self.module.display());
                Err(AgentError::System { operation, reason })
            }
            Err(error) => {
                self.log_if_too_long(&error);
                Err(self.ended(operation))
            }
        }
    }
}
