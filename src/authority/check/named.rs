//! Checks that the rows that each entry of the log names exist: user, letter, transaction,
//! certificate and key.

use serde_json::Value;

use super::DatabaseCheck;
use crate::authority::AuthorityError;
use crate::pki::Certificate;
use crate::store::{AuditRow, StoreError};

impl DatabaseCheck<'_> {
    /// Lists the rows that this entry names and that are missing from the database or differ there.
    pub(super) fn missing_rows(&self, row: &AuditRow) -> Result<Vec<String>, AuthorityError> {
        let detail: Value = serde_json::from_str(&row.detail).unwrap_or(Value::Null);
        let member = |name: &str| detail.get(name).and_then(Value::as_str).unwrap_or_default();
        let checked = match row.event.as_str() {
            "authority.initialized" => {
                self.letter_and_user(member("reference"), member("administrator"), member("email"))
            }
            "letter.issued" | "administrator.added" => {
                self.letter_and_user(member("reference"), member("user"), member("email"))
            }
            "letter.claimed" => self.transaction(member("transaction"), member("reference")),
            "certificate.intended" => self.certificate(&detail),
            "key.archived" => self.archived_key(member("serial"), member("user")),
            _ => return Ok(Vec::new()),
        };
        match checked {
            // An unreadable row is listed when its table is read.
            Err(AuthorityError::Store(StoreError::UnreadableRow { reason, .. })) => {
                Ok(vec![format!("an unreadable row: {reason}")])
            }
            other => other,
        }
    }

    fn letter_and_user(&self, reference: &str, user: &str, email: &str) -> Result<Vec<String>, AuthorityError> {
        let mut missing = Vec::new();
        match self.store.temporary_key(reference)? {
            None => missing.push(format!("the letter {reference}, which is missing")),
            Some(letter) if letter.user_id != user => {
                missing.push(format!("the letter {reference}, which belongs to another user"));
            }
            Some(_) => {}
        }
        match self.store.user(user)? {
            None => missing.push(format!("the user {email}, who is missing")),
            Some(found) if !email.is_empty() && found.email != email => {
                missing.push(format!("the user {email}, recorded as {} in the database", found.email));
            }
            Some(_) => {}
        }
        Ok(missing)
    }

    fn transaction(&self, transaction: &str, reference: &str) -> Result<Vec<String>, AuthorityError> {
        let id = hex::decode(transaction).unwrap_or_default();
        Ok(match self.store.transaction(&id)? {
            None => vec![format!("the transaction {transaction}, which is missing")],
            Some(found) if found.reference != reference => {
                vec![format!(
                    "the transaction {transaction} with the letter {reference}, whose row names another letter"
                )]
            }
            Some(_) => Vec::new(),
        })
    }

    fn certificate(&self, detail: &Value) -> Result<Vec<String>, AuthorityError> {
        let member = |name: &str| detail.get(name).and_then(Value::as_str);
        let serial = member("serial").unwrap_or_default();
        let Some(record) = self.store.certificate(serial)? else {
            return Ok(vec![format!("the certificate {serial}, which is missing")]);
        };
        let intent = record.intent;
        let mut differs = intent.user_id.as_deref() != member("user") || Some(intent.kind.as_str()) != member("kind");
        // Older versions did not record these members.
        for (name, row) in [
            ("transaction", intent.transaction_id.as_ref().map(hex::encode)),
            ("keyset", intent.keyset_name),
            ("level", intent.level),
        ] {
            differs |= detail.get(name).is_some_and(|logged| logged.as_str() != row.as_deref());
        }
        Ok(if differs { vec![format!("the certificate {serial}, whose row differs")] } else { Vec::new() })
    }

    fn archived_key(&self, serial: &str, user: &str) -> Result<Vec<String>, AuthorityError> {
        let der = self.store.certificate(serial)?.and_then(|record| record.certificate);
        let certificate = der.and_then(|der| Certificate::from_der(&der).ok());
        let key = match &certificate {
            Some(certificate) => self.store.archived_key(certificate.fingerprint().as_bytes())?,
            None => None,
        };
        Ok(match key {
            None => vec![format!("the archived key of the certificate {serial}, which is missing")],
            Some(key) if key.user_id != user => {
                vec![format!("the archived key of the certificate {serial}, which belongs to another user")]
            }
            Some(_) => Vec::new(),
        })
    }
}
