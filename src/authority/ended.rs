//! Where everything stands by the log: statements that were taken, letters, certificates, roles, and whose encryption
//! certificates make up their history.
//!
//! The log is the only record of that which whoever writes to the database cannot change: its entries are chained and
//! sealed. So this is rebuilt from the log at the start ([`Ended::apply`], entry by entry), follows each entry that is
//! written, and is asked at each use. Where a row of the database says anything else, the log is right: no row revives what
//! has ended, and none hides what is good. Nothing in here is read from a row.
//!
//! What is *good* is kept by its user, who has at most one open letter (a newer one voids it) and one current certificate
//! of each kind: whatever is not that one has ended, named or not. That takes some 100 bytes a user; each letter and each
//! certificate there ever was takes some 40 more, for those who ask how it ended. Roles are kept by who holds them.

mod entry;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::entry::Entry;
pub(super) use self::entry::UnreadableEntry;
use crate::store::{AuditRow, CertificateKind, CertificateState, Role, TemporaryKeyState};

/// The first half of a SHA-256 digest of a user id, a reference, a serial number or a transactionID.
type Key = [u8; 16];

/// What has ended. May be shared between threads.
#[derive(Debug, Default)]
pub(super) struct Ended {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Digests. None is ever forgotten: a clock that ran ahead for a while would make a used statement new.
    statements: HashSet<[u8; 32]>,
    people: HashMap<Key, Person>,
    /// The transaction that has a letter, by the letter's reference.
    claims: HashMap<Key, Key>,
    /// Certificates that are being made, by serial number.
    intended: HashMap<Key, Intended>,
    /// By transaction: whose it is, and the serial numbers in its reply.
    answered: HashMap<Key, (Key, Vec<Key>)>,
    /// All certificates of users, by serial number.
    certificates: HashMap<Key, LoggedCertificate>,
    /// Letters that were used, and those that will be void unless the transaction that has them is confirmed.
    ended_letters: HashMap<Key, TemporaryKeyState>,
    /// The authority's own current certificates, by their kind.
    own: HashMap<String, Key>,
    /// Roles and the ids of their holders.
    roles: BTreeSet<(String, String)>,
    /// When the newest entry was written.
    newest: Option<Timestamp>,
}

/// What one user has that is good, and the encryption certificates that they ever confirmed, the oldest first.
#[derive(Debug, Default)]
struct Person {
    letter: Option<Key>,
    signing: Option<Key>,
    encryption: Option<Key>,
    history: Vec<Key>,
}

#[derive(Debug)]
struct LoggedCertificate {
    /// The number of the entry that says what it was going to be.
    intended_in: u64,
    state: CertificateState,
}

#[derive(Debug)]
struct Intended {
    is_signing: bool,
    /// `None` in entries of older versions.
    transaction: Option<Key>,
}

impl Ended {
    /// Whether a statement of this digest was carried out, or refused after it had been taken.
    pub(super) fn is_statement_taken(&self, digest: &[u8; 32]) -> bool {
        self.state().statements.contains(digest)
    }

    /// Where this letter of this user stands; `None` if they were never given one of this reference.
    pub(super) fn letter_state(&self, reference: &str, user_id: &str) -> Option<TemporaryKeyState> {
        let state = self.state();
        let reference = key(reference);
        if state.claims.contains_key(&reference) {
            return Some(TemporaryKeyState::Claimed);
        }
        let newest = state.people.get(&key(user_id)).and_then(|person| person.letter);
        if newest == Some(reference) {
            return Some(TemporaryKeyState::Unused);
        }
        state.ended_letters.get(&reference).copied()
    }

    /// Where this certificate of this user stands; `None` if the log knows none like it.
    ///
    /// `row` is what its row says: where older versions gave up an enrollment, their log does not say of which certificates.
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

    /// Whether this certificate was revoked, whosever it is.
    pub(super) fn is_revoked(&self, serial: &str) -> bool {
        self.state().certificates.get(&key(serial)).is_some_and(|known| known.state == CertificateState::Revoked)
    }

