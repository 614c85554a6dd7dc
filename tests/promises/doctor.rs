//! `tokenkeep doctor` names each problem and a fix, exits with 1, and costs nothing: no try, no
//! change, no disturbance of an agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::deployment::Deployment;
use crate::support::machine::{Machine, TokenKind};
use crate::support::shared_authority::TestUser;
use crate::support::ssh::ssh_add;

/// The result of `doctor` as JSON: whether all is well, and the findings.
#[track_caller]
fn findings(machine: &Machine) -> (bool, Vec<Value>) {
    let output = machine.tokenkeep_without_terminal(&["doctor", "--json"]);
    let value = output.json();
    let well = value["well"].as_bool().unwrap();
    assert_eq!(output.code(), i32::from(!well), "{output}");
    let findings = value["findings"].as_array().unwrap().clone();
    for finding in &findings {
        assert_eq!(
            finding["state"] == "ok",
            finding["remedy"].is_null(),
            "a remedy, where there is something to do: {finding}"
        );
    }
    (well, findings)
}

/// It reports this problem, and no other.
#[track_caller]
fn assert_finding(machine: &Machine, concern: &str, what: &str, remedy: &str) {
    let (well, findings) = findings(machine);
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["state"] == "wrong").collect();
    assert!(!well && wrong.len() == 1, "{wrong:#?}");
    let text = |name: &str| wrong[0][name].as_str().unwrap();
    assert_eq!(text("concern"), concern);
    assert!(text("what").contains(what), "{:?} does not contain {what:?}", text("what"));
    assert!(text("remedy").contains(remedy), "{:?} does not contain {remedy:?}", text("remedy"));
    machine.tokenkeep(&["doctor"]).fails_with(1).says(what).says(remedy).says("one problem was found");
}

#[test]
fn doctor_reports_no_problem_and_changes_nothing() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let before = machine.inventory(&[]);
    let (well, findings) = findings(machine);
    assert!(well, "{findings:#?}");
    for concern in
        ["configuration", "runtime", "locks", "SoftHSM", "module", "token", "keyset", "pcscd", "agent", "prompter"]
    {
        assert!(findings.iter().any(|finding| finding["concern"] == concern), "{concern} is not looked at");
    }
    let output = machine.tokenkeep(&["doctor"]).ok().says("No problem was found").says("default").says("level high");
    assert!(output.out().contains("(agent.toml)"), "how the module was found is not said: {output}");
    assert_eq!(machine.inventory(&[]), before);
    user.signs_with("default", "pin");
}

