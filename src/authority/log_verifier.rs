//! Verifies the audit log: its chain, its seals, and the evidence that its entries name.
//!
//! Each entry's hash covers the previous entry, and its MAC covers its hash. So the MAC of the
//! newest entry authenticates all of them; the other MACs matter if the log is truncated and an
//! older entry becomes the newest. Before the first request is answered, the whole chain is walked,
//! which costs only SHA-256, and MACs and evidence of the newest entries are checked, each with a
//! call to the token or a signature verification. Those of older entries are checked while the
//! authority serves.

use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::addition_notices::AdditionNotices;
use super::records::VerifiedRecords;
use super::token_keys::TokenKeys;
use super::{AuthorityError, audit};
use crate::pki::{Certificate, CertificatePurpose};
use crate::statement::SignedStatement;
use crate::store::{AuditHead, AuditRow, LogPage, StoreError};

/// The number of newest entries whose MACs and evidence are checked before the first request is
/// answered.
pub(super) const ENTRIES_CHECKED_AT_START: u64 = 10_000;
/// Entries per database query: others can use the database between two pages.
const ROWS_PER_PAGE: u32 = 1_000;

const MISSING: &str = "is missing, or does not follow the previous entry";

/// `CKA_APPLICATION` of the private data object that marks on the token that all entries of this
/// log are sealed. Without it, a database with all MACs removed would look like one of an older
/// version.
const SEALED_LOG_MARK: &str = "tokenkeep-authority-log";

/// The event after which every entry has a MAC.
const SEALED: &str = "log.sealed";
const UNSEALED: &str = "has no MAC, although this log was sealed";

/// The audit log, with the data to check its entries.
#[derive(Clone, Copy)]
pub(super) struct LogVerifier<'a> {
    pub(super) records: &'a VerifiedRecords,
    pub(super) keys: &'a TokenKeys,
}

/// The entries whose MACs and evidence were not checked at the start.
#[derive(Debug)]
pub(super) struct OlderEntries {
    /// The last of them.
    last: AuditHead,
    /// The last one that has been checked since. After a fault, the next call continues there.
    checked: Mutex<AuditHead>,
}

impl OlderEntries {
    pub(super) fn up_to(last: AuditHead) -> Self {
        Self { last, checked: Mutex::new(AuditHead::EMPTY) }
    }
}

