//! `tokenkeep doctor`: checks everything that the other commands need, one file per subject, and
//! suggests a fix for each problem.
//!
//! It changes nothing: it asks for no PIN and tries none, creates nothing, and does not disturb a
//! running agent. A problem does not stop the other checks.

mod agent;
mod asking;
mod configuration;
mod finding;
mod modules;
mod permissions;
mod readers;
mod softhsm;
mod tokens;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::surroundings::Surroundings;
use finding::{Finding, State};

/// `doctor` has no options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 no problem, 1 problem found (a note is no problem).")]
pub struct Arguments {}

/// Runs all checks.
pub fn run(_arguments: &Arguments, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (configuration, mut findings) = configuration::look(around);
    findings.extend(permissions::look(&configuration));
    let found = modules::look(around, &configuration);
    findings.extend(softhsm::look(&found.paths));
    findings.extend(found.findings);
    let told = agent::ask(around);
    findings.extend(tokens::look(found.modules, &told, around.now()));
    findings.extend(readers::look(&found.paths, found.are_named));
    findings.extend(agent::look());
    findings.extend(told.findings);
    findings.extend(asking::look(&configuration));
    tell(&findings, around)
}

fn tell(findings: &[Finding], around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count();
    let mut lines: Vec<_> = findings.iter().map(Finding::lines).collect();
    if wrong == 0 {
        lines.push("No problem was found.".to_owned());
    }
    around.screen.answer(lines.join("\n"), &json!({ "well": wrong == 0, "findings": findings }))?;
    match wrong {
        0 => Ok(Exit::Done),
        1 => Err(Failure::fault("one problem was found").with_remedy("the line below it suggests a fix")),
        more => {
            Err(Failure::fault(format!("{more} problems were found")).with_remedy("the line below each suggests a fix"))
        }
    }
}
