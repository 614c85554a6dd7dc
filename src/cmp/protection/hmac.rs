//! HMAC (RFC 2104), as the protections by MAC use it.

use hmac::{Hmac, KeyInit, Mac};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::cmp::{ProtectionError, oid};

/// Computes the HMAC with this object identifier.
pub(super) fn hmac(algorithm: &AlgorithmIdentifierOwned, key: &[u8], bytes: &[u8]) -> Result<Vec<u8>, ProtectionError> {
    match algorithm.oid {
        oid::HMAC_SHA1 | oid::HMAC_SHA1_PKIX => hmac_with::<Hmac<sha1::Sha1>>(key, bytes),
        oid::HMAC_SHA256 => hmac_with::<Hmac<sha2::Sha256>>(key, bytes),
        oid::HMAC_SHA384 => hmac_with::<Hmac<sha2::Sha384>>(key, bytes),
        oid::HMAC_SHA512 => hmac_with::<Hmac<sha2::Sha512>>(key, bytes),
        other => Err(ProtectionError::Unsupported(other)),
    }
}

fn hmac_with<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Result<Vec<u8>, ProtectionError> {
    let mac = <M as KeyInit>::new_from_slice(key).map_err(|_| ProtectionError::Malformed)?;
    Ok(mac.chain_update(bytes).finalize().into_bytes().to_vec())
}