impl LogVerifier<'_> {
    /// Runs before the first request is answered: walks the chain, rebuilds the state and the
    /// notices about added administrators, checks the newest entries, and seals the log of an older
    /// version. From then on an entry without a MAC has been altered.
    ///
    /// Returns the entries whose MACs and evidence are still unchecked
    /// ([`LogVerifier::check_older`]).
    pub(super) fn at_start(&self, additions: &AdditionNotices, now: Timestamp) -> Result<OlderEntries, AuthorityError> {
        let is_marked = self.is_marked()?;
        let last_unchecked = self.records.store.log_end()?.head.number.saturating_sub(ENTRIES_CHECKED_AT_START);
        let mut unchecked = AuditHead::EMPTY;
        let (mut is_sealed, mut was_made_sealed, mut has_macs) = (false, false, false);
        let (mut first_unsealed, mut unsealed) = (0, 0_u64);
        let head = self.walk(|row| {
            let says_sealed = row.event == SEALED;
            if row.mac.is_none() {
                if is_marked || is_sealed || says_sealed {
                    return Err(fault(row.number, UNSEALED));
                }
                unsealed += 1;
                first_unsealed = if unsealed == 1 { row.number } else { first_unsealed };
            } else if says_sealed || row.number > last_unchecked {
                self.check_mac(row)?;
            }
            has_macs |= row.mac.is_some();
            was_made_sealed |= is_made_sealed(row);
            if row.number > last_unchecked {
                self.check_evidence(row)?;
            } else {
                unchecked = AuditHead { number: row.number, hash: row.hash };
            }
            is_sealed |= says_sealed;
            additions.apply(row).map_err(|error| fault(row.number, &format!("is unreadable: {error}")))?;
            self.records.audit_state.apply(row).map_err(|error| fault(row.number, &error.to_string()))
        })?;
        // The log of an older version has no seals, except after an interrupted sealing, which
        // starts with the `log.sealed` entry.
        if unsealed > 0 && (was_made_sealed || has_macs && !is_sealed) {
            return Err(fault(first_unsealed, UNSEALED));
        }
        if !is_sealed {
            self.record_sealing(head, now)?;
        }
        if unsealed > 0 {
            tracing::info!(entries = unsealed, "sealing the audit log that an older version wrote");
            let (mut sealed, mut next) =
                (AuditHead::EMPTY, self.records.store.seal_older_entries(AuditHead::EMPTY, ROWS_PER_PAGE)?);
            while next != sealed {
                sealed = next;
                next = self.records.store.seal_older_entries(sealed, ROWS_PER_PAGE)?;
            }
        }
        if !is_marked {
            self.keys.token.put_data(SEALED_LOG_MARK, "sealed log", head.number.to_string().as_bytes(), true)?;
        }
        Ok(OlderEntries::up_to(unchecked))
    }

    /// Whether the token has the mark that all entries of the log are sealed.
    pub(super) fn is_marked(&self) -> Result<bool, AuthorityError> {
        Ok(!self.keys.token.data_objects(SEALED_LOG_MARK, true)?.is_empty())
    }

    /// Checks chain, MACs and evidence of the entries that the start left unchecked.
    pub(super) fn check_older(&self, entries: &OlderEntries) -> Result<(), AuthorityError> {
        let last = entries.last;
        let mut checked = entries.checked.lock().unwrap_or_else(PoisonError::into_inner);
        while checked.number < last.number {
            let rows = self.records.store.log_entries_after(checked.number, ROWS_PER_PAGE)?.rows;
            let mut rows = rows.iter().take_while(|row| row.number <= last.number).peekable();
            if rows.peek().is_none() {
                return Err(fault(checked.number + 1, MISSING));
            }
            for row in rows {
                let next = row.follows(*checked).ok_or_else(|| fault(checked.number + 1, MISSING))?;
                self.check_mac(row)?;
                self.check_evidence(row)?;
                *checked = next;
            }
        }
        if *checked == last { Ok(()) } else { Err(fault(last.number, "differs from the entry read at the start")) }
    }

    /// Walks the chain from the first entry to the newest, and passes on each entry that follows
    /// the previous one. The newest entry of a running authority is the one it wrote, whatever the
    /// last row contains.
    pub(super) fn walk(
        &self,
        mut take: impl FnMut(&AuditRow) -> Result<(), AuthorityError>,
    ) -> Result<AuditHead, AuthorityError> {
        let mut head = AuditHead::EMPTY;
        loop {
            let LogPage { rows, newest } = self.records.store.log_entries_after(head.number, ROWS_PER_PAGE)?;
            if rows.is_empty() {
                return match head.number.cmp(&newest.number) {
                    Ordering::Less => Err(fault(head.number + 1, MISSING)),
                    Ordering::Equal if head == newest => Ok(head),
                    Ordering::Equal => {
                        Err(fault(head.number, "differs from the entry that the running authority wrote"))
                    }
                    Ordering::Greater => Err(fault(newest.number + 1, "was not written by the running authority")),
                };
            }
            for row in &rows {
                head = row.follows(head).ok_or_else(|| fault(head.number + 1, MISSING))?;
                take(row)?;
            }
        }
    }

    /// Checks the entry's MAC.
    pub(super) fn check_mac(&self, row: &AuditRow) -> Result<(), AuthorityError> {
        if self.records.sealer.is_log_entry_sealed(row)? {
            return Ok(());
        }
        Err(fault(row.number, if row.mac.is_none() { "has no MAC" } else { "has an invalid MAC" }))
    }

    /// Checks the stored evidence that the entry names: the signed statement, or the certificate.
    pub(super) fn check_evidence(&self, row: &AuditRow) -> Result<(), AuthorityError> {
        let check = match row.event.as_str() {
            "statement.taken" => Self::check_statement,
            "certificate.issued" => Self::check_certificate,
            _ => return Ok(()),
        };
        let detail: Value = serde_json::from_str(&row.detail).unwrap_or(Value::Null);
        match check(self, row, &detail)? {
            Ok(()) => Ok(()),
            Err(reason) => Err(fault(row.number, &reason)),
        }
    }

    /// Checks an accepted statement: it must be the one that the entry names, signed under a
    /// certificate of this CA. The signer's role was checked when the statement was accepted.
    fn check_statement(&self, row: &AuditRow, detail: &Value) -> Result<Result<(), String>, AuthorityError> {
        let digest = detail.get("statement").and_then(Value::as_str).unwrap_or_default();
        let Some(digest) = hex::decode(digest).ok().and_then(|digest| <[u8; 32]>::try_from(digest).ok()) else {
            return Ok(Err("names no statement".into()));
        };
        let record = match self.records.store.statement(&digest) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Err("names a statement that is no longer in the database".into())),
            Err(error @ StoreError::UnreadableRow { .. }) => {
                return Ok(Err(format!("names an unreadable statement: {error}")));
            }
            Err(error) => return Err(error.into()),
        };
        let signed = match SignedStatement::parse(&record.message) {
            Ok(signed) => signed,
            Err(error) => return Ok(Err(format!("names an unreadable statement: {error}"))),
        };
        // Older versions recorded the digest of the whole message.
        if signed.digest() != digest && <[u8; 32]>::from(Sha256::digest(&record.message)) != digest {
            return Ok(Err("names a different statement than the stored one".into()));
        }
        let certificate = signed.claimed_certificate().clone();
        if let Err(problem) = self.records.verify_path(&certificate, CertificatePurpose::Signing, row.at) {
            return Ok(Err(format!("names a statement that was not signed under this authority: {problem}")));
        }
        Ok(match signed.verify_recorded(&certificate, self.records.authority(), row.at) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("names a statement that does not verify: {error}")),
        })
    }

    /// Checks an issued certificate: it must be the one that the entry names, signed by the CA.
    fn check_certificate(&self, _: &AuditRow, detail: &Value) -> Result<Result<(), String>, AuthorityError> {
        let member = |name: &str| detail.get(name).and_then(Value::as_str).unwrap_or_default();
        let record = match self.records.store.certificate(member("serial")) {
            Err(error @ StoreError::UnreadableRow { .. }) => {
                return Ok(Err(format!("names an unreadable certificate: {error}")));
            }
            found => found?,
        };
        let Some(der) = record.and_then(|record| record.certificate) else {
            return Ok(Err("names a certificate that is no longer in the database".into()));
        };
        let is_the_one = Certificate::from_der(&der).is_ok_and(|certificate| {
            certificate.fingerprint().to_hex() == member("sha256")
                && certificate.verify_signature(&self.records.ca).is_ok()
        });
        Ok(if is_the_one { Ok(()) } else { Err("names a different certificate than the stored one".into()) })
    }

    /// Records that every entry after this one has a MAC.
    fn record_sealing(&self, head: AuditHead, now: Timestamp) -> Result<(), AuthorityError> {
        Ok(self.records.store.record(audit::entry(now, SEALED, &json!({ "through": head.number })))?)
    }
}

/// Whether the entry states that this log was sealed from its first entry, as `init` writes it.
fn is_made_sealed(row: &AuditRow) -> bool {
    row.event == "authority.initialized"
        && serde_json::from_str::<Value>(&row.detail)
            .is_ok_and(|detail| detail.get("sealed").and_then(Value::as_bool) == Some(true))
}

fn fault(number: u64, reason: &str) -> AuthorityError {
    AuthorityError::Log { number, reason: reason.to_owned() }
}
