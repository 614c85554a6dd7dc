//! Checks the agent: whether it runs, whether its sockets are usable, and whether programs find
//! them. Also collects what the agent reports about its tokens.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::DoctorFinding;
use crate::agent::AgentStatus;
use crate::agent::{Endpoint, SocketDirectory, SocketProblem};
use crate::cli::backend::Backend;
use crate::cli::context::Context;
use crate::cli::directories::directory;
use crate::cli::exit::Failure;
use crate::ipc::SocketState;
use crate::keyset::ops::PinStatus;
use crate::keyset::{FoundKeyset, UnreadableToken};
use crate::token::{TokenFlags, TokenInfo};

const CONCERN: &str = "agent";

const START: &str = "eval \"$(tokenkeep agent --env)\" starts one, and sets this shell's variables";

/// The state of a socket, or its problem.
type CheckedState = Result<SocketState, SocketProblem>;

/// The agent's report about the tokens that it holds, which this process cannot open.
#[derive(Debug, Default)]
pub struct AgentReport {
    pub tokens: Vec<(TokenInfo, TokenFlags)>,
    pub keysets: Vec<FoundKeyset>,
    pub unreadable: Vec<UnreadableToken>,
    /// findings about the agent itself
    pub findings: Vec<DoctorFinding>,
}

/// Asks the agent that commands would use, if one runs. Tries no PIN and ends no session.
pub fn ask(cx: &Context<'_>) -> AgentReport {
    let only = |finding| AgentReport { findings: vec![finding], ..AgentReport::default() };
    let agent = match cx.agent() {
        Ok(Some(agent)) => agent,
        Ok(None) => return AgentReport::default(),
        Err(failure) => return only(DoctorFinding::of_error(CONCERN, &failure.message)),
    };
    let status = agent.status().unwrap_or_default();
    let mut findings: Vec<_> = prompter(&status).into_iter().collect();
    if status.locked {
        findings.push(DoctorFinding::note(CONCERN, "it is locked: no key can be used", "`ssh-add -X` unlocks it"));
        return AgentReport { findings, ..AgentReport::default() };
    }
    let backend = Backend::Agent(agent);
    // If the agent cannot answer one question, still ask the other.
    let (tokens, unknown) = take_or_report(backend.query(PinStatus { token: None }), &mut findings);
    findings.extend(unknown.iter().map(|problem| DoctorFinding::of_error(CONCERN, &problem.error.to_string())));
    let (keysets, unreadable) = take_or_report(backend.keysets(), &mut findings);
    AgentReport { tokens, keysets, unreadable, findings }
}

fn take_or_report<T: Default>(answer: Result<T, Failure>, findings: &mut Vec<DoctorFinding>) -> T {
    answer.unwrap_or_else(|failure| {
        let finding = DoctorFinding::of_error(CONCERN, &failure.message);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
        T::default()
    })
}

/// The agent's prompt method. It depends on the agent's environment, not on that of this shell.
fn prompter(status: &AgentStatus) -> Option<DoctorFinding> {
    if let Some(prompter) = &status.prompter {
        return Some(DoctorFinding::ok(CONCERN, format!("it asks a person by {prompter}")));
    }
    let problem = status.prompter_problem.as_ref()?;
    let (what, remedy) = problem.rsplit_once("; ").unwrap_or((problem, "set `prompter` in agent.toml"));
    Some(DoctorFinding::note(CONCERN, format!("it {what}: uses that need a person are refused"), remedy))
}

/// Checks the agent's sockets and the variables that name them.
pub fn check() -> Vec<DoctorFinding> {
    let place = SocketDirectory::of_this_user();
    let states =
        [Endpoint::Ssh, Endpoint::Api].map(|endpoint| (endpoint, place.socket(endpoint), place.state(endpoint)));
    let process = place.running();
    let mut findings = match &states {
        [(_, _, Ok(SocketState::Absent)), (_, _, Ok(SocketState::Absent))] if process.is_none() => {
            vec![DoctorFinding::note(CONCERN, "none runs: commands open tokens themselves", START)]
        }
        // A problem of their directory affects both sockets: report it once.
        [(_, _, Err(one)), (_, _, Err(other))] if one == other => {
            vec![DoctorFinding::wrong(
                CONCERN,
                format!("its sockets cannot be used: {}", one.reason),
                one.remedy.clone(),
            )]
        }
        states => states.iter().map(|(endpoint, path, state)| socket(*endpoint, path, state, process)).collect(),
    };
    findings.extend(variables(&states));
    findings
}

