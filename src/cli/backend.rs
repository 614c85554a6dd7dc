//! The backend that runs operations on keysets: this process, or the agent that owns the tokens.
//!
//! Both give the same results, messages and exit codes.

use jiff::Timestamp;

use super::exit::Failure;
use super::terminal_prompter::TerminalPrompter;
use crate::agent::operations::{AgentClient, OperationConnection};
use crate::keyset::ops::{ChooseKeyset, ListKeysets, ListTokens};
use crate::keyset::{
    Attachments, FoundKeyset, Inventory, KeysetChoice, NoPin, Operation, OperationContext, OperationObserver, Outcome,
    Prompt, PromptReply, Refusal, Tokens, Trust, UnreadableToken, UserPrompter,
};
use crate::token::TokenInfo;
use crate::transport::{Transport, TransportError};

/// The process that runs operations: this one or the agent.
#[derive(Debug)]
pub enum Backend {
    /// this process, which opens the tokens itself
    Local(Tokens),
    /// the agent
    Agent(AgentClient),
}

impl Backend {
    /// Runs an operation. A refusal is a failure. What the operation attaches to its output
    /// replaces the attached secret.
    pub fn call_with<O: Operation>(
        &self,
        operation: O,
        attachments: &mut Attachments,
        person: &mut TerminalPrompter<'_>,
        transport: &dyn Transport,
    ) -> Result<O::Output, Failure> {
        let connection = self.connect()?;
        if let BackendConnection::Agent(agent) = &connection {
            person.ask_while_open(agent.stream());
        }
        connection.run(operation, attachments, person, transport)
    }

    /// Runs an operation that has no attachments and sends nothing.
    pub fn call<O: Operation>(&self, operation: O, person: &mut TerminalPrompter<'_>) -> Result<O::Output, Failure> {
        self.call_with(operation, &mut Attachments::default(), person, &NoTransport)
    }

    /// Runs an operation that asks nothing.
    pub fn query<O: Operation>(&self, operation: O) -> Result<O::Output, Failure> {
        self.connect()?.run(operation, &mut Attachments::default(), &mut NoPrompter, &NoTransport)
    }

    fn connect(&self) -> Result<BackendConnection<'_>, Failure> {
        Ok(match self {
            Self::Local(tokens) => BackendConnection::Local(tokens),
            Self::Agent(agent) => BackendConnection::Agent(agent.connect_for_operation()?),
        })
    }

    /// The present tokens.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, Failure> {
        self.query(ListTokens)
    }

    /// The present keysets, and the tokens that could not be read.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), Failure> {
        self.query(ListKeysets)
    }

    /// The keyset that the choice selects.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, Failure> {
        self.query(ChooseKeyset { keyset: choice.clone() })
    }

    /// The authorities of all present keysets.
    pub fn trust(&self) -> Result<Trust, Failure> {
        let (keysets, unreadable_tokens) = self.keysets()?;
        Ok(Trust::of(&keysets, &unreadable_tokens))
    }
}

/// A backend, ready for one operation.
enum BackendConnection<'a> {
    Local(&'a Tokens),
    Agent(OperationConnection<'a>),
}

impl BackendConnection<'_> {
    fn run<O: Operation>(
        self,
        operation: O,
        attachments: &mut Attachments,
        person: &mut dyn UserPrompter,
        transport: &dyn Transport,
    ) -> Result<O::Output, Failure> {
        let outcome = match self {
            Self::Local(tokens) => {
                let target = operation.select(&Inventory::of(tokens))?;
                let now = Timestamp::now();
                operation.run(target, &mut OperationContext { tokens, person, transport, attachments, now })?
            }
            Self::Agent(agent) => {
                let (outcome, secret) = agent.run(&operation, attachments, person, transport)?;
                attachments.secret = secret;
                outcome
            }
        };
        match outcome {
            Outcome::Done(output) => Ok(output),
            Outcome::Refused(Refusal { kind, message }) => Err(Failure::new(kind.into(), message)),
        }
    }
}

/// For operations that ask nothing.
struct NoPrompter;

impl OperationObserver for NoPrompter {}

impl UserPrompter for NoPrompter {
    fn ask(&mut self, _prompt: &Prompt) -> Result<PromptReply, NoPin> {
        Err(NoPin::Unavailable("this operation asks nothing".to_owned()))
    }
}

/// The transport of operations that send nothing. It rejects every request.
#[derive(Clone, Copy, Debug)]
pub struct NoTransport;

impl NoTransport {
    fn refused<T>() -> Result<T, TransportError> {
        Err(TransportError::Address { url: "anywhere".to_owned(), reason: "this operation sends nothing".to_owned() })
    }
}

impl Transport for NoTransport {
    fn cmp(&self, _message: &[u8]) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn search_certificates(&self, _email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        Self::refused()
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }

    fn statement(&self, _statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        Self::refused()
    }
}
