//! Protection with a shared secret: `PasswordBasedMac` and PBMAC1. A MAC is verified in constant
//! time, and a reply uses the request's algorithm.

use spki::AlgorithmIdentifierOwned;
use subtle::ConstantTimeEq;

use super::pbm::PbmParameters;
use super::pbmac1::Pbmac1Parameters;
use crate::cmp::{CmpError, Draft, PkiMessage, ProtectionError, oid};

/// The largest cost of one MAC at which other spellings of a secret are tried.
const MAX_COST_FOR_SPELLINGS: u64 = 10_000;
/// The maximum number of spellings of a temporary key.
const MAX_SPELLINGS: u64 = 4;

/// The MAC of a message: algorithm, digests and iteration count. Each message has a fresh salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacProtection(Kind);

#[cfg(test)]
thread_local! {
    /// The rounds of hashing that this thread has done. Tests count a message's cost instead of
    /// measuring time.
    pub(crate) static ROUNDS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Pbm(PbmParameters),
    Pbmac1(Pbmac1Parameters),
}

impl MacProtection {
    /// The default of tokenkeep's client: PBMAC1 with PBKDF2 and HMAC-SHA-256. The secret has 130
    /// random bits, so the iterations protect nothing that could be guessed. Their number is that
    /// of the example in RFC 9481 §6.1.
    pub fn pbmac1() -> Result<Self, CmpError> {
        Ok(Self(Kind::Pbmac1(Pbmac1Parameters::default_parameters()?)))
    }

    /// `PasswordBasedMac` with SHA-256 and HMAC-SHA-256, which every CMP implementation supports.
    pub fn pbm() -> Result<Self, CmpError> {
        Ok(Self(Kind::Pbm(PbmParameters::default_parameters()?)))
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

    /// The cost of making or verifying a MAC, in rounds of PBKDF2 with SHA-256.
    fn cost(&self) -> u64 {
        match &self.0 {
            Kind::Pbm(pbm) => pbm.cost(),
            Kind::Pbmac1(pbmac1) => pbmac1.cost(),
        }
    }

    /// Whether the hashing is cheap enough to try other spellings of a secret.
    pub fn allows_spellings(&self) -> bool {
        matches!(&self.0, Kind::Pbm(pbm) if pbm.cost() <= MAX_COST_FOR_SPELLINGS)
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
        #[cfg(test)]
        ROUNDS.set(ROUNDS.get() + self.cost());
        match &self.0 {
            Kind::Pbm(pbm) => pbm.mac(secret, bytes),
            Kind::Pbmac1(pbmac1) => pbmac1.mac(secret, bytes),
        }
    }
}

/// Verifies the MAC over the received bytes, and returns its parameters for a reply in kind. The
/// time depends on the message's iteration count, up to a limit of about 0.2 s;
/// [`cost_of_verifying`] computes the cost in advance. The caller limits the number of concurrent
/// calls.
pub fn verify_mac(message: &PkiMessage, secret: &[u8]) -> Result<MacProtection, ProtectionError> {
    verify_mac_by_any(message, &[secret]).map(|(how, _)| how)
}

/// Verifies the MAC with the first of `secrets`. If the hashing is cheap (see
/// [`MacProtection::allows_spellings`]), it also tries the others, which are other spellings of the
/// same secret. Returns the index of the secret that matched, which protects the reply. If none
/// matches, the amount of computation is the same for all secrets.
pub fn verify_mac_by_any(message: &PkiMessage, secrets: &[&[u8]]) -> Result<(MacProtection, usize), ProtectionError> {
    let (Some(algorithm), Some(received)) = (&message.header().protection_alg, message.protection()) else {
        return Err(ProtectionError::Missing);
    };
    let how = MacProtection::of(algorithm)?;
    let part = message.protected_part().map_err(|_| ProtectionError::Malformed)?;
    let tried = if how.allows_spellings() { secrets.len() } else { 1 };
    for (at, secret) in secrets.iter().take(tried).enumerate() {
        let expected = how.mac(secret, &part)?;
        if bool::from(expected.ct_eq(received)) {
            return Ok((how, at));
        }
    }
    Err(ProtectionError::Mismatch)
}

/// The cost of verifying a message (DER `PKIMessage`) with all spellings of a secret, in rounds of
/// PBKDF2 with SHA-256. Zero if the message is refused before any hashing.
pub fn cost_of_verifying(message: &[u8]) -> u64 {
    let Ok(message) = PkiMessage::from_der(message) else { return 0 };
    let how = message.header().protection_alg.as_ref().and_then(|algorithm| MacProtection::of(algorithm).ok());
    how.map_or(0, |how| if how.allows_spellings() { how.cost() * MAX_SPELLINGS } else { how.cost() })
}

/// Encodes a message, protected with the parameters `how` under `secret`, with a fresh salt.
pub fn protect_with_mac(draft: Draft, secret: &[u8], how: &MacProtection) -> Result<Vec<u8>, CmpError> {
    let how = how.with_fresh_salt()?;
    let mut draft = draft;
    draft.header.protection_alg = Some(how.algorithm()?);
    draft.seal(|part| Ok(Some(how.mac(secret, part)?)))
}
