//! The JSON of a statement: written in one form, parsed strictly.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::serde_formats::{hexadecimal, instant};
use super::{AdminOperation, Instance, LogPosition, MAX_USERS_PER_PAGE, Statement, StatementError};
use crate::pki::Fingerprint;
use crate::token::SecurityLevel;

const WHAT: &str = "statement";

/// The version that is written, and the only one that is accepted.
const VERSION: u8 = 3;
/// The versions that earlier releases of tokenkeep wrote, without and with a log position. They are
/// still parsed, because the approvals of recoveries are checked again later.
const OLDER: [u8; 2] = [1, 2];

/// The members in their order. `serde` refuses a repeated member of a struct by itself, and an
/// unknown one because of `deny_unknown_fields`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson {
    version: u8,
    authority: Fingerprint,
    operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    arguments: OperationArguments,
    #[serde(with = "hexadecimal")]
    nonce: [u8; 16],
    #[serde(with = "instant")]
    not_before: Timestamp,
    #[serde(with = "instant")]
    not_after: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_log: Option<LogPosition>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_instance")]
    instance: Option<Instance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption_certificate: Option<Fingerprint>,
}

/// The identifier of a run of the authority, in hexadecimal digits.
mod optional_instance {
    use serde::{Deserializer, Serialize, Serializer};

    use super::{Instance, hexadecimal};

    #[allow(clippy::ref_option)] // serde calls it with a reference to the member
    pub(super) fn serialize<S: Serializer>(instance: &Option<Instance>, serializer: S) -> Result<S::Ok, S::Error> {
        instance.map(|instance| instance.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Instance>, D::Error> {
        hexadecimal::deserialize(deserializer).map(Instance::from_bytes).map(Some)
    }
}

/// The arguments of all operations. Each operation takes its own and refuses the others'.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperationArguments {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    levels: Option<Vec<SecurityLevel>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_for_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<u64>,
}

impl Statement {
    /// Encodes the statement as the JSON that is signed.
    pub fn to_json(&self) -> Result<Vec<u8>, StatementError> {
        let arguments = match &self.operation {
            AdminOperation::Issue { name, levels, valid_for_seconds, .. } => OperationArguments {
                name: name.clone(),
                levels: levels.clone(),
                valid_for_seconds: *valid_for_seconds,
                ..OperationArguments::default()
            },
            AdminOperation::Recover { lost, valid_for_seconds, .. } => OperationArguments {
                lost: Some(*lost),
                valid_for_seconds: *valid_for_seconds,
                ..OperationArguments::default()
            },
            AdminOperation::ListPage { after, limit } => {
                OperationArguments { after: after.clone(), limit: *limit, ..OperationArguments::default() }
            }
            AdminOperation::Acknowledge { entry } => {
                OperationArguments { entry: Some(*entry), ..OperationArguments::default() }
            }
            AdminOperation::Letter { .. } | AdminOperation::List | AdminOperation::Show { .. } => {
                OperationArguments::default()
            }
        };
        let form = StatementJson {
            version: VERSION,
            authority: self.authority,
            operation: self.operation.name().to_owned(),
            target: self.operation.target().map(str::to_owned),
            arguments,
            nonce: self.nonce,
            not_before: self.not_before,
            not_after: self.not_after,
            known_log: self.known_log,
            instance: self.instance,
            encryption_certificate: self.encryption_certificate,
        };
        serde_json::to_vec(&form).map_err(|error| wrong(error.to_string()))
    }

    /// Parses the JSON that was signed.
    pub fn from_json(json: &[u8]) -> Result<Self, StatementError> {
        let form = StatementJson::read(json)?;
        if OLDER.contains(&form.version) {
            return Err(StatementError::OldVersion);
        }
        form.statement()
    }

    /// Whether the statement has an old version, which is no longer accepted.
    pub(super) fn is_older(json: &[u8]) -> bool {
        StatementJson::read(json).is_ok_and(|form| OLDER.contains(&form.version))
    }

