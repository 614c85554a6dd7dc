//! The state of statements, letters, certificates, roles and encryption-key histories according to
//! the audit log.
//!
//! Anybody who can write to the database can change its rows, but not the log, whose entries are
//! chained and sealed. So this state is rebuilt from the log at the start ([`AuditState::apply`],
//! entry by entry), updated with each new entry, and consulted at each use. Where a database row
//! differs, the log is right: no row revives an ended record, and none hides a valid one. Nothing
//! here is read from a row.
//!
//! Valid records are stored by user. A user has at most one open letter (a newer one voids it) and
//! one current certificate of each kind: any other has ended, whether the log names it or not. That
//! takes about 100 bytes a user; each letter and certificate ever made takes about 40 more, for
//! queries about how it ended. Roles are stored by holder.

mod entry;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::entry::Entry;
pub(super) use self::entry::MalformedLogEntry;
use crate::store::{AuditRow, CertificateKind, CertificateState, Role, TemporaryKeyState};

/// The first half of a SHA-256 digest of a user id, a reference, a serial number or a
/// transactionID.
type Key = [u8; 16];

/// The state according to the audit log. It may be shared between threads.
#[derive(Debug, Default)]
pub(super) struct AuditState {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Digests of used statements. None is ever removed: a clock that runs ahead for a while would
    /// make a used statement new.
    statements: HashSet<[u8; 32]>,
    users: HashMap<Key, UserState>,
    /// The transaction that has claimed a letter, by the letter's reference.
    claims: HashMap<Key, Key>,
    /// Certificates of unfinished enrollments, by serial number.
    intended: HashMap<Key, Intended>,
    /// The user and the serial numbers in the reply, by transaction.
    transactions: HashMap<Key, (Key, Vec<Key>)>,
    /// All certificates of users, by serial number.
    certificates: HashMap<Key, LoggedCertificate>,
    /// Used and voided letters. A claimed letter listed as void becomes void unless its transaction
    /// is confirmed.
    ended_letters: HashMap<Key, TemporaryKeyState>,
    /// The authority's own current certificates, by kind.
    own: HashMap<String, Key>,
    /// Pairs of role and user id.
    roles: BTreeSet<(String, String)>,
    /// The time of the newest entry.
    newest: Option<Timestamp>,
}

/// A user's valid records, and all encryption certificates that they ever confirmed, oldest first.
#[derive(Debug, Default)]
struct UserState {
    letter: Option<Key>,
    signing: Option<Key>,
    encryption: Option<Key>,
    history: Vec<Key>,
}

#[derive(Debug)]
struct LoggedCertificate {
    /// The number of the `certificate.intended` entry.
    intended_in: u64,
    state: CertificateState,
}

#[derive(Debug)]
struct Intended {
    is_signing: bool,
    /// The transaction; `None` in entries of older versions.
    transaction: Option<Key>,
}

impl AuditState {
    /// Whether a statement with this digest was accepted, and then executed or refused.
    pub(super) fn is_statement_used(&self, digest: &[u8; 32]) -> bool {
        self.state().statements.contains(digest)
    }

    /// The state of this user's letter; `None` if the user never had a letter with this reference.
    pub(super) fn letter_state(&self, reference: &str, user_id: &str) -> Option<TemporaryKeyState> {
        let state = self.state();
        let reference = key(reference);
        if state.claims.contains_key(&reference) {
            return Some(TemporaryKeyState::Claimed);
        }
        let newest = state.users.get(&key(user_id)).and_then(|person| person.letter);
        if newest == Some(reference) {
            return Some(TemporaryKeyState::Unused);
        }
        state.ended_letters.get(&reference).copied()
    }

