//! The command's side: sends an operation to the agent, and answers what the agent asks back.
//!
//! This must never talk to another user's agent, never retry anything, never answer a question
//! without the person, and never mistake an agent that exited for one that refused.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::client_error::ClientError;
use super::protocol::{AgentCall, CommandCall, CommandReply, FoundCertificate, NetworkRequest, OperationReply};
use crate::agent::AgentStatus;
use crate::agent::prompt_answer::PromptAnswer;
use crate::ipc::{self, Exchange, Frame, IpcError, PeerProcess, ReplyWithPayload};
use crate::keyset::{Attachments, Operation, Outcome, UserPrompter};
use crate::transport::Transport;

/// Timeout for the agent's status, and for each write.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Time that an exiting agent or a starting worker may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Delay between two probes.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// The running agent of this user.
#[derive(Clone, Debug)]
pub struct AgentClient {
    socket: PathBuf,
}

/// The outcome of an operation, and its secret.
pub type OutcomeWithSecret<T> = (Outcome<T>, Zeroizing<Vec<u8>>);

impl AgentClient {
    /// Connects to the agent at this socket, and checks that it responds and is of this build.
    /// `None` if nothing listens there.
    ///
    /// # Errors
    /// [`ClientError::AnotherUsers`]; [`ClientError::OtherBuild`]; [`ClientError::Unusable`] if the
    /// socket is unusable.
    pub fn at(socket: &Path) -> Result<Option<Self>, ClientError> {
        let agent = Self { socket: socket.to_owned() };
        let started = Instant::now();
        loop {
            let connected = ipc::connect(socket).map_err(|error| agent.unusable(&error))?;
            let Some(stream) = connected else { return Ok(None) };
            same_user(&stream, socket)?;
            match status_over(stream) {
                Ok(_) => return Ok(Some(agent)),
                // An exiting agent closes the connection and is gone soon; or its new worker
                // starts.
                Err(IpcError::Closed) if started.elapsed() < SHUTDOWN_TIMEOUT => thread::sleep(RETRY_DELAY),
                Err(error) => return Err(agent.failure(&error)),
            }
        }
    }

    /// The agent's status.
    ///
    /// # Errors
    /// [`ClientError::Unusable`]
    pub fn status(&self) -> Result<AgentStatus, ClientError> {
        status_over(self.connect()?).map_err(|error| self.failure(&error))
    }

    /// Connects for one operation.
    ///
    /// # Errors
    /// [`ClientError::Unusable`]; [`ClientError::AnotherUsers`]
    pub fn connect_for_operation(&self) -> Result<OperationConnection<'_>, ClientError> {
        let stream = self.connect()?;
        stream.set_write_timeout(Some(REQUEST_TIMEOUT)).map_err(|error| self.unusable(&error))?;
        Ok(OperationConnection { agent: self, stream })
    }

    fn connect(&self) -> Result<UnixStream, ClientError> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.unusable(&error))?;
        same_user(&stream, &self.socket)?;
        Ok(stream)
    }

    fn failure(&self, error: &IpcError) -> ClientError {
        match error {
            IpcError::OtherBuild => ClientError::OtherBuild { socket: self.socket.clone() },
            IpcError::Busy => ClientError::Busy { socket: self.socket.clone() },
            error => ClientError::Unusable { socket: self.socket.clone(), reason: error.to_string() },
        }
    }

    fn unusable(&self, error: &io::Error) -> ClientError {
        ClientError::Unusable { socket: self.socket.clone(), reason: error.to_string() }
    }
}

/// A connection to the agent, for one operation.
#[derive(Debug)]
pub struct OperationConnection<'a> {
    agent: &'a AgentClient,
    stream: UnixStream,
}

