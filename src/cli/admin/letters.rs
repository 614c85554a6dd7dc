//! `admin issue`, `recover` and `letter`: commands whose answer is a letter.

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::letter_file::{new_file, write_letter};
use super::sending::{answer, send_operation};
use super::{AdminIdentity, statement_files, unexpected};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::interrupt;
use crate::cli::man_page::{ASKS_AUTHORITY, KEYSET_FILES, Page};
use crate::keyset::OpenedResponse;
use crate::letter::Reference;
use crate::pki::EmailAddress;
use crate::statement::AdminOperation;
use crate::token::SecurityLevel;

/// The usual way to make a letter.
pub(super) const ISSUE_EXAMPLE: &[&str] =
    &["tokenkeep admin issue user@example.org --name 'Example, User' \\", "  --keyset admin --letter-out user.letter"];

/// The manual page of `admin issue`.
pub const ISSUE_PAGE: Page = Page {
    name: "tokenkeep-admin-issue",
    exits: ASKS_AUTHORITY,
    files: KEYSET_FILES,
    examples: &[
        ("A letter for somebody new:", ISSUE_EXAMPLE),
        (
            "A letter to renew with, good for two weeks, for two levels only:",
            &[
                "tokenkeep admin issue user@example.org --keyset admin \\",
                "  --valid-for 2w --levels high,medium --letter-out again.letter",
            ],
        ),
        (
            "For an authority without a network:",
            &[
                "tokenkeep admin issue user@example.org --keyset admin \\",
                "  --name 'Example, User' --statement-out issue.statement",
            ],
        ),
    ],
    see_also: &["tokenkeep-enroll", "tokenkeep-admin-letter", "tokenkeep-authority-answer"],
};

/// The manual page of `admin recover`.
pub const RECOVER_PAGE: Page = Page {
    name: "tokenkeep-admin-recover",
    exits: ASKS_AUTHORITY,
    files: KEYSET_FILES,
    examples: &[
        (
            "The PIN is forgotten:",
            &["tokenkeep admin recover user@example.org --keyset admin \\", "  --letter-out recovered.letter"],
        ),
        (
            "The token is lost:",
            &["tokenkeep admin recover user@example.org --lost \\", "  --keyset admin --letter-out recovered.letter"],
        ),
    ],
    see_also: &["tokenkeep-enroll", "tokenkeep-admin-letter", "tokenkeep-pin-unblock"],
};

/// The manual page of `admin letter`.
pub const LETTER_PAGE: Page = Page {
    name: "tokenkeep-admin-letter",
    exits: ASKS_AUTHORITY,
    files: KEYSET_FILES,
    examples: &[(
        "The answer to an earlier command was lost:",
        &["tokenkeep admin letter user@example.org --keyset admin \\", "  --letter-out user.letter"],
    )],
    see_also: &["tokenkeep-admin-issue", "tokenkeep-admin-recover"],
};

/// The file and the validity of a letter.
#[derive(Debug, clap::Args)]
pub struct LetterOutput {
    /// Write the letter to this new file, mode 0600; - is stdout [default: stdout]
    ///
    /// The letter contains a secret, the temporary key. On stdout it is printed in plain text.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with = "statement_out")]
    letter_out: Option<PathBuf>,
    /// Validity, for example 90s, 30m, 36h, 14d or 2w [default: the authority's]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    valid_for: Option<u64>,
}

/// Arguments of `admin issue`.
#[derive(Debug, clap::Args)]
pub struct IssueArguments {
    /// E-mail address of the user
    email: EmailAddress,
    /// Full name of the user; required for a new user
    #[arg(long)]
    name: Option<String>,
    /// Allow only these security levels [default: the authority's]
    #[arg(long, value_name = "LEVEL", value_delimiter = ',')]
    levels: Vec<SecurityLevel>,
    #[command(flatten)]
    letter: LetterOutput,
    #[command(flatten)]
    identity: AdminIdentity,
}

