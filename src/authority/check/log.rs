//! The log: walked whole, and each row that its entries tell of looked for.

use super::{Check, LISTED};
use crate::authority::AuthorityError;
use crate::authority::ended::Ended;
use crate::store::Store;

impl Check<'_> {
    /// The chain, every MAC, all evidence. Behind a gap in the chain nothing can be said: the walk ends there.
    /// Whether there is none.
    pub(super) fn walk_log(&mut self, walked: &Ended) -> Result<bool, AuthorityError> {
        let is_marked = self.log.is_marked()?;
        self.report.note = self.note(is_marked);
        let (mut findings, mut more, mut entries, mut unread) = (Vec::new(), 0, 0, None);
        let mut found = |what| if findings.len() < LISTED { findings.push(what) } else { more += 1 };
        let result = self.log.walk(|row| {
            // An older version's entries have none, until the token says that all have one.
            let mac = if row.mac.is_none() && !is_marked { Ok(()) } else { self.log.check_mac(row) };
            for checked in [mac, self.log.check_evidence(row)] {
                match checked {
                    Err(AuthorityError::Log { number, reason }) => found(format!("entry {number} {reason}")),
                    Err(error) if self.was_listed(&error) => unread = Some(error),
                    other => other?,
                }
            }
            if let Err(error) = walked.apply(row) {
                found(format!("entry {} cannot be read: {error}", row.number));
            }
            match self.missing_rows(row) {
                Err(error) if self.was_listed(&error) => unread = Some(error),
                missing => missing?.into_iter().for_each(|what| found(format!("entry {} tells of {what}", row.number))),
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
                found(format!("not all of it could be checked: {error}"));
                false
            }
            Err(error) => return Err(error),
        };
        if let Some(error) = unread {
            found(format!("not all that it tells of could be looked for: {error}"));
        }
        self.report.log_entries = entries;
        for what in findings {
            self.found("log", what);
        }
        *self.seen.entry("log".to_owned()).or_default() += more;
        Ok(is_whole)
    }

    /// Of a database that an older version wrote: the one line that says so.
    fn note(&self, is_marked: bool) -> Option<String> {
        let (found, newest) = (self.report.schema, Store::newest_schema());
        if found < newest {
            return Some(format!(
                "the database is an older version's (schema {found}; this one's is {newest}): \
                 `tokenkeep authority serve` upgrades it, and seals its log, when it starts"
            ));
        }
        let unsealed =
            "the log is an older version's and not sealed yet: `tokenkeep authority serve` seals it when it starts";
        (!is_marked).then(|| unsealed.to_owned())
    }
}
