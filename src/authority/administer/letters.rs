//! Letters: their users, validity and levels. Only this file derives a temporary key in order to
//! write it down.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{AcceptedStatement, normalize_email, refuse};
use crate::authority::rejection::RequestError;
use crate::authority::temporary_key::{self, TemporaryKeySpec};
use crate::authority::{Authority, AuthorityError, audit, crash_point, user_record};
use crate::letter::{Letter, Reference};
use crate::pki::{DistinguishedName, EmailAddress, PkiError};
use crate::statement::StatementAnswer;
use crate::store::{StoreError, TemporaryKeyRecord, TemporaryKeyState, UserRecord};
use crate::token::SecurityLevel;

/// The longest validity of a letter, in seconds.
const MAX_VALIDITY_SECONDS: i64 = 366 * 24 * 3600;
/// Attempts to find an unused reference (a collision has a probability of about 2^-40).
const REFERENCE_TRIES: usize = 3;

/// The user for whom a letter is made.
pub(super) struct LetterUser {
    pub(super) record: UserRecord,
    pub(super) is_new: bool,
}

impl Authority {
    /// Returns the user with this address and name, new or existing. An existing user keeps the
    /// name in the record: the name goes into certificates, so a statement with a different name,
    /// which may be a slip or a mix-up of two people, is refused. Only a user without a name, like
    /// the first administrator with only an address, gets one this way.
    pub(super) fn letter_user(
        &self,
        email: &str,
        name: Option<&str>,
        now: Timestamp,
    ) -> Result<LetterUser, RequestError> {
        let address: EmailAddress = email.parse().map_err(|error: PkiError| refuse(error.to_string()))?;
        if let Some(name) = name {
            DistinguishedName::check_person_name(name).map_err(|error| refuse(error.to_string()))?;
        }
        match (self.store.user_by_email(&normalize_email(address.as_str()))?, name.map(str::trim)) {
            (None, None) => Err(refuse(format!("{address} is a new user; give the name as well (--name)"))),
            (None, Some(name)) => {
                let record = user_record(&self.sealer, &address, name, now)?;
                Ok(LetterUser { record, is_new: true })
            }
            (Some(user), name) => {
                let mut user = self.sealer.check_user(user)?;
                if let Some(name) = name.filter(|name| *name != user.name) {
                    if user.name != user.email {
                        return Err(refuse(format!(
                            "{} is already recorded as {:?}; leave the name out (--name), or check the address",
                            user.email, user.name
                        )));
                    }
                    name.clone_into(&mut user.name);
                    user.mac = self.sealer.seal_user(&user)?;
                    let detail = json!({ "user": user.id, "name": user.name });
                    self.store.rename_user(user.clone(), audit::entry(now, "user.named", &detail))?;
                }
                Ok(LetterUser { record: user, is_new: false })
            }
        }
    }

    /// Returns the levels that a letter allows: those requested, if the policy allows them; by
    /// default those of both configuration and policy.
    pub(super) fn levels(&self, requested: Option<&[SecurityLevel]>) -> Result<Vec<SecurityLevel>, RequestError> {
        let possible = self.policy.allowed(&self.configuration.enrollment.levels);
        let levels = match requested {
            None => possible.clone(),
            Some(requested) => possible.iter().copied().filter(|level| requested.contains(level)).collect(),
        };
        if levels.is_empty() || requested.is_some_and(|requested| requested.iter().any(|level| !levels.contains(level)))
        {
            let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
            return Err(refuse(format!("this authority allows the levels {}", possible.join(", "))));
        }
        Ok(levels)
    }

    pub(super) fn validity(&self, seconds: Option<u64>) -> Result<SignedDuration, RequestError> {
        let Some(seconds) = seconds else { return Ok(self.configuration.enrollment.letter_valid_for) };
        match i64::try_from(seconds) {
            Ok(seconds) if (1..=MAX_VALIDITY_SECONDS).contains(&seconds) => Ok(SignedDuration::from_secs(seconds)),
            _ => Err(refuse("a letter must be good for at least a second and at most a year")),
        }
    }

    pub(super) fn issue_letter(
        &self,
        to: &LetterUser,
        wanted: &TemporaryKeySpec,
        accepted: &AcceptedStatement,
        now: Timestamp,
    ) -> Result<StatementAnswer, RequestError> {
        let voids = self.open_letters(&to.record.id)?;
        for _ in 0..REFERENCE_TRIES {
            let record = temporary_key::new_record(&self.keys, &self.sealer, self.identity.epoch, wanted, now)?;
            let detail = json!({
                "reference": record.reference, "purpose": record.purpose.as_str(), "user": to.record.id,
                "email": to.record.email, "by": accepted.administrator.id, "lost": record.lost,
                "expires": record.expires_at.to_string(), "statement": record.statement.map(hex::encode),
                "voids": voids,
            });
            let new_user = to.is_new.then(|| to.record.clone());
            let entry = audit::entry(now, "letter.issued", &detail);
            match self.store.issue_temporary_key(record.clone(), new_user, entry) {
                Ok(()) => {
                    crash_point("authority.statement.after_letter");
                    tracing::info!(reference = %record.reference, email = %to.record.email, "letter issued");
                    return accepted.encrypted(&self.letter(&record, &to.record)?);
                }
                Err(StoreError::Conflict(what)) => tracing::debug!(what, "trying another reference"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(RequestError::Failed(StoreError::Conflict("issue the letter").into()))
    }

    /// Returns the references of the user's unused letters, which a newer letter voids.
    fn open_letters(&self, user_id: &str) -> Result<Vec<String>, AuthorityError> {
        let mut references = Vec::new();
        for record in self.store.temporary_keys_of(user_id)? {
            if self.letter_as_logged(record.clone()).is_ok_and(|letter| letter.state == TemporaryKeyState::Unused) {
                references.push(record.reference);
            }
        }
        Ok(references)
    }

    /// Builds the letter of a record. Apart from authentication, only this function derives a
    /// temporary key.
    pub(in crate::authority) fn letter(
        &self,
        record: &TemporaryKeyRecord,
        user: &UserRecord,
    ) -> Result<Letter, AuthorityError> {
        let (plain, over_tls) = self.public_urls();
        Ok(Letter {
            user_name: user.name.clone(),
            email: user.email.clone(),
            authority_name: self.configuration.name.clone(),
            http_url: plain,
            https_url: over_tls,
            reference: Reference::parse(&record.reference)
                .map_err(|error| AuthorityError::Encode { what: "a reference", reason: error.to_string() })?,
            temporary_key: temporary_key::derive(&self.keys, &self.identity.authority, record)?,
            ca_fingerprint: self.identity.authority,
            levels: temporary_key::levels_of(record),
            expires: record.expires_at,
        })
    }
}
