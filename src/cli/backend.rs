//! The backend that runs operations on keysets: this process, or the agent that owns the tokens.
//!
//! Both give the same results, messages and exit codes.

use jiff::Timestamp;

use super::exit::Failure;
use crate::agent::client::AgentClient;
use crate::keyset::{
    self, CommandResult, Decrypted, Deleted, EnrollOptions, Enrolled, Enrollment, FoundKeyset, KeysetChoice, LogPolicy,
    SignOptions, TokenPins, TokenSelector, Tokens, Trust, UnreadableToken, UserPrompter,
};
use crate::letter::Letter;
use crate::statement::{AdminOperation, SignedStatement};
use crate::token::TokenInfo;
use crate::transport::Transport;

/// The process that runs operations: this one or the agent.
#[derive(Debug)]
pub enum Backend {
    /// this process, which opens the tokens itself
    Local(Tokens),
    /// the agent
    Agent(AgentClient),
}

impl Backend {
    /// The present tokens.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, Failure> {
        match self {
            Self::Local(tokens) => Ok(tokens.list()?),
            Self::Agent(agent) => Ok(agent.tokens()?),
        }
    }

    /// The present keysets, and the tokens that could not be read.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), Failure> {
        match self {
            Self::Local(tokens) => Ok(tokens.keysets()?),
            Self::Agent(agent) => Ok(agent.keysets()?),
        }
    }

    /// The keyset that the choice selects.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, Failure> {
        match self {
            Self::Local(tokens) => Ok(tokens.choose(choice)?),
            Self::Agent(agent) => Ok(agent.choose(choice)?),
        }
    }

    /// The authorities of all present keysets.
    pub fn trust(&self) -> Result<Trust, Failure> {
        match self {
            Self::Local(tokens) => Ok(keyset::trust(tokens)?),
            Self::Agent(agent) => {
                let (keysets, unreadable_tokens) = agent.keysets()?;
                Ok(Trust::of(&keysets, &unreadable_tokens))
            }
        }
    }

    pub fn sign(
        &self,
        keyset: &FoundKeyset,
        content: &[u8],
        options: SignOptions,
        person: &mut dyn UserPrompter,
        now: Timestamp,
    ) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Local(tokens) => Ok(keyset::sign(tokens, keyset, content, options, person, now)?),
            Self::Agent(agent) => Ok(agent.sign(keyset, content, options.detached, person)?),
        }
    }

    pub fn decrypt(
        &self,
        choice: &KeysetChoice,
        message: &[u8],
        person: &mut dyn UserPrompter,
    ) -> Result<Decrypted, Failure> {
        match self {
            Self::Local(tokens) => Ok(keyset::decrypt(tokens, choice, message, person)?),
            Self::Agent(agent) => Ok(agent.decrypt(choice, message, person)?),
        }
    }

    /// Signs an administrator's command, sends it to the authority, and returns the answer.
    pub fn administer(
        &self,
        keyset: &FoundKeyset,
        transport: &dyn Transport,
        operation: AdminOperation,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
        now: Timestamp,
    ) -> Result<CommandResult, Failure> {
        match self {
            Self::Local(tokens) => {
                Ok(keyset::administer(tokens, keyset, transport, operation, log_policy, person, now)?)
            }
            Self::Agent(agent) => Ok(agent.administer(keyset, transport, operation, log_policy, person)?),
        }
    }

    /// Signs an administrator's command for a statement file.
    pub fn sign_for_a_file(
        &self,
        keyset: &FoundKeyset,
        operation: AdminOperation,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
        now: Timestamp,
    ) -> Result<SignedStatement, Failure> {
        match self {
            Self::Local(tokens) => Ok(keyset::sign_for_a_file(tokens, keyset, operation, log_policy, person, now)?),
            Self::Agent(agent) => Ok(agent.sign_for_a_file(keyset, operation, log_policy, person)?),
        }
    }

    /// Opens the authority's response to a statement file.
    pub fn open_response(
        &self,
        keyset: &FoundKeyset,
        statement: &SignedStatement,
        response: Vec<u8>,
        log_policy: LogPolicy,
        person: &mut dyn UserPrompter,
        now: Timestamp,
    ) -> Result<CommandResult, Failure> {
        match self {
            Self::Local(tokens) => {
                Ok(keyset::open_response(tokens, keyset, statement, response, log_policy, person, now)?)
            }
            Self::Agent(agent) => Ok(agent.open_response(keyset, statement, response, log_policy, person)?),
        }
    }

    pub fn pin_change(&self, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<(), Failure> {
        match self {
            Self::Local(tokens) => Ok(keyset::pin_change(tokens, keyset, person)?),
            Self::Agent(agent) => Ok(agent.pin_change(keyset, person)?),
        }
    }

    /// The PIN states of one token or of all, and the tokens that could not be read.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<(Vec<TokenPins>, Vec<UnreadableToken>), Failure> {
        match self {
            Self::Local(tokens) => Ok(tokens.pins(token)?),
            Self::Agent(agent) => Ok(agent.pins(token)?),
        }
    }

    /// Sets a new PIN with the SO PIN; returns the token. The default is the only present token.
    pub fn pin_unblock(
        &self,
        token: Option<&TokenSelector>,
        person: &mut dyn UserPrompter,
    ) -> Result<TokenInfo, Failure> {
        match self {
            Self::Local(tokens) => {
                let token = tokens.token_or_only(token)?;
                keyset::pin_unblock(tokens, &token, person)?;
                Ok(token)
            }
            Self::Agent(agent) => Ok(agent.pin_unblock(token, person)?),
        }
    }

    pub fn delete(&self, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<Deleted, Failure> {
        match self {
            Self::Local(tokens) => Ok(keyset::delete(tokens, keyset, person)?),
            Self::Agent(agent) => Ok(agent.delete(keyset, person)?),
        }
    }

    /// Enrolls. An enrollment that ends without a keyset is a failure.
    pub fn enroll(
        &self,
        transport: &dyn Transport,
        letter: &Letter,
        options: &EnrollOptions,
        person: &mut dyn UserPrompter,
        now: Timestamp,
    ) -> Result<Enrolled, Failure> {
        match self {
            Self::Local(tokens) => match keyset::enroll(tokens, transport, letter, options, person, now)? {
                Enrollment::Enrolled(enrolled) => Ok(*enrolled),
                Enrollment::NotEnrolled(not) => Err(Failure::new(not.kind().into(), not.to_string())),
            },
            Self::Agent(agent) => Ok(agent.enroll(transport, letter, options, person)?),
        }
    }
}
