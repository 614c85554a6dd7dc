//! The JSON of a statement: written in one form, parsed strictly.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::serde_formats::{DistinctMembers, hexadecimal, instant};
use super::{AdminOperation, Instance, LogPosition, Statement, StatementError};
use crate::pki::Fingerprint;

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
    arguments: DistinctMembers,
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

impl Statement {
    /// Encodes the statement as the JSON that is signed.
    pub fn to_json(&self) -> Result<Vec<u8>, StatementError> {
        let form = StatementJson {
            version: VERSION,
            authority: self.authority,
            operation: self.operation.name().to_owned(),
            target: self.operation.target().map(str::to_owned),
            arguments: arguments_of(&self.operation)?,
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

/// Returns the members of the operation, except its target.
fn arguments_of(operation: &AdminOperation) -> Result<DistinctMembers, StatementError> {
    let mut members = serde_json::to_value(operation).map_err(|error| wrong(error.to_string()))?;
    let arguments = members.get_mut("arguments").and_then(Value::as_object_mut).map(std::mem::take);
    let mut arguments = arguments.unwrap_or_default();
    arguments.remove("target");
    Ok(DistinctMembers(arguments))
}

/// Parses an operation, which takes its own members and refuses others.
fn operation(
    name: &str,
    target: Option<String>,
    DistinctMembers(mut arguments): DistinctMembers,
) -> Result<AdminOperation, StatementError> {
    if !AdminOperation::NAMES.contains(&name) {
        return Err(wrong("unknown operation"));
    }
    if arguments.contains_key("target") {
        return Err(wrong("the target must not be an argument"));
    }
    if let Some(target) = target {
        arguments.insert("target".to_owned(), target.into());
    }
    let members = json!({ "operation": name, "arguments": arguments });
    let operation: AdminOperation =
        serde_json::from_value(members).map_err(|error| wrong(format!("{name}: {error}")))?;
    operation.check().map_err(wrong)?;
    Ok(operation)
}

fn wrong(reason: impl Into<String>) -> StatementError {
    StatementError::Form { what: WHAT, reason: reason.into() }
}

#[cfg(test)]
mod tests;
