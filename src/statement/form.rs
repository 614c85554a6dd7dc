//! The JSON of a statement: written in one form, read strictly.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::members::{hexadecimal, instant};
use super::{LogPosition, Operation, Statement, StatementError};
use crate::pki::Fingerprint;
use crate::token::SecurityLevel;

const WHAT: &str = "statement";

/// The version of a statement that says nothing of the audit log.
const WITHOUT_LOG: u8 = 1;
/// The version of one that says which place in the log its signer knows. Both are written and read; what was signed before
/// there was the second is looked at again later.
const WITH_LOG: u8 = 2;

/// The members in their order. `serde` refuses doubled members of a struct by itself; unknown ones it is told to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u8,
    authority: Fingerprint,
    operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    arguments: Arguments,
    #[serde(with = "hexadecimal")]
    nonce: [u8; 16],
    #[serde(with = "instant")]
    not_before: Timestamp,
    #[serde(with = "instant")]
    not_after: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_log: Option<LogPosition>,
}

/// The arguments of all operations; each operation takes its own and refuses the others'.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    levels: Option<Vec<SecurityLevel>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_for_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<bool>,
}

impl Statement {
    /// The JSON that is signed.
    pub fn to_json(&self) -> Result<Vec<u8>, StatementError> {
        let arguments = match &self.operation {
            Operation::Issue { name, levels, valid_for_seconds, .. } => Arguments {
                name: name.clone(),
                levels: levels.clone(),
                valid_for_seconds: *valid_for_seconds,
                ..Arguments::default()
            },
            Operation::Recover { lost, valid_for_seconds, .. } => {
                Arguments { lost: Some(*lost), valid_for_seconds: *valid_for_seconds, ..Arguments::default() }
            }
            Operation::List | Operation::Show { .. } => Arguments::default(),
        };
        let form = Form {
            version: if self.known_log.is_some() { WITH_LOG } else { WITHOUT_LOG },
            authority: self.authority,
            operation: self.operation.name().to_owned(),
            target: self.operation.target().map(str::to_owned),
            arguments,
            nonce: self.nonce,
            not_before: self.not_before,
            not_after: self.not_after,
            known_log: self.known_log,
        };
        serde_json::to_vec(&form).map_err(|error| wrong(error.to_string()))
    }

    /// Reads the JSON that was signed.
    pub fn from_json(json: &[u8]) -> Result<Self, StatementError> {
        let form: Form = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        match (form.version, form.known_log) {
            (WITHOUT_LOG, None) | (WITH_LOG, Some(_)) => {}
            (WITHOUT_LOG | WITH_LOG, _) => return Err(wrong("known_log is in version 2, and in no other version")),
            (other, _) => {
                return Err(wrong(format!("it is of version {other}, and only versions 1 and 2 are known")));
            }
        }
        let operation = operation(&form.operation, form.target, form.arguments)?;
        Ok(Self {
            authority: form.authority,
            operation,
            nonce: form.nonce,
            not_before: form.not_before,
            not_after: form.not_after,
            known_log: form.known_log,
        })
    }
}

fn operation(name: &str, target: Option<String>, arguments: Arguments) -> Result<Operation, StatementError> {
    let email = |target: Option<String>| {
        let email = target.ok_or_else(|| wrong(format!("{name} needs a target")))?;
        if email.is_empty() || email.len() > 254 || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("the target must be an e-mail address"));
        }
        Ok(email)
    };
    let Arguments { name: user_name, levels, valid_for_seconds, lost } = arguments;
    let operation = match (name, user_name, levels, valid_for_seconds, lost) {
        ("issue", user_name, levels, valid_for_seconds, None) => {
            if user_name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
                return Err(wrong("a name must not be empty and has no control characters"));
            }
            if levels.as_ref().is_some_and(|levels| levels.is_empty() || has_doubles(levels)) {
                return Err(wrong("levels, where given, must name at least one, and each once"));
            }
            Operation::Issue { email: email(target)?, name: user_name, levels, valid_for_seconds }
        }
        ("recover", None, None, valid_for_seconds, lost) => {
            Operation::Recover { email: email(target)?, lost: lost.unwrap_or(false), valid_for_seconds }
        }
        ("list", None, None, None, None) if target.is_none() => Operation::List,
        ("show", None, None, None, None) => Operation::Show { email: email(target)? },
        ("issue" | "recover" | "list" | "show", ..) => {
            return Err(wrong(format!("{name} was given what it does not take")));
        }
        _ => return Err(wrong("the operation is not one that is known")),
    };
    Ok(operation)
}

fn has_doubles(levels: &[SecurityLevel]) -> bool {
    levels.iter().enumerate().any(|(at, level)| levels.iter().skip(at + 1).any(|other| other == level))
}

fn wrong(reason: impl Into<String>) -> StatementError {
    StatementError::Form { what: WHAT, reason: reason.into() }
}

#[cfg(test)]
mod tests;
