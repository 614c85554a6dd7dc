//! Statements as files, for an authority that only a person can reach: the signed command leaves as
//! one file, the response returns as another.

use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde_json::json;

use super::letter_file::{new_file, write_letter};
use super::sending::{answer, with_letter};
use super::{AdminIdentity, AuditLogArguments, render};
use crate::cli::arguments::{KeysetArguments, PinArguments};
use crate::cli::backend::NoTransport;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::file_io;
use crate::cli::man_page::{DONE, FAULT, INTERRUPTED, KEYSET_FILES, PIN, Page, REFUSED, USAGE};
use crate::cli::terminal_prompter::TerminalPrompter;
use crate::keyset::ops::{OpenResponse, SignStatement};
use crate::keyset::{Attachments, KeysetChoice, OpenedResponse};
use crate::statement::{AdminOperation, SignedStatement};

/// The manual page of `admin open`.
pub const OPEN_PAGE: Page = Page {
    name: "tokenkeep-admin-open",
    exits: &[
        DONE,
        FAULT,
        USAGE,
        (Exit::Absent, "The keyset was not found."),
        PIN,
        REFUSED,
        (Exit::NotVerified, "The response does not belong to the statement, or the audit log was changed."),
        INTERRUPTED,
    ],
    files: KEYSET_FILES,
    examples: &[(
        "Sign a command into a file, take it to the authority, and open its response:",
        &[
            "tokenkeep admin issue user@example.org --keyset admin \\",
            "  --name 'Example, User' --statement-out issue.statement",
            "tokenkeep authority answer --config hsm-config/authority.toml \\",
            "  --in issue.statement --out issue.response",
            "tokenkeep admin open issue.response --keyset admin \\",
            "  --statement issue.statement --letter-out user.letter",
        ],
    )],
    see_also: &["tokenkeep-authority-answer", "tokenkeep-admin-issue"],
};

/// Arguments of `admin open`.
#[derive(Debug, clap::Args)]
pub struct OpenResponseArguments {
    /// Response that `authority answer` wrote; - is stdin
    #[arg(value_hint = ValueHint::FilePath)]
    response: PathBuf,
    /// Statement that it answers, written with --statement-out
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    statement: PathBuf,
    /// Write the letter to this new file, mode 0600; - is stdout [default: stdout]
    ///
    /// The letter contains a secret, the temporary key. On stdout it is printed in plain text.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter_out: Option<PathBuf>,
    #[command(flatten)]
    which: KeysetArguments,
    #[command(flatten)]
    pin: PinArguments,
    #[command(flatten)]
    log: AuditLogArguments,
}

/// Signs the command and writes it to a new file.
pub(super) fn state(
    command: AdminOperation,
    file: &Path,
    identity: &AdminIdentity,
    cx: &Context<'_>,
) -> Result<Exit, Failure> {
    file_io::check_new(file)?;
    let backend = cx.backend()?;
    let keyset = cx.keyset(&backend, &identity.which)?;
    let mut person = TerminalPrompter::new(cx.prompter(identity.pin.pin_source.as_ref(), None)?, cx.output);
    let operation =
        SignStatement { keyset: KeysetChoice::exactly(&keyset), command, log_policy: identity.log.log_policy() };
    let signed = backend.call(operation, &mut person)?;
    file_io::write_new(file, signed.as_der())?;
    let statement = signed.claimed_statement()?;
    let about = statement.operation.target().map(|target| format!(" {target}")).unwrap_or_default();
    let shown = file.display();
    cx.output.answer(
        format!(
            "Wrote {shown}: the signed command \"{}{about}\", valid until {}. Nothing was sent.\n\
             Next, on the authority's machine:\n  \
             tokenkeep authority answer --config FILE --in {shown} --out RESPONSE\n\
             Then, on this machine:\n  \
             tokenkeep admin open RESPONSE --statement {shown} --keyset {}",
            statement.operation.name(),
            statement.not_after,
            keyset.name,
        ),
        &json!({
            "statement": shown.to_string(),
            "operation": statement.operation.name(),
            "target": statement.operation.target(),
            "expires": statement.not_after.to_string(),
            "sha256": hex::encode(signed.digest()),
            "keyset": keyset.name.as_str(),
        }),
    )
}

/// Opens the authority's response.
pub(super) fn open(arguments: &OpenResponseArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let out = new_file(arguments.letter_out.as_deref())?;
    let statement = SignedStatement::parse(&file_io::read(Some(&arguments.statement))?)?;
    let stated = statement.claimed_statement()?.operation;
    let response = file_io::read(Some(&arguments.response))?;
    let backend = cx.backend()?;
    let keyset = cx.keyset(&backend, &arguments.which)?;
    let mut person = TerminalPrompter::new(cx.prompter(arguments.pin.pin_source.as_ref(), None)?, cx.output);
    let (keyset, log_policy) = (KeysetChoice::exactly(&keyset), arguments.log.log_policy());
    let mut attachments = Attachments::default();
    let operation = OpenResponse { keyset, statement, response, log_policy };
    let answered = backend.call_with(operation, &mut attachments, &mut person, &NoTransport)?;
    answer(with_letter(answered, attachments)?, |answer| match answer {
        OpenedResponse::Letter(text) => write_letter(
            &text,
            out,
            "the response still contains the letter: name another file and run the command again",
            cx,
        ),
        OpenedResponse::Other(answer) => render(&stated, answer, cx),
    })
}
