//! Statements as files, for an authority that only a person can reach: the signed command leaves as
//! one file, the response returns as another.

use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde_json::json;

use super::{As, AuditLog, acknowledged, answer, hand_out, list, new_file, show, unexpected};
use crate::cli::arguments::{ExistingPin, WhichKeyset};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::person::AtTheCommandLine;
use crate::cli::surroundings::Surroundings;
use crate::keyset::OpenedAnswer;
use crate::statement::{Answer, Operation, SignedStatement};

/// Arguments of `admin open`.
#[derive(Debug, clap::Args)]
pub struct Open {
    /// Response that `authority answer` wrote; - is stdin
    #[arg(value_hint = ValueHint::FilePath)]
    response: PathBuf,
    /// Statement that it answers, written with --statement-out
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    statement: PathBuf,
    /// Write the letter to this new file, mode 0600; - is stdout [default: stdout]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter_out: Option<PathBuf>,
    #[command(flatten)]
    which: WhichKeyset,
    #[command(flatten)]
    pin: ExistingPin,
    #[command(flatten)]
    log: AuditLog,
}

/// Signs the command and writes it to a new file.
pub(super) fn state(operation: Operation, file: &Path, who: &As, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    output::check_new(file)?;
    let desk = around.desk()?;
    let keyset = around.keyset(&desk, &who.which)?;
    let mut person = AtTheCommandLine::new(around.prompter(who.pin.pin_source.as_ref(), None)?, around.screen);
    let signed = desk.sign_for_a_file(&keyset, operation, who.log.known(), &mut person, around.now())?;
    output::write_new(file, signed.as_der())?;
    let statement = signed.claimed_statement()?;
    let about = statement.operation.target().map(|target| format!(" {target}")).unwrap_or_default();
    let shown = file.display();
    around.screen.answer(
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
pub(super) fn open(arguments: &Open, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let out = new_file(arguments.letter_out.as_deref())?;
    let statement = SignedStatement::parse(&output::read(Some(&arguments.statement))?)?;
    let stated = statement.claimed_statement()?.operation;
    let after = stated.after();
    let response = output::read(Some(&arguments.response))?;
    let desk = around.desk()?;
    let keyset = around.keyset(&desk, &arguments.which)?;
    let mut person = AtTheCommandLine::new(around.prompter(arguments.pin.pin_source.as_ref(), None)?, around.screen);
    let known_log = arguments.log.known();
    let answered = desk.open_response(&keyset, &statement, response, known_log, &mut person, around.now())?;
    answer(answered, |answer| match answer {
        OpenedAnswer::Letter(text) => hand_out(
            &text,
            out,
            "the response still contains the letter: name another file and run the command again",
            around,
        ),
        OpenedAnswer::Other(Answer::Users(users)) => list(&users, after, None, around),
        OpenedAnswer::Other(Answer::UserPage { users, next }) => list(&users, after, Some(&next), around),
        OpenedAnswer::Other(Answer::User(user)) => show(&user, around),
        OpenedAnswer::Other(Answer::Acknowledged(entry)) => acknowledged(entry, around),
        other @ OpenedAnswer::Other(_) => Err(unexpected(&other)),
    })
}
