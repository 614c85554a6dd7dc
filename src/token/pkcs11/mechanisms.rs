//! The capabilities of a token, found by probing it and not by its name.

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::slot::Slot;

use super::raw::RawFunctions;
use super::return_values;
use super::sessions::Sessions;
use crate::token::oaep::OaepPadding;
use crate::token::{KeyTransport, KeyWrapMechanism, OaepHash, Token, TokenError};

/// The capabilities that were found.
#[derive(Debug)]
pub(super) struct Mechanisms {
    key_wrap: Option<KeyWrapMechanism>,
    oaep: Option<OaepHash>,
}

impl Mechanisms {
    pub(super) fn probe(raw: &RawFunctions, slot: Slot, sessions: &Sessions) -> CkResult<Self> {
        let key_wrap =
            [KeyWrapMechanism::Kwp, KeyWrapMechanism::Pad].into_iter().find(|kind| raw.can_wrap(slot, *kind));
        let mut oaep = None;
        for hash in [OaepHash::Sha256, OaepHash::Sha1] {
            if can_begin_oaep(sessions, hash)? {
                oaep = Some(hash);
                break;
            }
        }
        Ok(Self { key_wrap, oaep })
    }
}

/// No PKCS#11 function tells which hashes RSA-OAEP accepts, but the start of an encryption with a
/// public key does. The key is a session object with an arbitrary modulus, and the operation ends
/// with its session. An error means that the token was removed or has no space for the session
/// object; it says nothing about its capabilities.
fn can_begin_oaep(sessions: &Sessions, hash: OaepHash) -> CkResult<bool> {
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Encrypt(true),
        Attribute::Modulus(vec![0xc5; 256]),
        Attribute::PublicExponent(vec![1, 0, 1]),
    ];
    let session = sessions.open_another()?;
    match session.create_object(&template).and_then(|key| session.encrypt_init(&oaep(hash), key)) {
        Err(error)
            if return_values::is_removed(&error)
                || return_values::is_session_gone(&error)
                || return_values::is_out_of_space(&error) =>
        {
            Err(error)
        }
        begun => Ok(begun.is_ok()),
    }
}

impl Token {
    /// The AES key wrap that this token supports. `None` if it supports neither, and so cannot
    /// receive a delivered key.
    pub fn aes_key_wrap_mechanism(&self) -> Result<Option<KeyWrapMechanism>, TokenError> {
        Ok(self.mechanisms()?.key_wrap)
    }

    /// The RSA-OAEP hash of this token for unwrapping, SHA-256 preferred over SHA-1; `None` without
    /// RSA-OAEP.
    pub fn oaep_hash(&self) -> Result<Option<OaepHash>, TokenError> {
        Ok(self.mechanisms()?.oaep)
    }
}

/// RSA-OAEP with an empty label, and the same hash for label and mask.
pub(super) fn oaep(hash: OaepHash) -> Mechanism<'static> {
    oaep_with(OaepPadding { hash, mask_hash: hash, label: &[] })
}

fn oaep_with(padding: OaepPadding<'_>) -> Mechanism<'_> {
    let hash = match padding.hash {
        OaepHash::Sha1 => MechanismType::SHA1,
        OaepHash::Sha256 => MechanismType::SHA256,
        OaepHash::Sha384 => MechanismType::SHA384,
        OaepHash::Sha512 => MechanismType::SHA512,
    };
    let mask = match padding.mask_hash {
        OaepHash::Sha1 => PkcsMgfType::MGF1_SHA1,
        OaepHash::Sha256 => PkcsMgfType::MGF1_SHA256,
        OaepHash::Sha384 => PkcsMgfType::MGF1_SHA384,
        OaepHash::Sha512 => PkcsMgfType::MGF1_SHA512,
    };
    let source = match padding.label {
        [] => PkcsOaepSource::empty(),
        label => PkcsOaepSource::data_specified(label),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, source))
}

/// The mechanism that decrypts a content-encryption key.
pub(super) fn key_transport(transport: &KeyTransport) -> Mechanism<'_> {
    oaep_padding(transport).map_or(Mechanism::RsaPkcs, oaep_with)
}

/// The RSA-OAEP padding; `None` for PKCS #1 v1.5.
pub(super) fn oaep_padding(transport: &KeyTransport) -> Option<OaepPadding<'_>> {
    match transport {
        KeyTransport::Pkcs1v15 => None,
        KeyTransport::Oaep(hash) => Some(OaepPadding { hash: *hash, mask_hash: *hash, label: &[] }),
        KeyTransport::OaepWith { hash, mask_hash, label } => {
            Some(OaepPadding { hash: *hash, mask_hash: *mask_hash, label })
        }
    }
}
