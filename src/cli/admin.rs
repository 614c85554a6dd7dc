//! `tokenkeep admin`: each command is one statement, signed on the administrator's token with one
//! PIN.

mod acknowledge;
mod letter_file;
mod letters;
mod sending;
mod statement_files;
mod users;

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

use super::arguments::{AuthorityUrls, KeysetArguments, PinArguments};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::man_page::{ASKS_AUTHORITY, KEYSET_FILES, Page};
use crate::keyset::{LogPolicy, OpenedResponse};
use crate::statement::{AdminOperation, StatementAnswer};

use self::acknowledge::AcknowledgeArguments;
use self::letters::{FetchLetterArguments, IssueArguments, RecoverArguments};
use self::sending::{answer, send_operation};
use self::users::{UserListArguments, UserShowArguments};

/// The manual pages.
pub const PAGES: &[Page] = &[
    Page {
        name: "tokenkeep-admin",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[
            ("Issue a letter, and hand it over in a way that nobody else can read:", letters::ISSUE_EXAMPLE),
            (
                "List the users, and show one:",
                &["tokenkeep admin list --keyset admin", "tokenkeep admin show user@example.org --keyset admin"],
            ),
        ],
        see_also: &["tokenkeep-authority", "tokenkeep-enroll"],
    },
    letters::ISSUE_PAGE,
    letters::RECOVER_PAGE,
    letters::LETTER_PAGE,
    users::LIST_PAGE,
    users::SHOW_PAGE,
    acknowledge::PAGE,
    statement_files::OPEN_PAGE,
];

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

/// Runs the subcommand.
pub fn run(command: AdminCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    match command {
        AdminCommand::Issue(arguments) => arguments.run(cx),
        AdminCommand::Recover(arguments) => arguments.run(cx),
        AdminCommand::Letter(arguments) => arguments.run(cx),
        AdminCommand::List(arguments) => request_answer(arguments.operation(), &arguments.identity, cx),
        AdminCommand::Show(arguments) => request_answer(arguments.operation(), &arguments.identity, cx),
        AdminCommand::Acknowledge(arguments) => request_answer(arguments.operation(), &arguments.identity, cx),
        AdminCommand::Open(arguments) => statement_files::open(&arguments, cx),
    }
}

fn request_answer(operation: AdminOperation, identity: &AdminIdentity, cx: &Context<'_>) -> Result<Exit, Failure> {
    if let Some(file) = &identity.statement_out {
        return statement_files::state(operation, file, identity, cx);
    }
    answer(send_operation(operation.clone(), identity, cx)?, |answer| match answer {
        OpenedResponse::Other(answer) => render(&operation, answer, cx),
        letter @ OpenedResponse::Letter(_) => Err(unexpected(&letter)),
    })
}

/// Prints the answer to a command, which is no letter.
///
/// # Errors
/// The authority answered another command than this one.
fn render(operation: &AdminOperation, answer: StatementAnswer, cx: &Context<'_>) -> Result<Exit, Failure> {
    match (operation, answer) {
        (AdminOperation::List { after, .. }, StatementAnswer::Users(users)) => {
            users::list(&users, after.as_deref(), None, cx)
        }
        (AdminOperation::List { after, .. }, StatementAnswer::UserPage { users, next }) => {
            users::list(&users, after.as_deref(), Some(&next), cx)
        }
        (AdminOperation::Show { .. }, StatementAnswer::User(user)) => users::show(&user, cx),
        (AdminOperation::Acknowledge { .. }, StatementAnswer::Acknowledged(entry)) => {
            acknowledge::acknowledged(entry, cx)
        }
        (_, other) => Err(unexpected(&OpenedResponse::Other(other))),
    }
}

fn unexpected(answer: &OpenedResponse) -> Failure {
    Failure::fault(format!("cannot use the authority's answer: it does not answer this command ({answer:?})"))
}
