//! `tokenkeep doctor`: checks everything that the other commands need, one file per subject, and
//! suggests a fix for each problem.
//!
//! It changes nothing: it asks for no PIN and tries none, creates nothing, and does not disturb a
//! running agent. A problem does not stop the other checks.

mod agent;
mod configuration;
mod finding;
mod modules;
mod permissions;
mod readers;
mod tokens;

use serde_json::json;

use super::context::Context;
use super::exit::{Exit, Failure};
use finding::{DoctorFinding, FindingState};

/// `doctor` has no options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 no problem, 1 problem found (a note is no problem).")]
pub struct DoctorArguments {}

/// Runs all checks.
pub fn run(_arguments: &DoctorArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let (configuration, mut findings) = configuration::check(cx);
    findings.extend(permissions::check(&configuration));
    let found = modules::check(cx, &configuration);
    findings.extend(modules::check_softhsm(&found.paths));
    findings.extend(found.findings);
    let agent_report = agent::ask(cx);
    findings.extend(tokens::check(found.modules, &agent_report, cx.now()));
    findings.extend(readers::check(&found.paths, found.are_named));
    findings.extend(agent::check());
    findings.extend(agent_report.findings);
    findings.extend(configuration::check_prompter(&configuration));
    render(&findings, cx)
}

fn render(findings: &[DoctorFinding], cx: &Context<'_>) -> Result<Exit, Failure> {
    let wrong = findings.iter().filter(|finding| finding.state == FindingState::Wrong).count();
    let mut lines: Vec<_> = findings.iter().map(DoctorFinding::lines).collect();
    if wrong == 0 {
        lines.push("No problem was found.".to_owned());
    }
    cx.output.answer(lines.join("\n"), &json!({ "well": wrong == 0, "findings": findings }))?;
    match wrong {
        0 => Ok(Exit::Done),
        1 => Err(Failure::fault("one problem was found").with_remedy("the line below it suggests a fix")),
        more => {
            Err(Failure::fault(format!("{more} problems were found")).with_remedy("the line below each suggests a fix"))
        }
    }
}
