//! `tokenkeep admin`: each command is one statement, signed on the administrator's token with one
//! PIN.

mod render;
mod sending;
mod statement_files;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use serde_json::json;

use super::arguments::{AuthorityUrls, KeysetArguments, PinArguments};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::file_io::{self, Content};
use super::interrupt;
use crate::keyset::{LogPolicy, OpenedResponse};
use crate::letter::{Letter, Reference};
use crate::pki::EmailAddress;
use crate::statement::{AdminOperation, MAX_USERS_PER_PAGE};
use crate::token::SecurityLevel;

use self::render::render_answer;
use self::sending::{answer, send_operation};

/// Subcommands of `tokenkeep admin`.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Issue a letter with which a person enrolls
    ///
    /// --keyset is the administrator's own keyset. A new letter voids the user's earlier one.
    Issue(IssueArguments),
    /// Issue a letter that recovers all encryption keys of a user
    ///
    /// The user enrolls with it into a new keyset with a new PIN. --keyset is the administrator's
    /// own keyset, which signs the command, not the user's.
    ///
    /// Without --lost nothing is revoked: the user's enrollment supersedes the old signing
    /// certificate, and a current encryption key stays in use. With --lost all current certificates
    /// are revoked at once, and the enrollment adds a new encryption key.
    Recover(RecoverArguments),
    /// Fetch again a letter that you ordered
    ///
    /// For an answer of the authority that was lost. A letter can be fetched until it is used or
    /// expires. It contains a secret, which is printed in plain text on stdout.
    Letter(FetchLetterArguments),
    /// List the users, one page at a time
    List(UserListArguments),
    /// Show a user's certificates and letters
    Show(UserShowArguments),
    /// Acknowledge an administrator who was added on the authority's machine
    ///
    /// The authority's answers then no longer report that administrator to you.
    Acknowledge(AcknowledgeArguments),
    /// Open the authority's response to a statement file (--statement-out)
    ///
    /// --keyset selects the keyset that signed the statement.
    Open(statement_files::OpenResponseArguments),
}

/// The signing keyset of a statement, and its channel to the authority.
#[derive(Debug, clap::Args)]
pub struct AdminIdentity {
    #[command(flatten)]
    which: KeysetArguments,
    #[command(flatten)]
    pin: PinArguments,
    #[command(flatten)]
    authority: AuthorityUrls,
    #[command(flatten)]
    log: AuditLogArguments,
    /// Write the command as a signed statement to this new file and send nothing
    ///
    /// The statement is valid for 14 days. On the authority's machine `tokenkeep authority answer`
    /// executes it and writes a response; then `tokenkeep admin open` opens the response here.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["http", "https"])]
    statement_out: Option<PathBuf>,
}

/// The treatment of the authority's audit log.
#[derive(Debug, clap::Args)]
pub struct AuditLogArguments {
    /// Accept the authority's audit log even if it contradicts this keyset's checkpoint
    ///
    /// Use this only after somebody you trust has told you that the authority's database was
    /// restored from a backup.
    #[arg(long)]
    accept_log: bool,
}

impl AuditLogArguments {
    fn log_policy(&self) -> LogPolicy {
        if self.accept_log { LogPolicy::Accept } else { LogPolicy::Compare }
    }
}

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

/// Arguments of `admin list`.
#[derive(Debug, clap::Args)]
pub struct UserListArguments {
    /// List the users after this e-mail address, which the page before names
    #[arg(long, value_name = "EMAIL")]
    after: Option<String>,
    /// List at most this many users [default: 500]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_USERS_PER_PAGE))
    )]
    limit: Option<u32>,
    #[command(flatten)]
    identity: AdminIdentity,
}

impl UserListArguments {
    fn page(&self) -> AdminOperation {
        match (&self.after, self.limit) {
            (None, None) => AdminOperation::List,
            (after, limit) => AdminOperation::ListPage { after: after.clone(), limit },
        }
    }
}

/// Arguments of `admin show`.
#[derive(Debug, clap::Args)]
pub struct UserShowArguments {
    /// E-mail address of the user
    email: String,
    #[command(flatten)]
    identity: AdminIdentity,
}

