//! The client side of the agent's API: runs operations in the agent for tokenkeep's commands.
//!
//! The command stays the operation's [`UserPrompter`] and [`Transport`]: it supplies PINs and sends
//! requests to the authority. Messages and exit codes are those of the operation, as without an
//! agent.
//!
//! This must never talk to another user's agent, never retry anything, and never mistake an agent
//! that exited for one that refused.

mod error;
mod http;
mod queries;
mod replies;

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use error::ClientError;
pub use queries::AgentStatus;

use self::http::Exchange;
use self::replies::{answer_question, run_network_request};
use super::PeerProcess;
use super::operation::{
    ClientReply, NoTransport, OperationEvent, OperationOutput, OperationRequest, WireEnrollRequest, WireKeysetChoice,
    WireStatementChannel, selector_text,
};
use crate::keyset::{
    CommandResult, Decrypted, Deleted, EnrollOptions, Enrolled, FoundKeyset, KeysetChoice, KeysetError, LogPolicy,
    OpenedResponse, TokenSelector, UserPrompter,
};
use crate::letter::Letter;
use crate::statement::{AdminOperation, SignedStatement};
use crate::token::TokenInfo;
use crate::transport::Transport;

/// Timeout for each read and write until the agent has accepted a request.
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

impl AgentClient {
    /// Connects to the agent at this socket; `None` if nothing listens there.
    ///
    /// # Errors
    /// [`ClientError::AnotherUsers`]; [`ClientError::Unusable`] if the socket is unusable.
    pub fn at(socket: &Path) -> Result<Option<Self>, ClientError> {
        let agent = Self { socket: socket.to_owned() };
        let started = Instant::now();
        loop {
            let stream = match UnixStream::connect(socket) {
                Ok(stream) => stream,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    return Ok(None);
                }
                Err(error) => return Err(agent.unusable(&error)),
            };
            same_user(&stream, socket)?;
            match bounded(&stream).and_then(|()| http::probe(stream)) {
                Ok(()) => return Ok(Some(agent)),
                // An exiting agent closes the connection and is gone soon; or its new worker
                // starts.
                Err(error) if is_hung_up(&error) && started.elapsed() < SHUTDOWN_TIMEOUT => thread::sleep(RETRY_DELAY),
                Err(error) => return Err(agent.unusable(&error)),
            }
        }
    }

    /// Signs `content`; returns a CMS `ContentInfo` in DER.
    pub fn sign(
        &self,
        keyset: &FoundKeyset,
        content: &[u8],
        detached: bool,
        person: &mut dyn UserPrompter,
    ) -> Result<Vec<u8>, ClientError> {
        let request =
            OperationRequest::Sign { keyset: WireKeysetChoice::of(keyset), content: content.into(), detached };
        match self.run_operation(&request, person, &NoTransport)? {
            OperationOutput::Signed(cms) => Ok(cms.into_vec()),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Decrypts a CMS message (DER, PEM or S/MIME).
    pub fn decrypt(
        &self,
        choice: &KeysetChoice,
        message: &[u8],
        person: &mut dyn UserPrompter,
    ) -> Result<Decrypted, ClientError> {
        let request = OperationRequest::Decrypt { keyset: choice.into(), message: message.into() };
        match self.run_operation(&request, person, &NoTransport)? {
            OperationOutput::Decrypted { content, keyset, integrity_protected } => {
                Ok(Decrypted { content: content.into_secret(), keyset, integrity_protected })
            }
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Signs an administrator's command, sends it to the authority and returns the response.
    pub fn administer(
        &self,
        keyset: &FoundKeyset,
        transport: &dyn Transport,
        operation: AdminOperation,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
    ) -> Result<CommandResult, ClientError> {
        let (keyset, admin_operation) = (WireKeysetChoice::of(keyset), operation.into());
        let request =
            OperationRequest::Administer { keyset, admin_operation, channel: WireStatementChannel::Online, log_policy };
        expect_answered(self.run_operation(&request, person, transport)?)
    }

    /// Signs an administrator's command that travels as a file.
    pub fn sign_for_a_file(
        &self,
        keyset: &FoundKeyset,
        operation: AdminOperation,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
    ) -> Result<SignedStatement, ClientError> {
        let (keyset, admin_operation) = (WireKeysetChoice::of(keyset), operation.into());
        let request =
            OperationRequest::Administer { keyset, admin_operation, channel: WireStatementChannel::File, log_policy };
        match self.run_operation(&request, person, &NoTransport)? {
            OperationOutput::Signed(statement) => {
                SignedStatement::parse(statement.as_slice()).map_err(|_| ClientError::Unfitting)
            }
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Opens the authority's response to a command that was sent as a file.
    pub fn open_response(
        &self,
        keyset: &FoundKeyset,
        statement: &SignedStatement,
        response: Vec<u8>,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
    ) -> Result<CommandResult, ClientError> {
        let (statement, response) = (statement.as_der().into(), response.into());
        let request =
            OperationRequest::OpenResponse { keyset: WireKeysetChoice::of(keyset), statement, response, log_policy };
        expect_answered(self.run_operation(&request, person, &NoTransport)?)
    }

    /// Changes the PIN of the keyset's token.
    pub fn pin_change(&self, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<(), ClientError> {
        match self.run_operation(
            &OperationRequest::ChangePin { keyset: WireKeysetChoice::of(keyset) },
            person,
            &NoTransport,
        )? {
            OperationOutput::PinChanged {} => Ok(()),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Sets a new PIN with the SO PIN; returns the token.
    pub fn pin_unblock(
        &self,
        token: Option<&TokenSelector>,
        person: &mut dyn UserPrompter,
    ) -> Result<TokenInfo, ClientError> {
        match self.run_operation(
            &OperationRequest::UnblockPin { token: token.map(selector_text) },
            person,
            &NoTransport,
        )? {
            OperationOutput::PinSet(token) => Ok(token),
            _ => Err(ClientError::Unfitting),
        }
    }

    pub fn delete(&self, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<Deleted, ClientError> {
        match self.run_operation(
            &OperationRequest::DeleteKeyset { keyset: WireKeysetChoice::of(keyset) },
            person,
            &NoTransport,
        )? {
            OperationOutput::Deleted { keys, certificates } => Ok(Deleted { keys, certificates }),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Enrolls. An enrollment without a keyset is an error here, with its message and kind.
    pub fn enroll(
        &self,
        transport: &dyn Transport,
        letter: &Letter,
        options: &EnrollOptions,
        person: &mut dyn UserPrompter,
    ) -> Result<Enrolled, ClientError> {
        let enroll = WireEnrollRequest::new(letter.to_text().as_bytes().into(), options);
        match self.run_operation(&OperationRequest::Enroll(Box::new(enroll)), person, transport)? {
            OperationOutput::Enrolled(enrolled) => (*enrolled).try_into().map_err(|_| ClientError::Unfitting),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Runs one operation; `person` answers its questions, `transport` its network requests.
    fn run_operation(
        &self,
        request: &OperationRequest,
        person: &mut dyn UserPrompter,
        transport: &dyn Transport,
    ) -> Result<OperationOutput, ClientError> {
        let operation = request.operation();
        let ended = |error: io::Error| {
            tracing::debug!(%error, "the connection to the agent was lost");
            ClientError::Ended { operation }
        };
        let stream = self.connect()?;
        let begun = Exchange::begin(stream, "/v1/operations", request);
        let mut lines = begun.map_err(|error| self.unusable(&error))?;
        let mut answers = None;
        let mut name = None;
        loop {
            let reply = match lines.line::<OperationEvent>().map_err(ended)? {
                OperationEvent::Begun { id } => {
                    lines.wait_for(None).map_err(ended)?;
                    name = Some(format!("/v1/operations/{id}/answer"));
                    continue;
                }
                OperationEvent::Progress(step) => {
                    person.progress(step);
                    continue;
                }
                OperationEvent::Notice(notice) => {
                    person.notice(notice);
                    continue;
                }
                OperationEvent::Done(answer) => return Ok(*answer),
                OperationEvent::Failed { kind, message } => return Err(KeysetError::Remote { kind, message }.into()),
                OperationEvent::Ask { number, question } => {
                    person.watch_connection(lines.connection());
                    ClientReply { number, reply: answer_question(&question, operation, person) }
                }
                OperationEvent::NetworkRequest { number, request } => {
                    ClientReply { number, reply: run_network_request(request, transport) }
                }
            };
            let path = name.as_deref().ok_or(ClientError::Unfitting)?;
            let connection = match answers.take() {
                Some(connection) => connection,
                None => self.connect().map_err(|_| ClientError::Ended { operation })?,
            };
            answers = Some(http::post(connection, path, &reply).map_err(ended)?);
        }
    }

    fn connect(&self) -> Result<UnixStream, ClientError> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.unusable(&error))?;
        same_user(&stream, &self.socket)?;
        bounded(&stream).map_err(|error| self.unusable(&error))?;
        Ok(stream)
    }

    fn unusable(&self, error: &io::Error) -> ClientError {
        ClientError::Unusable { socket: self.socket.clone(), reason: error.to_string() }
    }
}

fn bounded(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT)).and_then(|()| stream.set_write_timeout(Some(REQUEST_TIMEOUT)))
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// A PIN may only go to a process of this user.
fn same_user(stream: &UnixStream, socket: &Path) -> Result<(), ClientError> {
    let unusable = |reason: String| ClientError::Unusable { socket: socket.to_owned(), reason };
    let peer = PeerProcess::of(stream)
        .ok_or_else(|| unusable("the kernel does not report the owner of the peer process".to_owned()))?;
    if peer.uid == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(ClientError::AnotherUsers { socket: socket.to_owned() })
    }
}

fn expect_answered(answer: OperationOutput) -> Result<CommandResult, ClientError> {
    match answer {
        OperationOutput::Letter { text, log_mismatch } => {
            let answer = text.into_text().map(OpenedResponse::Letter).ok_or(ClientError::Unfitting)?;
            Ok(CommandResult { answer, log_mismatch })
        }
        OperationOutput::Answered { answer, log_mismatch } => {
            Ok(CommandResult { answer: OpenedResponse::Other(answer), log_mismatch })
        }
        _ => Err(ClientError::Unfitting),
    }
}
