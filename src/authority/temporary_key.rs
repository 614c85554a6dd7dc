//! Temporary keys: the token derives each from its record in the database, which contains no key in
//! any form.

use der::asn1::{GeneralizedTime, OctetString};
use der::{Encode, Sequence};
use jiff::{SignedDuration, Timestamp};

use super::AuthorityError;
use super::seal::Sealer;
use super::token_keys::TokenKeys;
use crate::letter::{self, Reference, TemporaryKey};
use crate::store::{AuthorityIdentity, TemporaryKeyPurpose, TemporaryKeyRecord, TemporaryKeyState};
use crate::token::SecurityLevel;

/// The length of a nonce in octets.
const NONCE_BYTES: usize = 16;

/// The properties of a new temporary key, from an administrator's statement or `init`.
#[derive(Debug, Clone)]
pub(super) struct TemporaryKeySpec {
    pub(super) user_id: String,
    pub(super) purpose: TemporaryKeyPurpose,
    pub(super) levels: Vec<SecurityLevel>,
    pub(super) lost: bool,
    pub(super) statement: Option<[u8; 32]>,
    pub(super) valid_for: SignedDuration,
}

/// Makes the records of temporary keys, and derives the keys from them.
#[derive(Debug, Clone)]
pub(super) struct TemporaryKeys {
    keys: TokenKeys,
    sealer: Sealer,
    /// The fingerprint of the CA certificate.
    authority: [u8; 32],
    epoch: u64,
}

/// The input of the HMAC that derives a temporary key (DER).
#[derive(Sequence)]
struct Derivation {
    version: u8,
    key_id: OctetString,
    epoch: u64,
    authority: OctetString,
    reference: String,
    nonce: OctetString,
    purpose: String,
    user_id: String,
    expires: GeneralizedTime,
}

impl TemporaryKeys {
    pub(super) fn new(keys: &TokenKeys, identity: &AuthorityIdentity) -> Self {
        let sealer = Sealer::new(keys, identity.authority);
        Self { keys: keys.clone(), sealer, authority: identity.authority, epoch: identity.epoch }
    }

    /// Makes the sealed record of a new temporary key, with a fresh reference and nonce.
    pub(super) fn new_record(
        &self,
        spec: &TemporaryKeySpec,
        now: Timestamp,
    ) -> Result<TemporaryKeyRecord, AuthorityError> {
        let mut random = [0; 5];
        let mut nonce = vec![0; NONCE_BYTES];
        getrandom::fill(&mut random).map_err(|error| AuthorityError::Random(error.to_string()))?;
        getrandom::fill(&mut nonce).map_err(|error| AuthorityError::Random(error.to_string()))?;
        let prefix = match spec.purpose {
            TemporaryKeyPurpose::Enroll => letter::LetterPurpose::Enroll,
            TemporaryKeyPurpose::Recover => letter::LetterPurpose::Recover,
        };
        // Database and letter store whole seconds.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut record = TemporaryKeyRecord {
            reference: Reference::new(prefix, random).as_str().to_owned(),
            user_id: spec.user_id.clone(),
            purpose: spec.purpose,
            nonce,
            key_id: self.keys.temporary.id().as_bytes().to_vec(),
            epoch: self.epoch,
            levels: spec.levels.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            lost: spec.lost,
            statement: spec.statement,
            issued_at: now,
            expires_at: now.checked_add(spec.valid_for).unwrap_or(Timestamp::MAX),
            state: TemporaryKeyState::Unused,
            transaction_id: None,
            mac: [0; 32],
        };
        record.mac = self.sealer.seal_temporary_key(&record)?;
        Ok(record)
    }

    /// Derives the temporary key of a record with the token's HMAC key.
    pub(super) fn derive(&self, record: &TemporaryKeyRecord) -> Result<TemporaryKey, AuthorityError> {
        if record.key_id != self.keys.temporary.id().as_bytes() {
            return Err(AuthorityError::Mismatch(format!(
                "the letter {} was made with an HMAC key that the token does not have",
                record.reference
            )));
        }
        let der = derivation(&self.authority, record).and_then(|derivation| derivation.to_der());
        let der = der.map_err(|error| AuthorityError::Encode { what: "a temporary key", reason: error.to_string() })?;
        Ok(TemporaryKey::from_mac(&self.keys.mac(&self.keys.temporary, &der)?))
    }

    /// Returns a record that belongs to no letter: with it, an unknown reference costs as much work
    /// as a wrong temporary key. Like for a letter, the token checks its seal, which takes the same
    /// time. The seal never matches.
    pub(super) fn decoy_record(&self) -> Result<TemporaryKeyRecord, AuthorityError> {
        let decoy = TemporaryKeyRecord {
            reference: String::new(),
            user_id: String::new(),
            purpose: TemporaryKeyPurpose::Enroll,
            nonce: vec![0; NONCE_BYTES],
            key_id: self.keys.temporary.id().as_bytes().to_vec(),
            epoch: 0,
            levels: String::new(),
            lost: false,
            statement: None,
            issued_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            state: TemporaryKeyState::Voided,
            transaction_id: None,
            mac: [0; 32],
        };
        match self.sealer.check_temporary_key(decoy.clone()) {
            Ok(decoy) => Ok(decoy),
            Err(AuthorityError::Tampered(_)) => Ok(decoy),
            Err(error) => Err(error),
        }
    }
}

/// Parses the security levels in a record.
pub(super) fn levels_of(record: &TemporaryKeyRecord) -> Vec<SecurityLevel> {
    record.levels.split(' ').filter_map(|level| level.parse().ok()).collect()
}

fn derivation(authority: &[u8; 32], record: &TemporaryKeyRecord) -> der::Result<Derivation> {
    let seconds = u64::try_from(record.expires_at.as_second()).unwrap_or_default();
    Ok(Derivation {
        version: 1,
        key_id: OctetString::new(record.key_id.clone())?,
        epoch: record.epoch,
        authority: OctetString::new(authority.to_vec())?,
        reference: record.reference.clone(),
        nonce: OctetString::new(record.nonce.clone())?,
        purpose: record.purpose.as_str().to_owned(),
        user_id: record.user_id.clone(),
        expires: GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(seconds))?,
    })
}
