//! Checking signatures, in software, with public keys only.

use const_oid::db::rfc5912;
use der::asn1::ObjectIdentifier;
use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::hazmat::PrehashVerifier;
use spki::AlgorithmIdentifierOwned;

use super::PkiError;
use super::public_key::PublicKey;

/// A hash function that signatures may use. SHA-1 and MD5 are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// 32 octets
    Sha256,
    /// 48 octets
    Sha384,
    /// 64 octets
    Sha512,
}

impl Hash {
    /// By its object identifier.
    pub fn from_oid(oid: ObjectIdentifier) -> Result<Self, PkiError> {
        match oid {
            rfc5912::ID_SHA_256 => Ok(Self::Sha256),
            rfc5912::ID_SHA_384 => Ok(Self::Sha384),
            rfc5912::ID_SHA_512 => Ok(Self::Sha512),
            rfc5912::ID_SHA_1 => Err(PkiError::unsupported("the hash SHA-1", "it is broken; SHA-256 is the least")),
            oid => Err(PkiError::unsupported(format!("the hash {oid}"), "use SHA-256, SHA-384 or SHA-512")),
        }
    }

    /// Its object identifier.
    pub fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha256 => rfc5912::ID_SHA_256,
            Self::Sha384 => rfc5912::ID_SHA_384,
            Self::Sha512 => rfc5912::ID_SHA_512,
        }
    }

    /// The hash of `message`.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// How a signature is made from a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2)
    Pkcs1(Hash),
    /// RSASSA-PSS (RFC 8017 §8.1), MGF1 with the same hash
    Pss {
        /// of the message and of MGF1
        hash: Hash,
        /// octets of salt
        salt_length: u8,
    },
    /// ECDSA, signature as DER `Ecdsa-Sig-Value`
    Ecdsa(Hash),
}

impl Scheme {
    /// By the `AlgorithmIdentifier` of a certificate or message, hash included.
    pub fn from_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, PkiError> {
        let no_parameters = algorithm.parameters.as_ref().is_none_or(der::Any::is_null);
        let scheme = match algorithm.oid {
            rfc5912::SHA_256_WITH_RSA_ENCRYPTION => Self::Pkcs1(Hash::Sha256),
            rfc5912::SHA_384_WITH_RSA_ENCRYPTION => Self::Pkcs1(Hash::Sha384),
            rfc5912::SHA_512_WITH_RSA_ENCRYPTION => Self::Pkcs1(Hash::Sha512),
            rfc5912::ECDSA_WITH_SHA_256 => Self::Ecdsa(Hash::Sha256),
            rfc5912::ECDSA_WITH_SHA_384 => Self::Ecdsa(Hash::Sha384),
            rfc5912::ECDSA_WITH_SHA_512 => Self::Ecdsa(Hash::Sha512),
            rfc5912::ID_RSASSA_PSS => return pss(algorithm),
            oid => {
                return Err(PkiError::unsupported(
                    format!("the signature algorithm {oid}"),
                    "use RSA or ECDSA with SHA-256, SHA-384 or SHA-512",
                ));
            }
        };
        if !no_parameters {
            return Err(PkiError::malformed("a signature algorithm", "it has parameters that it must not have"));
        }
        Ok(scheme)
    }

    /// The hash of the message.
    pub fn hash(self) -> Hash {
        match self {
            Self::Pkcs1(hash) | Self::Ecdsa(hash) | Self::Pss { hash, .. } => hash,
        }
    }
}

/// RSASSA-PSS-params (RFC 4055 §3.1). The defaults stand for SHA-1, so all three fields must be there.
fn pss(algorithm: &AlgorithmIdentifierOwned) -> Result<Scheme, PkiError> {
    let wrong = |source| PkiError::Decode { what: "RSASSA-PSS parameters", source };
    let parameters =
        algorithm.parameters.as_ref().ok_or_else(|| PkiError::unsupported("RSASSA-PSS", "it means SHA-1"))?;
    let parameters = parameters.decode_as::<rsa::pkcs1::RsaPssParamsOwned>().map_err(wrong)?;
    let hash = Hash::from_oid(parameters.hash.oid)?;
    let mask_hash = parameters.mask_gen.parameters.map(|parameters| parameters.oid);
    if mask_hash != Some(hash.oid()) {
        return Err(PkiError::unsupported("RSASSA-PSS", "its mask generation uses another hash than its message"));
    }
    Ok(Scheme::Pss { hash, salt_length: parameters.salt_len })
}

/// Checks a signature over `message` by the key of a DER `SubjectPublicKeyInfo`.
///
/// Takes RSA PKCS #1 v1.5 and RSASSA-PSS with SHA-256, 384, 512, and ECDSA (DER `Ecdsa-Sig-Value`) with these on P-256
/// and P-384. SHA-1 and MD5 are refused. `what` completes "the signature of …".
pub fn verify(
    what: &'static str,
    public_key_der: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    let key = PublicKey::from_spki_der(public_key_der)?;
    verify_with(what, &key, Scheme::from_algorithm(algorithm)?, message, signature)
}

