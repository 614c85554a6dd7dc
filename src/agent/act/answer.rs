//! What comes of an act, and how keysets and tokens travel.

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::keyset::{
    Answered, AuthorityAddress, Decrypted, Deleted, Enrolled, ErrorKind, FoundKeyset, Holder, KeysetError, LogAlarm,
    OpenedAnswer, Standing, TokenPins, TokenTrouble,
};
use crate::statement::Answer;
use crate::token::{KeyId, KeysetName, PinState, SecurityLevel, StoredCertificate, TokenFlags, TokenInfo};

/// What came of an act. In JSON an object with one member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ActAnswer {
    /// the tokens that are there
    Tokens(Vec<TokenInfo>),
    /// the keysets that are there
    Keysets(FoundKeysets),
    /// the keyset that is meant
    Keyset(Box<KeysetOnWire>),
    /// the signed message, DER of a CMS `ContentInfo`; or a signed command
    Signed(Bytes),
    /// what was encrypted
    Decrypted {
        /// the content
        content: Bytes,
        /// the keyset whose key opened it
        keyset: String,
        /// was it encrypted with integrity protection?
        integrity_protected: bool,
    },
    /// a content key
    ContentKey {
        /// the key; a random one where it did not come out
        key: Bytes,
        /// the keyset whose key it was encrypted to
        keyset: KeysetName,
    },
    /// the authority's answer to a command: a letter
    Letter {
        /// its text, which holds a secret
        text: Bytes,
        /// why the authority's audit log is not to be believed
        alarm: Option<Box<LogAlarm>>,
    },
    /// the authority's answer to a command: any other
    Answered {
        /// the answer
        answer: Answer,
        /// why the authority's audit log is not to be believed
        alarm: Option<Box<LogAlarm>>,
    },
    /// the PIN is changed
    PinChanged {},
    /// what tokens say about their PINs
    Pins(FoundPins),
    /// the token whose PIN is a new one
    PinSet(TokenInfo),
    /// the keyset is gone
    Deleted {
        /// private keys destroyed
        keys: usize,
        /// certificates removed
        certificates: usize,
    },
    /// the keyset stands
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

/// What a token says about its PINs.
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

/// What tokens say about their PINs, and those of which it is not known.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundPins {
    /// what they say
    pub pins: Vec<PinsOnWire>,
    /// those of which it is not known
    pub trouble: Vec<TroubleOnWire>,
}

impl FoundPins {
    /// As [`crate::keyset::Tokens::pins`] answers.
    pub fn new((pins, trouble): (Vec<TokenPins>, Vec<TokenTrouble>)) -> Self {
        Self {
            pins: pins.into_iter().map(PinsOnWire::from).collect(),
            trouble: trouble.into_iter().map(TroubleOnWire::from).collect(),
        }
    }

    /// The same as values.
    pub fn read(self) -> (Vec<TokenPins>, Vec<TokenTrouble>) {
        let trouble = self.trouble.into_iter().map(TokenTrouble::from).collect();
        (self.pins.into_iter().map(TokenPins::from).collect(), trouble)
    }
}

/// A keyset that stands ([`Enrolled`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledKeyset {
    /// the keyset
    pub keyset: KeysetOnWire,
    /// did it stand before?
    pub reenrolled: bool,
    /// was an enrollment finished that had been cut off?
    pub resumed: bool,
    /// encryption keys installed
    pub encryption_keys: usize,
    /// the person whom the new certificates name
    pub holder: Option<Holder>,
    /// the same person's other keysets, whose certificates are superseded
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

/// The keysets on all tokens, and what could not be looked at.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundKeysets {
    /// the keysets
    pub keysets: Vec<KeysetOnWire>,
    /// what could not be looked at
    pub trouble: Vec<TroubleOnWire>,
}

impl FoundKeysets {
    /// As [`crate::keyset::Tokens::keysets`] answers.
    pub fn new((keysets, trouble): (Vec<FoundKeyset>, Vec<TokenTrouble>)) -> Self {
        Self {
            keysets: keysets.into_iter().map(KeysetOnWire::from).collect(),
            trouble: trouble.into_iter().map(TroubleOnWire::from).collect(),
        }
    }

    /// The same as values.
    ///
    /// # Errors
    /// An identifier that is not hexadecimal.
    pub fn read(self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), hex::FromHexError> {
        let keysets = self.keysets.into_iter().map(FoundKeyset::try_from).collect::<Result<_, _>>()?;
        Ok((keysets, self.trouble.into_iter().map(TokenTrouble::from).collect()))
    }
}

/// A [`TokenTrouble`].
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

/// A [`FoundKeyset`]. Identifiers are hexadecimal.
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
    /// The token it is on.
    pub fn token(&self) -> &TokenInfo {
        &self.token
    }

    /// How many keys and certificates it has.
    pub fn objects(&self) -> usize {
        self.encryption.len() + self.certificates.len()
    }

    /// The same, to be changed.
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