/// Arguments of `admin recover`.
#[derive(Debug, clap::Args)]
pub struct RecoverArguments {
    /// E-mail address of the user
    email: String,
    /// Revoke the user's current certificates and create a new encryption key
    ///
    /// Use this if other people may have the user's token. The certificates are revoked at once.
    #[arg(long)]
    lost: bool,
    #[command(flatten)]
    letter: LetterOutput,
    #[command(flatten)]
    identity: AdminIdentity,
}

/// Arguments of `admin letter`.
#[derive(Debug, clap::Args)]
pub struct FetchLetterArguments {
    /// E-mail address of the user, or reference of the letter
    #[arg(value_name = "EMAIL|REFERENCE")]
    letter: String,
    /// Write the letter to this new file, mode 0600; - is stdout [default: stdout]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with = "statement_out")]
    letter_out: Option<PathBuf>,
    #[command(flatten)]
    identity: AdminIdentity,
}

impl IssueArguments {
    pub(super) fn run(self, cx: &Context<'_>) -> Result<Exit, Failure> {
        let operation = AdminOperation::Issue {
            email: self.email.as_str().to_owned(),
            name: self.name,
            levels: (!self.levels.is_empty()).then_some(self.levels),
            valid_for_seconds: self.letter.valid_for,
        };
        request_letter(operation, self.letter.letter_out.as_deref(), &self.identity, cx)
    }
}

impl RecoverArguments {
    pub(super) fn run(self, cx: &Context<'_>) -> Result<Exit, Failure> {
        let Self { email, lost, letter, identity } = self;
        let operation = AdminOperation::Recover { email, lost, valid_for_seconds: letter.valid_for };
        request_letter(operation, letter.letter_out.as_deref(), &identity, cx)
    }
}

impl FetchLetterArguments {
    pub(super) fn run(self, cx: &Context<'_>) -> Result<Exit, Failure> {
        let letter = if self.letter.contains('@') { self.letter } else { reference(&self.letter)? };
        request_letter(AdminOperation::Letter { letter }, self.letter_out.as_deref(), &self.identity, cx)
    }
}

/// Parses a reference in any spelling.
fn reference(text: &str) -> Result<String, Failure> {
    let reference = Reference::parse(text).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot fetch a letter: {text:?} is neither an e-mail address nor a reference: {error}"),
        )
        .with_remedy("`tokenkeep admin show EMAIL` lists the letters of a user")
    })?;
    Ok(reference.as_str().to_owned())
}

fn request_letter(
    operation: AdminOperation,
    letter_out: Option<&Path>,
    identity: &AdminIdentity,
    cx: &Context<'_>,
) -> Result<Exit, Failure> {
    if let Some(file) = &identity.statement_out {
        return statement_files::state(operation, file, identity, cx);
    }
    let out = new_file(letter_out)?;
    let target = operation.target().unwrap_or_default().to_owned();
    interrupt::set_message(format!(
        "interrupted: it is unknown whether the command was executed; if it was, \
         `tokenkeep admin letter {target} --letter-out FILE` fetches the letter"
    ));
    answer(send_operation(operation, identity, cx)?, |answer| match answer {
        OpenedResponse::Letter(text) => {
            let again =
                format!("the letter is valid: `tokenkeep admin letter {target} --letter-out FILE` fetches it again");
            write_letter(&text, out, &again, cx)
        }
        other @ OpenedResponse::Other(_) => Err(unexpected(&other)),
    })
}

/// Parses `90s`, `30m`, `36h`, `14d` or `2w` into seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits) {
        Some("s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        Some("w") => 604_800,
        _ => return Err("expected a number and a unit: s (seconds), m (minutes), h, d or w".to_owned()),
    };
    let number = digits.parse::<u64>().map_err(|error| error.to_string())?;
    match number.checked_mul(unit) {
        Some(seconds @ 1..) => Ok(seconds),
        _ => Err("not a valid duration for a letter".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1_800));
        assert_eq!(seconds("14d"), Ok(1_209_600));
        for bad in ["", "14", "d", "-1d", "1.5h", "0m", "14 d", "1y", "99999999999999999999w", "9999999999999999999w"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
