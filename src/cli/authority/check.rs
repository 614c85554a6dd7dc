//! `tokenkeep authority check`: checks that the database is as the authority wrote it.

use super::{ConfigurationArguments, pin_of};
use crate::authority::{Authority, DatabaseCheckReport};
use crate::cli::arguments::PinArguments;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::spinner;
use crate::cli::table::line_of;
use crate::prompter::showable;
use crate::service;

/// The next step after a problem was found.
const REMEDY: &str = "keep a copy of the state directory for the investigation, restore the database from a backup, \
                      and have an administrator run a command with it, which compares the log with their checkpoint";

/// The limit of a check while the authority is stopped.
const CUT_END: &str = "The authority does not serve: this check cannot detect entries that were cut off\n\
                       the end of its log. The next command of each administrator compares the log\n\
                       with the checkpoint that their keyset keeps.";

/// Arguments of `authority check`.
#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    #[command(flatten)]
    pin: PinArguments,
}

/// Checks the database, through `authority serve` if it runs.
pub(super) fn check(arguments: &CheckArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    let report = if let Some(report) = service::request_check(&configuration)? {
        report
    } else {
        let pin = pin_of(&configuration, &arguments.pin, cx)?;
        spinner::with_spinner("checking the authority's database", || Authority::check_stopped(&configuration, &pin))?
    };
    let value = serde_json::to_value(&report).map_err(|error| Failure::fault(error.to_string()))?;
    cx.output.answer(lines(&report), &value)?;
    match report.findings.len() {
        0 => Ok(Exit::Done),
        1 => Err(Failure::fault("the authority's database has one problem").with_remedy(REMEDY)),
        more => Err(Failure::fault(format!("the authority's database has {more} problems")).with_remedy(REMEDY)),
    }
}

fn lines(report: &DatabaseCheckReport) -> String {
    let mut lines: Vec<String> = report.note.iter().map(|note| format!("NOTE   {note}")).collect();
    for finding in &report.findings {
        lines.push(line_of(&format!("WRONG  {:<12}", finding.concern), &finding.what, 19));
    }
    lines.extend(report.ending.iter().map(|warning| line_of("SOON", &showable(warning), 5)));
    lines.push(format!(
        "Checked {} entries of the log, {} users, {} letters,\n{} certificates and {} archived \
         keys (schema {}).",
        report.log_entries, report.users, report.letters, report.certificates, report.archived_keys, report.schema
    ));
    if report.findings.is_empty() {
        let all = if report.note.is_some() {
            "Everything that can be checked before that is correct."
        } else {
            "No problem was found."
        };
        lines.push(all.to_owned());
    }
    if !report.log_end_known {
        lines.push(CUT_END.to_owned());
    }
    lines.join("\n")
}
