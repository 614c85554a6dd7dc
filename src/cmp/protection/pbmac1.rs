//! PBMAC1 (RFC 8018 §7.1, RFC 9481 §6.1.2): PBKDF2, then HMAC.

use der::asn1::{ObjectIdentifier, OctetString};
use der::{Any, Sequence};
use pbkdf2::pbkdf2_hmac;
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::hmac::hmac;
use crate::cmp::{CmpError, ProtectionError, oid};

/// The largest iteration count that is accepted. (OpenSSL 3.6 sends 262,144.)
const MAX_ITERATIONS: u32 = 262_144;
/// The longest derived key. A longer HMAC key adds nothing.
const MAX_KEY_BYTES: u16 = 64;
/// The maximum number of hash outputs in a derived key; PBKDF2 repeats all iterations for each. Two
/// are needed for HMAC-SHA-256 with a key from PBKDF2 with SHA-1, its default.
const MAX_BLOCKS: u64 = 2;

/// PBMAC1-params (RFC 8018 §A.5).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Wire {
    key_derivation_func: AlgorithmIdentifierOwned,
    message_auth_scheme: AlgorithmIdentifierOwned,
}

/// PBKDF2-params (RFC 8018 §A.2) with a salt in the message; the other choice is undefined.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct Pbkdf2Parameters {
    salt: OctetString,
    iteration_count: u64,
    #[asn1(optional = "true")]
    key_length: Option<u16>,
    /// Absent means HMAC-SHA-1.
    #[asn1(optional = "true")]
    prf: Option<AlgorithmIdentifierOwned>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pbmac1Parameters {
    derivation: Pbkdf2Parameters,
    scheme: AlgorithmIdentifierOwned,
}

impl Pbmac1Parameters {
    pub(super) fn default_parameters() -> Result<Self, CmpError> {
        let hmac_sha256 = AlgorithmIdentifierOwned { oid: oid::HMAC_SHA256, parameters: Some(Any::null()) };
        let derivation = Pbkdf2Parameters {
            salt: OctetString::new(Vec::new())?,
            iteration_count: 10_000,
            key_length: Some(32),
            prf: Some(hmac_sha256.clone()),
        };
        Ok(Self { derivation, scheme: hmac_sha256 })
    }

    /// Parses the parameters. A count above [`MAX_ITERATIONS`] is refused before any hashing.
    pub(super) fn read(parameters: &Any) -> Result<Self, ProtectionError> {
        let own: Wire = parameters.decode_as().map_err(|_| ProtectionError::Malformed)?;
        if own.key_derivation_func.oid != oid::PBKDF2 {
            return Err(ProtectionError::Unsupported(own.key_derivation_func.oid));
        }
        let derivation = own.key_derivation_func.parameters.ok_or(ProtectionError::Malformed)?;
        let derivation: Pbkdf2Parameters = derivation.decode_as().map_err(|_| ProtectionError::Malformed)?;
        if derivation.iteration_count > u64::from(MAX_ITERATIONS) {
            return Err(ProtectionError::TooManyIterations {
                requested: derivation.iteration_count,
                allowed: MAX_ITERATIONS,
            });
        }
        let key_fits = derivation.key_length.is_none_or(|length| (16..=MAX_KEY_BYTES).contains(&length));
        if derivation.iteration_count < 100 || derivation.salt.as_bytes().len() < 8 || !key_fits {
            return Err(ProtectionError::Malformed);
        }
        let own = Self { derivation, scheme: own.message_auth_scheme };
        if own.blocks() > MAX_BLOCKS {
            return Err(ProtectionError::Malformed);
        }
        Ok(own)
    }

    /// The number of bytes of the derived key.
    fn key_length(&self) -> usize {
        match (self.derivation.key_length, self.scheme.oid) {
            (Some(length), _) => usize::from(length),
            (None, oid::HMAC_SHA1 | oid::HMAC_SHA1_PKIX) => 20,
            (None, oid::HMAC_SHA384) => 48,
            (None, oid::HMAC_SHA512) => 64,
            (None, _) => 32,
        }
    }

    /// The number of times that PBKDF2 runs all iterations: once for each output of its hash.
    fn blocks(&self) -> u64 {
        let output = match self.prf() {
            oid::HMAC_SHA256 => 32,
            oid::HMAC_SHA384 => 48,
            oid::HMAC_SHA512 => 64,
            _ => 20,
        };
        self.key_length().div_ceil(output) as u64
    }

    fn prf(&self) -> ObjectIdentifier {
        self.derivation.prf.as_ref().map_or(oid::HMAC_SHA1, |prf| prf.oid)
    }

    /// The cost as in [`super::mac::MacProtection`]. SHA-384 and SHA-512 cost twice as much on
    /// processors without support for them.
    pub(super) fn cost(&self) -> u64 {
        let of_a_round = if matches!(self.prf(), oid::HMAC_SHA384 | oid::HMAC_SHA512) { 2 } else { 1 };
        self.derivation.iteration_count * self.blocks() * of_a_round
    }

    pub(super) fn with_salt(&self, salt: &[u8]) -> Result<Self, CmpError> {
        let derivation = Pbkdf2Parameters { salt: OctetString::new(salt)?, ..self.derivation.clone() };
        Ok(Self { derivation, scheme: self.scheme.clone() })
    }

    pub(super) fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, CmpError> {
        let derivation = Any::encode_from(&self.derivation)?;
        let wire = Wire {
            key_derivation_func: AlgorithmIdentifierOwned { oid: oid::PBKDF2, parameters: Some(derivation) },
            message_auth_scheme: self.scheme.clone(),
        };
        Ok(AlgorithmIdentifierOwned { oid: oid::PBMAC1, parameters: Some(Any::encode_from(&wire)?) })
    }

    pub(super) fn mac(&self, secret: &[u8], bytes: &[u8]) -> Result<Vec<u8>, ProtectionError> {
        let mut key = Zeroizing::new(vec![0; self.key_length()]);
        let salt = self.derivation.salt.as_bytes();
        let rounds = u32::try_from(self.derivation.iteration_count).map_err(|_| ProtectionError::Malformed)?;
        match self.prf() {
            oid::HMAC_SHA1 => pbkdf2_hmac::<sha1::Sha1>(secret, salt, rounds, &mut key),
            oid::HMAC_SHA256 => pbkdf2_hmac::<sha2::Sha256>(secret, salt, rounds, &mut key),
            oid::HMAC_SHA384 => pbkdf2_hmac::<sha2::Sha384>(secret, salt, rounds, &mut key),
            oid::HMAC_SHA512 => pbkdf2_hmac::<sha2::Sha512>(secret, salt, rounds, &mut key),
            other => return Err(ProtectionError::Unsupported(other)),
        }
        hmac(&self.scheme, &key, bytes)
    }
}