/// As [`verify`], for structures that say the scheme in more than one place (CMS).
pub fn verify_with(
    what: &'static str,
    key: &PublicKey,
    scheme: Scheme,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    let digest = scheme.hash().digest(message);
    let verified = match (key, scheme) {
        (PublicKey::Rsa(key), Scheme::Pkcs1(hash)) => pkcs1_holds(key, hash, &digest, signature),
        (PublicKey::Rsa(key), Scheme::Pss { hash, salt_length }) => {
            pss_holds(key, hash, salt_length, &digest, signature)
        }
        (PublicKey::P256(key), Scheme::Ecdsa(_)) => p256::ecdsa::DerSignature::from_bytes(signature)
            .and_then(|signature| p256::ecdsa::VerifyingKey::from(key).verify_prehash(&digest, &signature))
            .is_ok(),
        (PublicKey::P384(key), Scheme::Ecdsa(_)) => p384::ecdsa::DerSignature::from_bytes(signature)
            .and_then(|signature| p384::ecdsa::VerifyingKey::from(key).verify_prehash(&digest, &signature))
            .is_ok(),
        (PublicKey::Rsa(_), Scheme::Ecdsa(_)) | (PublicKey::P256(_) | PublicKey::P384(_), _) => false,
    };
    if verified { Ok(()) } else { Err(PkiError::WrongSignature(what)) }
}

fn pkcs1_holds(key: &rsa::RsaPublicKey, hash: Hash, digest: &[u8], signature: &[u8]) -> bool {
    let scheme = match hash {
        Hash::Sha256 => rsa::Pkcs1v15Sign::new::<Sha256>(),
        Hash::Sha384 => rsa::Pkcs1v15Sign::new::<Sha384>(),
        Hash::Sha512 => rsa::Pkcs1v15Sign::new::<Sha512>(),
    };
    key.verify(scheme, digest, signature).is_ok()
}

fn pss_holds(key: &rsa::RsaPublicKey, hash: Hash, salt_length: u8, digest: &[u8], signature: &[u8]) -> bool {
    let salt = usize::from(salt_length);
    match hash {
        Hash::Sha256 => key.verify(rsa::Pss::<Sha256>::new_with_salt(salt), digest, signature),
        Hash::Sha384 => key.verify(rsa::Pss::<Sha384>::new_with_salt(salt), digest, signature),
        Hash::Sha512 => key.verify(rsa::Pss::<Sha512>::new_with_salt(salt), digest, signature),
    }
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Certificate;
    use crate::pki::software_keys::{Files, SoftwareKey, openssl};
    use crate::token::KeyAlgorithm;
    use signature::Signer;
    use spki::DynSignatureAlgorithmIdentifier;

    /// A self-signed certificate that OpenSSL signs in its own way.
    fn self_signed(key: &SoftwareKey, options: &[&str]) -> Certificate {
        let files = Files::new();
        let key = files.put_key("key.pem", key);
        let mut arguments = vec!["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"];
        arguments.extend(options);
        Certificate::read_all(&openssl(&arguments, &[])).unwrap().remove(0)
    }

    #[test]
    fn what_openssl_signs_is_verified() {
        let (rsa, p256, p384) = (SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384());
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20"];
        for (key, options) in [
            (&rsa, &["-sha256"][..]),
            (&rsa, &["-sha384"]),
            (&rsa, &["-sha512"]),
            (&rsa, &[&["-sha256"], &pss[..2]].concat()),
            (&rsa, &[&["-sha384"], &pss[..2]].concat()),
            (&rsa, &[&["-sha512"], &pss[..]].concat()),
            (&p256, &["-sha256"]),
            (&p256, &["-sha512"]),
            (&p384, &["-sha384"]),
            (&p384, &["-sha256"]),
        ] {
            let certificate = self_signed(key, options);
            assert!(certificate.verify_signature(&certificate).is_ok(), "{options:?}");
            let mut der = certificate.as_der().to_vec();
            let at = der.windows(7).position(|window| window == b"Foreign").unwrap();
            der[at] = b'f';
            let changed = Certificate::from_der(&der).unwrap();
            assert!(changed.verify_signature(&certificate).is_err(), "{options:?}");
        }
    }

    #[test]
    fn weak_hashes_are_refused_by_name() {
        let certificate = self_signed(&SoftwareKey::rsa(), &["-sha1"]);
        let error = certificate.verify_signature(&certificate).unwrap_err().to_string();
        assert!(error.contains("1.2.840.113549.1.1.5"), "{error}");
        let mixed = ["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_mgf1_md:sha512"];
        let certificate = self_signed(&SoftwareKey::rsa(), &mixed);
        assert!(certificate.verify_signature(&certificate).is_err());
    }

    #[test]
    fn possession_is_proved_by_the_key_and_by_no_other_or_for_no_other_bytes() {
        for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
            let public_key = key.public_key_der();
            let algorithm = key.signature_algorithm_identifier().unwrap();
            let signature = key.try_sign(b"request").unwrap();
            let check = |public_key: &[u8], algorithm: &AlgorithmIdentifierOwned, bytes: &[u8], signature: &[u8]| {
                crate::pki::proof_of_possession::verify(public_key, algorithm, bytes, signature).is_ok()
            };
            assert!(check(&public_key, &algorithm, b"request", signature.as_bytes()));
            assert!(!check(&public_key, &algorithm, b"Request", signature.as_bytes()));
            assert!(!check(&public_key, &algorithm, b"request", &signature.as_bytes()[1..]));
            assert!(!check(&public_key, &algorithm, b"request", b""));
            for other in [SoftwareKey::new_rsa(2048), SoftwareKey::p256(), SoftwareKey::p384()] {
                assert!(!check(&other.public_key_der(), &algorithm, b"request", signature.as_bytes()));
            }
            for other in KeyAlgorithm::ALL.map(KeyAlgorithm::signature_algorithm) {
                if other != algorithm {
                    assert!(!check(&public_key, &other, b"request", signature.as_bytes()));
                }
            }
        }
    }
}
