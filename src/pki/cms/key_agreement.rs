//! Content keys wrapped under a key agreed by ECDH (RFC 5652 §6.2.2, RFC 5753): an ephemeral key of
//! the sender and the recipient's static key, the X9.63 KDF, AES key wrap.
//!
//! The `cms` crate is not used, because its key-agreement recipient wraps under an all-zero key.

use aes_kw::{KwAes128, KwAes192, KwAes256};
use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5753, rfc5911, rfc5912};
use hmac::KeyInit;
use sha1::digest::{FixedOutput, Output};
use sha1::{Digest, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512};
use spki::EncodePublicKey;
use zeroize::Zeroizing;

use super::{CertificateId, ENCRYPTED as WHAT, oid, read_algorithm, triple_des_wrap};
use crate::pki::oid::described;
use crate::pki::tlv::{BIT_STRING, Element, Elements, INTEGER, OCTET_STRING, SEQUENCE, context_constructed, element};
use crate::pki::{Certificate, PkiError};

/// `id-alg-CMS3DESwrap` (RFC 3370 §4.3.1).
const ID_CMS_3DES_WRAP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.6");

/// The data that a recipient needs besides the shared secret.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    /// The sender's ephemeral key, as DER `SubjectPublicKeyInfo`.
    pub(super) peer_public_key: Vec<u8>,
    method: Method,
    wrapped_key: Vec<u8>,
}

impl Agreement {
    /// The encrypted content key as received.
    pub(super) fn wrapped_key(&self) -> &[u8] {
        &self.wrapped_key
    }
}

/// A recipient's identifier, if it can be read, and the recipient's data, or the name of the
/// unsupported feature.
pub(super) type AgreeingRecipient = (Option<CertificateId>, Result<Agreement, String>);

/// The KDF's hash, the key wrap, and the ECC-CMS-SharedInfo that covers both.
#[derive(Clone, Debug)]
struct Method {
    hash: KdfHash,
    wrap: KeyWrap,
    shared_info: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum KdfHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug)]
enum KeyWrap {
    /// Triple DES (RFC 3217), for decryption only.
    TripleDes,
    Aes128,
    Aes192,
    Aes256,
}

impl Agreement {
    /// Unwraps the content key; `None` if the shared secret is wrong.
    pub(super) fn unwrap(&self, shared_secret: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let key = self.method.derive(shared_secret);
        let mut buffer = Zeroizing::new(vec![0; self.wrapped_key.len()]);
        let content_key = match self.method.wrap {
            KeyWrap::TripleDes => return triple_des_wrap::unwrap(&key, &self.wrapped_key),
            KeyWrap::Aes128 => KwAes128::new_from_slice(&key).ok()?.unwrap_key(&self.wrapped_key, &mut buffer).ok()?,
            KeyWrap::Aes192 => KwAes192::new_from_slice(&key).ok()?.unwrap_key(&self.wrapped_key, &mut buffer).ok()?,
            KeyWrap::Aes256 => KwAes256::new_from_slice(&key).ok()?.unwrap_key(&self.wrapped_key, &mut buffer).ok()?,
        };
        Some(Zeroizing::new(content_key.to_vec()))
    }
}

impl Method {
    fn new(hash: KdfHash, wrap: KeyWrap, wrap_algorithm: &[u8], user_keying_material: Option<&[u8]>) -> Self {
        // ECC-CMS-SharedInfo (RFC 5753 §7.2): keyInfo, entityUInfo [0], suppPubInfo [2] (the
        // wrapping key's length in bits).
        let material = user_keying_material
            .map(|material| element(context_constructed(0), &[&element(OCTET_STRING, &[material])]));
        let bits =
            element(context_constructed(2), &[&element(OCTET_STRING, &[&(wrap.key_length() * 8).to_be_bytes()])]);
        let shared_info = element(SEQUENCE, &[wrap_algorithm, &material.unwrap_or_default(), &bits]);
        Self { hash, wrap, shared_info }
    }

    /// The ANSI X9.63 KDF (SEC 1 §3.6.1).
    fn derive(&self, shared_secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let length = usize::try_from(self.wrap.key_length()).unwrap_or_default();
        let mut key = Zeroizing::new(Vec::with_capacity(128));
        let mut counter = 1_u32;
        while key.len() < length {
            let parts = [shared_secret, &counter.to_be_bytes(), &self.shared_info];
            match self.hash {
                KdfHash::Sha1 => key.extend_from_slice(&hash_of::<Sha1>(parts)),
                KdfHash::Sha224 => key.extend_from_slice(&hash_of::<Sha224>(parts)),
                KdfHash::Sha256 => key.extend_from_slice(&hash_of::<Sha256>(parts)),
                KdfHash::Sha384 => key.extend_from_slice(&hash_of::<Sha384>(parts)),
                KdfHash::Sha512 => key.extend_from_slice(&hash_of::<Sha512>(parts)),
            }
            counter += 1;
        }
        key.truncate(length);
        key
    }
}

