//! Errors of keyset operations, grouped by the exit code that they lead to.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::token::{KeysetNameError, TokenError, TokenErrorKind, TokenName};
use crate::transport::TransportError;

use super::NoPin;

/// The kind of a failure; determines the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// An internal or token fault (1).
    Fault,
    /// The command is malformed (2).
    Usage,
    /// The token or keyset is not present (3).
    Absent,
    /// No PIN, or it was cancelled, wrong or locked (4).
    Pin,
    /// Ctrl-C at a prompt (130).
    Interrupted,
    /// Refused by a local rule or by the authority (5).
    Refused,
    /// The authority cannot be reached (6).
    Unreachable,
    /// A signature or a message is not what it claims to be (8).
    NotVerified,
}

/// A failed keyset operation. Each message says what cannot be done and why, and the next step
/// where there is one.
#[derive(Debug, thiserror::Error)]
pub enum KeysetError {
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An error of the transport to the authority.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No PIN was given; none was tried.
    #[error("cannot {operation}: {reason}; {}", nothing_done(reason, token.as_ref()))]
    NoPin {
        operation: &'static str,
        /// the token that needs the PIN; `None` for a token still to be created
        token: Option<TokenName>,
        /// why there is no PIN
        reason: NoPin,
    },
    /// No new PIN was given; the present one is unchanged.
    #[error("cannot {operation}: {reason}; the PIN of {token} is unchanged")]
    NoNewPin {
        operation: &'static str,
        token: TokenName,
        /// why there is no PIN
        reason: NoPin,
    },
    /// Too many consecutive wrong PINs: no further one is asked for or tried.
    #[error(
        "cannot {operation}: {wrong} wrong PINs in a row were given for {token}; set a new PIN with its SO PIN, or \
         restart the agent if you typed them yourself"
    )]
    TooManyWrongPins {
        operation: &'static str,
        token: TokenName,
        /// the number of wrong PINs
        wrong: u32,
    },
    /// An invalid keyset name.
    #[error("cannot use this keyset name: {0}")]
    Name(#[from] KeysetNameError),
    /// No keyset of this name on the tokens that are present.
    #[error("cannot find the keyset {name:?}: {found}")]
    NoSuchKeyset {
        name: String,
        /// the keysets found, and the tokens that could not be read
        found: String,
    },
    /// No keyset exists.
    #[error("cannot find a keyset: {found}")]
    NoKeyset {
        /// the keysets found, and the tokens that could not be read
        found: String,
    },
    /// The selection matches several candidates.
    #[error("cannot tell which {what} is meant: {candidates}; {remedy}")]
    Ambiguous {
        /// keyset, token or authority
        what: &'static str,
        /// the matching candidates, each with a distinguishing property
        candidates: String,
        /// what to type
        remedy: String,
    },
    /// The selected token is not present.
    #[error("cannot find the token {selector}: {found}")]
    NoSuchToken {
        /// the selector as typed
        selector: String,
        /// the tokens present
        found: String,
    },
    /// The token belongs to an authority: no user's key is stored there, and no user's command
    /// opens it.
    #[error("cannot use {token}: it belongs to an authority; choose another token")]
    AuthorityToken {
        /// the token's label and serial number
        token: String,
    },
    /// A rule forbids the operation; the text is the whole message.
    #[error("{0}")]
    Refused(String),
    /// The data on the token is contradictory or unreadable.
    #[error("cannot use the keyset {keyset:?} on {token}: {reason}")]
    Damaged {
        /// the keyset's name
        keyset: String,
        /// the token's label and serial number
        token: String,
        reason: String,
    },
    /// A newer tokenkeep wrote the keyset's index.
    #[error(
        "cannot use the keyset {keyset:?} on {token}: a newer tokenkeep wrote its index (version {version}; \
         tokenkeep {} reads up to {reads}); upgrade tokenkeep on this machine",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// the keyset's name
        keyset: String,
        /// the token's label and serial number
        token: String,
        /// the version of the index
        version: u32,
        /// the newest version that this program reads
        reads: u32,
    },
    /// A message, certificate or statement could not be created or parsed.
    #[error("cannot {operation}: {reason}")]
    Message {
        operation: &'static str,
        /// why it failed
        reason: String,
    },
    /// A message is not authentic: wrong signer, modified, or an answer to something else.
    #[error("cannot {operation}: {reason}")]
    NotVerified { operation: &'static str, reason: String },
    /// No keyset can decrypt this message.
    #[error("cannot decrypt: {0}")]
    NotARecipient(String),
    /// A command was sent, and no verifiable answer arrived.
    #[error("{source}; it is unknown whether the command was executed; {next}")]
    OutcomeUnknown {
        source: Box<KeysetError>,
        /// what to type
        next: String,
    },
    /// An error of which only the kind and the message are known, such as one of another process.
    #[error("{message}")]
    Other { kind: ErrorKind, message: String },
}

