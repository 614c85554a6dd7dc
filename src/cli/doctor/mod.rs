//! `tokenkeep doctor`: looks at everything that has to be right for the other commands, one file a concern, and says of each
//! thing that is not what to do about it.
//!
//! It looks, and changes nothing: no PIN is asked for or tried, nothing is made, a running agent goes on undisturbed, and one
//! thing that is wrong keeps it from nothing else.

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
#[command(after_help = "Exit codes: 0 nothing is wrong, 1 something is (what is only noted does not count).")]
pub struct Arguments {}

/// Looks.
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
        lines.push("Nothing is wrong.".to_owned());
    }
    around.screen.answer(lines.join("\n"), &json!({ "well": wrong == 0, "findings": findings }))?;
    match wrong {
        0 => Ok(Exit::Done),
        1 => Err(Failure::fault("one thing is wrong").with_remedy("what to do stands below it")),
        more => Err(Failure::fault(format!("{more} things are wrong")).with_remedy("what to do stands below each")),
    }
}
