//! `tokenkeep authority check`: is all that the authority has stored as the authority has stored it?

use super::{ConfigurationFile, pin_of};
use crate::authority::{Authority, CheckReport};
use crate::cli::arguments::ExistingPin;
use crate::cli::exit::{Exit, Failure};
use crate::cli::progress;
use crate::cli::screen::line_of;
use crate::cli::surroundings::Surroundings;
use crate::prompter::showable;
use crate::service;

/// What to do when something does not hold.
const REMEDY: &str = "keep a copy of the state directory for those who look into it, restore the database from a backup, \
                      and let an administrator run a command with it, which compares the log with their checkpoint";

/// What no check of a stopped authority sees.
const CUT_END: &str = "The authority does not serve: entries that were cut off the end of its log\n\
                       cannot be seen here. The next command of each administrator compares it with\n\
                       the checkpoint that their keyset keeps.";

/// What the command line says of `authority check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    configuration: ConfigurationFile,
    #[command(flatten)]
    pin: ExistingPin,
}

/// Checks, through `serve` where it runs.
pub(super) fn check(arguments: &Check, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.load()?;
    let report = if let Some(report) = service::check_by_running(&configuration)? {
        report
    } else {
        let pin = pin_of(&configuration, &arguments.pin, around)?;
        progress::during("checking the authority's database", || Authority::check_stopped(&configuration, &pin))?
    };
    let value = serde_json::to_value(&report).map_err(|error| Failure::fault(error.to_string()))?;
    around.screen.answer(lines(&report), &value)?;
    match report.findings.len() {
        0 => Ok(Exit::Done),
        1 => Err(Failure::fault("one thing in the authority's database does not hold").with_remedy(REMEDY)),
        more => {
            Err(Failure::fault(format!("{more} things in the authority's database do not hold")).with_remedy(REMEDY))
        }
    }
}

fn lines(report: &CheckReport) -> String {
    let mut lines: Vec<String> = report.note.iter().map(|note| format!("NOTE   {note}")).collect();
    for finding in &report.findings {
        lines.push(line_of(&format!("WRONG  {:<12}", finding.concern), &finding.what, 19));
    }
    lines.extend(report.ending.iter().map(|told| line_of("SOON", &showable(told), 5)));
    lines.push(format!(
        "Checked {} entries of the log, {} users, {} letters,\n{} certificates and {} archived keys (schema {}).",
        report.log_entries, report.users, report.letters, report.certificates, report.archived_keys, report.schema
    ));
    if report.findings.is_empty() {
        let all = if report.note.is_some() {
            "Everything that can be checked before that holds."
        } else {
            "Everything holds."
        };
        lines.push(all.to_owned());
    }
    if !report.log_end_known {
        lines.push(CUT_END.to_owned());
    }
    lines.join("\n")
}
