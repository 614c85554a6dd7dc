//! A person behind an agent, asked by a program of the test, and OpenSSH's client, which triggers
//! the prompts.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::agent::Agent;
use super::machine::Machine;
use super::output::Output;
use super::shared_authority::TestUser;

/// Writes a program of the test. `$HERE` in the body becomes the machine's directory. Returns its
/// path.
pub fn write_script(machine: &Machine, name: &str, body: &str) -> String {
    let text = format!("#!/bin/sh\n{}\n", body.replace("$HERE", machine.path().to_str().unwrap()));
    let path = machine.write(&format!("bin/{name}"), text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.display().to_string()
}

/// An askpass that gives the right PIN, runs `confirmation` for a confirmation, and appends each
/// question to the machine's file `asked`.
pub fn write_askpass(machine: &Machine, confirmation: &str) -> String {
    let body = format!(
        "printf '%s|%s\\n---\\n' \"$SSH_ASKPASS_PROMPT\" \"$1\" >> $HERE/asked\n\
         case \"$SSH_ASKPASS_PROMPT\" in confirm) {confirmation} ;; *) cat $HERE/pin ;; esac"
    );
    write_script(machine, "askpass", &body)
}

/// The questions so far.
pub fn questions(machine: &Machine) -> String {
    fs::read_to_string(machine.file("asked")).unwrap_or_default()
}

/// Starts a user's agent with this prompter. The key that it offers is in the file `key.pub`.
pub fn start_agent(user: &mut TestUser, prompter: &str, variables: &[(&str, &str)]) -> Agent {
    for (name, value) in variables {
        user.machine.set_environment(name, value);
    }
    Agent::configure(&user.machine, &format!("prompter = \"{prompter}\""));
    let agent = Agent::start(&user.machine, &["-v"]);
    export_offered_key(&mut user.machine, &agent);
    agent
}

pub fn export_offered_key(machine: &mut Machine, agent: &Agent) {
    machine.set_environment("SSH_AUTH_SOCK", agent.ssh_socket().to_str().unwrap());
    let keys = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", keys.lines().next().unwrap());
}

/// Signs through the agent with OpenSSH's client.
pub fn sign(machine: &Machine, namespace: &str) -> Output {
    machine.run("ssh-keygen", &["-Y", "sign", "-n", namespace, "-f", "key.pub"], b"a message\n")
}

/// Signs through the agent, and verifies the signature.
pub fn sign_and_verify(machine: &Machine, namespace: &str) {
    let signature = sign(machine, namespace).ok().out();
    let file = format!("{namespace}.sig");
    machine.write(&file, signature);
    machine.run("ssh-keygen", &["-Y", "check-novalidate", "-n", namespace, "-s", &file], b"a message\n").ok();
}

/// Signs through the agent's API; returns the response.
pub fn sign_by_api(machine: &Machine, agent: &Agent) -> Output {
    let socket = agent.api_socket().display().to_string();
    let body = r#"{"content":"YSBtZXNzYWdlCg=="}"#;
    machine.run("curl", &["-sS", "--unix-socket", &socket, "--json", body, "http://tokenkeep/v1/sign"], b"")
}

#[track_caller]
pub fn assert_contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

/// The PIN state that the token reports.
pub fn pin_state(machine: &Machine) -> String {
    machine.tokenkeep(&["tokens", "--json", "--no-agent"]).ok().json()[0]["pin_state"].as_str().unwrap().to_owned()
}

pub fn enroll(user: &TestUser, level: &str) -> Output {
    let letter = ["enroll", "--letter", "first.letter", "--keyset", "default", "--level", level];
    user.tokenkeep(&[&letter[..], &["--new-token", "--new-pin-source", "file:pin"]].concat())
}
