//! Letters: their users, validity and levels. Only this file derives a temporary key in order to
//! write it down.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::policy::Policy;
use super::records::{VerifiedRecords, normalize_email};
use super::rejection::{RequestError, not_authorized};
use super::seal::Sealer;
use super::temporary_key::{self, TemporaryKeySpec, TemporaryKeys};
use super::{AuthorityError, Configuration, audit};
use crate::crash_point::reached as crash_point;
use crate::letter::{Letter, Reference};
use crate::pki::{DistinguishedName, EmailAddress, PkiError};
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

/// Issues letters to users, and writes their text.
#[derive(Debug)]
pub(super) struct LetterIssuer {
    records: Arc<VerifiedRecords>,
    pub(super) temporary_keys: TemporaryKeys,
    authority_name: String,
    /// The levels that both configuration and policy allow.
    levels: Vec<SecurityLevel>,
    /// The default validity.
    valid_for: SignedDuration,
    /// The base URLs over HTTP and HTTPS.
    public_urls: Mutex<(String, String)>,
}

impl LetterIssuer {
    pub(super) fn new(
        records: &Arc<VerifiedRecords>,
        temporary_keys: &TemporaryKeys,
        configuration: &Configuration,
        policy: &Policy,
    ) -> Self {
        let listen = &configuration.listen;
        Self {
            records: Arc::clone(records),
            temporary_keys: temporary_keys.clone(),
            authority_name: configuration.name.clone(),
            levels: policy.allowed(&configuration.enrollment.levels),
            valid_for: configuration.enrollment.letter_valid_for,
            public_urls: Mutex::new((
                listen.public_url.clone().unwrap_or_else(|| format!("http://{}", listen.http)),
                listen.public_https_url.clone().unwrap_or_else(|| format!("https://{}", listen.https)),
            )),
        }
    }

    /// Sets the base URLs, by default those of the configuration.
    pub(super) fn set_public_urls(&self, http: &str, https: &str) {
        let urls = (http.trim_end_matches('/').to_owned(), https.trim_end_matches('/').to_owned());
        *self.public_urls.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

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
        let address: EmailAddress = email.parse().map_err(|error: PkiError| not_authorized(error.to_string()))?;
        if let Some(name) = name {
            DistinguishedName::check_person_name(name).map_err(|error| not_authorized(error.to_string()))?;
        }
        match (self.records.user_by_email(address.as_str())?, name.map(str::trim)) {
            (None, None) => Err(not_authorized(format!("{address} is a new user; give the name as well (--name)"))),
            (None, Some(name)) => {
                let record = user_record(&self.records.sealer, &address, name, now)?;
                Ok(LetterUser { record, is_new: true })
            }
            (Some(mut user), name) => {
                if let Some(name) = name.filter(|name| *name != user.name) {
                    if user.name != user.email {
                        return Err(not_authorized(format!(
                            "{} is already recorded as {:?}; leave the name out (--name), or check the address",
                            user.email, user.name
                        )));
                    }
                    name.clone_into(&mut user.name);
                    user.mac = self.records.sealer.seal_user(&user)?;
                    let detail = json!({ "user": user.id, "name": user.name });
                    self.records.store.rename_user(user.clone(), audit::entry(now, "user.named", &detail))?;
                }
                Ok(LetterUser { record: user, is_new: false })
            }
        }
    }

    /// Returns the levels that a letter allows: those requested, if the policy allows them; by
    /// default those of both configuration and policy.
    pub(super) fn levels(&self, requested: Option<&[SecurityLevel]>) -> Result<Vec<SecurityLevel>, RequestError> {
        let possible = &self.levels;
        let levels = match requested {
            None => possible.clone(),
            Some(requested) => possible.iter().copied().filter(|level| requested.contains(level)).collect(),
        };
        if levels.is_empty() || requested.is_some_and(|requested| requested.iter().any(|level| !levels.contains(level)))
        {
            let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
            return Err(not_authorized(format!("this authority allows the levels {}", possible.join(", "))));
        }
        Ok(levels)
    }

