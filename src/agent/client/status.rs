//! An agent's status (`/v1/status`). An older agent reports less, which is not an error.

use serde::Deserialize;

/// An agent's status.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentStatus {
    /// locked with `ssh-add -x`
    pub locked: bool,
    /// its prompt method
    #[serde(default)]
    pub prompter: Option<String>,
    /// why it cannot prompt, with the remedy
    #[serde(default)]
    pub prompter_problem: Option<String>,
}
