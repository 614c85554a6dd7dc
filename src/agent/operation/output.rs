//! The results of operations, and keysets and tokens in JSON.

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::keyset::{
    AuthorityAddress, CommandResult, Decrypted, Deleted, Enrolled, ErrorKind, FoundKeyset, KeysetError, KeysetHolder,
    KeysetStatus, LogMismatch, OpenedResponse, TokenPins, UnreadableToken,
};
use crate::statement::StatementAnswer;
use crate::token::{KeyId, KeysetName, PinState, SecurityLevel, StoredCertificate, TokenFlags, TokenInfo};

/// The result of an operation. In JSON an object with one member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperationOutput {
    /// the tokens that are present
    Tokens(Vec<TokenInfo>),
    /// the keysets that are present
    Keysets(FoundKeysets),
    /// the selected keyset
    Keyset(Box<WireKeyset>),
    /// a signed message (DER of a CMS `ContentInfo`) or a signed command
    Signed(Bytes),
    /// a decrypted message
    Decrypted {
        content: Bytes,
        /// the keyset whose key opened it
        keyset: String,
        /// true if the content was encrypted with integrity protection
        integrity_protected: bool,
    },
    /// a content key, with which the client itself decrypts the content
    ContentKey {
        /// the key; a random one if the encrypted key does not decrypt or has the wrong length, so
        /// that the client cannot tell
        key: Bytes,
        /// the keyset of the recipient
        keyset: KeysetName,
    },
    /// the authority's response to a command: a letter
    Letter {
        /// its text, which holds a secret
        text: Bytes,
        /// the mismatch found in the authority's audit log
        log_mismatch: Option<Box<LogMismatch>>,
    },
    /// any other response of the authority to a command
    Answered {
        /// the response
        answer: StatementAnswer,
        /// the mismatch found in the authority's audit log
        log_mismatch: Option<Box<LogMismatch>>,
    },
    PinChanged {},
    /// the PIN states of tokens
    Pins(FoundPins),
    /// the token whose PIN was set with the SO PIN
    PinSet(TokenInfo),
    /// the keyset was deleted
    Deleted {
        /// number of private keys destroyed
        keys: usize,
        /// number of certificates removed
        certificates: usize,
    },
    /// the keyset is active
    Enrolled(Box<EnrolledKeyset>),
}

impl From<Decrypted> for OperationOutput {
    fn from(mut decrypted: Decrypted) -> Self {
        Self::Decrypted {
            content: std::mem::take(&mut *decrypted.content).into(),
            keyset: decrypted.keyset,
            integrity_protected: decrypted.integrity_protected,
        }
    }
}

impl From<CommandResult> for OperationOutput {
    fn from(CommandResult { answer, log_mismatch }: CommandResult) -> Self {
        match answer {
            OpenedResponse::Letter(text) => Self::Letter { text: text.as_bytes().into(), log_mismatch },
            OpenedResponse::Other(answer) => Self::Answered { answer, log_mismatch },
        }
    }
}

impl From<Deleted> for OperationOutput {
    fn from(deleted: Deleted) -> Self {
        Self::Deleted { keys: deleted.keys, certificates: deleted.certificates }
    }
}

/// The PIN states that a token reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a token, each true or not by itself, as PKCS#11 has them")]
pub struct WirePinStatus {
    token: TokenInfo,
    so_pin_state: PinState,
    pin_to_be_changed: bool,
    pin_at_the_reader: bool,
    login_required: bool,
    broken: bool,
}

impl From<(TokenInfo, TokenFlags)> for WirePinStatus {
    fn from((token, flags): (TokenInfo, TokenFlags)) -> Self {
        let TokenFlags { so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken } = flags;
        Self { token, so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken }
    }
}

impl From<WirePinStatus> for (TokenInfo, TokenFlags) {
    fn from(pins: WirePinStatus) -> Self {
        let WirePinStatus { token, so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken } = pins;
        (token, TokenFlags { so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken })
    }
}

/// PIN states of tokens, and the tokens that did not report them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundPins {
    /// the PIN states
    pub pins: Vec<WirePinStatus>,
    /// the tokens without a known state
    pub unreadable_tokens: Vec<WireUnreadableToken>,
}

impl FoundPins {
    /// From the result of [`crate::keyset::Tokens::pins`].
    pub fn new((pins, unreadable_tokens): (Vec<TokenPins>, Vec<UnreadableToken>)) -> Self {
        Self {
            pins: pins.into_iter().map(WirePinStatus::from).collect(),
            unreadable_tokens: unreadable_tokens.into_iter().map(WireUnreadableToken::from).collect(),
        }
    }

    /// The inverse of [`FoundPins::new`].
    pub fn read(self) -> (Vec<TokenPins>, Vec<UnreadableToken>) {
        let unreadable_tokens = self.unreadable_tokens.into_iter().map(UnreadableToken::from).collect();
        (self.pins.into_iter().map(TokenPins::from).collect(), unreadable_tokens)
    }
}