fn socket(endpoint: Endpoint, path: &Path, state: &CheckedState, process: Option<i32>) -> DoctorFinding {
    let shown = path.display();
    let endpoint = endpoint.name();
    match (state, process) {
        (Ok(SocketState::Absent | SocketState::Stale), Some(process)) => DoctorFinding::wrong(
            CONCERN,
            format!(
                "the agent runs (process {process}), but its {endpoint} socket {shown} is gone: \
                 clients cannot connect"
            ),
            format!("restart it: `tokenkeep agent stop`, then {START}"),
        ),
        (Ok(SocketState::Live), _) => match fs::symlink_metadata(path).map(|found| found.mode() & 0o777) {
            Ok(mode) if mode & 0o077 != 0 => DoctorFinding::wrong(
                CONCERN,
                format!("the {endpoint} socket {shown} can be used by others (mode {mode:04o})"),
                format!("chmod 600 {shown}"),
            ),
            _ => {
                let holder = process.map(|process| format!(", process {process}")).unwrap_or_default();
                DoctorFinding::ok(CONCERN, format!("{endpoint} on {shown}{holder}"))
            }
        },
        (Ok(SocketState::Absent), None) => {
            DoctorFinding::note(CONCERN, format!("{endpoint} socket {shown} not found"), START)
        }
        (Ok(SocketState::Stale), None) => DoctorFinding::note(
            CONCERN,
            format!("no process listens on the {endpoint} socket {shown}: its agent was killed"),
            START,
        ),
        (Err(problem), _) => DoctorFinding::wrong(
            CONCERN,
            format!("its {endpoint} socket {shown} cannot be used: {}", problem.reason),
            problem.remedy.clone(),
        ),
    }
}

/// Checks that the variables that programs use name these sockets.
fn variables(states: &[(Endpoint, PathBuf, CheckedState); 2]) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    for (endpoint, path, state) in states {
        let name = match endpoint {
            Endpoint::Ssh => "SSH_AUTH_SOCK",
            Endpoint::Api => "TOKENKEEP_AGENT_API",
        };
        findings.extend(variable(name, directory(name).as_deref(), path, *state == Ok(SocketState::Live)));
    }
    findings
}

fn variable(name: &str, value: Option<&Path>, ours: &Path, live: bool) -> Option<DoctorFinding> {
    match value {
        Some(value) if value == ours => None,
        // tokenkeep's commands find the socket without it, and ssh may use another agent.
        None if name == "TOKENKEEP_AGENT_API" || !live => None,
        None => {
            Some(DoctorFinding::note(CONCERN, format!("{name} is not set: ssh and git do not find the agent"), START))
        }
        Some(value) if name == "TOKENKEEP_AGENT_API" => Some(DoctorFinding::wrong(
            CONCERN,
            format!("{name} is {}, not the agent's {}", value.display(), ours.display()),
            format!("unset {name}, or {START}"),
        )),
        Some(value) if live => {
            let what = format!("{name} is {}: ssh and git use another agent", value.display());
            Some(DoctorFinding::note(CONCERN, what, START))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_for_another_agent_are_reported() {
        let (ours, other) = (Path::new("/run/ours.sock"), Path::new("/run/other.sock"));
        assert_eq!(variable("SSH_AUTH_SOCK", Some(ours), ours, true), None);
        assert_eq!(variable("SSH_AUTH_SOCK", Some(other), ours, false), None, "no agent of ours runs");
        assert!(variable("SSH_AUTH_SOCK", Some(other), ours, true).unwrap().what.contains("another agent"));
        assert!(variable("SSH_AUTH_SOCK", None, ours, true).is_some());
        assert_eq!(variable("TOKENKEEP_AGENT_API", None, ours, true), None);
        assert!(variable("TOKENKEEP_AGENT_API", Some(other), ours, true).unwrap().what.contains("/run/other.sock"));
    }
}
