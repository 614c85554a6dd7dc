//! The backend that runs operations on keysets: this process, or the agent that owns the tokens.
//!
//! Both give the same results, messages and exit codes.

use jiff::Timestamp;

use super::exit::Failure;
use crate::agent::operations::AgentClient;
use crate::keyset::ops::{ChooseKeyset, ListKeysets, ListTokens};
use crate::keyset::{
    Attachments, FoundKeyset, Inventory, KeysetChoice, NoPin, Operation, OperationContext, Outcome, Prompt,
    PromptReply, Refusal, Tokens, Trust, UnreadableToken, UserPrompter,
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
                let (outcome, secret) = agent.call(&operation, attachments, person, transport)?;
                attachments.secret = secret;
                outcome
            }
        };
        match outcome {
            Outcome::Done(output) => Ok(output),
            Outcome::Refused(Refusal { kind, message }) => Err(Failure::new(kind.into(), message)),
        }
    }

    /// Runs an operation that has no attachments and sends nothing.
    pub fn call<O: Operation>(&self, operation: O, person: &mut dyn UserPrompter) -> Result<O::Output, Failure> {
        self.call_with(operation, &mut Attachments::default(), person, &NoTransport)
    }

    /// Runs an operation that asks nothing.
    pub fn query<O: Operation>(&self, operation: O) -> Result<O::Output, Failure> {
        self.call(operation, &mut NoPrompter)
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

/// For operations that ask nothing.
struct NoPrompter;

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
