//! Conducts administration: from a signed statement to a signed response.
//!
//! Who may speak is asked anew at each statement: the certificate must be current in the store and the CA's own work,
//! its user's record and role must carry the token's seal, and the nonce must be new.

use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::rejection::{Rejection, Stop};
use super::temporary_key::{self, Wanted};
use super::{Authority, AuthorityError, at, audit, user_record};
use crate::cmp::PkiFailureInfo;
use crate::letter::{Letter, Reference};
use crate::pki::{Certificate, EmailAddress, Fingerprint, Purpose as CertificatePurpose, path};
use crate::statement::{
    Answer, CertificateEntry, LetterEntry, Operation, Response, SignedStatement, UserDetails, UserSummary,
    VerifiedStatement,
};
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, Purpose, Role, StatementRecord, StoreError,
    TemporaryKeyRecord, TemporaryKeyState, UserRecord,
};
use crate::token::SecurityLevel;

/// The shortest and the longest time a letter may be good for.
const LETTER_VALIDITY: std::ops::RangeInclusive<i64> = 1..=366 * 24 * 3600;
/// A new reference is tried so often if others have it already (one in 2^40 does).
const REFERENCE_TRIES: usize = 3;

/// A statement whose signer is an administrator, taken in: its nonce is used.
struct TakenStatement {
    statement: VerifiedStatement,
    administrator: UserRecord,
}