    /// Parses a statement that was accepted earlier, by any version of tokenkeep.
    pub(super) fn from_json_of_any_version(json: &[u8]) -> Result<Self, StatementError> {
        StatementJson::read(json)?.statement()
    }
}

impl StatementJson {
    fn read(json: &[u8]) -> Result<Self, StatementError> {
        serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))
    }

    fn statement(self) -> Result<Statement, StatementError> {
        let operation = operation(&self.operation, self.target, self.arguments)?;
        match (self.version, self.known_log) {
            (VERSION, _) if operation.returns_letter() == self.encryption_certificate.is_some() => {}
            (VERSION, _) => {
                return Err(wrong(
                    "encryption_certificate is required if the response has a letter, and forbidden otherwise",
                ));
            }
            (1, None) | (2, Some(_)) if self.instance.is_none() && self.encryption_certificate.is_none() => {}
            (1 | 2, _) => return Err(wrong("its members do not match its version")),
            (other, _) => {
                return Err(wrong(format!("unknown version {other}; known are 1 to {VERSION}")));
            }
        }
        Ok(Statement {
            authority: self.authority,
            operation,
            nonce: self.nonce,
            not_before: self.not_before,
            not_after: self.not_after,
            known_log: self.known_log,
            instance: self.instance,
            encryption_certificate: self.encryption_certificate,
        })
    }
}

fn operation(
    name: &str,
    target: Option<String>,
    arguments: OperationArguments,
) -> Result<AdminOperation, StatementError> {
    let email = |target: Option<String>| {
        let email = target.ok_or_else(|| wrong(format!("{name} requires a target")))?;
        if email.is_empty() || email.len() > 254 || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("the target must be an e-mail address"));
        }
        Ok(email)
    };
    let OperationArguments { name: user_name, levels, valid_for_seconds, lost, after, limit, entry } = arguments;
    let is_page = after.is_some() || limit.is_some();
    if let ("acknowledge", Some(entry)) = (name, entry) {
        return match (target, user_name, levels, valid_for_seconds, lost) {
            (None, None, None, None, None) if !is_page => Ok(AdminOperation::Acknowledge { entry }),
            _ => Err(wrong("acknowledge has a member that it does not allow")),
        };
    }
    if entry.is_some() || (is_page && name != "list") {
        return Err(wrong(format!("{name} has a member that it does not allow")));
    }
    let operation = match (name, user_name, levels, valid_for_seconds, lost) {
        ("issue", user_name, levels, valid_for_seconds, None) => {
            if user_name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
                return Err(wrong("a name must not be empty or contain control characters"));
            }
            if levels.as_ref().is_some_and(|levels| levels.is_empty() || has_doubles(levels)) {
                return Err(wrong("levels must name at least one level, without repetition"));
            }
            AdminOperation::Issue { email: email(target)?, name: user_name, levels, valid_for_seconds }
        }
        ("recover", None, None, valid_for_seconds, lost) => {
            AdminOperation::Recover { email: email(target)?, lost: lost.unwrap_or(false), valid_for_seconds }
        }
        ("letter", None, None, None, None) => AdminOperation::Letter { letter: letter(target)? },
        ("list", None, None, None, None) if target.is_none() => page(after, limit)?,
        ("show", None, None, None, None) => AdminOperation::Show { email: email(target)? },
        ("issue" | "recover" | "letter" | "list" | "show" | "acknowledge", ..) => {
            return Err(wrong(format!("{name} has a member that it does not allow")));
        }
        _ => return Err(wrong("unknown operation")),
    };
    Ok(operation)
}

/// Checks the form of a target: an e-mail address or a letter's reference. Only the authority knows
/// which letters exist.
fn letter(target: Option<String>) -> Result<String, StatementError> {
    let letter = target.ok_or_else(|| wrong("letter requires a target"))?;
    let is_reference = !letter.is_empty() && letter.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_email = letter.contains('@') && !letter.chars().any(|c| c.is_control() || c.is_whitespace());
    if letter.len() <= 254 && (is_reference || is_email) {
        return Ok(letter);
    }
    Err(wrong("the target must be an e-mail address or a letter's reference"))
}

fn page(after: Option<String>, limit: Option<u32>) -> Result<AdminOperation, StatementError> {
    if limit.is_some_and(|limit| !(1..=MAX_USERS_PER_PAGE).contains(&limit)) {
        return Err(wrong(format!("a page has 1 to {MAX_USERS_PER_PAGE} users")));
    }
    match (after, limit) {
        (None, None) => Ok(AdminOperation::List),
        (after, limit) => Ok(AdminOperation::ListPage { after, limit }),
    }
}

fn has_doubles(levels: &[SecurityLevel]) -> bool {
    levels.iter().enumerate().any(|(at, level)| levels.iter().skip(at + 1).any(|other| other == level))
}

fn wrong(reason: impl Into<String>) -> StatementError {
    StatementError::Form { what: WHAT, reason: reason.into() }
}

#[cfg(test)]
mod tests;