impl OperationConnection<'_> {
    /// The connection. If it becomes readable or closes during a question to the person, the agent
    /// has withdrawn the question.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Runs the operation; `person` answers its questions, `transport` its network requests.
    ///
    /// # Errors
    /// The operation's own error, or that of the connection to the agent.
    pub fn run<O: Operation>(
        self,
        operation: &O,
        attachments: &Attachments,
        person: &mut dyn UserPrompter,
        transport: &dyn Transport,
    ) -> Result<OutcomeWithSecret<O::Output>, ClientError> {
        let Self { agent, stream } = self;
        let arguments = serde_json::value::to_raw_value(operation).map_err(|error| agent.unusable(&error.into()))?;
        let files: Vec<_> = [&attachments.input, &attachments.output].into_iter().flatten().map(File::as_fd).collect();
        let call = CommandCall::Run {
            operation: O::ID.to_owned(),
            arguments,
            has_input: attachments.input.is_some(),
            has_output: attachments.output.is_some(),
        };
        let serve = |call, payload: Zeroizing<Vec<u8>>| serve_agent(call, &payload, person, transport);
        let mut exchange = Exchange::new(Arc::new(stream));
        match exchange.call::<_, OperationReply<O::Output>, _, _>(call, &attachments.secret, &files, serve) {
            Ok(Frame { message: Ok(outcome), payload, .. }) => Ok((outcome, payload)),
            Ok(Frame { message: Err(error), .. }) => Err(error.into()),
            Err(error @ (IpcError::OtherBuild | IpcError::Timeout | IpcError::Busy)) => Err(agent.failure(&error)),
            Err(error) => {
                tracing::debug!(%error, "the connection to the agent was lost");
                Err(ClientError::Ended { operation: O::NAME })
            }
        }
    }
}

fn status_over(stream: UnixStream) -> Result<AgentStatus, IpcError> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let reply = Exchange::new(Arc::new(stream)).request(CommandCall::Status, b"");
    reply.map(|frame| frame.message)
}

/// A PIN may only go to a process of this user.
fn same_user(stream: &UnixStream, socket: &Path) -> Result<(), ClientError> {
    let unusable = |reason: String| ClientError::Unusable { socket: socket.to_owned(), reason };
    let peer = PeerProcess::of(stream)
        .ok_or_else(|| unusable("the kernel does not report the owner of the peer process".to_owned()))?;
    if peer.is_same_user() { Ok(()) } else { Err(ClientError::AnotherUsers { socket: socket.to_owned() }) }
}

/// Answers a call of the agent: with the person's answer, or with the authority's.
fn serve_agent(
    call: AgentCall,
    payload: &[u8],
    person: &mut dyn UserPrompter,
    transport: &dyn Transport,
) -> Option<ReplyWithPayload<CommandReply>> {
    match call {
        AgentCall::Ask(prompt) => {
            let (answer, payload) = PromptAnswer::of(person.ask(&prompt));
            Some((CommandReply::Prompt(answer), payload))
        }
        AgentCall::Network(request) => Some(send_request(&request, payload, transport)),
        AgentCall::Progress(step) => {
            person.progress(step);
            None
        }
        AgentCall::Notice(notice) => {
            person.notice(notice);
            None
        }
    }
}

fn send_request(request: &NetworkRequest, payload: &[u8], transport: &dyn Transport) -> ReplyWithPayload<CommandReply> {
    let reply = match request {
        NetworkRequest::Cmp => transport.cmp(payload),
        NetworkRequest::CaCertificate => transport.ca_certificate(),
        NetworkRequest::Instance => transport.instance(),
        NetworkRequest::Statement => transport.statement(payload),
        NetworkRequest::SearchCertificates(email) => {
            let reply = match transport.search_certificates(email) {
                Ok(found) => CommandReply::Certificates(found.into_iter().map(FoundCertificate).collect()),
                Err(error) => CommandReply::NetworkFailed(error),
            };
            return (reply, Zeroizing::default());
        }
    };
    match reply {
        Ok(bytes) => (CommandReply::NetworkReply, Zeroizing::new(bytes)),
        Err(error) => (CommandReply::NetworkFailed(error), Zeroizing::default()),
    }
}
