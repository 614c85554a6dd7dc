//! The client side of the agent's API: runs operations in the agent for tokenkeep's commands.
//!
//! The command stays the operation's [`Person`] and [`Carrier`]: it supplies PINs and sends
//! requests to the authority. Messages and exit codes are those of the operation, as without an
//! agent.
//!
//! This must never talk to another user's agent, never retry anything, and never mistake an agent
//! that exited for one that refused.

mod error;
mod http;
mod pins;
mod status;

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub use error::ClientError;
pub use status::AgentStatus;

use self::http::Exchange;
use super::act::{
    ActAnswer, ActRequest, Asked, Choice, Enroll, Errand, Line, NoCarrier, OnlineOrFile, Reply, ReplyTo, text_of,
};
use super::{Annex, ClientConnection, Peer};
use crate::carrier::Carrier;
use crate::keyset::{
    Answered, Decrypted, Deleted, Elsewhere, EnrollOptions, Enrolled, FoundKeyset, KeysetChoice, KeysetError, KnownLog,
    NoPin, OpenedAnswer, Person, PinRequest, SecurityOfficer, TokenSelector, TokenTrouble,
};
use crate::letter::Letter;
use crate::statement::{Operation, SignedStatement};
use crate::token::{Pin, TokenInfo};

/// Timeout for each read and write until the agent has accepted a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time that an exiting agent or a starting worker may take.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// Delay between two probes.
const PAUSE: Duration = Duration::from_millis(20);

/// The running agent of this user.
#[derive(Clone, Debug)]
pub struct Agent {
    way: Way,
    /// the client on whose behalf a module worker is asked
    client: ClientConnection,
}

/// The agent's address.
#[derive(Clone, Debug)]
enum Way {
    Socket(PathBuf),
    /// Within the agent: a module worker, on behalf of this peer.
    Annex(Arc<Annex>, Peer),
}