/// The digest of the parts, in a buffer that is wiped: a copy on the stack would remain there.
fn hash_of<D: Digest + FixedOutput>(parts: [&[u8]; 3]) -> Zeroizing<Output<D>> {
    let mut digest = D::new();
    for part in parts {
        Digest::update(&mut digest, part);
    }
    let mut output = Zeroizing::new(Output::<D>::default());
    FixedOutput::finalize_into(digest, &mut output);
    output
}

impl KeyWrap {
    /// The length of the wrapping key, in octets.
    fn key_length(self) -> u32 {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }
}

/// Parses `KeyAgreeRecipientInfo` into its recipients.
pub(super) fn read(info: Element<'_>) -> Result<Vec<AgreeingRecipient>, PkiError> {
    let mut parts = info.inside(WHAT);
    parts.required(INTEGER)?;
    let originator = parts.required(context_constructed(0))?.inside(WHAT).any()?;
    let material = match parts.optional(context_constructed(1))? {
        Some(explicit) => Some(explicit.inside(WHAT).required(OCTET_STRING)?.value),
        None => None,
    };
    let method = method(parts.required(SEQUENCE)?, material)?;
    let peer = originator_key(originator)?;
    let encrypted_keys = parts.required(SEQUENCE)?.inside(WHAT).all()?;
    parts.end()?;
    let agreement = |encrypted_key: Element<'_>| {
        let (id, wrapped_key) = match recipient_and_key(encrypted_key) {
            Ok(read) => read,
            Err(error) => return (None, Err(error.to_string())),
        };
        let agreement = match (&method, &peer) {
            (Ok(method), Ok(peer)) => {
                Ok(Agreement { peer_public_key: peer.clone(), method: method.clone(), wrapped_key })
            }
            (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
        };
        (Some(id), agreement)
    };
    Ok(encrypted_keys.into_iter().map(agreement).collect())
}

/// Parses `RecipientEncryptedKey`: the recipient's identifier and the wrapped content key.
fn recipient_and_key(encrypted_key: Element<'_>) -> Result<(CertificateId, Vec<u8>), PkiError> {
    let mut parts = Elements::of(encrypted_key.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
    let id = recipient_id(parts.any()?)?;
    let wrapped_key = parts.required(OCTET_STRING)?.value.to_vec();
    parts.end()?;
    Ok((id, wrapped_key))
}

/// Parses `KeyAgreeRecipientIdentifier`: issuer and serial number, or `[0]`
/// `RecipientKeyIdentifier`, which begins with the key identifier.
fn recipient_id(element: Element<'_>) -> Result<CertificateId, PkiError> {
    if element.tag() == context_constructed(0) {
        return Ok(CertificateId::KeyIdentifier(element.inside(WHAT).required(OCTET_STRING)?.value.to_vec()));
    }
    CertificateId::from_element(element, WHAT)
}

/// Parses the scheme (RFC 5753 §7.1.4): its object identifier determines the KDF's hash, and its
/// parameters are the key wrap.
fn method(algorithm: Element<'_>, material: Option<&[u8]>) -> Result<Result<Method, String>, PkiError> {
    let scheme = read_algorithm(algorithm)?.oid;
    let hash =
        match scheme {
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_1_KDF_SCHEME | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_1_KDF_SCHEME => {
                KdfHash::Sha1
            }
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_224_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_224_KDF_SCHEME => KdfHash::Sha224,
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_256_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_256_KDF_SCHEME => KdfHash::Sha256,
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_384_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_384_KDF_SCHEME => KdfHash::Sha384,
            rfc5753::DH_SINGLE_PASS_STD_DH_SHA_512_KDF_SCHEME
            | rfc5753::DH_SINGLE_PASS_COFACTOR_DH_SHA_512_KDF_SCHEME => KdfHash::Sha512,
            oid => return Ok(Err(format!("the key agreement {}", described(oid)))),
        };
    let mut parts = Elements::of(algorithm.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
    parts.any()?;
    let wrap_algorithm = parts.required(SEQUENCE)?;
    let wrap = match read_algorithm(wrap_algorithm)?.oid {
        rfc5911::ID_AES_128_WRAP => KeyWrap::Aes128,
        rfc5911::ID_AES_192_WRAP => KeyWrap::Aes192,
        rfc5911::ID_AES_256_WRAP => KeyWrap::Aes256,
        ID_CMS_3DES_WRAP => KeyWrap::TripleDes,
        oid => return Ok(Err(format!("the key wrap {}", described(oid)))),
    };
    Ok(Ok(Method::new(hash, wrap, wrap_algorithm.whole, material)))
}

/// Converts `OriginatorPublicKey` to a `SubjectPublicKeyInfo`. RFC 5753 §3.1.1 omits the curve,
/// because it is the recipient's. The length of the point determines it.
fn originator_key(originator: Element<'_>) -> Result<Result<Vec<u8>, String>, PkiError> {
    if originator.tag() != context_constructed(1) {
        return Ok(Err("a sender's key that is not in the message".into()));
    }
    let mut parts = originator.inside(WHAT);
    let algorithm = read_algorithm(parts.required(SEQUENCE)?)?.oid;
    let bits = parts.required(BIT_STRING)?.value;
    parts.end()?;
    if algorithm != rfc5912::ID_EC_PUBLIC_KEY {
        return Ok(Err(format!("a sender's key of the algorithm {}", described(algorithm))));
    }
    let Some((0, point)) = bits.split_first().map(|(unused, point)| (*unused, point)) else {
        return Err(PkiError::malformed(WHAT, "its sender's key is not a whole number of octets"));
    };
    let spki = match point.len() {
        65 | 33 => p256::PublicKey::from_sec1_bytes(point).ok().and_then(|key| key.to_public_key_der().ok()),
        97 | 49 => p384::PublicKey::from_sec1_bytes(point).ok().and_then(|key| key.to_public_key_der().ok()),
        _ => None,
    };
    Ok(spki.map(der::Document::into_vec).ok_or_else(|| "a sender's key on a curve other than P-256 and P-384".into()))
}

/// Makes a `KeyAgreeRecipientInfo` for a certificate with a P-256 key.
pub(super) fn encrypt_p256(
    certificate: &Certificate,
    key: &p256::PublicKey,
    content_key: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let ephemeral = ephemeral(|octets: &[u8; 32]| p256::SecretKey::from_slice(octets).ok())?;
    let shared_secret = p256::ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), key.as_affine());
    let point = ephemeral.public_key().to_sec1_bytes();
    key_agree_recipient_info(certificate, &point, shared_secret.raw_secret_bytes(), content_key)
}

