//! SSH signature algorithms: RFC 5656 §3.1.2 (elliptic curves), RFC 8332 §3 (RSA). They encode a
//! token's signatures, and verify those of hosts over sessions and of authorities in certificates.

use der::asn1::UintRef;
use der::{Decode, Encode, Sequence};

use super::SshError;
use super::ssh_key::{CERTIFICATE_SUFFIX, SshKey};
use super::wire::{Reader, Writer};
use crate::pki::signature::{Hash, Scheme, verify_with};
use crate::token::{KeyAlgorithm, Signature, SignatureHash};

/// `SSH_AGENT_RSA_SHA2_256`
const RSA_SHA2_256: u32 = 2;
/// `SSH_AGENT_RSA_SHA2_512`
const RSA_SHA2_512: u32 = 4;

/// A supported signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignatureKind {
    pub(super) hash: SignatureHash,
    name: &'static str,
    is_rsa: bool,
}

/// `Ecdsa-Sig-Value` (RFC 3279 §2.2.3), the encoding of [`Signature`].
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl SignatureKind {
    pub(super) const P256: Self = Self { hash: SignatureHash::Sha256, name: "ecdsa-sha2-nistp256", is_rsa: false };
    const P384: Self = Self { hash: SignatureHash::Sha384, name: "ecdsa-sha2-nistp384", is_rsa: false };
    const RSA_SHA256: Self = Self { hash: SignatureHash::Sha256, name: "rsa-sha2-256", is_rsa: true };
    const RSA_SHA512: Self = Self { hash: SignatureHash::Sha512, name: "rsa-sha2-512", is_rsa: true };

    /// The algorithm that a request's flags select for a key.
    pub(super) fn asked_for(key: KeyAlgorithm, flags: u32) -> Result<Self, SshError> {
        match (key, flags) {
            (KeyAlgorithm::P256, 0) => Ok(Self::P256),
            (KeyAlgorithm::P384, 0) => Ok(Self::P384),
            (KeyAlgorithm::Rsa(_), RSA_SHA2_256) => Ok(Self::RSA_SHA256),
            (KeyAlgorithm::Rsa(_), RSA_SHA2_512) => Ok(Self::RSA_SHA512),
            (KeyAlgorithm::Rsa(_), 0) => Err(SshError::Algorithm(
                "ssh-rsa means SHA-1, which is broken; ask for rsa-sha2-256 or rsa-sha2-512 (OpenSSH 7.2 and newer do)",
            )),
            _ => Err(SshError::Algorithm("the request's flags are unknown or do not match the key")),
        }
    }

    /// Returns true if this is the algorithm's name in a login.
    pub(super) fn is_named(self, algorithm: &str, with_certificate: bool) -> bool {
        if with_certificate {
            algorithm.strip_suffix(CERTIFICATE_SUFFIX) == Some(self.name)
        } else {
            algorithm == self.name
        }
    }

    /// Appends a token's signature in SSH's encoding.
    pub(super) fn write(self, signature: &Signature, writer: &mut Writer<'_>) -> Result<(), SshError> {
        if self.is_rsa {
            writer.nested(|blob| {
                blob.string(self.name.as_bytes());
                blob.string(signature.as_bytes());
            });
            return Ok(());
        }
        let EcdsaSignature { r, s } = EcdsaSignature::from_der(signature.as_bytes())
            .map_err(|_| SshError::Algorithm("the token returned an invalid signature"))?;
        writer.nested(|blob| {
            blob.string(self.name.as_bytes());
            blob.nested(|pair| {
                pair.positive_mpint(r.as_bytes());
                pair.positive_mpint(s.as_bytes());
            });
        });
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::RsaSize;

    const RSA: KeyAlgorithm = KeyAlgorithm::Rsa(RsaSize::Bits3072);

    #[test]
    fn flags_choose_among_the_keys_algorithms() {
        for (key, flags, kind) in [
            (KeyAlgorithm::P256, 0, Some(SignatureKind::P256)),
            (KeyAlgorithm::P384, 0, Some(SignatureKind::P384)),
            (RSA, 2, Some(SignatureKind::RSA_SHA256)),
            (RSA, 4, Some(SignatureKind::RSA_SHA512)),
            (RSA, 0, None),
            (RSA, 1, None),
            (RSA, 6, None),
            (RSA, 12, None),
            (KeyAlgorithm::P256, 2, None),
            (KeyAlgorithm::P384, 4, None),
            (KeyAlgorithm::P256, 0x8000_0000, None),
        ] {
            assert_eq!(SignatureKind::asked_for(key, flags).ok(), kind, "{key} {flags}");
        }
        let sha1 = SignatureKind::asked_for(RSA, 0).unwrap_err().to_string();
        assert!(sha1.contains("SHA-1") && sha1.contains("rsa-sha2-512"), "{sha1}");
    }

    #[test]
    fn a_signature_on_a_curve_is_a_pair_of_positive_integers() {
        let der = Signature::from_bytes(vec![0x30, 7, 2, 2, 0, 0xff, 2, 1, 5]);
        let mut bytes = Vec::new();
        SignatureKind::P256.write(&der, &mut Writer::new(&mut bytes)).unwrap();
        let name = b"\0\0\0\x13ecdsa-sha2-nistp256";
        let pair = b"\0\0\0\x0b\0\0\0\x02\0\xff\0\0\0\x01\x05";
        assert_eq!(bytes, [&b"\0\0\0\x26"[..], name, pair].concat());
        let none = Signature::from_bytes(vec![1, 2, 3]);
        SignatureKind::P256.write(&none, &mut Writer::new(&mut bytes)).unwrap_err();
    }
}
