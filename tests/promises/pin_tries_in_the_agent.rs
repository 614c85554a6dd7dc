//! What one wrong PIN costs if the agent has the token: one try, at each of its endpoints, however
//! many requests wait behind it; a cancelled prompt costs none. Counted as in `pin_tries`, between
//! the program and the token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::agent::{Agent, wait_for};
use crate::support::der::{content_of, elements};
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::Machine;
use crate::support::pin_costs::{assert_tries, commands, faulty_user};
use crate::support::shared_authority::{TestUser, wait_until_certificates_are_newer};
use crate::support::ssh::{RawAgentClient, split_string, string};

/// An agent on this machine whose prompter gives the PIN in this file; its module counts.
fn agent_with_pin_file(machine: &mut Machine, pin: &str) -> (Agent, FaultyModule) {
    Agent::configure_with_pin_in(machine, pin, &format!("allow = [\"{}\"]", machine.path().display()));
    let faulty = FaultyModule::wrap_module_of(machine);
    (Agent::start(machine, &[]), faulty)
}

/// The message that an SSH client signs to log in (RFC 4252 §7), and the key's blob.
fn ssh_login_data(agent: &Agent, keyset: &str) -> (Vec<u8>, Vec<u8>) {
    let blob = RawAgentClient::connect(&agent.ssh_socket()).key(keyset);
    let kind = split_string(&blob).0.to_vec();
    let head = [string([7; 32]), vec![50], string("user"), string("ssh-connection"), string("publickey"), vec![1]];
    ([head.concat(), string(kind), string(&blob)].concat(), blob)
}

#[test]
fn one_wrong_pin_costs_one_try_through_the_agent_too() {
    let (mut user, _) = faulty_user();
    let (agent, faulty) = agent_with_pin_file(&mut user.machine, "wrong.pin");
    // Commands ask for the PIN themselves; the agent passes it to the token.
    for (what, command) in commands() {
        assert_tries(&faulty, what, 1, || {
            let all = [&command[..], &["--pin-source", "file:wrong.pin"]].concat();
            user.machine.tokenkeep_without_terminal(&all).fails_with(4).says("is wrong");
        });
        assert_tries(&faulty, what, 0, || {
            let all = [&command[..], &["--pin-source", "file:no-such-file"]].concat();
            user.machine.tokenkeep_without_terminal(&all).fails_with(4);
        });
        // Three wrong PINs from a file would be the last.
        user.signs_with("default", "pin");
    }
    // For a client of the SSH endpoint the agent's own prompter asks.
    let (data, blob) = ssh_login_data(&agent, "default");
    assert_tries(&faulty, "an SSH login", 1, || {
        assert_eq!(RawAgentClient::connect(&agent.ssh_socket()).sign(&blob, &data, 0), None);
    });
    assert_tries(&faulty, "what the SSH endpoint does not sign", 0, || {
        assert_eq!(RawAgentClient::connect(&agent.ssh_socket()).sign(&blob, b"anything", 0), None);
    });
}

