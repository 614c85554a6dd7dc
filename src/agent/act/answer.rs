//! The results of operations, and keysets and tokens in JSON.

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::keyset::{
    Answered, AuthorityAddress, Decrypted, Deleted, Enrolled, ErrorKind, FoundKeyset, Holder, KeysetError, LogAlarm,
    OpenedAnswer, Standing, TokenPins, TokenTrouble,
};
use crate::statement::Answer;
use crate::token::{KeyId, KeysetName, PinState, SecurityLevel, StoredCertificate, TokenFlags, TokenInfo};

/// The result of an operation. In JSON an object with one member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ActAnswer {
    /// the tokens that are present
    Tokens(Vec<TokenInfo>),
    /// the keysets that are present
    Keysets(FoundKeysets),
    /// the selected keyset
    Keyset(Box<KeysetOnWire>),
    /// a signed message (DER of a CMS `ContentInfo`) or a signed command
    Signed(Bytes),
    /// a decrypted message
    Decrypted {
        /// the content
        content: Bytes,
        /// the keyset whose key opened it
        keyset: String,
        /// was the content encrypted with integrity protection?
        integrity_protected: bool,
    },
    /// a content key for the client to decrypt with
    ContentKey {
        /// the key; random bytes if decryption failed
        key: Bytes,
        /// the keyset of the recipient
        keyset: KeysetName,
    },
    /// the authority's response to a command: a letter
    Letter {
        /// its text, which holds a secret
        text: Bytes,
        /// the mismatch found in the authority's audit log
        alarm: Option<Box<LogAlarm>>,
    },
    /// any other response of the authority to a command
    Answered {
        /// the response
        answer: Answer,
        /// the mismatch found in the authority's audit log
        alarm: Option<Box<LogAlarm>>,
    },
    /// the PIN was changed
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

impl From<Decrypted> for ActAnswer {
    fn from(mut decrypted: Decrypted) -> Self {
        Self::Decrypted {
            content: std::mem::take(&mut *decrypted.content).into(),
            keyset: decrypted.keyset,
            integrity_protected: decrypted.integrity_protected,
        }
    }
}

impl From<Answered> for ActAnswer {
    fn from(Answered { answer, alarm }: Answered) -> Self {
        match answer {
            OpenedAnswer::Letter(text) => Self::Letter { text: text.as_bytes().into(), alarm },
            OpenedAnswer::Other(answer) => Self::Answered { answer, alarm },
        }
    }
}

impl From<Deleted> for ActAnswer {
    fn from(deleted: Deleted) -> Self {
        Self::Deleted { keys: deleted.keys, certificates: deleted.certificates }
    }
}

/// The PIN states that a token reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a token, each true or not by itself, as PKCS#11 has them")]
pub struct PinsOnWire {
    token: TokenInfo,
    so_pin_state: PinState,
    pin_to_be_changed: bool,
    pin_at_the_reader: bool,
    login_required: bool,
    broken: bool,
}

impl From<(TokenInfo, TokenFlags)> for PinsOnWire {
    fn from((token, flags): (TokenInfo, TokenFlags)) -> Self {
        let TokenFlags { so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken } = flags;
        Self { token, so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken }
    }
}

impl From<PinsOnWire> for (TokenInfo, TokenFlags) {
    fn from(pins: PinsOnWire) -> Self {
        let PinsOnWire { token, so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken } = pins;
        (token, TokenFlags { so_pin_state, pin_to_be_changed, pin_at_the_reader, login_required, broken })
    }
}

/// PIN states of tokens, and the tokens that did not report them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundPins {
    /// the PIN states
    pub pins: Vec<PinsOnWire>,
    /// the tokens without a known state
    pub trouble: Vec<TroubleOnWire>,
}

impl FoundPins {
    /// From the result of [`crate::keyset::Tokens::pins`].
    pub fn new((pins, trouble): (Vec<TokenPins>, Vec<TokenTrouble>)) -> Self {
        Self {
            pins: pins.into_iter().map(PinsOnWire::from).collect(),
            trouble: trouble.into_iter().map(TroubleOnWire::from).collect(),
        }
    }

    /// The inverse of [`FoundPins::new`].
    pub fn read(self) -> (Vec<TokenPins>, Vec<TokenTrouble>) {
        let trouble = self.trouble.into_iter().map(TokenTrouble::from).collect();
        (self.pins.into_iter().map(TokenPins::from).collect(), trouble)
    }
}

/// An active keyset after an enrollment ([`Enrolled`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledKeyset {
    /// the keyset
    pub keyset: KeysetOnWire,
    /// was the keyset enrolled before?
    pub reenrolled: bool,
    /// was an interrupted enrollment completed?
    pub resumed: bool,
    /// number of encryption keys installed
    pub encryption_keys: usize,
    /// the person that the new certificates name
    pub holder: Option<Holder>,
    /// the same person's other keysets, whose certificates are now superseded
    pub supersedes: Vec<KeysetOnWire>,
}

