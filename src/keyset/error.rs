//! Why an act with a keyset did not succeed, each told apart by the end that the program comes to.

use serde::{Deserialize, Serialize};

use crate::carrier::CarrierError;
use crate::token::{KeysetNameError, TokenError, TokenErrorKind, TokenName};

use super::NoPin;

/// Which of the program's ends (exit codes of the command line) a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Something broke (1).
    Fault,
    /// The command cannot be meant like this (2).
    Usage,
    /// The token or keyset is not there (3).
    Absent,
    /// The PIN: none given, cancelled, wrong, locked (4).
    Pin,
    /// Ctrl-C at a prompt (130).
    Interrupted,
    /// Refused: by a rule here, or by the authority (5).
    Refused,
    /// The authority cannot be reached (6).
    Unreachable,
    /// A signature or a message is not what it claims to be (8).
    NotVerified,
}

/// An act with a keyset that did not succeed. Each message completes "cannot …" or says what is in the way, with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeysetError {
    /// The token could not do it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The way to the authority.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// No PIN was given; nothing was tried.
    #[error("cannot {operation}: {reason}; {}", untouched(reason, token.as_ref()))]
    NoPin {
        /// what was to be done
        operation: &'static str,
        /// the token whose PIN it is; none if it is still to be made
        token: Option<TokenName>,
        /// why there is none
        reason: NoPin,
    },
    /// No new PIN was given; the one that the token has is as it was.
    #[error("cannot {operation}: {reason}; the PIN of {token} is as it was")]
    NoNewPin {
        /// what was to be done
        operation: &'static str,
        /// whose PIN
        token: TokenName,
        /// why there is none
        reason: NoPin,
    },
    /// So many wrong PINs in a row that no more are asked for; nothing was tried.
    #[error(
        "cannot {operation}: {wrong} wrong PINs in a row were given for {token}; set a new PIN with its SO PIN, or start \
         the agent anew, if it was you who typed them"
    )]
    TooManyWrongPins {
        /// what was to be done
        operation: &'static str,
        /// whose PIN
        token: TokenName,
        /// how many
        wrong: u32,
    },
    /// A name that no keyset can have.
    #[error("cannot use this keyset name: {0}")]
    Name(#[from] KeysetNameError),
    /// No keyset of this name on the tokens that are present.
    #[error("cannot find the keyset {name:?}: {found}")]
    NoSuchKeyset {
        /// the name that was asked for
        name: String,
        /// what there is instead, and what could not be looked at
        found: String,
    },
    /// There is no keyset at all.
    #[error("cannot find a keyset: {found}")]
    NoKeyset {
        /// which tokens there are, and what could not be looked at
        found: String,
    },
    /// Several could be meant.
    #[error("cannot tell which {what} is meant: {candidates}; {remedy}")]
    Ambiguous {
        /// keyset, token or authority
        what: &'static str,
        /// those that fit, each with what tells it from the others
        candidates: String,
        /// what to type
        remedy: String,
    },
    /// The token that was named is not present.
    #[error("cannot find the token {selector}: {found}")]
    NoSuchToken {
        /// how it was named
        selector: String,
        /// which there are
        found: String,
    },
    /// The token is an authority's: no user's key goes there, and no user's command opens it.
    #[error("cannot use {token}: it is an authority's; choose another one")]
    Authoritys {
        /// the token's label and serial number
        token: String,
    },
    /// A rule of keysets is against it.
    #[error("{0}")]
    Refused(String),
    /// What is on the token contradicts itself or cannot be read.
    #[error("cannot use the keyset {keyset:?} on {token}: {reason}")]
    Damaged {
        /// the keyset's name
        keyset: String,
        /// the token's label and serial number
        token: String,
        /// what is wrong
        reason: String,
    },
    /// A newer tokenkeep wrote the keyset's record.
    #[error(
        "cannot use the keyset {keyset:?} on {token}: a newer tokenkeep wrote its record (version {version}; tokenkeep {} \
         reads up to {reads}); upgrade tokenkeep on this machine",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// the keyset's name
        keyset: String,
        /// the token's label and serial number
        token: String,
        /// the record's version
        version: u32,
        /// the newest version that this program reads
        reads: u32,
    },
    /// A message, certificate or statement could not be made or read.
    #[error("cannot {operation}: {reason}")]
    Message {
        /// what was tried
        operation: &'static str,
        /// why it failed
        reason: String,
    },
    /// A message is not what it claims to be: another's signature, changed, an answer to something else.
    #[error("cannot {operation}: {reason}")]
    NotVerified {
        /// what was tried
        operation: &'static str,
        /// what does not fit
        reason: String,
    },
    /// Nobody here can read this message.
    #[error("cannot decrypt: {0}")]
    NotARecipient(String),
    /// A command was sent, and no answer came back that can be believed.
    #[error("{source}; it is unknown whether the command was done; {next}")]
    OutcomeUnknown {
        /// what went wrong
        source: Box<KeysetError>,
        /// what to type
        next: String,
    },
    /// What another process said that acted for this one: its whole sentence, and the end that it leads to.
    #[error("{message}")]
    Told {
        /// the end
        kind: ErrorKind,
        /// the sentence
        message: String,
    },
}

