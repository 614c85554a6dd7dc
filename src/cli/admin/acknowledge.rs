//! `admin acknowledge`: the administrator knows of one who was added on the authority's machine.

use serde_json::json;

use super::AdminIdentity;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::man_page::{ASKS_AUTHORITY, KEYSET_FILES, Page};
use crate::statement::AdminOperation;

/// The manual page.
pub const PAGE: Page = Page {
    name: "tokenkeep-admin-acknowledge",
    exits: ASKS_AUTHORITY,
    files: KEYSET_FILES,
    examples: &[("Acknowledge entry 42 of the audit log:", &["tokenkeep admin acknowledge 42 --keyset admin"])],
    see_also: &["tokenkeep-authority-administrator-add"],
};

/// Arguments of `admin acknowledge`.
#[derive(Debug, clap::Args)]
pub struct AcknowledgeArguments {
    /// Number of the audit log's entry, as the authority's answers report it
    #[arg(value_name = "N")]
    entry: u64,
    #[command(flatten)]
    pub(super) identity: AdminIdentity,
}

impl AcknowledgeArguments {
    pub(super) fn operation(&self) -> AdminOperation {
        AdminOperation::Acknowledge { entry: self.entry }
    }
}

/// Prints that the entry of the log is acknowledged.
pub(super) fn acknowledged(entry: u64, cx: &Context<'_>) -> Result<Exit, Failure> {
    cx.output.answer(
        format!("Acknowledged: the authority no longer reports entry {entry} of its log to you."),
        &json!({ "entry": entry }),
    )
}
