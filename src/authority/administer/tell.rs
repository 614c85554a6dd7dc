//! `list` and `show`: what an administrator may know about users. Never a temporary key.

use jiff::Timestamp;

use crate::authority::Authority;
use crate::authority::rejection::Stop;
use crate::statement::{Answer, CertificateEntry, LetterEntry, UserDetails, UserSummary};
use crate::store::{
    CertificateKind, CertificateRecord, CertificateState, Role, TemporaryKeyRecord, TemporaryKeyState, UserRecord,
};
use crate::token::SecurityLevel;

impl Authority {
    pub(super) fn list(&self, now: Timestamp) -> Result<Answer, Stop> {
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

    pub(super) fn show(&self, user: &UserRecord, now: Timestamp) -> Result<Answer, Stop> {
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