    /// The number of the entry that says what this certificate was going to be.
    pub(super) fn intended_in(&self, serial: &str) -> Option<u64> {
        self.state().certificates.get(&key(serial)).map(|certificate| certificate.intended_in)
    }

    /// How many encryption certificates this user has ever confirmed.
    pub(super) fn history_length(&self, user_id: &str) -> usize {
        self.state().people.get(&key(user_id)).map_or(0, |person| person.history.len())
    }

    /// Which of them this certificate is, counted from 0, the oldest first.
    pub(super) fn place_in_history(&self, user_id: &str, serial: &str) -> Option<usize> {
        let serial = key(serial);
        self.state().people.get(&key(user_id))?.history.iter().position(|confirmed| *confirmed == serial)
    }

    /// Whether this transaction has this letter, and has not come to its end.
    pub(super) fn is_claimed_by(&self, reference: &str, transaction_id: &[u8]) -> bool {
        self.state().claims.get(&key(reference)) == Some(&key(&hex::encode(transaction_id)))
    }

    /// Whether this user has a current certificate of this kind, which may have expired.
    pub(super) fn has_current(&self, user_id: &str, kind: CertificateKind) -> bool {
        self.state().current_of(key(user_id), kind).is_some()
    }

    /// Whether this is the authority's own current certificate of its kind.
    pub(super) fn is_own_current(&self, kind: CertificateKind, serial: &str) -> bool {
        self.state().own.get(kind.as_str()) == Some(&key(serial))
    }

    /// Whether this certificate is being made in an enrollment that has not come to its end.
    pub(super) fn is_being_made(&self, serial: &str) -> bool {
        self.state().intended.contains_key(&key(serial))
    }

    /// Whether this user was given this role, and it was not taken away.
    pub(super) fn has_role(&self, user_id: &str, role: Role) -> bool {
        self.state().roles.contains(&(role.as_str().to_owned(), user_id.to_owned()))
    }

    /// The ids of the users who have this role and a current signing certificate, which may have expired.
    pub(super) fn enrolled_holders(&self, role: Role) -> Vec<String> {
        let state = self.state();
        let is_enrolled = |user: &str| state.people.get(&key(user)).is_some_and(|person| person.signing.is_some());
        let holders = state.roles.iter().filter(|(held, user)| held == role.as_str() && is_enrolled(user));
        holders.map(|(_, user)| user.clone()).collect()
    }

    /// Whether the log knows this user.
    pub(super) fn knows_user(&self, user_id: &str) -> bool {
        self.state().people.contains_key(&key(user_id))
    }

    /// The ids of all who have this role.
    pub(super) fn holders(&self, role: Role) -> Vec<String> {
        let state = self.state();
        state.roles.iter().filter(|(held, _)| held == role.as_str()).map(|(_, user)| user.clone()).collect()
    }

    /// When the newest entry was written, by the clock of that moment.
    pub(super) fn newest_entry(&self) -> Option<Timestamp> {
        self.state().newest
    }