impl KeysetError {
    /// Was a token removed, or did it not answer as one that is there?
    pub fn is_token_absent(&self) -> bool {
        matches!(self, Self::Token(TokenError::Absent { .. }))
    }

    /// Which of the program's ends this leads to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Token(error) => match error.kind() {
                TokenErrorKind::Absent => ErrorKind::Absent,
                TokenErrorKind::Pin => ErrorKind::Pin,
                TokenErrorKind::Refused => ErrorKind::Refused,
                TokenErrorKind::Fault => ErrorKind::Fault,
            },
            Self::Carrier(error) => Self::carrier_kind(error),
            Self::Name(_) => ErrorKind::Usage,
            Self::NoPin { reason: NoPin::Interrupted, .. } | Self::NoNewPin { reason: NoPin::Interrupted, .. } => {
                ErrorKind::Interrupted
            }
            Self::NoPin { .. } | Self::NoNewPin { .. } | Self::TooManyWrongPins { .. } => ErrorKind::Pin,
            Self::NoSuchKeyset { .. } | Self::NoKeyset { .. } | Self::NoSuchToken { .. } => ErrorKind::Absent,
            Self::Ambiguous { .. }
            | Self::Authoritys { .. }
            | Self::NotARecipient(_)
            | Self::Newer { .. }
            | Self::Refused(_) => ErrorKind::Refused,
            Self::NotVerified { .. } => ErrorKind::NotVerified,
            Self::OutcomeUnknown { source, .. } => source.kind(),
            Self::Told { kind, .. } => *kind,
            Self::Damaged { .. } | Self::Message { .. } => ErrorKind::Fault,
        }
    }

    /// Which end what the network did leads to.
    pub fn carrier_kind(error: &CarrierError) -> ErrorKind {
        match error {
            CarrierError::Unreachable { .. } | CarrierError::Busy { .. } => ErrorKind::Unreachable,
            CarrierError::Address { .. } => ErrorKind::Usage,
            CarrierError::Refused { .. } | CarrierError::OtherAuthority { .. } => ErrorKind::Refused,
            CarrierError::BadAnswer { .. } => ErrorKind::Fault,
        }
    }
}

/// What did not happen. Whoever said no was asked for a yes, and often for no PIN at all.
fn untouched(reason: &NoPin, token: Option<&TokenName>) -> String {
    match (reason, token) {
        (NoPin::Declined, Some(token)) => format!("nothing was done with {token}"),
        (NoPin::Declined, None) => "nothing was done".to_owned(),
        (_, token) => format!("the PIN{} was not tried", of(token)),
    }
}

fn of(token: Option<&TokenName>) -> String {
    token.map(|token| format!(" of {token}")).unwrap_or_default()
}
