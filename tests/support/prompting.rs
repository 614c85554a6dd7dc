//! A person behind an agent, asked by a program of their own, and OpenSSH's client who has them asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::agent::Agent;
use super::machine::Machine;
use super::office::Somebody;
use super::output::Output;

/// A program of the person's own; what it is asked stands in the machine's file `asked`.
pub fn script(machine: &Machine, name: &str, body: &str) -> String {
    let text = format!("#!/bin/sh\n{}\n", body.replace("$HERE", machine.path().to_str().unwrap()));
    let path = machine.write(&format!("bin/{name}"), text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.display().to_string()
}

/// An askpass that gives the right PIN, and this answer to a confirmation.
pub fn askpass(machine: &Machine, confirmation: &str) -> String {
    let body = format!(
        "printf '%s|%s\\n---\\n' \"$SSH_ASKPASS_PROMPT\" \"$1\" >> $HERE/asked\n\
         case \"$SSH_ASKPASS_PROMPT\" in confirm) {confirmation} ;; *) cat $HERE/pin ;; esac"
    );
    script(machine, "askpass", &body)
}

/// What was asked so far.
pub fn asked(machine: &Machine) -> String {
    fs::read_to_string(machine.file("asked")).unwrap_or_default()
}

/// An agent of somebody's, asking by this way, whose key is in the file `key.pub`.
pub fn agent(somebody: &mut Somebody, way: &str, variables: &[(&str, &str)]) -> Agent {
    for (name, value) in variables {
        somebody.machine.set_environment(name, value);
    }
    Agent::configure(&somebody.machine, &format!("prompter = \"{way}\""));
    let agent = Agent::start(&somebody.machine, &["-v"]);
    offer(&mut somebody.machine, &agent);
    agent
}

pub fn offer(machine: &mut Machine, agent: &Agent) {
    machine.set_environment("SSH_AUTH_SOCK", agent.ssh_socket().to_str().unwrap());
    let keys = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", keys.lines().next().unwrap());
}

/// OpenSSH's own client signs through the agent.
pub fn sign(machine: &Machine, namespace: &str) -> Output {
    machine.run("ssh-keygen", &["-Y", "sign", "-n", namespace, "-f", "key.pub"], b"a message\n")
}

/// … and it verifies.
pub fn signs(machine: &Machine, namespace: &str) {
    let signature = sign(machine, namespace).ok().out();
    let file = format!("{namespace}.sig");
    machine.write(&file, signature);
    machine.run("ssh-keygen", &["-Y", "check-novalidate", "-n", namespace, "-s", &file], b"a message\n").ok();
}

/// The same through the agent's own API; what it answers.
pub fn sign_by_api(machine: &Machine, agent: &Agent) -> Output {
    let socket = agent.api_socket().display().to_string();
    let body = r#"{"content":"YSBtZXNzYWdlCg=="}"#;
    machine.run("curl", &["-sS", "--unix-socket", &socket, "--json", body, "http://tokenkeep/v1/sign"], b"")
}

#[track_caller]
pub fn says_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not said in\n{text}");
    }
}

/// What the token itself remembers of wrong PINs.
pub fn pin_state(machine: &Machine) -> String {
    machine.tokenkeep(&["tokens", "--json", "--no-agent"]).ok().json()[0]["pin_state"].as_str().unwrap().to_owned()
}

pub fn enroll(somebody: &Somebody, level: &str) -> Output {
    let letter = ["enroll", "--letter", "first.letter", "--keyset", "default", "--level", level];
    somebody.tokenkeep(&[&letter[..], &["--new-token", "--new-pin-source", "file:pin"]].concat())
}