/// The API endpoints that use a token: their paths, with the bodies.
fn endpoints(user: &TestUser) -> Vec<(&'static str, String)> {
    let base64 = |name: &str| STANDARD.encode(user.machine.read(name));
    // ContentInfo, [0], (Auth)EnvelopedData: the second part of that has the recipients.
    let message = user.machine.read("secret.p7m");
    let recipients = elements(content_of(elements(content_of(elements(content_of(&message))[1]))[0]))[1];
    let recipient = STANDARD.encode(elements(content_of(recipients))[0]);
    let (content, message, later) = (base64("message.txt"), base64("secret.p7m"), base64("later.p7m"));
    vec![
        ("sign", format!(r#"{{"keyset":"default","content":"{content}"}}"#)),
        ("decrypt", format!(r#"{{"keyset":"default","message":"{message}"}}"#)),
        ("decrypt", format!(r#"{{"keyset":"default","recipient_info":"{recipient}","key_length":32}}"#)),
        ("log-in", r#"{"keyset":"low"}"#.to_owned()),
        ("sign", format!(r#"{{"keyset":"low","content":"{content}"}}"#)),
        ("decrypt", format!(r#"{{"keyset":"low","message":"{later}"}}"#)),
    ]
}

#[test]
fn one_wrong_pin_costs_one_try_at_each_endpoint_of_the_api() {
    let (mut user, _) = faulty_user();
    user.issue("low.letter");
    let enroll = ["enroll", "--letter", "low.letter", "--keyset", "low", "--level", "low", "--new-token"];
    wait_until_certificates_are_newer();
    user.tokenkeep(&[&enroll[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    user.encrypt("a later secret\n", "later.p7m");
    let endpoints = endpoints(&user);
    let (agent, faulty) = agent_with_pin_file(&mut user.machine, "given.pin");
    let machine = &user.machine;
    let socket = agent.api_socket().display().to_string();
    let post = |path: &str, body: &str, expected: u16| {
        let url = format!("http://agent/v1/{path}");
        let line = ["-sS", "--unix-socket", &socket, "-w", "\n%{http_code}", "--json", body, &url];
        machine.run("curl", &line, b"").ok().says(&format!("\n{expected}"))
    };
    for (path, body) in &endpoints {
        let what = format!("{path} {}", body.chars().take(40).collect::<String>());
        machine.write_secret("given.pin", TestUser::WRONG_PIN);
        assert_tries(&faulty, &what, 1, || drop(post(path, body, 403).says("is wrong")));
        machine.write_secret("given.pin", "");
        assert_tries(&faulty, &what, 0, || drop(post(path, body, 403).says("cancelled at the prompt")));
        machine.write_secret("given.pin", "1");
        assert_tries(&faulty, &what, 0, || drop(post(path, body, 403)));
        // A right PIN clears the token's counter; no session remains.
        machine.write_secret("given.pin", TestUser::PIN);
        faulty.reset_calls();
        post(path, body, 200);
        assert_eq!(faulty.wrong_tries(), 0, "{what}");
        post("log-off", "{}", 200);
    }
}

#[test]
fn a_prompt_of_the_agent_that_is_cancelled_costs_no_try() {
    let (mut user, _) = faulty_user();
    user.machine.write("empty", "");
    let (agent, faulty) = agent_with_pin_file(&mut user.machine, "empty");
    let (data, blob) = ssh_login_data(&agent, "default");
    assert_tries(&faulty, "cancelled", 0, || {
        assert_eq!(RawAgentClient::connect(&agent.ssh_socket()).sign(&blob, &data, 0), None);
    });
    for rule in ["flags LOCKED", "removed"] {
        assert_tries(&faulty, rule, 0, || {
            user.machine.write_secret("empty", TestUser::WRONG_PIN);
            faulty.set_faults(rule);
            assert_eq!(RawAgentClient::connect(&agent.ssh_socket()).sign(&blob, &data, 0), None);
            faulty.clear_faults();
        });
    }
}

/// A user with the keyset `low` at that level.
fn user_at_level_low() -> TestUser {
    let user = TestUser::new();
    user.issue("low.letter");
    let line = ["enroll", "--letter", "low.letter", "--keyset", "low", "--level", "low", "--new-token"];
    user.tokenkeep(&[&line[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    user
}

#[test]
fn fifty_clients_waiting_behind_one_wrong_pin_cost_one_try() {
    const CLIENTS: usize = 50;
    let mut user = user_at_level_low();
    let (agent, faulty) = agent_with_pin_file(&mut user.machine, "wrong.pin");
    // The person waits until all fifty requests have arrived.
    let prompter = user.machine.read_text("bin/prompter");
    let release = user.machine.file("go");
    let waits = format!("#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\n", release.display());
    user.machine.write("bin/prompter", prompter.replacen("#!/bin/sh\n", &waits, 1));
    let (data, blob) = ssh_login_data(&agent, "low");
    faulty.reset_calls();
    let sign = |raw_client: &mut RawAgentClient| raw_client.sign(&blob, &data, 0);
    let all_waiting = std::sync::Barrier::new(CLIENTS + 1);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut raw_client = RawAgentClient::connect(&agent.ssh_socket());
                let (all_waiting, sign) = (&all_waiting, &sign);
                scope.spawn(move || {
                    all_waiting.wait();
                    sign(&mut raw_client)
                })
            })
            .collect();
        all_waiting.wait();
        // All but the request with the open prompt sleep in the queue: the worker uses no processor
        // time.
        wait_until_idle(agent.worker());
        std::fs::write(&release, "").unwrap();
        for client in clients {
            assert_eq!(client.join().unwrap(), None, "signed with a wrong PIN");
        }
    });
    assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_INCORRECT"]);

    // With the right PIN, and as many requests waiting behind it: one login for all.
    user.machine.write_secret("wrong.pin", TestUser::PIN);
    faulty.reset_calls();
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| sign(&mut RawAgentClient::connect(&agent.ssh_socket())))).collect();
        for client in clients {
            client.join().unwrap().expect("signed");
        }
    });
    assert_eq!(faulty.calls(), ["C_Login user CKR_OK"]);
}

/// Waits until a process has used no processor time for half a second.
fn wait_until_idle(id: u32) {
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').map(str::to_owned).collect();
        (fields[12].clone(), fields[13].clone())
    };
    let mut last = (used(), std::time::Instant::now());
    wait_for("the worker is idle", || {
        let now = used();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        (last.1.elapsed() > std::time::Duration::from_millis(500)).then_some(())
    });
}