/// Arguments of `admin acknowledge`.
#[derive(Debug, clap::Args)]
pub struct AcknowledgeArguments {
    /// Number of the audit log's entry, as the authority's answers report it
    #[arg(value_name = "N")]
    entry: u64,
    #[command(flatten)]
    identity: AdminIdentity,
}

/// Runs the subcommand.
pub fn run(command: AdminCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    match command {
        AdminCommand::Issue(IssueArguments { email, name, levels, letter, identity }) => {
            let levels = (!levels.is_empty()).then_some(levels);
            let email = email.as_str().to_owned();
            let operation = AdminOperation::Issue { email, name, levels, valid_for_seconds: letter.valid_for };
            request_letter(operation, letter.letter_out.as_deref(), &identity, cx)
        }
        AdminCommand::Recover(RecoverArguments { email, lost, letter, identity }) => {
            let operation = AdminOperation::Recover { email, lost, valid_for_seconds: letter.valid_for };
            request_letter(operation, letter.letter_out.as_deref(), &identity, cx)
        }
        AdminCommand::Letter(FetchLetterArguments { letter, letter_out, identity }) => {
            let letter = if letter.contains('@') { letter } else { reference(&letter)? };
            request_letter(AdminOperation::Letter { letter }, letter_out.as_deref(), &identity, cx)
        }
        AdminCommand::List(arguments) => request_answer(arguments.page(), &arguments.identity, cx),
        AdminCommand::Show(UserShowArguments { email, identity }) => {
            request_answer(AdminOperation::Show { email }, &identity, cx)
        }
        AdminCommand::Acknowledge(AcknowledgeArguments { entry, identity }) => {
            request_answer(AdminOperation::Acknowledge { entry }, &identity, cx)
        }
        AdminCommand::Open(arguments) => statement_files::open(&arguments, cx),
    }
}

fn request_answer(operation: AdminOperation, identity: &AdminIdentity, cx: &Context<'_>) -> Result<Exit, Failure> {
    if let Some(file) = &identity.statement_out {
        return statement_files::state(operation, file, identity, cx);
    }
    answer(send_operation(operation.clone(), identity, cx)?, |answer| match answer {
        OpenedResponse::Other(answer) => render_answer(&operation, answer, cx),
        letter @ OpenedResponse::Letter(_) => Err(unexpected(&letter)),
    })
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

/// The file for the letter; `None` is stdout. It is checked before any PIN is asked for: a new
/// letter voids the user's earlier one even if it cannot be written.
fn new_file(out: Option<&Path>) -> Result<Option<&Path>, Failure> {
    let out = out.filter(|path| *path != Path::new("-"));
    out.map_or(Ok(()), file_io::check_new)?;
    Ok(out)
}

fn write_letter(text: &str, out: Option<&Path>, remedy_if_lost: &str, cx: &Context<'_>) -> Result<Exit, Failure> {
    let letter = Letter::parse(text)?;
    if let Some(path) = out {
        letter.write_new(path).map_err(|error| Failure::from(error).with_remedy(remedy_if_lost))?;
    } else if !cx.output.is_json() {
        file_io::write(None, text.as_bytes(), Content::Text)?;
        return Ok(Exit::Done);
    }
    let lines = format!(
        "{} for {} <{}>, valid until {}.\nDeliver it confidentially.",
        out.map_or_else(String::new, |path| format!("Wrote {}: a letter", path.display())),
        letter.user_name,
        letter.email,
        letter.expires,
    );
    cx.output.answer(
        lines,
        &json!({
            "reference": letter.reference.as_str(),
            "temporary_key": String::from_utf8_lossy(letter.temporary_key.cmp_secret()),
            "expires": letter.expires.to_string(),
            "email": letter.email,
            "name": letter.user_name,
            "letter": out.map(|path| path.display().to_string()),
            "text": out.is_none().then_some(text),
        }),
    )
}

fn unexpected(answer: &OpenedResponse) -> Failure {
    Failure::fault(format!("cannot use the authority's answer: it does not answer this command ({answer:?})"))
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
