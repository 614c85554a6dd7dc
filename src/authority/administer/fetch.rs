//! The `letter` command: returns the letter of an earlier statement again, to the administrator who
//! ordered it.
//!
//! A letter whose response was lost stays valid until it is used, so the administrator must be able
//! to fetch it without making another one. Only the administrator who ordered it gets it, whatever
//! database rows say: the letter's sealed record names the statement, and the statement proves its
//! signer.

use jiff::Timestamp;
use serde_json::json;

use super::{AcceptedStatement, refuse};
use crate::authority::rejection::RequestError;
use crate::authority::{Authority, audit};
use crate::statement::StatementAnswer;
use crate::store::{TemporaryKeyRecord, TemporaryKeyState};

impl Authority {
    pub(super) fn fetch_letter(
        &self,
        which: &str,
        accepted: &AcceptedStatement,
        now: Timestamp,
    ) -> Result<StatementAnswer, RequestError> {
        let record = self.sealer.check_temporary_key(self.unused_letter(which, now)?)?;
        if record.statement.is_none() {
            return Err(refuse(format!("no administrator ordered the letter {}", record.reference)));
        }
        let (_, administrator) = self.order_of(&record)?;
        if administrator.id != accepted.administrator.id {
            return Err(refuse(format!("another administrator ordered the letter {}", record.reference)));
        }
        let user = self.user_of(&record.user_id)?;
        let detail = json!({
            "reference": record.reference, "user": user.id, "by": administrator.id,
            "statement": hex::encode(accepted.statement.digest()),
        });
        let answer = accepted.encrypted(&self.letter(&record, &user)?)?;
        self.store.record(audit::entry(now, "letter.fetched", &detail))?;
        tracing::info!(reference = %record.reference, email = %user.email, "letter fetched again");
        Ok(answer)
    }

    /// Returns the unused letter with this reference, or of the user with this address (at most
    /// one).
    fn unused_letter(&self, which: &str, now: Timestamp) -> Result<TemporaryKeyRecord, RequestError> {
        let is_good =
            |record: &TemporaryKeyRecord| record.state == TemporaryKeyState::Unused && now < record.expires_at;
        if which.contains('@') {
            let user = self.known_user(which)?;
            let letters = self.store.temporary_keys_of(&user.id)?.into_iter().rev();
            let unused = letters.filter_map(|record| self.letter_as_logged(record).ok()).find(is_good);
            return unused.ok_or_else(|| {
                refuse(format!("{} has no unused letter; `admin issue` or `admin recover` makes one", user.email))
            });
        }
        let record = self.store.temporary_key(which)?;
        let record =
            record.ok_or_else(|| refuse(format!("letter {which} not found; `admin show` lists all letters")))?;
        let record = self.letter_as_logged(record)?;
        if is_good(&record) {
            return Ok(record);
        }
        let state = if record.state == TemporaryKeyState::Unused { "expired" } else { record.state.as_str() };
        Err(refuse(format!("the letter {which} is {state}; `admin issue` or `admin recover` makes a new one")))
    }
}
