//! `list` and `show`: the data about users that an administrator may see. Never a temporary key.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::authority::AuthorityError;
use crate::authority::records::{VerifiedRecords, normalize_email};
use crate::authority::rejection::{RequestError, not_authorized};
use crate::pki::Certificate;
use crate::statement::{CertificateEntry, LetterEntry, StatementAnswer, USERS_PER_PAGE, UserDetails, UserSummary};
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, GrantRecord, Role, TemporaryKeyRecord, TemporaryKeyState,
    UserPage, UserRecord,
};

/// Lists and shows users.
pub(super) struct UserQueries<'a> {
    pub(super) records: &'a VerifiedRecords,
    pub(super) now: Timestamp,
}

impl UserQueries<'_> {
    /// Returns a page of the users. Records without a valid seal of the token, or certificates
    /// without the CA's signature, are omitted: the program's log reports them, and `authority
    /// check` lists them.
    pub(super) fn list(&self, after: Option<&str>, limit: Option<u32>) -> Result<StatementAnswer, RequestError> {
        let limit = limit.unwrap_or(USERS_PER_PAGE);
        let mut after = normalize_email(after.unwrap_or_default()).into_bytes();
        loop {
            // One more than the page shows, to know whether there are more.
            let page = self.records.store.user_page(&after, limit.saturating_add(1))?;
            let shown = usize::try_from(limit).unwrap_or(usize::MAX);
            let users = self.summaries(&page, shown)?;
            let Some(last) = page.users.get(shown.saturating_sub(1)).filter(|_| page.users.len() > shown) else {
                return Ok(StatementAnswer::Users(users));
            };
            // Omitted rows advance the position here; the response names the last user that is
            // shown.
            match users.last().map(|user| user.email.clone()) {
                Some(next) => return Ok(StatementAnswer::UserPage { users, next }),
                None => after.clone_from(&last.key),
            }
        }
    }

    /// Builds the summaries of the page's first `shown` users.
    fn summaries(&self, page: &UserPage, shown: usize) -> Result<Vec<UserSummary>, RequestError> {
        let certificates = by_user(&page.certificates, |record| record.intent.user_id.as_deref().unwrap_or_default());
        let grants = by_user(&page.grants, |grant| &grant.user_id);
        let letters = by_user(&page.letters, |letter| &letter.user_id);

        let mut users = Vec::with_capacity(shown.min(page.users.len()));
        for user in page.users.iter().take(shown).filter_map(|user| user.record.as_ref()) {
            let Some(user) = sealed(self.records.sealer.check_user(user.clone()))? else { continue };
            let id = user.id.as_str();
            let grant = grants.get(id).and_then(|grants| grants.iter().find(|grant| grant.role == Role::Administrator));
            let role = self.administrator_role(&user, grant.map(|grant| (*grant).clone()))?;
            let enrolled = self.records.audit_state.has_current(id, CertificateKind::Signing);
            let mut own = certificates.get(id).into_iter().flatten();
            let current = own.find_map(|record| self.current_certificate((*record).clone(), &user));
            if enrolled && current.is_none() {
                tracing::error!(user = user.email, "a user's certificate was deleted or altered in the database");
            }
            let mut letter = None;
            for record in letters.get(id).into_iter().flatten() {
                // At most one letter is valid; the seals of the others need no check.
                if self.records.audit_state.letter_state(&record.reference, id) != Some(TemporaryKeyState::Unused) {
                    continue;
                }
                let record = sealed(self.records.letter_as_logged((*record).clone()))?;
                let is_good = |record: &TemporaryKeyRecord| {
                    record.state == TemporaryKeyState::Unused && self.now < record.expires_at
                };
                letter = record.filter(is_good).or(letter);
            }
            users.push(UserSummary {
                administrator: role.counts,
                administrator_from: role.counts_from(),
                enrolled,
                certificate_expires: current.map(|certificate| certificate.not_after()),
                letter_expires: letter.map(|letter| letter.expires_at),
                email: user.email,
                name: user.name,
            });
        }
        Ok(users)
    }

    pub(super) fn show(&self, email: &str) -> Result<StatementAnswer, RequestError> {
        let user = &known_user(self.records, email)?;
        let mut archived_keys = 0;
        let mut certificates = Vec::new();
        for record in self.records.readable_certificates_of(&user.id)?.iter().rev() {
            // A record without a signed certificate is unfinished, or was discarded before signing.
            if record.certificate.is_none() {
                continue;
            }
            let Some(certificate) = self.records.genuine(record, user) else {
                tracing::error!(serial = record.intent.serial, "a certificate was altered in the database; omitted");
                continue;
            };
            let archived = self.records.store.archived_key(certificate.fingerprint().as_bytes());
            if let Some(key) = sealed(archived.map_err(AuthorityError::from))?.flatten() {
                archived_keys += u64::from(sealed(self.records.sealer.check_archived_key(key))?.is_some());
            }
            certificates.push(self.certificate_entry(record, &certificate)?);
        }
        let mut letters = Vec::new();
        for letter in self.records.store.temporary_keys_of(&user.id)?.into_iter().rev() {
            letters
                .extend(sealed(self.records.letter_as_logged(letter))?.map(|letter| letter_entry(&letter, self.now)));
        }
        if archived_keys < self.records.audit_state.history_length(&user.id) as u64 {
            tracing::error!(user = user.email, "archived keys of a user were deleted or altered in the database");
        }
        let grant = self.records.store.grant(&user.id, Role::Administrator);
        let grant = sealed(grant.map_err(AuthorityError::from))?.flatten();
        let role = self.administrator_role(user, grant)?;
        Ok(StatementAnswer::User(Box::new(UserDetails {
            id: user.id.clone(),
            email: user.email.clone(),
            name: user.name.clone(),
            administrator: role.counts,
            administrator_from: role.counts_from(),
            since: user.created_at,
            archived_keys,
            certificates,
            letters,
        })))
    }

    /// The audit log decides whether the user has the role; the sealed row says from when it is
    /// valid.
    fn administrator_role(
        &self,
        user: &UserRecord,
        grant: Option<GrantRecord>,
    ) -> Result<AdministratorRole, AuthorityError> {
        let mut role = AdministratorRole::default();
        if !self.records.audit_state.has_role(&user.id, Role::Administrator) {
            return Ok(role);
        }
        let grant = grant.map(|grant| sealed(self.records.sealer.check_grant(grant, user))).transpose()?.flatten();
        if let Some(grant) = grant {
            role.add(&grant, self.now);
        } else {
            tracing::error!(user = user.email, "an administrator's role was deleted or altered in the database");
            role.counts = true;
        }
        Ok(role)
    }

    fn certificate_entry(
        &self,
        record: &CertificateRecord,
        certificate: &Certificate,
    ) -> Result<CertificateEntry, AuthorityError> {
        let intent = &record.intent;
        let (keyset, level) = self.records.keyset_as_logged(&intent.serial)?;
        Ok(CertificateEntry {
            serial: intent.serial.clone(),
            usage: intent.kind.to_string(),
            keyset,
            level,
            state: record.state.to_string(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// Returns the certificate of this row, if it is the user's current one.
    fn current_certificate(&self, record: CertificateRecord, user: &UserRecord) -> Option<Certificate> {
        let record = self.records.certificate_as_logged(record);
        (record.state == CertificateState::Current).then(|| self.records.genuine(&record, user)).flatten()
    }
}

/// Returns the user with this e-mail address.
pub(super) fn known_user(records: &VerifiedRecords, email: &str) -> Result<UserRecord, RequestError> {
    let user = records.user_by_email(email)?;
    user.ok_or_else(|| not_authorized(format!("user {email} not found; `admin list` lists all users")))
}

/// A user's administrator role, if any.
#[derive(Default)]
struct AdministratorRole {
    counts: bool,
    later: Option<Timestamp>,
}

impl AdministratorRole {
    fn add(&mut self, grant: &GrantRecord, now: Timestamp) {
        self.counts |= grant.counts_at(now);
        self.later = grant.counts_from.or(self.later);
    }

    /// The time from which the role is valid, if that is in the future.
    fn counts_from(&self) -> Option<Timestamp> {
        self.later.filter(|_| !self.counts)
    }
}

fn by_user<T>(records: &[T], user: impl Fn(&T) -> &str) -> HashMap<&str, Vec<&T>> {
    let mut of_users: HashMap<&str, Vec<&T>> = HashMap::new();
    for record in records {
        of_users.entry(user(record)).or_default().push(record);
    }
    of_users
}

/// Turns a broken seal or an unreadable record into `None`; other faults stay faults.
fn sealed<T>(checked: Result<T, AuthorityError>) -> Result<Option<T>, AuthorityError> {
    match checked {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.is_of_one_record() => {
            tracing::error!(%error, "a record was altered in the database; omitted");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn letter_entry(record: &TemporaryKeyRecord, now: Timestamp) -> LetterEntry {
    let is_expired = record.state == TemporaryKeyState::Unused && now >= record.expires_at;
    LetterEntry {
        reference: record.reference.clone(),
        purpose: record.purpose.to_string(),
        state: if is_expired { "expired".into() } else { record.state.to_string() },
        expires: record.expires_at,
    }
}