/// Makes a `KeyAgreeRecipientInfo` for a certificate with a P-384 key.
pub(super) fn encrypt_p384(
    certificate: &Certificate,
    key: &p384::PublicKey,
    content_key: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let ephemeral = ephemeral(|octets: &[u8; 48]| p384::SecretKey::from_slice(octets).ok())?;
    let shared_secret = p384::ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), key.as_affine());
    let point = ephemeral.public_key().to_sec1_bytes();
    key_agree_recipient_info(certificate, &point, shared_secret.raw_secret_bytes(), content_key)
}

/// Makes a random key. Octets that are not a valid scalar of the curve are drawn again.
fn ephemeral<const N: usize, K>(from_octets: impl Fn(&[u8; N]) -> Option<K>) -> Result<K, PkiError> {
    for _ in 0..16 {
        let mut octets = Zeroizing::new([0; N]);
        getrandom::fill(octets.as_mut()).map_err(PkiError::Random)?;
        if let Some(key) = from_octets(&octets) {
            return Ok(key);
        }
    }
    Err(PkiError::unsupported("the system's random numbers", "sixteen in a row were not usable"))
}

fn key_agree_recipient_info(
    certificate: &Certificate,
    point: &[u8],
    shared_secret: &[u8],
    content_key: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let wrap_algorithm = algorithm(rfc5911::ID_AES_256_WRAP, &[]);
    let method = Method::new(KdfHash::Sha256, KeyWrap::Aes256, &wrap_algorithm, None);
    let cannot = |_| PkiError::unsupported("AES key wrap", "the content key has an odd length");
    let wrapping = KwAes256::new_from_slice(&method.derive(shared_secret))
        .map_err(|_| PkiError::unsupported("AES key wrap", "the agreed key has a wrong length"))?;
    let mut buffer = vec![0; content_key.len() + 8];
    let wrapped = wrapping.wrap_key(content_key, &mut buffer).map_err(cannot)?;

    let public_key = element(
        context_constructed(1),
        &[&algorithm(rfc5912::ID_EC_PUBLIC_KEY, &[]), &element(BIT_STRING, &[&[0], point])],
    );
    let encrypted_key =
        element(SEQUENCE, &[&CertificateId::of(certificate).to_der()?, &element(OCTET_STRING, &[wrapped])]);
    Ok(element(
        context_constructed(1),
        &[
            &element(INTEGER, &[&[3]]),
            &element(context_constructed(0), &[&public_key]),
            &algorithm(rfc5753::DH_SINGLE_PASS_STD_DH_SHA_256_KDF_SCHEME, &wrap_algorithm),
            &element(SEQUENCE, &[&encrypted_key]),
        ],
    ))
}

fn algorithm(name: ObjectIdentifier, parameters: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&oid(name), parameters])
}
