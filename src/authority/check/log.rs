//! Walks the whole audit log, and looks for each row that its entries name.

use super::{DatabaseCheck, MAX_LISTED_FINDINGS};
use crate::authority::AuthorityError;
use crate::authority::audit_state::AuditState;
use crate::store::Store;

impl DatabaseCheck<'_> {
    /// Checks the chain, every MAC and all evidence. The walk ends at a gap in the chain, because
    /// the entries after it prove nothing. Returns whether the chain has no gap.
    pub(super) fn walk_log(&mut self, walked: &AuditState) -> Result<bool, AuthorityError> {
        let is_marked = self.log.is_marked()?;
        self.report.note = self.note(is_marked);
        let (mut findings, mut more, mut entries, mut unread) = (Vec::new(), 0, 0, None);
        let mut found = |what| if findings.len() < MAX_LISTED_FINDINGS { findings.push(what) } else { more += 1 };
        let result = self.log.walk(|row| {
            // Entries of older versions have no MAC, until the mark on the token says that all
            // entries have one.
            let mac = if row.mac.is_none() && !is_marked { Ok(()) } else { self.log.check_mac(row) };
            for checked in [mac, self.log.check_evidence(row)] {
                match checked {
                    Err(AuthorityError::Log { number, reason }) => found(format!("entry {number} {reason}")),
                    Err(error) if self.was_listed(&error) => unread = Some(error),
                    other => other?,
                }
            }
            if let Err(error) = walked.apply(row) {
                found(format!("entry {} is unreadable: {error}", row.number));
            }
            match self.missing_rows(row) {
                Err(error) if self.was_listed(&error) => unread = Some(error),
                missing => missing?.into_iter().for_each(|what| found(format!("entry {} names {what}", row.number))),
            }
            entries = row.number;
            Ok(())
        });
        let is_whole = match result {
            Ok(_) => true,
            Err(AuthorityError::Log { number, reason }) => {
                found(format!("entry {number} {reason}"));
                false
            }
            Err(error) if self.was_listed(&error) => {
                found(format!("check incomplete: {error}"));
                false
            }
            Err(error) => return Err(error),
        };
        if let Some(error) = unread {
            found(format!("check of the rows that it names incomplete: {error}"));
        }
        self.report.log_entries = entries;
        for what in findings {
            self.add_finding("log", what);
        }
        *self.occurrences.entry("log".to_owned()).or_default() += more;
        Ok(is_whole)
    }

    /// The note on a database that an older version wrote.
    fn note(&self, is_marked: bool) -> Option<String> {
        let (found, newest) = (self.report.schema, Store::newest_schema());
        if found < newest {
            return Some(format!(
                "the database was written by an older version (schema {found}; current is {newest}): \
                 `tokenkeep authority serve` upgrades it and seals its log at the next start"
            ));
        }
        let unsealed =
            "the log of an older version is not sealed yet: `tokenkeep authority serve` seals it at the next start";
        (!is_marked).then(|| unsealed.to_owned())
    }
}