impl Authority {
    /// Answers one statement (CMS `SignedData`) with a signed response. Empty only if the response key fails.
    pub fn answer_statement(&self, statement: &[u8], now: Timestamp) -> Vec<u8> {
        let digest: [u8; 32] = Sha256::digest(statement).into();
        let span = tracing::info_span!("statement", digest = %hex::encode(digest));
        let _inside = span.enter();
        // One statement at a time: administrators are few, and two letters for one user have an order.
        let _turn = self.administration.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = self.take(statement, now).and_then(|taken| self.carry_out_statement(&taken, now));
        let answer = answer.unwrap_or_else(|stop| match stop {
            Stop::Refused(rejection) => {
                tracing::warn!(reason = %rejection, "refused");
                Answer::Refused(rejection.text)
            }
            Stop::Failed(error) => {
                tracing::error!(%error, "failed");
                Answer::Refused("the authority cannot do this now; see its log".into())
            }
        });
        self.respond(digest, answer, now).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot respond");
            Vec::new()
        })
    }

    /// Verifies a statement and its signer, and uses its nonce up.
    fn take(&self, statement: &[u8], now: Timestamp) -> Result<TakenStatement, Stop> {
        let signed = SignedStatement::parse(statement).map_err(|error| refuse(error.to_string()))?;
        let (administrator, certificate) = self.administrator_of(signed.claimed_certificate(), now)?;
        let authority = Fingerprint::from_bytes(self.identity.authority);
        let verified = signed.verify(&certificate, authority, now).map_err(|error| refuse(error.to_string()))?;
        let content = verified.statement();
        let detail = json!({
            "statement": hex::encode(verified.digest()),
            "administrator": administrator.id,
            "operation": content.operation.name(),
            "target": content.operation.target(),
        });
        let record = StatementRecord {
            digest: verified.digest(),
            nonce: content.nonce.to_vec(),
            administrator: administrator.id.clone(),
            operation: content.operation.name().to_owned(),
            received_at: now,
            not_after: content.not_after,
            message: statement.to_vec(),
        };
        if !self.store.take_statement(record, audit::entry(now, "statement.taken", &detail))? {
            return Err(refuse("this statement was here before; make a new one"));
        }
        at("authority.statement.after_taken");
        tracing::info!(operation = content.operation.name(), by = %administrator.email, "taken");
        Ok(TakenStatement { statement: verified, administrator })
    }

    /// The administrator whose current signing certificate this is. One answer for all who are none.
    fn administrator_of(&self, claimed: &Certificate, now: Timestamp) -> Result<(UserRecord, Certificate), Stop> {
        let nobody = || refuse("its signer is no administrator of this authority, or their certificate is not current");
        let record = self.store.certificate(&claimed.serial().to_string())?.ok_or_else(nobody)?;
        let is_theirs = record.certificate.as_deref() == Some(claimed.as_der())
            && record.intent.kind == CertificateKind::Signing
            && record.state == CertificateState::Current;
        let user_id = record.intent.user_id.as_ref().filter(|_| is_theirs).ok_or_else(nobody)?;
        let anchors = std::slice::from_ref(&self.ca);
        path::verify(claimed, &[], anchors, CertificatePurpose::Signing, now).map_err(|_| nobody())?;
        let user = self.user_of(user_id)?;
        // The row says whose certificate it is, but the certificate itself is what the CA signed.
        if !claimed.emails().iter().any(|email| comparable(email) == user.email_key) {
            return Err(nobody());
        }
        let grant = self.store.grant(&user.id, Role::Administrator)?.ok_or_else(nobody)?;
        self.sealer.check_grant(grant, &user)?;
        Ok((user, claimed.clone()))
    }

    fn carry_out_statement(&self, taken: &TakenStatement, now: Timestamp) -> Result<Answer, Stop> {
        let by = &taken.administrator;
        match &taken.statement.statement().operation {
            Operation::Issue { email, name, levels, valid_for_seconds } => {
                let user = self.user_to_issue_to(email, name.as_deref(), now)?;
                let wanted = Wanted {
                    user_id: user.record.id.clone(),
                    purpose: Purpose::Enroll,
                    levels: self.levels(levels.as_deref())?,
                    lost: false,
                    statement: Some(taken.statement.digest()),
                    valid_for: self.validity(*valid_for_seconds)?,
                };
                self.issue_letter(&user, &wanted, by, now)
            }
            Operation::Recover { email, lost, valid_for_seconds } => {
                let user = self.known_user(email)?;
                if self.history_certificates(&user)?.is_empty() {
                    return Err(refuse(format!(
                        "{email} has no archived keys to recover; `admin issue` makes a letter to enroll"
                    )));
                }
                let wanted = Wanted {
                    user_id: user.id.clone(),
                    purpose: Purpose::Recover,
                    levels: self.levels(None)?,
                    lost: *lost,
                    statement: Some(taken.statement.digest()),
                    valid_for: self.validity(*valid_for_seconds)?,
                };
                if *lost {
                    let detail = json!({ "user": user.id, "reason": "keyCompromise" });
                    let entry = audit::entry(now, "certificates.revoked", &detail);
                    self.store.revoke_current(&user.id, "keyCompromise", entry)?;
                    at("authority.statement.after_revocation");
                }
                self.issue_letter(&IssueTo { record: user, is_new: false }, &wanted, by, now)
            }
            Operation::List => self.list(now),
            Operation::Show { email } => self.show(&self.known_user(email)?, now),
        }
    }

    /// The user of this address with this name, new or known. A known one's record takes the new name.
    fn user_to_issue_to(&self, email: &str, name: Option<&str>, now: Timestamp) -> Result<IssueTo, Stop> {
        let address: EmailAddress = email.parse().map_err(|error: crate::pki::PkiError| refuse(error.to_string()))?;
        if let Some(name) = name {
            crate::pki::DistinguishedName::of(name).map_err(|error| refuse(error.to_string()))?;
        }
        match (self.store.user_by_email(&comparable(address.as_str()))?, name.map(str::trim)) {
            (None, None) => Err(refuse(format!("{address} is new here; give the name as well (--name)"))),
            (None, Some(name)) => {
                let record = user_record(&self.sealer, &address, name, now)?;
                Ok(IssueTo { record, is_new: true })
            }
            (Some(user), name) => {
                let mut user = self.sealer.check_user(user)?;
                if let Some(name) = name.filter(|name| *name != user.name) {
                    name.clone_into(&mut user.name);
                    user.mac = self.sealer.seal_user(&user)?;
                    let detail = json!({ "user": user.id, "name": user.name });
                    self.store.rename_user(user.clone(), audit::entry(now, "user.renamed", &detail))?;
                }
                Ok(IssueTo { record: user, is_new: false })
            }
        }
    }

    fn known_user(&self, email: &str) -> Result<UserRecord, Stop> {
        let user = self.store.user_by_email(&comparable(email))?;
        let user = user.ok_or_else(|| refuse(format!("there is no user {email} here; `admin list` shows all")))?;
        Ok(self.sealer.check_user(user)?)
    }

    /// What a letter may allow: what was asked for, if the policy has it; else all that configuration and policy have.
    fn levels(&self, asked: Option<&[SecurityLevel]>) -> Result<Vec<SecurityLevel>, Stop> {
        let possible = self.policy.allowed(&self.configuration.enrollment.levels);
        let levels = match asked {
            None => possible.clone(),
            Some(asked) => possible.iter().copied().filter(|level| asked.contains(level)).collect(),
        };
        if levels.is_empty() || asked.is_some_and(|asked| asked.iter().any(|level| !levels.contains(level))) {
            let possible: Vec<_> = possible.iter().map(ToString::to_string).collect();
            return Err(refuse(format!("the levels allowed here are: {}", possible.join(", "))));
        }
        Ok(levels)
    }

    fn validity(&self, seconds: Option<u64>) -> Result<SignedDuration, Stop> {
        let Some(seconds) = seconds else { return Ok(self.configuration.enrollment.letter_valid_for) };
        match i64::try_from(seconds) {
            Ok(seconds) if LETTER_VALIDITY.contains(&seconds) => Ok(SignedDuration::from_secs(seconds)),
            _ => Err(refuse("a letter is good for a second at least, and for a year at most")),
        }
    }

    fn issue_letter(&self, to: &IssueTo, wanted: &Wanted, by: &UserRecord, now: Timestamp) -> Result<Answer, Stop> {
        for _ in 0..REFERENCE_TRIES {
            let record = temporary_key::new_record(&self.keys, &self.sealer, self.identity.epoch, wanted, now)?;
            let detail = json!({
                "reference": record.reference, "purpose": record.purpose.as_str(), "user": to.record.id,
                "email": to.record.email, "by": by.id, "lost": record.lost, "expires": record.expires_at.to_string(),
                "statement": record.statement.map(hex::encode),
            });
            let new_user = to.is_new.then(|| to.record.clone());
            let entry = audit::entry(now, "letter.issued", &detail);
            match self.store.issue_temporary_key(record.clone(), new_user, entry) {
                Ok(()) => {
                    at("authority.statement.after_letter");
                    tracing::info!(reference = %record.reference, email = %to.record.email, "letter issued");
                    return Ok(Answer::Letter(self.letter(&record, &to.record)?.to_text()));
                }
                Err(StoreError::Conflict(what)) => tracing::debug!(what, "trying another reference"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Stop::Failed(StoreError::Conflict("issue the letter").into()))
    }

    /// The letter of a record; its temporary key is derived for it, here and nowhere else outside authentication.
    pub(super) fn letter(&self, record: &TemporaryKeyRecord, user: &UserRecord) -> Result<Letter, AuthorityError> {
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

    fn list(&self, now: Timestamp) -> Result<Answer, Stop> {
        let mut users = Vec::new();
        for user in self.store.users()? {
            let certificates = self.store.certificates_of_user(&user.id)?;
            let current = certificates.iter().find(|certificate| {
                certificate.intent.kind == CertificateKind::Signing && certificate.state == CertificateState::Current
            });
            let letters = self.store.temporary_keys_of(&user.id)?;
            let letter =
                letters.iter().rfind(|letter| letter.state == TemporaryKeyState::Unused && now < letter.expires_at);
            users.push(UserSummary {
                administrator: self.store.grant(&user.id, Role::Administrator)?.is_some(),
                enrolled: current.is_some(),
                certificate_expires: current.map(|certificate| certificate.intent.not_after),
                letter_expires: letter.map(|letter| letter.expires_at),
                email: user.email,
                name: user.name,
            });
        }
        Ok(Answer::Users(users))
    }

    fn show(&self, user: &UserRecord, now: Timestamp) -> Result<Answer, Stop> {
        let certificates = self.store.certificates_of_user(&user.id)?;
        let mut archived_keys = 0;
        for sha256 in certificates.iter().filter_map(|certificate| certificate.sha256.as_ref()) {
            archived_keys += u64::from(self.store.archived_key(sha256)?.is_some());
        }
        let letters = self.store.temporary_keys_of(&user.id)?;
        Ok(Answer::User(Box::new(UserDetails {
            id: user.id.clone(),
            email: user.email.clone(),
            name: user.name.clone(),
            administrator: self.store.grant(&user.id, Role::Administrator)?.is_some(),
            since: user.created_at,
            archived_keys,
            certificates: certificates.iter().rev().map(certificate_entry).collect(),
            letters: letters.iter().rev().map(|letter| letter_entry(letter, now)).collect(),
        })))
    }

    fn respond(&self, statement: [u8; 32], answer: Answer, now: Timestamp) -> Result<Vec<u8>, AuthorityError> {
        let head = self.store.audit_head()?;
        let checkpoint = audit::checkpoint(&self.keys, &self.identity.authority, head, now)?;
        let response = Response { statement, answer, checkpoint };
        let authority = Fingerprint::from_bytes(self.identity.authority);
        let signed = response.sign(&self.keys.response, &self.response, authority, now)?;
        Ok(signed.as_der().to_vec())
    }
}

/// Whom a letter is for.
struct IssueTo {
    record: UserRecord,
    is_new: bool,
}

/// An address in the form in which two spellings of it are one.
pub(super) fn comparable(email: &str) -> String {
    email.trim().to_ascii_lowercase()
}

fn certificate_entry(record: &CertificateRecord) -> CertificateEntry {
    let intent = &record.intent;
    CertificateEntry {
        serial: intent.serial.clone(),
        usage: intent.kind.to_string(),
        keyset: intent.keyset_name.clone().unwrap_or_default(),
        level: intent.level.as_deref().and_then(|level| level.parse().ok()).unwrap_or(SecurityLevel::Low),
        state: record.state.to_string(),
        not_before: intent.not_before,
        not_after: intent.not_after,
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

fn refuse(text: impl Into<String>) -> Stop {
    Stop::Refused(Rejection::new(PkiFailureInfo::NOT_AUTHORIZED, text))
}