#[test]
fn doctor_reports_problems_around_tokens_with_remedies() {
    let mut user = TestUser::with_keyset();
    let configuration = user.machine.read_text("config/tokenkeep/agent.toml");
    let configure = |machine: &Machine, more: &str| {
        machine.write("config/tokenkeep/agent.toml", format!("{configuration}{more}\n"));
    };
    let mode = |machine: &Machine, name: &str, mode: u32| {
        fs::set_permissions(machine.file(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let machine = &mut user.machine;

    // An invalid configuration hides no other finding: without it the module is found at SoftHSM's
    // usual path.
    configure(machine, "keysets = 3");
    let (well, found) = findings(machine);
    assert!(!well && found.iter().any(|finding| finding["concern"] == "configuration" && finding["state"] == "wrong"));
    assert!(found.iter().any(|finding| finding["what"].as_str().unwrap().contains("keysets")), "{found:#?}");
    assert!(found.iter().any(|finding| finding["concern"] == "agent"), "{found:#?}");

    let pin = machine.file("pin").display().to_string();
    configure(machine, &format!("pin_source = \"file:{pin}\""));
    assert!(findings(machine).0);
    mode(machine, "pin", 0o644);
    assert_finding(machine, "PIN file", "can be read by others", "chmod 600");
    mode(machine, "pin", 0o600);
    configure(machine, "pin_source = \"file:/no/such/pin\"");
    assert_finding(machine, "PIN file", "/no/such/pin", "pin_source");
    configure(machine, "prompter = \"pinentry:/no/such/pinentry\"");
    assert_finding(machine, "prompter", "/no/such/pinentry", "");
    configure(machine, "");

    mode(machine, "runtime/tokenkeep", 0o755);
    assert_finding(machine, "locks", "can be used by others", "chmod 700");
    mode(machine, "runtime/tokenkeep", 0o700);

    machine.set_environment("TOKENKEEP_AGENT_API", "/no/such/api.sock");
    assert_finding(machine, "agent", "/no/such/api.sock", "unset TOKENKEEP_AGENT_API");
    machine.set_environment("TOKENKEEP_AGENT_API", "");

    let conf = machine.file("softhsm2.conf").display().to_string();
    machine.set_environment("SOFTHSM2_CONF", "/no/such/softhsm2.conf");
    let output = machine
        .tokenkeep(&["doctor"])
        .fails_with(1)
        .says("/no/such/softhsm2.conf")
        .says(".config/softhsm2/softhsm2.conf");
    output.does_not_say("GENERAL_ERROR");
    machine.set_environment("SOFTHSM2_CONF", &conf);

    machine.write("config/tokenkeep/agent.toml", "modules = [\"/no/such/module.so\"]\n");
    assert_finding(machine, "module", "/no/such/module.so", "--module");
    configure(machine, "");
    assert!(findings(machine).0, "something is left behind");
}

#[test]
fn doctor_reports_a_last_pin_try_and_uses_none() {
    let user = TestUser::with_keyset_on(TokenKind::Kryoptic);
    let machine = &user.machine;
    let serial = machine.listed_token("default").serial;
    for _ in 0..9 {
        assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    for _ in 0..3 {
        assert_finding(machine, "token", "one try of its PIN is left", &format!("tokenkeep pin unblock {serial}"));
    }
    assert!(machine.listed_token("default").is_at_final_try());
    assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    assert_finding(machine, "token", "its PIN is locked", &format!("tokenkeep pin unblock {serial}"));
}

#[test]
fn the_remedy_for_a_locked_pin_works_beside_an_agent() {
    let user = TestUser::enrolled_with(TokenKind::Kryoptic);
    user.encrypt("old mail\n", "old.p7m");
    let machine = &user.machine;
    Agent::configure(machine, "");
    let _agent = Agent::start(machine, &[]);
    machine.tokenkeep(&["keysets"]).ok().says("default");
    for _ in 0..9 {
        assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    let remedy = |machine: &Machine| {
        let (_, findings) = findings(machine);
        let of_token = |finding: &&Value| {
            finding["concern"] == "token"
                && finding["what"].as_str().unwrap().contains("PIN")
                && finding["state"] != "ok"
        };
        let finding = findings.iter().find(of_token).unwrap_or_else(|| panic!("{findings:#?}")).clone();
        (finding["what"].as_str().unwrap().to_owned(), finding["remedy"].as_str().unwrap().to_owned())
    };
    let (what, remedy_text) = remedy(machine);
    assert!(
        what.contains("one try of its PIN is left") && remedy_text.contains("agent stops asking after ten"),
        "{remedy_text}"
    );
    assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    let (what, remedy_text) = remedy(machine);
    assert!(what.contains("its PIN is locked"), "{what}");
    assert!(!remedy_text.contains("all tries"), "no PIN restores tries: {remedy_text}");
    assert!(
        remedy_text.contains("if you have its SO PIN") && remedy_text.contains("tokenkeep admin recover"),
        "{remedy_text}"
    );

    // No SO PIN was kept, so the other remedy applies, and it works.
    user.recover("recovery.letter");
    user.enroll_new("recovery.letter", "second").ok();
    assert_eq!(user.decrypt("second", "pin", "old.p7m"), "old mail\n");
}

#[test]
fn doctor_reports_a_running_agent_and_leaves_it_running() {
    let mut user = TestUser::with_keyset();
    let machine = &user.machine;
    let pin = machine.file("pin").display().to_string();
    Agent::configure(machine, &format!("pin_source = \"file:{pin}\""));
    let mut agent = Agent::start(machine, &[]);
    user.signs_with("default", "pin");
    let (worker, log) = (agent.worker(), agent.log());
    let (well, findings) = findings(machine);
    assert!(well, "{findings:#?}");
    let says = |text: &str| findings.iter().any(|finding| finding["what"].as_str().unwrap().contains(text));
    assert!(says(&format!("process {}", agent.id())), "{findings:#?}");
    assert!(says("ssh.sock") && says("api.sock") && says("SSH_AUTH_SOCK is not set"), "{findings:#?}");
    assert!(says("\"default\" on") && says("level high, until"), "the keyset is not reported: {findings:#?}");
    assert!(!says("is in use by") && says("PIN ok"), "{findings:#?}");
    assert_eq!(agent.worker(), worker, "the worker was restarted\n{log}\n{}", agent.log());
    user.signs_with("default", "pin");
    let machine = &mut user.machine;

    // A locked agent reports no keysets, and `doctor` says so.
    machine.set_environment("SSH_AUTH_SOCK", agent.ssh_socket().to_str().unwrap());
    ssh_add(machine, "a pass phrase", &["-x"]).ok();
    let output = machine.tokenkeep(&["doctor"]).ok().says("locked").says("ssh-add -X").says("is in use by");
    output.says("No problem was found").does_not_say("level high");
    ssh_add(machine, "a pass phrase", &["-X"]).ok();
    machine.set_environment("SSH_AUTH_SOCK", "");

    // A killed agent leaves sockets that the next one takes over.
    agent.kill();
    assert!(machine.tokenkeep(&["doctor"]).ok().out().contains("was killed"));
}

#[test]
fn socket_permissions_are_repaired_while_the_agent_runs() {
    let machine = Machine::new();
    Agent::configure(&machine, "");
    let agent = Agent::start(&machine, &[]);
    let directory = machine.file("runtime/tokenkeep/agent");
    let exposed = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    exposed(0o755);
    assert_finding(
        &machine,
        "agent",
        "other users can access it (mode 755)",
        &format!("chmod 700 {}", directory.display()),
    );
    machine.tokenkeep(&["doctor"]).fails_with(1).does_not_say("remove");
    machine.tokenkeep(&["agent", "--env"]).fails_with(1).says("chmod 700");
    exposed(0o700);
    assert!(findings(&machine).0, "what it says to do does not help");
    machine.tokenkeep(&["agent", "status"]).ok().says(&format!("process {}", agent.id()));

    for (endpoint, socket) in [("ssh", agent.ssh_socket()), ("api", agent.api_socket())] {
        let moved = socket.with_extension("aside");
        fs::rename(&socket, &moved).unwrap();
        let what = format!("the agent runs (process {}), but its {endpoint} socket", agent.id());
        assert_finding(&machine, "agent", &what, "tokenkeep agent stop");
        fs::rename(&moved, &socket).unwrap();
        assert!(findings(&machine).0);
    }
    for socket in [agent.ssh_socket(), agent.api_socket()] {
        fs::remove_file(socket).unwrap();
    }
    machine.tokenkeep(&["doctor"]).fails_with(1).says("its ssh socket").says("its api socket");
    // The suggested fix ends the problem.
    machine.tokenkeep(&["agent", "stop"]).ok();
    assert!(findings(&machine).0);
}

#[test]
fn a_token_of_an_authority_is_no_problem_to_the_agent() {
    let Deployment { authority: _authority, machine } = Deployment::begin();
    Agent::configure(&machine, "");
    let _agent = Agent::start(&machine, &[]);
    machine.tokenkeep(&["keysets"]).ok();
    let (well, findings) = findings(&machine);
    assert!(well, "{findings:#?}");
    let says = |text: &str| findings.iter().any(|finding| finding["what"].as_str().unwrap().contains(text));
    assert!(says("\"admin\" on") && says("token \"authority\"") && !says("in use"), "{findings:#?}");
}

#[test]
fn doctor_reports_problems_on_a_token_the_agent_holds() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    Agent::configure(machine, "");
    let shown = user.keyset_info("default");
    let certificates = shown["certificates"].as_array().unwrap();
    let signing = certificates.iter().find(|certificate| certificate["use"] == "signing").unwrap();
    let (module, id) = (machine.module().display().to_string(), signing["id"].as_str().unwrap());
    let login = ["--module", &module, "--token-label", "default", "--login", "--pin", TestUser::PIN];
    let delete = ["--delete-object", "--type", "cert", "--id", id];
    machine.run("pkcs11-tool", &[&login[..], &delete].concat(), b"").ok();
    let _agent = Agent::start(machine, &[]);
    machine.tokenkeep(&["keysets"]).ok();
    machine.tokenkeep(&["keysets", "--no-agent"]).says("is in use by");
    assert_finding(machine, "keyset", "its signing certificate is missing", "re-enroll");
}