impl Agent {
    /// Connects to the agent at this socket; `None` if nothing listens there.
    ///
    /// # Errors
    /// [`ClientError::AnotherUsers`]; [`ClientError::Unusable`] if the socket is unusable.
    pub fn at(socket: &Path) -> Result<Option<Self>, ClientError> {
        let agent = Self { way: Way::Socket(socket.to_owned()), client: ClientConnection::default() };
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
            match bounded(&stream).and_then(|()| http::knock(stream)) {
                Ok(()) => return Ok(Some(agent)),
                // An exiting agent closes the connection and is gone soon; or its new worker
                // starts.
                Err(error) if is_hung_up(&error) && started.elapsed() < LAST_BREATH => thread::sleep(PAUSE),
                Err(error) => return Err(agent.unusable(&error)),
            }
        }
    }

    /// A module worker of this agent, asked on behalf of the peer.
    pub(super) fn in_annex(annex: Arc<Annex>, peer: Peer) -> Self {
        Self { way: Way::Annex(annex, peer), client: ClientConnection::default() }
    }

    /// Limits requests to the lifetime of this client's connection.
    pub(super) fn for_client(self, client: ClientConnection) -> Self {
        Self { client, ..self }
    }

    /// The agent's status.
    ///
    /// # Errors
    /// [`ClientError::Unusable`], also if an older agent has no status.
    pub fn status(&self) -> Result<AgentStatus, ClientError> {
        http::get(self.connect()?, "/v1/status").map_err(|error| self.unusable(&error))
    }

    /// The tokens that are present.
    ///
    /// # Errors
    /// As for all functions below: the error of the operation or of the connection to the agent.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, ClientError> {
        match self.simple(&ActRequest::ListTokens {})? {
            ActAnswer::Tokens(tokens) => Ok(tokens),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// The keysets that are present, and the tokens that could not be read.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), ClientError> {
        match self.simple(&ActRequest::ListKeysets {})? {
            ActAnswer::Keysets(found) => found.read().map_err(|_| ClientError::Unfitting),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// The one keyset that the choice selects.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, ClientError> {
        match self.simple(&ActRequest::ChooseKeyset(choice.into()))? {
            ActAnswer::Keyset(keyset) => (*keyset).try_into().map_err(|_| ClientError::Unfitting),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Signs `content`; returns a CMS `ContentInfo` in DER.
    pub fn sign(
        &self,
        keyset: &FoundKeyset,
        content: &[u8],
        detached: bool,
        person: &mut dyn Person,
    ) -> Result<Vec<u8>, ClientError> {
        let request = ActRequest::Sign { keyset: Choice::of(keyset), content: content.into(), detached };
        match self.act(&request, person, &NoCarrier)? {
            ActAnswer::Signed(cms) => Ok(cms.into_vec()),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Decrypts a CMS message (DER, PEM or S/MIME).
    pub fn decrypt(
        &self,
        choice: &KeysetChoice,
        message: &[u8],
        person: &mut dyn Person,
    ) -> Result<Decrypted, ClientError> {
        let request = ActRequest::Decrypt { keyset: choice.into(), message: message.into() };
        match self.act(&request, person, &NoCarrier)? {
            ActAnswer::Decrypted { content, keyset, integrity_protected } => {
                Ok(Decrypted { content: content.into_secret(), keyset, integrity_protected })
            }
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Signs an administrator's command, sends it to the authority and returns the response.
    pub fn administer(
        &self,
        keyset: &FoundKeyset,
        carrier: &dyn Carrier,
        operation: Operation,
        known_log: KnownLog,
        person: &mut dyn Person,
    ) -> Result<Answered, ClientError> {
        let (keyset, order) = (Choice::of(keyset), operation.into());
        let request = ActRequest::Administer { keyset, order, way: OnlineOrFile::Online, known_log };
        answered(self.act(&request, person, carrier)?)
    }

    /// Signs an administrator's command that travels as a file.
    pub fn sign_for_a_file(
        &self,
        keyset: &FoundKeyset,
        operation: Operation,
        known_log: KnownLog,
        person: &mut dyn Person,
    ) -> Result<SignedStatement, ClientError> {
        let (keyset, order) = (Choice::of(keyset), operation.into());
        let request = ActRequest::Administer { keyset, order, way: OnlineOrFile::File, known_log };
        match self.act(&request, person, &NoCarrier)? {
            ActAnswer::Signed(statement) => {
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
        known_log: KnownLog,
        person: &mut dyn Person,
    ) -> Result<Answered, ClientError> {
        let (statement, response) = (statement.as_der().into(), response.into());
        let request = ActRequest::OpenResponse { keyset: Choice::of(keyset), statement, response, known_log };
        answered(self.act(&request, person, &NoCarrier)?)
    }

    /// Changes the PIN of the keyset's token.
    pub fn pin_change(&self, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<(), ClientError> {
        match self.act(&ActRequest::ChangePin { keyset: Choice::of(keyset) }, person, &NoCarrier)? {
            ActAnswer::PinChanged {} => Ok(()),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Sets a new PIN with the SO PIN; returns the token.
    pub fn pin_unblock(
        &self,
        token: Option<&TokenSelector>,
        officer: &mut dyn SecurityOfficer,
    ) -> Result<TokenInfo, ClientError> {
        match self.act(&ActRequest::UnblockPin { token: token.map(text_of) }, &mut OnlyOfficer(officer), &NoCarrier)? {
            ActAnswer::PinSet(token) => Ok(token),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Deletes a keyset.
    pub fn delete(&self, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<Deleted, ClientError> {
        match self.act(&ActRequest::DeleteKeyset { keyset: Choice::of(keyset) }, person, &NoCarrier)? {
            ActAnswer::Deleted { keys, certificates } => Ok(Deleted { keys, certificates }),
            _ => Err(ClientError::Unfitting),
        }
    }

    /// Enrolls. An enrollment without a keyset is an error here, with its message and kind.
    pub fn enroll(
        &self,
        carrier: &dyn Carrier,
        letter: &Letter,
        options: &EnrollOptions,
        person: &mut dyn Person,
    ) -> Result<Enrolled, ClientError> {
        let enroll = Enroll::new(letter.to_text().as_bytes().into(), options);
        match self.act(&ActRequest::Enroll(Box::new(enroll)), person, carrier)? {
            ActAnswer::Enrolled(enrolled) => (*enrolled).try_into().map_err(|_| ClientError::Unfitting),
            _ => Err(ClientError::Unfitting),
        }
    }

    fn simple(&self, request: &ActRequest) -> Result<ActAnswer, ClientError> {
        self.act(request, &mut Nobody, &NoCarrier)
    }

    /// Runs one operation; `person` answers its questions, `carrier` its network requests.
    pub(super) fn act(
        &self,
        request: &ActRequest,
        person: &mut dyn Person,
        carrier: &dyn Carrier,
    ) -> Result<ActAnswer, ClientError> {
        let operation = request.operation();
        let ended = |error: io::Error| {
            if error.kind() == ErrorKind::ConnectionAborted {
                return KeysetError::NoPin { operation, token: None, reason: NoPin::Withdrawn }.into();
            }
            tracing::debug!(%error, "the connection to the agent was lost");
            ClientError::Ended { operation }
        };
        let stream = self.connect()?;
        let begun = Exchange::begin(stream, &self.client, "/v1/acts", request);
        let mut lines = begun.map_err(|error| self.unusable(&error))?;
        let mut answers = None;
        let mut name = None;
        loop {
            let reply = match lines.line::<Line>().map_err(ended)? {
                Line::Begun { id } => {
                    lines.wait_for(None).map_err(ended)?;
                    name = Some(format!("/v1/acts/{id}/answer"));
                    continue;
                }
                Line::Progress(step) => {
                    person.progress(step);
                    continue;
                }
                Line::Notice(notice) => {
                    person.notice(notice);
                    continue;
                }
                Line::Done(answer) => return Ok(*answer),
                Line::Failed { kind, message } => return Err(KeysetError::Told { kind, message }.into()),
                Line::Ask { number, question } => {
                    person.is_asked_over(lines.connection());
                    ReplyTo { number, reply: asked(&question, operation, person) }
                }
                Line::Carry { number, errand } => ReplyTo { number, reply: carried(errand, carrier) },
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
        let stream = match &self.way {
            Way::Socket(socket) => {
                let stream = UnixStream::connect(socket).map_err(|error| self.unusable(&error))?;
                same_user(&stream, socket)?;
                stream
            }
            Way::Annex(annex, peer) => annex.door(*peer).map_err(|error| self.unusable(&io::Error::other(error)))?,
        };
        bounded(&stream).map_err(|error| self.unusable(&error))?;
        Ok(stream)
    }

    fn unusable(&self, error: &io::Error) -> ClientError {
        let socket = match &self.way {
            Way::Socket(socket) => socket.clone(),
            Way::Annex(annex, _) => annex.module().to_owned(),
        };
        ClientError::Unusable { socket, reason: error.to_string() }
    }
}

fn bounded(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// A PIN may only go to a process of this user.
fn same_user(stream: &UnixStream, socket: &Path) -> Result<(), ClientError> {
    let unusable = |reason: String| ClientError::Unusable { socket: socket.to_owned(), reason };
    let peer = Peer::of(stream)
        .ok_or_else(|| unusable("the kernel does not report the owner of the peer process".to_owned()))?;
    if peer.uid == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(ClientError::AnotherUsers { socket: socket.to_owned() })
    }
}

fn answered(answer: ActAnswer) -> Result<Answered, ClientError> {
    match answer {
        ActAnswer::Letter { text, alarm } => {
            let answer = text.into_text().map(OpenedAnswer::Letter).ok_or(ClientError::Unfitting)?;
            Ok(Answered { answer, alarm })
        }
        ActAnswer::Answered { answer, alarm } => Ok(Answered { answer: OpenedAnswer::Other(answer), alarm }),
        _ => Err(ClientError::Unfitting),
    }
}

/// Passes a question to the person, with the name of the operation that the user typed.
fn asked(question: &Asked, operation: &'static str, person: &mut dyn Person) -> Reply {
    let pin = match question {
        Asked::Existing { token, .. } => person.pin(PinRequest::Existing { operation, token }),
        Asked::Resumed { token } => person.pin(PinRequest::Resumed { token }),
        Asked::New { label, rule } => person.pin(PinRequest::New { label, rule: *rule }),
        Asked::NewSoPin { label } => person.pin(PinRequest::NewSoPin { label }),
        Asked::LastTry { token } => return yes(person.risks_last_try(token)),
        Asked::LastSoTry { token } => return yes(officer(person).and_then(|officer| officer.risks_last_try(token))),
        Asked::SoPin { token } => officer(person).and_then(|officer| officer.so_pin(token)),
        Asked::NewInstead { token, rule } => officer(person).and_then(|officer| officer.new_pin(token, *rule)),
    };
    match pin {
        Ok(pin) if pin.is_attended() => Reply::Pin(pin.as_str().as_bytes().into()),
        Ok(pin) => Reply::UnattendedPin(pin.as_str().as_bytes().into()),
        Err(reason) => Reply::No(reason),
    }
}

fn yes(answer: Result<(), NoPin>) -> Reply {
    match answer {
        Ok(()) => Reply::Yes {},
        Err(reason) => Reply::No(reason),
    }
}

fn officer(person: &mut dyn Person) -> Result<&mut dyn SecurityOfficer, NoPin> {
    person.security_officer().ok_or_else(|| NoPin::Unavailable("no SO PIN is available here".to_owned()))
}

fn carried(errand: Errand, carrier: &dyn Carrier) -> Reply {
    let brought = match errand {
        Errand::Cmp(message) => carrier.cmp(message.as_slice()),
        Errand::CaCertificate {} => carrier.ca_certificate(),
        Errand::Instance {} => carrier.instance(),
        Errand::Statement(statement) => carrier.statement(statement.as_slice()),
        Errand::SearchCertificates(email) => {
            return match carrier.search_certificates(&email) {
                Ok(found) => Reply::Certificates(found.into_iter().map(Into::into).collect()),
                Err(error) => Reply::NotCarried(error),
            };
        }
    };
    match brought {
        Ok(bytes) => Reply::Carried(bytes.into()),
        Err(error) => Reply::NotCarried(error),
    }
}

/// For the operation that asks only for the SO PIN.
struct OnlyOfficer<'a>(&'a mut dyn SecurityOfficer);

impl Person for OnlyOfficer<'_> {
    fn pin(&mut self, _request: PinRequest<'_>) -> Result<Pin, NoPin> {
        Err(NoPin::Unavailable("this operation asks only for the SO PIN".to_owned()))
    }

    fn risks_last_try(&mut self, _token: &TokenInfo) -> Result<(), NoPin> {
        Err(NoPin::LastTry)
    }

    fn security_officer(&mut self) -> Option<&mut dyn SecurityOfficer> {
        Some(&mut *self.0)
    }

    fn is_asked_over(&mut self, connection: &UnixStream) {
        self.0.is_asked_over(connection);
    }
}

/// For operations that ask nothing.
struct Nobody;

impl Person for Nobody {
    fn pin(&mut self, _request: PinRequest<'_>) -> Result<Pin, NoPin> {
        Err(NoPin::Unavailable("this operation does not ask for a PIN".to_owned()))
    }

    fn risks_last_try(&mut self, _token: &TokenInfo) -> Result<(), NoPin> {
        Err(NoPin::LastTry)
    }
}