/// An active keyset after an enrollment ([`Enrolled`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledKeyset {
    pub keyset: WireKeyset,
    /// true if the keyset was enrolled before
    pub reenrolled: bool,
    /// true if an interrupted enrollment was completed
    pub resumed: bool,
    /// number of encryption keys installed
    pub encryption_keys: usize,
    /// the person that the new certificates name
    pub holder: Option<KeysetHolder>,
    /// the same person's other keysets, whose certificates are now superseded
    pub supersedes: Vec<WireKeyset>,
}

impl From<Enrolled> for EnrolledKeyset {
    fn from(enrolled: Enrolled) -> Self {
        let Enrolled { keyset, reenrolled, resumed, encryption_keys, holder, supersedes } = enrolled;
        let supersedes = supersedes.into_iter().map(WireKeyset::from).collect();
        Self { keyset: keyset.into(), reenrolled, resumed, encryption_keys, holder, supersedes }
    }
}

impl TryFrom<EnrolledKeyset> for Enrolled {
    type Error = hex::FromHexError;

    fn try_from(enrolled: EnrolledKeyset) -> Result<Self, Self::Error> {
        let EnrolledKeyset { keyset, reenrolled, resumed, encryption_keys, holder, supersedes } = enrolled;
        let supersedes = supersedes.into_iter().map(FoundKeyset::try_from).collect::<Result<_, _>>()?;
        Ok(Self { keyset: keyset.try_into()?, reenrolled, resumed, encryption_keys, holder, supersedes })
    }
}

/// The keysets on all tokens, and the tokens that could not be read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundKeysets {
    pub keysets: Vec<WireKeyset>,
    /// the tokens that could not be read
    pub unreadable_tokens: Vec<WireUnreadableToken>,
}

impl FoundKeysets {
    /// From the result of [`crate::keyset::Tokens::keysets`].
    pub fn new((keysets, unreadable_tokens): (Vec<FoundKeyset>, Vec<UnreadableToken>)) -> Self {
        Self {
            keysets: keysets.into_iter().map(WireKeyset::from).collect(),
            unreadable_tokens: unreadable_tokens.into_iter().map(WireUnreadableToken::from).collect(),
        }
    }

    /// The inverse of [`FoundKeysets::new`].
    ///
    /// # Errors
    /// An identifier is not hexadecimal.
    pub fn read(self) -> Result<(Vec<FoundKeyset>, Vec<UnreadableToken>), hex::FromHexError> {
        let keysets = self.keysets.into_iter().map(FoundKeyset::try_from).collect::<Result<_, _>>()?;
        Ok((keysets, self.unreadable_tokens.into_iter().map(UnreadableToken::from).collect()))
    }
}

/// An [`UnreadableToken`] in JSON; the error becomes its kind and message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireUnreadableToken {
    place: String,
    kind: ErrorKind,
    message: String,
}

impl From<UnreadableToken> for WireUnreadableToken {
    fn from(unreadable: UnreadableToken) -> Self {
        Self { place: unreadable.place, kind: unreadable.error.kind(), message: unreadable.error.to_string() }
    }
}

impl From<WireUnreadableToken> for UnreadableToken {
    fn from(unreadable: WireUnreadableToken) -> Self {
        let WireUnreadableToken { place, kind, message } = unreadable;
        Self { place, error: KeysetError::Remote { kind, message } }
    }
}

/// A [`FoundKeyset`] in JSON. Identifiers are hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireKeyset {
    name: KeysetName,
    level: SecurityLevel,
    authority: AuthorityAddress,
    status: KeysetStatus,
    token: TokenInfo,
    signing: Option<String>,
    encryption: Vec<String>,
    authority_certificate: Option<String>,
    certificates: Vec<WireCertificate>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCertificate {
    id: String,
    label: String,
    der: Bytes,
}

impl From<FoundKeyset> for WireKeyset {
    fn from(keyset: FoundKeyset) -> Self {
        let certificate = |stored: StoredCertificate| WireCertificate {
            id: stored.id.to_string(),
            label: stored.label,
            der: stored.der.into(),
        };
        Self {
            name: keyset.name,
            level: keyset.level,
            authority: keyset.authority,
            status: keyset.status,
            token: keyset.token,
            signing: keyset.signing.map(|id| id.to_string()),
            encryption: keyset.encryption.iter().map(ToString::to_string).collect(),
            authority_certificate: keyset.authority_certificate.map(|id| id.to_string()),
            certificates: keyset.certificates.into_iter().map(certificate).collect(),
        }
    }
}

impl TryFrom<WireKeyset> for FoundKeyset {
    type Error = hex::FromHexError;

    fn try_from(keyset: WireKeyset) -> Result<Self, Self::Error> {
        let id = |hexadecimal: &String| hex::decode(hexadecimal).map(KeyId::from);
        let certificate = |stored: WireCertificate| {
            Ok(StoredCertificate { id: id(&stored.id)?, label: stored.label, der: stored.der.into_vec() })
        };
        Ok(Self {
            name: keyset.name,
            level: keyset.level,
            authority: keyset.authority,
            status: keyset.status,
            token: keyset.token,
            signing: keyset.signing.as_ref().map(id).transpose()?,
            encryption: keyset.encryption.iter().map(id).collect::<Result<_, _>>()?,
            authority_certificate: keyset.authority_certificate.as_ref().map(id).transpose()?,
            certificates: keyset.certificates.into_iter().map(certificate).collect::<Result<_, _>>()?,
        })
    }
}
