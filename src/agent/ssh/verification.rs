//! Verifies SSH signatures of others: hosts sign sessions, authorities sign certificates.

use der::asn1::UintRef;
use der::{Encode, Sequence};

use super::key_blob::SshKey;
use super::wire::Reader;
use crate::pki::signature::{Hash, Scheme, verify_with};

/// `Ecdsa-Sig-Value` (RFC 3279 §2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Returns true if this blob (algorithm name and signature, no trailing bytes) is the key's
/// signature over `data`. SHA-1 signatures are invalid.
pub(super) fn is_valid_signature(key: SshKey<'_>, data: &[u8], blob: &[u8]) -> bool {
    let mut reader = Reader::new(blob);
    let (Some(name), Some(signature), true) = (reader.text(), reader.string(), reader.is_at_end()) else {
        return false;
    };
    match (key, name) {
        (SshKey::Ed25519(key), "ssh-ed25519") => {
            let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
            key.verify(data, signature).is_ok()
        }
        (SshKey::Rsa { .. }, "rsa-sha2-256") => {
            verify_rsa_or_ed25519(key, Scheme::Pkcs1(Hash::Sha256), data, signature)
        }
        (SshKey::Rsa { .. }, "rsa-sha2-512") => {
            verify_rsa_or_ed25519(key, Scheme::Pkcs1(Hash::Sha512), data, signature)
        }
        (SshKey::P256(_), "ecdsa-sha2-nistp256") => verify_on_curve(key, Hash::Sha256, data, signature),
        (SshKey::P384(_), "ecdsa-sha2-nistp384") => verify_on_curve(key, Hash::Sha384, data, signature),
        _ => false,
    }
}

fn verify_on_curve(key: SshKey<'_>, hash: Hash, data: &[u8], signature: &[u8]) -> bool {
    let mut reader = Reader::new(signature);
    let (Some(r), Some(s), true) = (reader.positive_mpint(), reader.positive_mpint(), reader.is_at_end()) else {
        return false;
    };
    let (Ok(r), Ok(s)) = (UintRef::new(r), UintRef::new(s)) else {
        return false;
    };
    EcdsaSignature { r, s }.to_der().is_ok_and(|der| verify_rsa_or_ed25519(key, Scheme::Ecdsa(hash), data, &der))
}

fn verify_rsa_or_ed25519(key: SshKey<'_>, scheme: Scheme, data: &[u8], signature: &[u8]) -> bool {
    key.to_public_key().is_ok_and(|key| verify_with("an SSH signature", &key.into(), scheme, data, signature).is_ok())
}
