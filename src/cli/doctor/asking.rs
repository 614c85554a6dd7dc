//! How a person would be asked: by the commands, and by an agent that is started from here.

use std::env;

use super::finding::Finding;
use crate::cli::config::AgentConfiguration;
use crate::cli::descriptors;
use crate::prompter::{Dialog, Environment, PinSource, PrompterError, Way};

const CONCERN: &str = "prompter";

/// Finds the way to a person, and asks nothing.
pub fn look(configuration: &AgentConfiguration) -> Vec<Finding> {
    let environment = Environment::new(env::vars_os()).with_descriptors(descriptors::at_start());
    let way = configuration.prompter.clone().unwrap_or(Way::Auto);
    let mut findings = vec![match Dialog::choose(&way, &environment) {
        Ok(dialog) => Finding::ok(CONCERN, format!("an agent started here asks by {}", dialog.describe())),
        // In a script or a service nobody can be asked, and nobody need be.
        Err(PrompterError::NoWay { reasons }) => Finding::note(
            CONCERN,
            format!("an agent started here could ask nobody: {reasons}"),
            "start it where a window can be opened (pinentry or SSH_ASKPASS), or type `tokenkeep agent` in a terminal of \
             its own, or name a way in agent.toml (`prompter`)",
        ),
        Err(error) => Finding::of_error(CONCERN, &error.to_string()),
    }];
    if let Some(source) = configuration.pin_source.as_ref().filter(|source| **source != PinSource::Prompt) {
        findings.push(Finding::ok(CONCERN, format!("commands take PINs from {source} (agent.toml)")));
    }
    findings
}
