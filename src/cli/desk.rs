//! The backend that runs operations on keysets: this process, or the agent that owns the tokens.
//!
//! Both give the same results, messages and exit codes.

use jiff::Timestamp;

use super::exit::Failure;
use crate::agent::client::Agent;
use crate::carrier::Carrier;
use crate::keyset::{
    self, Answered, Decrypted, Deleted, EnrollOptions, Enrolled, Enrollment, FoundKeyset, KeysetChoice, KnownLog,
    Person, SecurityOfficer, SignOptions, TokenPins, TokenSelector, TokenTrouble, Tokens, Trust,
};
use crate::letter::Letter;
use crate::statement::{Operation, SignedStatement};
use crate::token::TokenInfo;

/// Where operations run.
#[derive(Debug)]
pub enum Desk {
    /// this process, which opens the tokens itself
    Here(Tokens),
    /// the agent
    There(Agent),
}

impl Desk {
    /// The present tokens.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, Failure> {
        match self {
            Self::Here(tokens) => Ok(tokens.list()?),
            Self::There(agent) => Ok(agent.tokens()?),
        }
    }

    /// The present keysets, and the tokens that could not be read.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), Failure> {
        match self {
            Self::Here(tokens) => Ok(tokens.keysets()?),
            Self::There(agent) => Ok(agent.keysets()?),
        }
    }

    /// The keyset that the choice selects.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, Failure> {
        match self {
            Self::Here(tokens) => Ok(tokens.choose(choice)?),
            Self::There(agent) => Ok(agent.choose(choice)?),
        }
    }

    /// The authorities of all present keysets.
    pub fn trust(&self) -> Result<Trust, Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::trust(tokens)?),
            Self::There(agent) => {
                let (keysets, trouble) = agent.keysets()?;
                Ok(Trust::of(&keysets, &trouble))
            }
        }
    }

    pub fn sign(
        &self,
        keyset: &FoundKeyset,
        content: &[u8],
        options: SignOptions,
        person: &mut dyn Person,
        now: Timestamp,
    ) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::sign(tokens, keyset, content, options, person, now)?),
            Self::There(agent) => Ok(agent.sign(keyset, content, options.detached, person)?),
        }
    }

    pub fn decrypt(
        &self,
        choice: &KeysetChoice,
        message: &[u8],
        person: &mut dyn Person,
    ) -> Result<Decrypted, Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::decrypt(tokens, choice, message, person)?),
            Self::There(agent) => Ok(agent.decrypt(choice, message, person)?),
        }
    }

    /// Signs an administrator's command, sends it to the authority, and returns the answer.
    pub fn administer(
        &self,
        keyset: &FoundKeyset,
        carrier: &dyn Carrier,
        operation: Operation,
        known_log: KnownLog,
        person: &mut dyn Person,
        now: Timestamp,
    ) -> Result<Answered, Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::administer(tokens, keyset, carrier, operation, known_log, person, now)?),
            Self::There(agent) => Ok(agent.administer(keyset, carrier, operation, known_log, person)?),
        }
    }

    /// Signs an administrator's command for a statement file.
    pub fn sign_for_a_file(
        &self,
        keyset: &FoundKeyset,
        operation: Operation,
        known_log: KnownLog,
        person: &mut dyn Person,
        now: Timestamp,
    ) -> Result<SignedStatement, Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::sign_for_a_file(tokens, keyset, operation, known_log, person, now)?),
            Self::There(agent) => Ok(agent.sign_for_a_file(keyset, operation, known_log, person)?),
        }
    }

    /// Opens the authority's response to a statement file.
    pub fn open_response(
        &self,
        keyset: &FoundKeyset,
        statement: &SignedStatement,
        response: Vec<u8>,
        known_log: KnownLog,
        person: &mut dyn Person,
        now: Timestamp,
    ) -> Result<Answered, Failure> {
        match self {
            Self::Here(tokens) => {
                Ok(keyset::open_response(tokens, keyset, statement, response, known_log, person, now)?)
            }
            Self::There(agent) => Ok(agent.open_response(keyset, statement, response, known_log, person)?),
        }
    }

    pub fn pin_change(&self, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<(), Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::pin_change(tokens, keyset, person)?),
            Self::There(agent) => Ok(agent.pin_change(keyset, person)?),
        }
    }

    /// The PIN states of one token or of all, and the tokens that could not be read.
    pub fn pins(&self, token: Option<&TokenSelector>) -> Result<(Vec<TokenPins>, Vec<TokenTrouble>), Failure> {
        match self {
            Self::Here(tokens) => Ok(tokens.pins(token)?),
            Self::There(agent) => Ok(agent.pins(token)?),
        }
    }

    /// Sets a new PIN with the SO PIN; returns the token. The default is the only present token.
    pub fn pin_unblock(
        &self,
        token: Option<&TokenSelector>,
        officer: &mut dyn SecurityOfficer,
    ) -> Result<TokenInfo, Failure> {
        match self {
            Self::Here(tokens) => {
                let token = tokens.token_or_only(token)?;
                keyset::pin_unblock(tokens, &token, officer)?;
                Ok(token)
            }
            Self::There(agent) => Ok(agent.pin_unblock(token, officer)?),
        }
    }

    pub fn delete(&self, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<Deleted, Failure> {
        match self {
            Self::Here(tokens) => Ok(keyset::delete(tokens, keyset, person)?),
            Self::There(agent) => Ok(agent.delete(keyset, person)?),
        }
    }

    /// Enrolls. An enrollment that ends without a keyset is a failure.
    pub fn enroll(
        &self,
        carrier: &dyn Carrier,
        letter: &Letter,
        options: &EnrollOptions,
        person: &mut dyn Person,
        now: Timestamp,
    ) -> Result<Enrolled, Failure> {
        match self {
            Self::Here(tokens) => match keyset::enroll(tokens, carrier, letter, options, person, now)? {
                Enrollment::Enrolled(enrolled) => Ok(*enrolled),
                Enrollment::NotEnrolled(not) => Err(Failure::new(not.kind().into(), not.to_string())),
            },
            Self::There(agent) => Ok(agent.enroll(carrier, letter, options, person)?),
        }
    }
}
