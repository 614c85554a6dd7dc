//! `PasswordBasedMac` (RFC 4211 §4.4, RFC 9481 §6.1.1), which OpenSSL and most other clients send.

use der::asn1::OctetString;
use der::{Any, Sequence};
use sha2::Digest;
use sha2::digest::{FixedOutput, Output};
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::hmac::hmac;
use crate::cmp::{CmpError, ProtectionError, oid};

/// The largest iteration count that is accepted. (OpenSSL sends 500, tokenkeep 1,000, Bouncy Castle
/// up to 10,000.)
const MAX_ITERATIONS: u32 = 100_000;

/// `PBMParameter` (RFC 4211 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(super) struct PbmParameters {
    salt: OctetString,
    owf: AlgorithmIdentifierOwned,
    iteration_count: u64,
    mac: AlgorithmIdentifierOwned,
}

impl PbmParameters {
    pub(super) fn default_parameters() -> Result<Self, CmpError> {
        let algorithm = |oid| AlgorithmIdentifierOwned { oid, parameters: None };
        Ok(Self {
            salt: OctetString::new(Vec::new())?,
            owf: algorithm(oid::SHA256),
            iteration_count: 1000,
            mac: algorithm(oid::HMAC_SHA256),
        })
    }

    /// Parses the parameters. A count above [`MAX_ITERATIONS`] or below RFC 4211's 100 is refused
    /// before any hashing.
    pub(super) fn read(parameters: &Any) -> Result<Self, ProtectionError> {
        let own: Self = parameters.decode_as().map_err(|_| ProtectionError::Malformed)?;
        if own.iteration_count > u64::from(MAX_ITERATIONS) {
            return Err(ProtectionError::TooManyIterations { requested: own.iteration_count, allowed: MAX_ITERATIONS });
        }
        if own.iteration_count < 100 || own.salt.as_bytes().len() < 8 {
            return Err(ProtectionError::Malformed);
        }
        Ok(own)
    }

    /// The cost as in [`super::mac::MacProtection`]. A round is one hash, which costs no more than
    /// a round of PBKDF2.
    pub(super) fn cost(&self) -> u64 {
        self.iteration_count
    }

    pub(super) fn with_salt(&self, salt: &[u8]) -> Result<Self, CmpError> {
        Ok(Self { salt: OctetString::new(salt)?, ..self.clone() })
    }

    pub(super) fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, CmpError> {
        Ok(AlgorithmIdentifierOwned { oid: oid::PASSWORD_BASED_MAC, parameters: Some(Any::encode_from(self)?) })
    }

    pub(super) fn mac(&self, secret: &[u8], bytes: &[u8]) -> Result<Vec<u8>, ProtectionError> {
        let key = match self.owf.oid {
            oid::SHA1 => self.iterate::<sha1::Sha1>(secret),
            oid::SHA256 => self.iterate::<sha2::Sha256>(secret),
            oid::SHA384 => self.iterate::<sha2::Sha384>(secret),
            oid::SHA512 => self.iterate::<sha2::Sha512>(secret),
            other => return Err(ProtectionError::Unsupported(other)),
        };
        hmac(&self.mac, &key, bytes)
    }

    /// Applies the one-way function to secret and salt, then to its own output, `iteration_count`
    /// times in all. Each output overwrites the previous one in a buffer that is wiped at the end.
    fn iterate<D: Digest + FixedOutput>(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(Output::<D>::default());
        FixedOutput::finalize_into(D::new().chain_update(secret).chain_update(self.salt.as_bytes()), &mut key);
        for _ in 1..self.iteration_count {
            let digest = D::new().chain_update(&*key);
            FixedOutput::finalize_into(digest, &mut key);
        }
        Zeroizing::new(key.to_vec())
    }
}
