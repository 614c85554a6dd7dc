//! What an agent says of itself (`/v1/status`). An older one says less: that is no error.

use serde::Deserialize;

/// How an agent is.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentStatus {
    /// `ssh-add -x`
    pub locked: bool,
    /// how its prompter asks a person
    #[serde(default)]
    pub asks_by: Option<String>,
    /// why it cannot ask one, with the remedy
    #[serde(default)]
    pub cannot_ask: Option<String>,
}
