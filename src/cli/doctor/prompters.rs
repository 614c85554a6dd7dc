//! Checks how a person would be prompted: by the commands, and by an agent started from this shell.

use std::env;

use super::finding::DoctorFinding;
use crate::cli::config::AgentConfiguration;
use crate::cli::startup;
use crate::prompter::{Dialog, PinSource, PromptEnvironment, PromptMethod, PrompterError};

const CONCERN: &str = "prompter";

/// Finds out how a person would be prompted, without a prompt.
pub fn check(configuration: &AgentConfiguration) -> Vec<DoctorFinding> {
    let environment = PromptEnvironment::new(env::vars_os()).with_descriptors(startup::descriptors_at_start());
    let method = configuration.prompter.clone().unwrap_or(PromptMethod::Auto);
    let mut findings = vec![match Dialog::choose(&method, &environment) {
        Ok(dialog) => DoctorFinding::ok(CONCERN, format!("an agent started here prompts by {}", dialog.describe())),
        // In a script or a service nobody can be prompted, and nobody needs to be.
        Err(PrompterError::NoMethod { reasons }) => DoctorFinding::note(
            CONCERN,
            format!("an agent started here could not prompt anyone: {reasons}"),
            "start it where a window can be opened (pinentry or SSH_ASKPASS), or run `tokenkeep \
             agent` in a terminal of its own, or set `prompter` in agent.toml",
        ),
        Err(error) => DoctorFinding::of_error(CONCERN, &error.to_string()),
    }];
    if let Some(source) = configuration.pin_source.as_ref().filter(|source| **source != PinSource::Prompt) {
        findings.push(DoctorFinding::ok(CONCERN, format!("commands take PINs from {source} (agent.toml)")));
    }
    findings
}
