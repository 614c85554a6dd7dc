//! Sealed records: an HMAC by the token over all fields of a row, so that nobody with write access
//! to the database can forge a user, role, letter or archived key.

use der::asn1::{Int, OctetString};
use der::{Any, Encode};
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::AuthorityError;
use super::token_keys::TokenKeys;
use crate::prompter::showable;
use crate::store::{ArchiveRecord, AuditRow, GrantRecord, TemporaryKeyRecord, UserRecord};

/// Makes and verifies the seals of one authority.
#[derive(Debug, Clone)]
pub(super) struct Sealer {
    keys: TokenKeys,
    authority: [u8; 32],
}

/// The fields of a record, encoded unambiguously as a DER SEQUENCE.
struct Fields(Vec<Any>);

impl Sealer {
    pub(super) fn new(keys: &TokenKeys, authority: [u8; 32]) -> Self {
        Self { keys: keys.clone(), authority }
    }

    pub(super) fn seal_user(&self, user: &UserRecord) -> Result<[u8; 32], AuthorityError> {
        let fields = self.begin("user")?;
        self.mac(
            &fields
                .text(&user.id)?
                .text(&user.email)?
                .text(&user.email_key)?
                .text(&user.name)?
                .time(user.created_at)?,
        )
    }

    pub(super) fn seal_grant(&self, grant: &GrantRecord, user: &UserRecord) -> Result<[u8; 32], AuthorityError> {
        let fields = self.begin("grant")?;
        let fields =
            fields.text(&grant.user_id)?.text(&user.email_key)?.text(grant.role.as_str())?.time(grant.granted_at)?;
        // Roles with immediate effect have the same seal as in older versions.
        self.mac(&match grant.counts_from {
            Some(from) => fields.time(from)?,
            None => fields,
        })
    }

    pub(super) fn seal_temporary_key(&self, key: &TemporaryKeyRecord) -> Result<[u8; 32], AuthorityError> {
        let fields = self.begin("temporary key")?;
        self.mac(
            &fields
                .text(&key.reference)?
                .text(&key.user_id)?
                .text(key.purpose.as_str())?
                .bytes(&key.nonce)?
                .bytes(&key.key_id)?
                .number(key.epoch)?
                .text(&key.levels)?
                .number(u64::from(key.lost))?
                .bytes(key.statement.as_ref().map(<[u8; 32]>::as_slice).unwrap_or_default())?
                .time(key.issued_at)?
                .time(key.expires_at)?,
        )
    }

    pub(super) fn seal_archived_key(&self, record: &ArchiveRecord) -> Result<[u8; 32], AuthorityError> {
        let fields = self.begin("archived key")?;
        self.mac(
            &fields
                .text(&record.user_id)?
                .bytes(&record.certificate_sha256)?
                .text(&record.algorithm)?
                .text(&record.key_wrap)?
                .bytes(&record.wrapped)?
                .time(record.archived_at)?,
        )
    }

    /// The MAC of a log entry, over its whole row. It does not cover the authority's identity: the
    /// first entries are older than the CA certificate, and the record-MAC key belongs to one
    /// authority only.
    pub(super) fn seal_log_entry(keys: &TokenKeys, row: &AuditRow) -> Result<[u8; 32], AuthorityError> {
        let fields = Fields(Vec::new()).text("tokenkeep record 1")?.text("log entry")?;
        let fields = fields
            .number(row.number)?
            .time(row.at)?
            .text(&row.event)?
            .text(&row.detail)?
            .bytes(&row.previous_hash)?
            .bytes(&row.hash)?;
        mac(keys, &fields)
    }

    /// Whether the entry has a valid MAC.
    pub(super) fn is_log_entry_sealed(&self, row: &AuditRow) -> Result<bool, AuthorityError> {
        let Some(found) = row.mac else { return Ok(false) };
        Ok(Self::seal_log_entry(&self.keys, row)?.ct_eq(&found).into())
    }

    /// Returns the user's record if its seal is valid.
    pub(super) fn check_user(&self, user: UserRecord) -> Result<UserRecord, AuthorityError> {
        check(&self.seal_user(&user)?, &user.mac, || format!("the user {}", user.email))?;
        Ok(user)
    }

    /// Returns the grant if its seal is valid for this user.
    pub(super) fn check_grant(&self, grant: GrantRecord, user: &UserRecord) -> Result<GrantRecord, AuthorityError> {
        check(&self.seal_grant(&grant, user)?, &grant.mac, || format!("the role of {}", user.email))?;
        Ok(grant)
    }

    /// Returns the temporary key's record if its seal is valid.
    pub(super) fn check_temporary_key(&self, key: TemporaryKeyRecord) -> Result<TemporaryKeyRecord, AuthorityError> {
        check(&self.seal_temporary_key(&key)?, &key.mac, || format!("the letter {}", key.reference))?;
        Ok(key)
    }

    /// Returns the archive record if its seal is valid.
    pub(super) fn check_archived_key(&self, record: ArchiveRecord) -> Result<ArchiveRecord, AuthorityError> {
        check(&self.seal_archived_key(&record)?, &record.mac, || {
            format!("the archived key of certificate {}", hex::encode(record.certificate_sha256))
        })?;
        Ok(record)
    }

    fn begin(&self, kind: &str) -> Result<Fields, AuthorityError> {
        Fields(Vec::new()).text("tokenkeep record 1")?.text(kind)?.bytes(&self.authority)
    }

    fn mac(&self, fields: &Fields) -> Result<[u8; 32], AuthorityError> {
        mac(&self.keys, fields)
    }
}

fn mac(keys: &TokenKeys, fields: &Fields) -> Result<[u8; 32], AuthorityError> {
    let der = fields.0.to_der().map_err(encode)?;
    Ok(keys.mac(&keys.record_mac, &der)?)
}

impl Fields {
    fn text(mut self, text: &str) -> Result<Self, AuthorityError> {
        self.0.push(Any::encode_from(&text.to_owned()).map_err(encode)?);
        Ok(self)
    }

    fn bytes(mut self, bytes: &[u8]) -> Result<Self, AuthorityError> {
        let octets = OctetString::new(bytes.to_vec()).map_err(encode)?;
        self.0.push(Any::encode_from(&octets).map_err(encode)?);
        Ok(self)
    }

    fn number(mut self, number: u64) -> Result<Self, AuthorityError> {
        self.0.push(Any::encode_from(&number).map_err(encode)?);
        Ok(self)
    }

    fn time(mut self, time: Timestamp) -> Result<Self, AuthorityError> {
        let seconds = Int::new(&time.as_second().to_be_bytes()).map_err(encode)?;
        self.0.push(Any::encode_from(&seconds).map_err(encode)?);
        Ok(self)
    }
}

fn check(expected: &[u8; 32], found: &[u8; 32], what: impl FnOnce() -> String) -> Result<(), AuthorityError> {
    if bool::from(expected.ct_eq(found)) { Ok(()) } else { Err(AuthorityError::Tampered(showable(&what()))) }
}

fn encode(error: der::Error) -> AuthorityError {
    AuthorityError::Encode { what: "a record", reason: error.to_string() }
}