impl From<Enrolled> for EnrolledKeyset {
    fn from(enrolled: Enrolled) -> Self {
        let Enrolled { keyset, reenrolled, resumed, encryption_keys, holder, supersedes } = enrolled;
        let supersedes = supersedes.into_iter().map(KeysetOnWire::from).collect();
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
    /// the keysets
    pub keysets: Vec<KeysetOnWire>,
    /// the tokens that could not be read
    pub trouble: Vec<TroubleOnWire>,
}

impl FoundKeysets {
    /// From the result of [`crate::keyset::Tokens::keysets`].
    pub fn new((keysets, trouble): (Vec<FoundKeyset>, Vec<TokenTrouble>)) -> Self {
        Self {
            keysets: keysets.into_iter().map(KeysetOnWire::from).collect(),
            trouble: trouble.into_iter().map(TroubleOnWire::from).collect(),
        }
    }

    /// The inverse of [`FoundKeysets::new`].
    ///
    /// # Errors
    /// An identifier is not hexadecimal.
    pub fn read(self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), hex::FromHexError> {
        let keysets = self.keysets.into_iter().map(FoundKeyset::try_from).collect::<Result<_, _>>()?;
        Ok((keysets, self.trouble.into_iter().map(TokenTrouble::from).collect()))
    }
}

/// A [`TokenTrouble`] in JSON; the error becomes its kind and message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TroubleOnWire {
    place: String,
    kind: ErrorKind,
    message: String,
}

impl From<TokenTrouble> for TroubleOnWire {
    fn from(trouble: TokenTrouble) -> Self {
        Self { place: trouble.place, kind: trouble.error.kind(), message: trouble.error.to_string() }
    }
}

impl From<TroubleOnWire> for TokenTrouble {
    fn from(trouble: TroubleOnWire) -> Self {
        let TroubleOnWire { place, kind, message } = trouble;
        Self { place, error: KeysetError::Told { kind, message } }
    }
}

/// A [`FoundKeyset`] in JSON. Identifiers are hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetOnWire {
    name: KeysetName,
    level: SecurityLevel,
    authority: AuthorityAddress,
    standing: Standing,
    token: TokenInfo,
    signing: Option<String>,
    encryption: Vec<String>,
    authority_certificate: Option<String>,
    certificates: Vec<CertificateOnWire>,
}

impl KeysetOnWire {
    /// The keyset's token.
    pub fn token(&self) -> &TokenInfo {
        &self.token
    }

    /// Number of encryption keys and certificates.
    pub fn objects(&self) -> usize {
        self.encryption.len() + self.certificates.len()
    }

    /// The keyset's token, mutable: the main worker replaces its module path.
    pub fn token_mut(&mut self) -> &mut TokenInfo {
        &mut self.token
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateOnWire {
    id: String,
    label: String,
    der: Bytes,
}

impl From<FoundKeyset> for KeysetOnWire {
    fn from(keyset: FoundKeyset) -> Self {
        let certificate = |stored: StoredCertificate| CertificateOnWire {
            id: stored.id.to_string(),
            label: stored.label,
            der: stored.der.into(),
        };
        Self {
            name: keyset.name,
            level: keyset.level,
            authority: keyset.authority,
            standing: keyset.standing,
            token: keyset.token,
            signing: keyset.signing.map(|id| id.to_string()),
            encryption: keyset.encryption.iter().map(ToString::to_string).collect(),
            authority_certificate: keyset.authority_certificate.map(|id| id.to_string()),
            certificates: keyset.certificates.into_iter().map(certificate).collect(),
        }
    }
}

impl TryFrom<KeysetOnWire> for FoundKeyset {
    type Error = hex::FromHexError;

    fn try_from(keyset: KeysetOnWire) -> Result<Self, Self::Error> {
        let id = |hexadecimal: &String| hex::decode(hexadecimal).map(KeyId::from);
        let certificate = |stored: CertificateOnWire| {
            Ok(StoredCertificate { id: id(&stored.id)?, label: stored.label, der: stored.der.into_vec() })
        };
        Ok(Self {
            name: keyset.name,
            level: keyset.level,
            authority: keyset.authority,
            standing: keyset.standing,
            token: keyset.token,
            signing: keyset.signing.as_ref().map(id).transpose()?,
            encryption: keyset.encryption.iter().map(id).collect::<Result<_, _>>()?,
            authority_certificate: keyset.authority_certificate.as_ref().map(id).transpose()?,
            certificates: keyset.certificates.into_iter().map(certificate).collect::<Result<_, _>>()?,
        })
    }
}