    pub(super) fn validity(&self, seconds: Option<u64>) -> Result<SignedDuration, RequestError> {
        let Some(seconds) = seconds else { return Ok(self.valid_for) };
        match i64::try_from(seconds) {
            Ok(seconds) if (1..=MAX_VALIDITY_SECONDS).contains(&seconds) => Ok(SignedDuration::from_secs(seconds)),
            _ => Err(not_authorized("a letter must be good for at least a second and at most a year")),
        }
    }

    /// Issues a letter by order of the administrator `by`. It voids the user's unused ones.
    pub(super) fn issue(
        &self,
        to: &LetterUser,
        wanted: &TemporaryKeySpec,
        by: &UserRecord,
        now: Timestamp,
    ) -> Result<Letter, RequestError> {
        let voids = self.open_letters(&to.record.id)?;
        for _ in 0..REFERENCE_TRIES {
            let record = self.temporary_keys.new_record(wanted, now)?;
            let detail = json!({
                "reference": record.reference, "purpose": record.purpose.as_str(), "user": to.record.id,
                "email": to.record.email, "by": by.id, "lost": record.lost,
                "expires": record.expires_at.to_string(), "statement": record.statement.map(hex::encode),
                "voids": voids,
            });
            let new_user = to.is_new.then(|| to.record.clone());
            let entry = audit::entry(now, "letter.issued", &detail);
            match self.records.store.issue_temporary_key(record.clone(), new_user, entry) {
                Ok(()) => {
                    crash_point("authority.statement.after_letter");
                    tracing::info!(reference = %record.reference, email = %to.record.email, "letter issued");
                    return Ok(self.letter(&record, &to.record)?);
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
        for record in self.records.store.temporary_keys_of(user_id)? {
            if self
                .records
                .letter_as_logged(record.clone())
                .is_ok_and(|letter| letter.state == TemporaryKeyState::Unused)
            {
                references.push(record.reference);
            }
        }
        Ok(references)
    }

    /// Returns the letter that `init` issued to the first administrator at this time, if it is
    /// unused.
    pub(super) fn first_letter(&self, initialized_at: Timestamp) -> Result<Letter, AuthorityError> {
        let VerifiedRecords { store, sealer, .. } = &*self.records;
        for user in store.users()? {
            for record in store.temporary_keys_of(&user.id)? {
                if record.statement.is_none() && record.issued_at == initialized_at {
                    let record = sealer.check_temporary_key(record)?;
                    let user = sealer.check_user(user)?;
                    return self.letter(&record, &user);
                }
            }
        }
        Err(AuthorityError::Tampered("the first administrator's letter".into()))
    }

    /// Builds the letter of a record. Apart from authentication, only this function derives a
    /// temporary key.
    pub(super) fn letter(&self, record: &TemporaryKeyRecord, user: &UserRecord) -> Result<Letter, AuthorityError> {
        let (plain, over_tls) = self.public_urls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Letter {
            user_name: user.name.clone(),
            email: user.email.clone(),
            authority_name: self.authority_name.clone(),
            http_url: plain,
            https_url: over_tls,
            reference: Reference::parse(&record.reference)
                .map_err(|error| AuthorityError::Encode { what: "a reference", reason: error.to_string() })?,
            temporary_key: self.temporary_keys.derive(record)?,
            ca_fingerprint: *self.records.authority().as_bytes(),
            levels: temporary_key::levels_of(record),
            expires: record.expires_at,
        })
    }
}

/// Makes the sealed record of a new user.
pub(super) fn user_record(
    sealer: &Sealer,
    email: &EmailAddress,
    name: &str,
    now: Timestamp,
) -> Result<UserRecord, AuthorityError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| AuthorityError::Random(error.to_string()))?;
    let mut user = UserRecord {
        id: hex::encode(id),
        email: email.as_str().to_owned(),
        email_key: normalize_email(email.as_str()),
        name: name.trim().to_owned(),
        created_at: Timestamp::from_second(now.as_second()).unwrap_or(now),
        mac: [0; 32],
    };
    user.mac = sealer.seal_user(&user)?;
    Ok(user)
}
