//! Checks agent.toml: whether it can be read, whether all its keys are known, and the prompt method
//! that it selects.

use std::env;

use super::finding::DoctorFinding;
use crate::cli::config::AgentConfiguration;
use crate::cli::context::Context;
use crate::cli::directories::configuration_home;
use crate::cli::startup;
use crate::prompter::{Dialog, PinSource, PromptEnvironment, PromptMethod, PrompterError};

const CONCERN: &str = "configuration";
const PROMPTER: &str = "prompter";

/// The content of agent.toml, or the defaults if it is invalid.
pub fn check(cx: &Context<'_>) -> (AgentConfiguration, Vec<DoctorFinding>) {
    let path = configuration_home().map(|home| home.join("tokenkeep/agent.toml"));
    let shown = path.as_ref().map_or_else(|| "agent.toml".to_owned(), |path| path.display().to_string());
    // Every other command would fail here.
    let finding = match cx.configuration() {
        Err(failure) => {
            let remedy = format!("correct {shown}; hsm-config/agent.toml documents every key");
            DoctorFinding::wrong(CONCERN, failure.message, remedy)
        }
        Ok(_) if path.is_some_and(|path| path.exists()) => DoctorFinding::ok(CONCERN, shown),
        Ok(_) => DoctorFinding::ok(CONCERN, format!("no {shown}: none is needed")),
    };
    let configuration = AgentConfiguration::load(configuration_home().as_deref()).unwrap_or_default();
    (configuration, vec![finding])
}

/// Finds the method by which commands, and an agent started from this shell, would prompt a person.
/// Prompts nobody.
pub fn check_prompter(configuration: &AgentConfiguration) -> Vec<DoctorFinding> {
    let environment = PromptEnvironment::new(env::vars_os()).with_descriptors(startup::descriptors_at_start());
    let method = configuration.prompter.clone().unwrap_or(PromptMethod::Auto);
    let mut findings = vec![match Dialog::choose(&method, &environment) {
        Ok(dialog) => DoctorFinding::ok(PROMPTER, format!("an agent started here prompts by {}", dialog.describe())),
        // In a script or a service nobody can be prompted, and nobody needs to be.
        Err(PrompterError::NoMethod { reasons }) => DoctorFinding::note(
            PROMPTER,
            format!("an agent started here could not prompt anyone: {reasons}"),
            "start it where a window can be opened (pinentry or SSH_ASKPASS), or run `tokenkeep \
             agent` in a terminal of its own, or set `prompter` in agent.toml",
        ),
        Err(error) => DoctorFinding::of_error(PROMPTER, &error.to_string()),
    }];
    if let Some(source) = configuration.pin_source.as_ref().filter(|source| **source != PinSource::Prompt) {
        findings.push(DoctorFinding::ok(PROMPTER, format!("commands take PINs from {source} (agent.toml)")));
    }
    findings
}