    /// The state of this user's certificate; `None` if the log does not know it.
    ///
    /// `row` is the state in its row: in older versions, the log entry of a discarded enrollment
    /// does not name the certificates.
    pub(super) fn certificate_state(
        &self,
        user_id: &str,
        kind: CertificateKind,
        serial: &str,
        row: CertificateState,
    ) -> Option<CertificateState> {
        use CertificateState::{Abandoned, Current, Intended, Issued, Revoked};

        let state = self.state();
        let serial = key(serial);
        let logged = state.certificates.get(&serial)?.state;
        match logged {
            Current => (state.current_of(key(user_id), kind) == Some(serial)).then_some(Current),
            Intended | Issued if matches!(row, Revoked | Abandoned) => {
                let is_named = state.intended.get(&serial).is_none_or(|intended| intended.transaction.is_some());
                Some(if is_named { logged } else { row })
            }
            _ => Some(logged),
        }
    }

    /// Whether this certificate was revoked, regardless of its user.
    pub(super) fn is_revoked(&self, serial: &str) -> bool {
        self.state().certificates.get(&key(serial)).is_some_and(|known| known.state == CertificateState::Revoked)
    }

    /// The number of the `certificate.intended` entry of this certificate.
    pub(super) fn intended_in(&self, serial: &str) -> Option<u64> {
        self.state().certificates.get(&key(serial)).map(|certificate| certificate.intended_in)
    }

    /// The number of encryption certificates that this user ever confirmed.
    pub(super) fn history_length(&self, user_id: &str) -> usize {
        self.state().users.get(&key(user_id)).map_or(0, |person| person.history.len())
    }

    /// The index of this certificate in the user's history, from 0, oldest first.
    pub(super) fn place_in_history(&self, user_id: &str, serial: &str) -> Option<usize> {
        let serial = key(serial);
        self.state().users.get(&key(user_id))?.history.iter().position(|confirmed| *confirmed == serial)
    }

    /// Whether this transaction has claimed this letter and has not ended.
    pub(super) fn is_claimed_by(&self, reference: &str, transaction_id: &[u8]) -> bool {
        self.state().claims.get(&key(reference)) == Some(&key(&hex::encode(transaction_id)))
    }

    /// Whether this user has a current certificate of this kind. It may have expired.
    pub(super) fn has_current(&self, user_id: &str, kind: CertificateKind) -> bool {
        self.state().current_of(key(user_id), kind).is_some()
    }

    /// Whether this is the authority's own current certificate of its kind.
    pub(super) fn is_authority_current(&self, kind: CertificateKind, serial: &str) -> bool {
        self.state().own.get(kind.as_str()) == Some(&key(serial))
    }

    /// Whether this certificate belongs to an enrollment that has not ended.
    pub(super) fn is_being_made(&self, serial: &str) -> bool {
        self.state().intended.contains_key(&key(serial))
    }

    /// Whether this user has this role.
    pub(super) fn has_role(&self, user_id: &str, role: Role) -> bool {
        self.state().roles.contains(&(role.as_str().to_owned(), user_id.to_owned()))
    }

    /// The ids of the users with this role and a current signing certificate, which may have
    /// expired.
    pub(super) fn enrolled_holders(&self, role: Role) -> Vec<String> {
        let state = self.state();
        let is_enrolled = |user: &str| state.users.get(&key(user)).is_some_and(|person| person.signing.is_some());
        let holders = state.roles.iter().filter(|(held, user)| held == role.as_str() && is_enrolled(user));
        holders.map(|(_, user)| user.clone()).collect()
    }

    /// Whether the log names this user.
    pub(super) fn knows_user(&self, user_id: &str) -> bool {
        self.state().users.contains_key(&key(user_id))
    }

    /// The ids of all users with this role.
    pub(super) fn holders(&self, role: Role) -> Vec<String> {
        let state = self.state();
        state.roles.iter().filter(|(held, _)| held == role.as_str()).map(|(_, user)| user.clone()).collect()
    }

    /// The time of the newest entry, by the clock when it was written.
    pub(super) fn newest_entry(&self) -> Option<Timestamp> {
        self.state().newest
    }