/// An error in JSON: its kind and its message.
#[derive(Serialize, Deserialize)]
struct ErrorInJson {
    kind: ErrorKind,
    message: String,
}

impl Serialize for KeysetError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ErrorInJson { kind: self.kind(), message: self.to_string() }.serialize(serializer)
    }
}

/// Gives [`KeysetError::Other`].
impl<'de> Deserialize<'de> for KeysetError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ErrorInJson { kind, message } = ErrorInJson::deserialize(deserializer)?;
        Ok(Self::Other { kind, message })
    }
}

impl KeysetError {
    /// Returns whether a token was removed or no longer responds as present.
    pub fn is_token_absent(&self) -> bool {
        matches!(self, Self::Token(TokenError::Absent { .. }))
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Token(error) => match error.kind() {
                TokenErrorKind::Absent => ErrorKind::Absent,
                TokenErrorKind::Pin => ErrorKind::Pin,
                TokenErrorKind::Refused => ErrorKind::Refused,
                TokenErrorKind::Fault => ErrorKind::Fault,
            },
            Self::Transport(error) => Self::transport_kind(error),
            Self::Name(_) => ErrorKind::Usage,
            Self::NoPin { reason: NoPin::Interrupted, .. } | Self::NoNewPin { reason: NoPin::Interrupted, .. } => {
                ErrorKind::Interrupted
            }
            Self::NoPin { .. } | Self::NoNewPin { .. } | Self::TooManyWrongPins { .. } => ErrorKind::Pin,
            Self::NoSuchKeyset { .. } | Self::NoKeyset { .. } | Self::NoSuchToken { .. } => ErrorKind::Absent,
            Self::Ambiguous { .. }
            | Self::AuthorityToken { .. }
            | Self::NotARecipient(_)
            | Self::Newer { .. }
            | Self::Refused(_) => ErrorKind::Refused,
            Self::NotVerified { .. } => ErrorKind::NotVerified,
            Self::OutcomeUnknown { source, .. } => source.kind(),
            Self::Other { kind, .. } => *kind,
            Self::Damaged { .. } | Self::Message { .. } => ErrorKind::Fault,
        }
    }

    pub fn transport_kind(error: &TransportError) -> ErrorKind {
        match error {
            TransportError::Unreachable { .. } | TransportError::Busy { .. } => ErrorKind::Unreachable,
            TransportError::Address { .. } => ErrorKind::Usage,
            TransportError::Refused { .. } | TransportError::WrongAuthority { .. } => ErrorKind::Refused,
            TransportError::BadResponse { .. } => ErrorKind::Fault,
        }
    }
}

/// The end of a message: nothing was done. A declined prompt often asked for a confirmation, not
/// for a PIN.
fn nothing_done(reason: &NoPin, token: Option<&TokenName>) -> String {
    match (reason, token) {
        (NoPin::Declined, Some(token)) => format!("nothing was done with {token}"),
        (NoPin::Declined, None) => "nothing was done".to_owned(),
        (_, token) => format!("the PIN{} was not tried", of(token)),
    }
}

fn of(token: Option<&TokenName>) -> String {
    token.map(|token| format!(" of {token}")).unwrap_or_default()
}
