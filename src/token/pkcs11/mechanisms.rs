//! The parameters of the mechanisms that encrypt keys.

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};

use crate::token::oaep::OaepPadding;
use crate::token::{KeyTransport, OaepHash};

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