    /// Applies one entry of the audit log. Call it for every entry, in order.
    ///
    /// # Errors
    /// [`MalformedLogEntry`] if the entry lacks a required member. No entry that the authority
    /// wrote is like that.
    pub(super) fn apply(&self, row: &AuditRow) -> Result<(), MalformedLogEntry> {
        let mut state = self.state();
        state.newest = state.newest.max(Some(row.at));
        let Some(change) = change(&row.event) else { return Ok(()) };
        change(&mut state, &Entry::of(row))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Change = fn(&mut State, &Entry<'_>) -> Result<(), MalformedLogEntry>;

/// Returns the state change of an event; `None` for events that change no state.
fn change(event: &str) -> Option<Change> {
    Some(match event {
        "statement.taken" => State::statement_taken,
        "authority.initialized" => State::initialized,
        "letter.issued" => State::letter_issued,
        "administrator.added" => State::administrator_added,
        "letter.claimed" => State::letter_claimed,
        "certificate.intended" => State::certificate_intended,
        "certificate.issued" => State::certificate_issued,
        "certificate.abandoned" => State::certificate_abandoned,
        "certificate.replaced" => State::own_replaced,
        "certificates.revoked" => State::certificates_revoked,
        "enrollment.answered" => State::enrollment_answered,
        "enrollment.confirmed" => State::enrollment_confirmed,
        "enrollment.rejected" | "enrollment.unconfirmed" => State::enrollment_given_up,
        "role.removed" => State::role_removed,
        "role.granted" => State::role_granted,
        _ => return None,
    })
}

impl State {
    fn statement_taken(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        let digest = hex::decode(entry.text("statement")?).ok().and_then(|digest| digest.try_into().ok());
        self.statements.insert(digest.ok_or_else(|| entry.lacks("statement"))?);
        Ok(())
    }

    /// Adds the first administrator: a letter and the role.
    fn initialized(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.give_role(Role::Administrator.as_str(), entry.text("administrator")?);
        self.new_letter(entry.key("administrator")?, entry.key("reference")?);
        Ok(())
    }

    /// A new letter replaces the user's open one.
    fn letter_issued(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.new_letter(entry.key("user")?, entry.key("reference")?);
        Ok(())
    }

    fn new_letter(&mut self, user: Key, reference: Key) {
        if let Some(earlier) = self.person(user).letter.replace(reference) {
            self.ended_letters.insert(earlier, TemporaryKeyState::Voided);
        }
    }

    /// Adds an administrator: a letter and the role.
    fn administrator_added(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.give_role(Role::Administrator.as_str(), entry.text("user")?);
        self.letter_issued(entry)
    }

    fn letter_claimed(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.claims.insert(entry.key("reference")?, entry.key("transaction")?);
        Ok(())
    }

    fn certificate_intended(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        // The authority's own certificates have no user; `certificate.replaced` ends them.
        if entry.detail.get("user").is_some_and(Value::is_string) {
            let intended = Intended {
                is_signing: entry.text("kind")? == CertificateKind::Signing.as_str(),
                transaction: entry.key("transaction").ok(),
            };
            let serial = entry.key("serial")?;
            self.intended.insert(serial, intended);
            let logged = LoggedCertificate { intended_in: entry.row.number, state: CertificateState::Intended };
            self.certificates.insert(serial, logged);
        }
        Ok(())
    }

    fn certificate_issued(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        let serial = entry.key("serial")?;
        if self.intended.contains_key(&serial) {
            self.now_is(serial, CertificateState::Issued);
        }
        Ok(())
    }

    fn certificate_abandoned(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        let serial = entry.key("serial")?;
        self.intended.remove(&serial);
        self.now_is(serial, CertificateState::Abandoned);
        Ok(())
    }

    fn now_is(&mut self, serial: Key, state: CertificateState) {
        if let Some(certificate) = self.certificates.get_mut(&serial) {
            certificate.state = state;
        }
    }

    fn current_of(&self, user: Key, kind: CertificateKind) -> Option<Key> {
        let person = self.users.get(&user)?;
        match kind {
            CertificateKind::Signing => person.signing,
            CertificateKind::Encryption => person.encryption,
            CertificateKind::Ca | CertificateKind::Response | CertificateKind::Tls => None,
        }
    }

    fn own_replaced(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.own.insert(entry.text("kind")?.to_owned(), entry.key("serial")?);
        Ok(())
    }

    fn certificates_revoked(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        let person = self.person(entry.key("user")?);
        for serial in [person.signing.take(), person.encryption.take()].into_iter().flatten() {
            self.now_is(serial, CertificateState::Revoked);
        }
        Ok(())
    }

    fn enrollment_answered(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        if !entry.detail.get("delivered").is_some_and(Value::is_array) {
            return Err(entry.lacks("delivered"));
        }
        let mut serials = vec![entry.key("signing")?];
        serials.extend(entry.keys("delivered"));
        self.transactions.insert(entry.key("transaction")?, (entry.key("user")?, serials));
        Ok(())
    }

    /// The certificates of this enrollment become current, and the previous ones end. The history
    /// keys in a recovery belong to earlier enrollments, and keep their state.
    fn enrollment_confirmed(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        let transaction = entry.key("transaction")?;
        // Older versions did not record the letter of an implicit confirmation.
        let letter = entry.key("reference").ok().or_else(|| self.letter_of(transaction));
        let Some((user, serials)) = self.transactions.remove(&transaction) else { return Ok(()) };
        for serial in serials {
            let Some(intended) = self.intended.remove(&serial) else { continue };
            let person = self.person(user);
            let current = if intended.is_signing {
                &mut person.signing
            } else {
                person.history.push(serial);
                &mut person.encryption
            };
            if let Some(earlier) = current.replace(serial) {
                self.now_is(earlier, CertificateState::Superseded);
            }
            self.now_is(serial, CertificateState::Current);
        }
        let person = self.person(user);
        if person.letter == letter {
            person.letter = None;
        }
        if let Some(letter) = letter {
            self.claims.remove(&letter);
            self.ended_letters.insert(letter, TemporaryKeyState::Used);
        }
        Ok(())
    }

    /// The letter is valid again, unless a newer one was issued meanwhile; the certificates of the
    /// enrollment end.
    fn enrollment_given_up(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        let transaction = entry.key("transaction")?;
        self.claims.remove(&entry.key("reference")?);
        let (_, serials) = self.transactions.remove(&transaction).unwrap_or_default();
        let mut given_up: Vec<Key> = entry.keys("given_up").collect();
        given_up.extend(serials);
        given_up.extend(
            self.intended.iter().filter(|(_, made)| made.transaction == Some(transaction)).map(|(serial, _)| *serial),
        );
        for serial in given_up {
            if self.intended.remove(&serial).is_none() {
                continue;
            }
            // A signed certificate may have left the authority, so it is revoked.
            let is_issued = self.certificates.get(&serial).is_some_and(|made| made.state == CertificateState::Issued);
            let end = if is_issued { CertificateState::Revoked } else { CertificateState::Abandoned };
            self.now_is(serial, end);
        }
        Ok(())
    }

    fn role_removed(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.roles.remove(&(entry.text("role")?.to_owned(), entry.text("user")?.to_owned()));
        Ok(())
    }

    fn role_granted(&mut self, entry: &Entry<'_>) -> Result<(), MalformedLogEntry> {
        self.give_role(entry.text("role")?, entry.text("user")?);
        Ok(())
    }

    fn give_role(&mut self, role: &str, user: &str) {
        self.roles.insert((role.to_owned(), user.to_owned()));
    }

    fn person(&mut self, user: Key) -> &mut UserState {
        self.users.entry(user).or_default()
    }

    fn letter_of(&self, transaction: Key) -> Option<Key> {
        self.claims.iter().find(|(_, claimed_by)| **claimed_by == transaction).map(|(letter, _)| *letter)
    }
}

fn key(name: &str) -> Key {
    let digest: [u8; 32] = Sha256::digest(name).into();
    std::array::from_fn(|at| digest.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests;
