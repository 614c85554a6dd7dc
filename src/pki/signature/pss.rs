//! RSASSA-PSS (RFC 8017 §8.1) with any salt length and any mask hash, as RFC 4055 §3.1 names them.
//!
//! The `rsa` crate is not used for the check, because it supports at most 255 octets of salt and
//! only one hash for both uses. All values are public, so constant time is not necessary.

use const_oid::db::rfc5912;
use der::Decode;
use rsa::RsaPublicKey;
use rsa::traits::PublicKeyParts;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifierOwned;

use super::Hash;
use crate::pki::tlv::{Element, Elements, INTEGER, SEQUENCE, context_constructed};
use crate::pki::{PkiError, oid};

const WHAT: &str = "RSASSA-PSS parameters";

/// The hash of the mask generation function MGF1. It provides no protection by itself, so SHA-1 is
/// acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MaskHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// RSASSA-PSS-params (RFC 4055 §3.1): those of a signature, or those to which a key is restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PssParameters {
    hash: Hash,
    mask: MaskHash,
    salt_length: usize,
}

impl PssParameters {
    /// Parses an `AlgorithmIdentifier` with `id-RSASSA-PSS`. An omitted hash means SHA-1, which is
    /// refused.
    pub(crate) fn from_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, PkiError> {
        let Some(parameters) = &algorithm.parameters else { return Err(PkiError::Outdated("SHA-1")) };
        let mut fields = Elements::of(parameters.value(), WHAT);
        let mut field = |number| match fields.optional(context_constructed(number))? {
            Some(explicit) => explicit.inside(WHAT).any().map(Some),
            None => Ok(None),
        };
        let (hash, mask, salt, trailer) = (field(0)?, field(1)?, field(2)?, field(3)?);
        fields.end()?;
        let hash = match hash {
            Some(hash) => Hash::from_oid(algorithm_identifier(hash)?.oid)?,
            None => return Err(PkiError::Outdated("SHA-1")),
        };
        if !matches!(number(trailer)?, None | Some(1)) {
            return Err(PkiError::unsupported("RSASSA-PSS", "its trailer field is not the standard one"));
        }
        let mask = mask.map_or(Ok(MaskHash::Sha1), mask_hash)?;
        Ok(Self { hash, mask, salt_length: number(salt)?.unwrap_or(20) })
    }

    /// The hash of the message.
    pub fn hash(self) -> Hash {
        self.hash
    }

    /// Whether a key that is restricted to these parameters may make a signature with `other` (RFC
    /// 4055 §3.3: the same hashes, and at least as much salt).
    pub(crate) fn allow(self, other: Self) -> bool {
        self.hash == other.hash && self.mask == other.mask && self.salt_length <= other.salt_length
    }

    /// RSASSA-PSS-VERIFY (RFC 8017 §8.1.2), given the digest of the message.
    pub(super) fn holds(self, key: &RsaPublicKey, digest: &[u8], signature: &[u8]) -> bool {
        let integer = rsa::BoxedUint::from_be_slice_vartime(signature);
        if signature.len() != key.size() || integer >= **key.n() {
            return false;
        }
        let Ok(message) = rsa::hazmat::rsa_encrypt(key, &integer) else { return false };
        let bits = usize::try_from(key.n().bits()).unwrap_or_default().saturating_sub(1);
        let octets = message.to_be_bytes_trimmed_vartime();
        let mut encoded = vec![0; bits.div_ceil(8).saturating_sub(octets.len())];
        encoded.extend_from_slice(&octets);
        encoded.len() == bits.div_ceil(8) && self.emsa_verify(digest, encoded, bits).is_some()
    }

