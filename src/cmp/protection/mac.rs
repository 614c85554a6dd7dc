//! Protection by a shared secret: `PasswordBasedMac` and PBMAC1, verified in constant time and answered in kind.

use hmac::{Hmac, KeyInit, Mac};
use spki::AlgorithmIdentifierOwned;
use subtle::ConstantTimeEq;

use super::pbm::PbmParameters;
use super::pbmac1::Pbmac1Parameters;
use crate::cmp::{CmpError, Draft, PkiMessage, ProtectionError, oid};

/// How a message is `MACed`: algorithm, digests and iteration count. The salt is fresh in each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacProtection(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Pbm(PbmParameters),
    Pbmac1(Pbmac1Parameters),
}

impl MacProtection {
    /// What tokenkeep's client uses: PBMAC1 with PBKDF2 and HMAC-SHA-256. The secret has 130 random bits, so the
    /// iterations protect nothing that could be guessed; they are what RFC 9481 §6.1 shows.
    pub fn pbmac1() -> Result<Self, CmpError> {
        Ok(Self(Kind::Pbmac1(Pbmac1Parameters::ours()?)))
    }

    /// What every CMP implementation understands: `PasswordBasedMac` with SHA-256 and HMAC-SHA-256.
    pub fn pbm() -> Result<Self, CmpError> {
        Ok(Self(Kind::Pbm(PbmParameters::ours()?)))
    }

    fn of(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, ProtectionError> {
        let parameters = algorithm.parameters.as_ref();
        let parameters = || parameters.ok_or(ProtectionError::Malformed);
        match algorithm.oid {
            oid::PASSWORD_BASED_MAC => Ok(Self(Kind::Pbm(PbmParameters::read(parameters()?)?))),
            oid::PBMAC1 => Ok(Self(Kind::Pbmac1(Pbmac1Parameters::read(parameters()?)?))),
            other => Err(ProtectionError::WrongKind(other)),
        }
    }

    fn with_fresh_salt(&self) -> Result<Self, CmpError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        Ok(Self(match &self.0 {
            Kind::Pbm(pbm) => Kind::Pbm(pbm.with_salt(&salt)?),
            Kind::Pbmac1(pbmac1) => Kind::Pbmac1(pbmac1.with_salt(&salt)?),
        }))
    }

    fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, CmpError> {
        match &self.0 {
            Kind::Pbm(pbm) => pbm.algorithm(),
            Kind::Pbmac1(pbmac1) => pbmac1.algorithm(),
        }
    }

    fn mac(&self, secret: &[u8], bytes: &[u8]) -> Result<Vec<u8>, ProtectionError> {
        match &self.0 {
            Kind::Pbm(pbm) => pbm.mac(secret, bytes),
            Kind::Pbmac1(pbmac1) => pbmac1.mac(secret, bytes),
        }
    }
}

/// Verifies the MAC over the bytes received, and says how it was made, so as to answer in kind. Takes as long as the
/// message's iteration count demands, up to a bound (some 0.3 s); the caller limits how many run at once.
pub fn verify_mac(message: &PkiMessage, secret: &[u8]) -> Result<MacProtection, ProtectionError> {
    let (Some(algorithm), Some(received)) = (&message.header().protection_alg, message.protection()) else {
        return Err(ProtectionError::Missing);
    };
    let how = MacProtection::of(algorithm)?;
    let part = message.protected_part().map_err(|_| ProtectionError::Malformed)?;
    let expected = how.mac(secret, &part)?;
    if bool::from(expected.ct_eq(received)) { Ok(how) } else { Err(ProtectionError::Mismatch) }
}

/// The bytes of a message protected as `how` says, under `secret`, with a fresh salt.
pub fn protect_with_mac(draft: Draft, secret: &[u8], how: &MacProtection) -> Result<Vec<u8>, CmpError> {
    let how = how.with_fresh_salt()?;
    let mut draft = draft;
    draft.header.protection_alg = Some(how.algorithm()?);
    draft.seal(|part| Ok(Some(how.mac(secret, part)?)))
}

/// HMAC by its identifier.
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
