//! agent.toml: is it read, and is every key in it known?

use super::finding::Finding;
use crate::cli::config::AgentConfiguration;
use crate::cli::surroundings::{Surroundings, configuration_home};

const CONCERN: &str = "configuration";

/// What agent.toml says, or, when it says nothing that can be understood, nothing.
pub fn look(around: &Surroundings<'_>) -> (AgentConfiguration, Vec<Finding>) {
    let path = configuration_home().map(|home| home.join("tokenkeep/agent.toml"));
    let shown = path.as_ref().map_or_else(|| "agent.toml".to_owned(), |path| path.display().to_string());
    // Every other command would end here.
    let finding = match around.configuration() {
        Err(failure) => {
            let remedy = format!("correct {shown}; hsm-config/agent.toml has every key, with a comment");
            Finding::wrong(CONCERN, failure.message, remedy)
        }
        Ok(_) if path.is_some_and(|path| path.exists()) => Finding::ok(CONCERN, shown),
        Ok(_) => Finding::ok(CONCERN, format!("no {shown}: none is needed")),
    };
    let configuration = AgentConfiguration::load(configuration_home().as_deref()).unwrap_or_default();
    (configuration, vec![finding])
}