    /// EMSA-PSS-VERIFY (RFC 8017 §9.1.2); `None` means "inconsistent".
    fn emsa_verify(self, digest: &[u8], mut encoded: Vec<u8>, bits: usize) -> Option<()> {
        if encoded.pop()? != 0xbc {
            return None;
        }
        let hash = encoded.split_off(encoded.len().checked_sub(digest.len())?);
        let mut block = encoded;
        let unused = 8 * (block.len() + hash.len() + 1) - bits;
        let first = block.first_mut()?;
        let within = 0xff_u8.checked_shr(u32::try_from(unused).ok()?)?;
        if *first & !within != 0 {
            return None;
        }
        for (octet, mask) in block.iter_mut().zip(self.mask.generate(&hash, encoded_length(&hash, bits)?)) {
            *octet ^= mask;
        }
        *block.first_mut()? &= within;
        let (padding, salt) = block.split_at_checked(block.len().checked_sub(self.salt_length)?)?;
        let (one, zeros) = padding.split_last()?;
        if *one != 1 || zeros.iter().any(|octet| *octet != 0) {
            return None;
        }
        (self.hash.digest(&[&[0; 8][..], digest, salt].concat()) == hash).then_some(())
    }
}

/// The length of the masked block, in octets.
fn encoded_length(hash: &[u8], bits: usize) -> Option<usize> {
    bits.div_ceil(8).checked_sub(hash.len() + 1)
}

impl MaskHash {
    /// MGF1 (RFC 8017 §B.2.1).
    fn generate(self, seed: &[u8], length: usize) -> Vec<u8> {
        let mut mask = Vec::with_capacity(length + 64);
        let mut counter = 0_u32;
        while mask.len() < length {
            let input = [seed, &counter.to_be_bytes()].concat();
            match self {
                Self::Sha1 => mask.extend_from_slice(&Sha1::digest(&input)),
                Self::Sha224 => mask.extend_from_slice(&Sha224::digest(&input)),
                Self::Sha256 => mask.extend_from_slice(&Sha256::digest(&input)),
                Self::Sha384 => mask.extend_from_slice(&Sha384::digest(&input)),
                Self::Sha512 => mask.extend_from_slice(&Sha512::digest(&input)),
            }
            counter += 1;
        }
        mask.truncate(length);
        mask
    }
}

fn algorithm_identifier(element: Element<'_>) -> Result<AlgorithmIdentifierOwned, PkiError> {
    Elements::of(element.whole, WHAT).required(SEQUENCE)?;
    AlgorithmIdentifierOwned::from_der(element.whole).map_err(PkiError::decode(WHAT))
}

fn mask_hash(mask: Element<'_>) -> Result<MaskHash, PkiError> {
    let mask = algorithm_identifier(mask)?;
    if mask.oid != rfc5912::ID_MGF_1 {
        let what = format!("the mask generation {}", oid::described(mask.oid));
        return Err(PkiError::unsupported(what, "only MGF1 is supported for RSASSA-PSS"));
    }
    let hash = match &mask.parameters {
        Some(hash) => hash.decode_as::<AlgorithmIdentifierOwned>().map_err(PkiError::decode(WHAT))?.oid,
        None => rfc5912::ID_SHA_1,
    };
    match hash {
        rfc5912::ID_SHA_1 => Ok(MaskHash::Sha1),
        rfc5912::ID_SHA_224 => Ok(MaskHash::Sha224),
        rfc5912::ID_SHA_256 => Ok(MaskHash::Sha256),
        rfc5912::ID_SHA_384 => Ok(MaskHash::Sha384),
        rfc5912::ID_SHA_512 => Ok(MaskHash::Sha512),
        hash => {
            let what = format!("MGF1 with the hash {}", oid::described(hash));
            Err(PkiError::unsupported(what, "it is not supported"))
        }
    }
}

/// Parses a small non-negative INTEGER.
fn number(element: Option<Element<'_>>) -> Result<Option<usize>, PkiError> {
    let Some(element) = element else { return Ok(None) };
    let integer = Elements::of(element.whole, WHAT).required(INTEGER)?;
    match integer.value {
        [] => Err(PkiError::malformed(WHAT, "a number in them is empty")),
        [first, ..] if *first >= 0x80 || integer.value.len() > 4 => {
            Err(PkiError::malformed(WHAT, "a number in them is negative or too large"))
        }
        octets => Ok(Some(octets.iter().fold(0, |number, octet| (number << 8) | usize::from(*octet)))),
    }
}
