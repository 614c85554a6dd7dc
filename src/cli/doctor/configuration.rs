//! Checks agent.toml: whether it can be read, and whether all its keys are known.

use super::finding::DoctorFinding;
use crate::cli::config::AgentConfiguration;
use crate::cli::context::{Context, configuration_home};

const CONCERN: &str = "configuration";

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
