//! The agent: does one run, can its sockets be used, and do programs find them?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::agent::{Directory, Door, State};
use crate::cli::surroundings::directory;

const CONCERN: &str = "agent";

const START: &str = "eval \"$(tokenkeep agent --env)\" starts one, and tells this shell where it is";

/// Its sockets, and the variables that lead to them.
pub fn look() -> Vec<Finding> {
    let place = Directory::of_this_user();
    let states = [Door::Ssh, Door::Api].map(|door| (door, place.socket(door), place.state(door)));
    if states.iter().all(|(_, _, state)| *state == State::Absent) {
        let mut findings = vec![Finding::note(CONCERN, "none runs: commands open tokens themselves", START)];
        findings.extend(variables(&states));
        return findings;
    }
    let holder = place.running().map(|process| format!(", process {process}")).unwrap_or_default();
    let mut findings: Vec<_> = states.iter().map(|(door, path, state)| socket(*door, path, state, &holder)).collect();
    findings.extend(variables(&states));
    findings
}

fn socket(door: Door, path: &Path, state: &State, holder: &str) -> Finding {
    let shown = path.display();
    let door = door.name();
    match state {
        State::Live => match fs::symlink_metadata(path).map(|found| found.mode() & 0o777) {
            Ok(mode) if mode & 0o077 != 0 => Finding::wrong(
                CONCERN,
                format!("the {door} socket {shown} can be used by others (mode {mode:04o})"),
                format!("chmod 600 {shown}"),
            ),
            _ => Finding::ok(CONCERN, format!("{door} on {shown}{holder}")),
        },
        State::Absent => Finding::note(CONCERN, format!("there is no {door} socket {shown}"), START),
        State::Stale => {
            Finding::note(CONCERN, format!("nobody listens on the {door} socket {shown}: its agent was killed"), START)
        }
        State::Wrong(reason) => Finding::wrong(
            CONCERN,
            format!("its {door} socket cannot be used: {reason}"),
            "remove it, then start the agent",
        ),
    }
}

/// Do the variables that programs go by lead to these sockets?
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
        // Commands of ours find the socket without it, and ssh has agents of its own.
        None if name == "TOKENKEEP_AGENT_API" || !live => None,
        None => Some(Finding::note(CONCERN, format!("{name} is not set: ssh and git do not find the agent"), START)),
        Some(value) if name == "TOKENKEEP_AGENT_API" => Some(Finding::wrong(
            CONCERN,
            format!("{name} is {}, and not the agent's {}", value.display(), ours.display()),
            format!("unset {name}, or {START}"),
        )),
        Some(value) if live => {
            let what = format!("{name} is {}: ssh and git ask another agent", value.display());
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
