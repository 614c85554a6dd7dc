//! Checks the agent: whether it runs, whether its sockets are usable, and whether programs find
//! them. Also collects what the agent reports about its tokens.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::agent::client::{AgentStatus, ClientError};
use crate::agent::{Directory, Door, State};
use crate::cli::surroundings::{Surroundings, directory};
use crate::keyset::{FoundKeyset, TokenTrouble};
use crate::token::{TokenFlags, TokenInfo};

const CONCERN: &str = "agent";

const START: &str = "eval \"$(tokenkeep agent --env)\" starts one, and sets this shell's variables";

/// The agent's report about the tokens that it holds, which this process cannot open.
#[derive(Debug, Default)]
pub struct Told {
    pub tokens: Vec<(TokenInfo, TokenFlags)>,
    pub keysets: Vec<FoundKeyset>,
    pub troubles: Vec<TokenTrouble>,
    /// findings about the agent itself
    pub findings: Vec<Finding>,
}

/// Asks the agent that commands would use, if one runs. Tries no PIN and ends no session.
pub fn ask(around: &Surroundings<'_>) -> Told {
    let said = |finding| Told { findings: vec![finding], ..Told::default() };
    let agent = match around.agent() {
        Ok(Some(agent)) => agent,
        Ok(None) => return Told::default(),
        Err(failure) => return said(Finding::of_error(CONCERN, &failure.message)),
    };
    let status = agent.status().unwrap_or_default();
    let mut findings: Vec<_> = prompter(&status).into_iter().collect();
    if status.locked {
        findings.push(Finding::note(CONCERN, "it is locked: no key can be used", "`ssh-add -X` unlocks it"));
        return Told { findings, ..Told::default() };
    }
    // If the agent cannot answer one question, still ask the other.
    let (tokens, unknown) = take_or_report(agent.pins(None), &mut findings);
    findings.extend(unknown.iter().map(|trouble| Finding::of_error(CONCERN, &trouble.error.to_string())));
    let (keysets, troubles) = take_or_report(agent.keysets(), &mut findings);
    Told { tokens, keysets, troubles, findings }
}

fn take_or_report<T: Default>(answer: Result<T, ClientError>, findings: &mut Vec<Finding>) -> T {
    answer.unwrap_or_else(|error| {
        let finding = Finding::of_error(CONCERN, &error.to_string());
        if !findings.contains(&finding) {
            findings.push(finding);
        }
        T::default()
    })
}

/// How the agent prompts. This depends on the agent's environment, not on that of this shell.
fn prompter(status: &AgentStatus) -> Option<Finding> {
    if let Some(way) = &status.asks_by {
        return Some(Finding::ok(CONCERN, format!("it asks a person by {way}")));
    }
    let why = status.cannot_ask.as_ref()?;
    let (what, remedy) = why.rsplit_once("; ").unwrap_or((why, "set `prompter` in agent.toml"));
    Some(Finding::note(CONCERN, format!("it {what}: uses that need a person are refused"), remedy))
}

/// Checks the agent's sockets and the variables that name them.
pub fn look() -> Vec<Finding> {
    let place = Directory::of_this_user();
    let states = [Door::Ssh, Door::Api].map(|door| (door, place.socket(door), place.state(door)));
    let process = place.running();
    let mut findings = match &states {
        [(_, _, State::Absent), (_, _, State::Absent)] if process.is_none() => {
            vec![Finding::note(CONCERN, "none runs: commands open tokens themselves", START)]
        }
        // A problem of their directory affects both sockets: report it once.
        [(_, _, State::Wrong(one)), (_, _, State::Wrong(other))] if one == other => {
            vec![Finding::wrong(CONCERN, format!("its sockets cannot be used: {}", one.reason), one.remedy.clone())]
        }
        states => states.iter().map(|(door, path, state)| socket(*door, path, state, process)).collect(),
    };
    findings.extend(variables(&states));
    findings
}

fn socket(door: Door, path: &Path, state: &State, process: Option<i32>) -> Finding {
    let shown = path.display();
    let door = door.name();
    match (state, process) {
        (State::Absent | State::Stale, Some(process)) => Finding::wrong(
            CONCERN,
            format!(
                "the agent runs (process {process}), but its {door} socket {shown} is gone: \
                 clients cannot connect"
            ),
            format!("restart it: `tokenkeep agent stop`, then {START}"),
        ),
        (State::Live, _) => match fs::symlink_metadata(path).map(|found| found.mode() & 0o777) {
            Ok(mode) if mode & 0o077 != 0 => Finding::wrong(
                CONCERN,
                format!("the {door} socket {shown} can be used by others (mode {mode:04o})"),
                format!("chmod 600 {shown}"),
            ),
            _ => {
                let holder = process.map(|process| format!(", process {process}")).unwrap_or_default();
                Finding::ok(CONCERN, format!("{door} on {shown}{holder}"))
            }
        },
        (State::Absent, None) => Finding::note(CONCERN, format!("{door} socket {shown} not found"), START),
        (State::Stale, None) => Finding::note(
            CONCERN,
            format!("no process listens on the {door} socket {shown}: its agent was killed"),
            START,
        ),
        (State::Wrong(trouble), _) => Finding::wrong(
            CONCERN,
            format!("its {door} socket {shown} cannot be used: {}", trouble.reason),
            trouble.remedy.clone(),
        ),
    }
}

/// Checks that the variables that programs use name these sockets.
fn variables(states: &[(Door, PathBuf, State); 2]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (door, path, state) in states {
        let name = match door {
            Door::Ssh => "SSH_AUTH_SOCK",
            Door::Api => "TOKENKEEP_AGENT_API",
        };
        findings.extend(variable(name, directory(name).as_deref(), path, *state == State::Live));
    }
    findings
}

fn variable(name: &str, value: Option<&Path>, ours: &Path, live: bool) -> Option<Finding> {
    match value {
        Some(value) if value == ours => None,
        // tokenkeep's commands find the socket without it, and ssh may use another agent.
        None if name == "TOKENKEEP_AGENT_API" || !live => None,
        None => Some(Finding::note(CONCERN, format!("{name} is not set: ssh and git do not find the agent"), START)),
        Some(value) if name == "TOKENKEEP_AGENT_API" => Some(Finding::wrong(
            CONCERN,
            format!("{name} is {}, not the agent's {}", value.display(), ours.display()),
            format!("unset {name}, or {START}"),
        )),
        Some(value) if live => {
            let what = format!("{name} is {}: ssh and git use another agent", value.display());
            Some(Finding::note(CONCERN, what, START))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_lead_elsewhere_are_told() {
        let (ours, other) = (Path::new("/run/ours.sock"), Path::new("/run/other.sock"));
        assert_eq!(variable("SSH_AUTH_SOCK", Some(ours), ours, true), None);
        assert_eq!(variable("SSH_AUTH_SOCK", Some(other), ours, false), None, "no agent of ours runs");
        assert!(variable("SSH_AUTH_SOCK", Some(other), ours, true).unwrap().what.contains("another agent"));
        assert!(variable("SSH_AUTH_SOCK", None, ours, true).is_some());
        assert_eq!(variable("TOKENKEEP_AGENT_API", None, ours, true), None);
        assert!(variable("TOKENKEEP_AGENT_API", Some(other), ours, true).unwrap().what.contains("/run/other.sock"));
    }
}