    /// Takes in an entry of the log: each of them, in their order.
    ///
    /// # Errors
    /// [`UnreadableEntry`]: it does not say what was ended. No entry that the authority has written is like that.
    pub(super) fn apply(&self, row: &AuditRow) -> Result<(), UnreadableEntry> {
        let mut state = self.state();
        state.newest = state.newest.max(Some(row.at));
        let Some(change) = change(&row.event) else { return Ok(()) };
        change(&mut state, &Entry::of(row))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Change = fn(&mut State, &Entry<'_>) -> Result<(), UnreadableEntry>;

/// What an event changes. Events that begin and end nothing are not read.
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
    fn statement_taken(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        let digest = hex::decode(entry.text("statement")?).ok().and_then(|digest| digest.try_into().ok());
        self.statements.insert(digest.ok_or_else(|| entry.lacks("statement"))?);
        Ok(())
    }

    /// The first administrator: a letter, and the role.
    fn initialized(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.give_role(Role::Administrator.as_str(), entry.text("administrator")?);
        self.new_letter(entry.key("administrator")?, entry.key("reference")?);
        Ok(())
    }

    /// A new letter takes the place of the user's open one.
    fn letter_issued(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.new_letter(entry.key("user")?, entry.key("reference")?);
        Ok(())
    }

    fn new_letter(&mut self, user: Key, reference: Key) {
        if let Some(earlier) = self.person(user).letter.replace(reference) {
            self.ended_letters.insert(earlier, TemporaryKeyState::Voided);
        }
    }

    /// A letter, and the role with it.
    fn administrator_added(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.give_role(Role::Administrator.as_str(), entry.text("user")?);
        self.letter_issued(entry)
    }

    fn letter_claimed(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.claims.insert(entry.key("reference")?, entry.key("transaction")?);
        Ok(())
    }

    fn certificate_intended(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        // The authority's own have no user: they end by `certificate.replaced`.
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

    fn certificate_issued(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        let serial = entry.key("serial")?;
        if self.intended.contains_key(&serial) {
            self.now_is(serial, CertificateState::Issued);
        }
        Ok(())
    }

    fn certificate_abandoned(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
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
        let person = self.people.get(&user)?;
        match kind {
            CertificateKind::Signing => person.signing,
            CertificateKind::Encryption => person.encryption,
            CertificateKind::Ca | CertificateKind::Response | CertificateKind::Tls => None,
        }
    }

    fn own_replaced(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.own.insert(entry.text("kind")?.to_owned(), entry.key("serial")?);
        Ok(())
    }

    fn certificates_revoked(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        let person = self.person(entry.key("user")?);
        for serial in [person.signing.take(), person.encryption.take()].into_iter().flatten() {
            self.now_is(serial, CertificateState::Revoked);
        }
        Ok(())
    }

    fn enrollment_answered(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        if !entry.detail.get("delivered").is_some_and(Value::is_array) {
            return Err(entry.lacks("delivered"));
        }
        let mut serials = vec![entry.key("signing")?];
        serials.extend(entry.keys("delivered"));
        self.answered.insert(entry.key("transaction")?, (entry.key("user")?, serials));
        Ok(())
    }

    /// What was made in this enrollment becomes current, and what was current has ended. The keys of a recovery's history
    /// were made in others, and stay what they are.
    fn enrollment_confirmed(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        let transaction = entry.key("transaction")?;
        // Older versions did not name the letter where the client wanted no confirmation.
        let letter = entry.key("reference").ok().or_else(|| self.letter_of(transaction));
        let Some((user, serials)) = self.answered.remove(&transaction) else { return Ok(()) };
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

    /// The letter is good again, unless a newer one was issued meanwhile; what was made has ended.
    fn enrollment_given_up(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        let transaction = entry.key("transaction")?;
        self.claims.remove(&entry.key("reference")?);
        let (_, serials) = self.answered.remove(&transaction).unwrap_or_default();
        let mut given_up: Vec<Key> = entry.keys("given_up").collect();
        given_up.extend(serials);
        given_up.extend(
            self.intended.iter().filter(|(_, made)| made.transaction == Some(transaction)).map(|(serial, _)| *serial),
        );
        for serial in given_up {
            if self.intended.remove(&serial).is_none() {
                continue;
            }
            // What was signed may have left the authority.
            let is_issued = self.certificates.get(&serial).is_some_and(|made| made.state == CertificateState::Issued);
            let end = if is_issued { CertificateState::Revoked } else { CertificateState::Abandoned };
            self.now_is(serial, end);
        }
        Ok(())
    }

    fn role_removed(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.roles.remove(&(entry.text("role")?.to_owned(), entry.text("user")?.to_owned()));
        Ok(())
    }

    fn role_granted(&mut self, entry: &Entry<'_>) -> Result<(), UnreadableEntry> {
        self.give_role(entry.text("role")?, entry.text("user")?);
        Ok(())
    }

    fn give_role(&mut self, role: &str, user: &str) {
        self.roles.insert((role.to_owned(), user.to_owned()));
    }

    fn person(&mut self, user: Key) -> &mut Person {
        self.people.entry(user).or_default()
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
