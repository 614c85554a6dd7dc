//! What one wrong entry of a PIN costs: one try, on every path that takes a PIN. Everything else costs none: a prompt that
//! was cancelled, a PIN that is too short, a source that gives nothing, a PIN that is locked, a token that is not there, a
//! keyset that is not the only one meant.
//!
//! The tries are counted between the program and the token, by a PKCS#11 module that passes each call on to SoftHSM and
//! writes down those with a PIN: what counts is what the token was given, not what the program says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::agent::{Agent, wait_for};
use crate::support::authority::Authority;
use crate::support::der::{inside, parts};
use crate::support::faulty::{self, Faulty};
use crate::support::machine::Machine;
use crate::support::office::{Somebody, re_enroll_arguments};
use crate::support::output::Output;
use crate::support::ssh::{Speaker, split_string, string};
use crate::support::story::Story;
use crate::support::terminal::Terminal;

/// Somebody with the keyset `default` at level High, and what each command that takes a PIN needs.
fn somebody() -> (Somebody, Faulty) {
    let mut somebody = Somebody::enrolled();
    let faulty = Faulty::in_front_of(&mut somebody.machine);
    somebody.machine.write("message.txt", "a message\n");
    somebody.encrypts("a secret\n", "secret.p7m");
    somebody.issue("again.letter");
    somebody.issue("beside.letter");
    (somebody, faulty)
}

/// The commands of a user that ask for the PIN of a token that is there, without the PIN's source.
fn commands() -> Vec<(&'static str, Vec<&'static str>)> {
    let beside = ["enroll", "--letter", "beside.letter", "--keyset", "beside", "--token", "default", "--level", "high"];
    vec![
        ("sign", vec!["sign", "--in", "message.txt", "--out", "signed.p7m"]),
        ("decrypt", vec!["decrypt", "--in", "secret.p7m", "--out", "opened.txt"]),
        ("re-enroll", re_enroll_arguments("again.letter").to_vec()),
        ("enroll beside", beside.to_vec()),
        ("pin change", vec!["pin", "change", "--new-pin-source", "file:other.pin"]),
        ("keyset delete", vec!["keyset", "delete", "default", "--yes"]),
    ]
}

#[track_caller]
fn costs(faulty: &Faulty, what: &str, tries: usize, act: impl FnOnce()) {
    faulty.forget();
    act();
    let calls = faulty.calls();
    assert_eq!(faulty.wrong_tries(), tries, "{what}: {calls:#?}");
    // A try that is not answered with "wrong" is one all the same.
    assert_eq!(calls.len(), tries, "{what}: {calls:#?}");
}

#[test]
fn one_wrong_pin_costs_one_try_on_every_path() {
    let (somebody, faulty) = somebody();
    let before = somebody.shown("default");
    for (what, command) in commands() {
        costs(&faulty, what, 1, || {
            let all = [&command[..], &["--pin-source", "file:wrong.pin"]].concat();
            somebody.machine.tokenkeep_without_terminal(&all).fails_with(4).says("is wrong");
        });
        // One right entry clears what the token remembers, so that each begins alike.
        somebody.signs_with("default", "pin");
    }
    assert_eq!(somebody.shown("default"), before);
}

#[test]
fn one_wrong_pin_typed_at_a_terminal_costs_one_try_and_is_not_asked_for_again() {
    let (somebody, faulty) = somebody();
    for (what, command) in commands() {
        costs(&faulty, what, 1, || {
            let mut terminal = Terminal::tokenkeep(&somebody.machine, &command);
            terminal.expect("PIN").expect(":").type_line(Somebody::WRONG_PIN);
            let (code, shown) = terminal.finish();
            assert_eq!(code, 4, "{what}: {shown}");
        });
        somebody.signs_with("default", "pin");
    }
}

#[test]
fn what_gives_no_pin_costs_no_try() {
    let (somebody, faulty) = somebody();
    somebody.machine.write_secret("empty.pin", "");
    somebody.machine.write_secret("short.pin", "1");
    somebody.machine.write_secret("long.pin", &"x".repeat(300));
    somebody.machine.write("open.pin", "12345678\n");
    for (what, command) in commands() {
        costs(&faulty, what, 0, || {
            for source in ["empty.pin", "short.pin", "long.pin", "open.pin", "no-such-file"] {
                let source = format!("file:{source}");
                let all = [&command[..], &["--pin-source", &source]].concat();
                somebody.machine.tokenkeep_without_terminal(&all).fails_with(4);
            }
            // Nobody there to be asked.
            somebody.machine.tokenkeep_without_terminal(&command).fails_with(4);
        });
    }
}

#[test]
fn a_cancelled_prompt_costs_no_try() {
    let (somebody, faulty) = somebody();
    for (what, command) in commands() {
        costs(&faulty, what, 0, || {
            let mut terminal = Terminal::tokenkeep(&somebody.machine, &command);
            terminal.expect("PIN").expect(":").interrupt();
            let (code, shown) = terminal.finish();
            assert!(code == 4 || code == 130, "{what}: {code} {shown}");
            let mut terminal = Terminal::tokenkeep(&somebody.machine, &command);
            terminal.expect("PIN").expect(":").type_line("");
            assert_eq!(terminal.finish().0, 4, "{what}");
        });
    }
}

#[test]
fn a_locked_pin_one_that_is_at_its_last_try_and_a_token_that_is_out_cost_no_try() {
    let (somebody, faulty) = somebody();
    for (what, command) in commands() {
        let all = [&command[..], &["--pin-source", "file:wrong.pin"]].concat();
        // Without its token a keyset cannot be told to be a message's recipient: 5.
        for (rule, codes) in [("flags LOCKED", &[4][..]), ("flags FINAL_TRY", &[4]), ("removed", &[3, 5])] {
            costs(&faulty, &format!("{what}, {rule}"), 0, || {
                faulty.does(rule);
                let output = somebody.machine.tokenkeep_without_terminal(&all);
                faulty.behaves();
                assert!(codes.contains(&output.code()), "{rule}: {output}");
                output.does_not_say("is wrong");
            });
        }
    }
}

#[test]
fn what_could_mean_several_keysets_or_none_costs_no_try() {
    let (somebody, faulty) = somebody();
    somebody.issue("second.letter");
    somebody.enroll_new("second.letter", "second").ok();
    let source = ["--pin-source", "file:wrong.pin"];
    costs(&faulty, "several", 0, || {
        // Neither is called `default`, where the configuration says nothing.
        for command in
            [&["sign", "--in", "message.txt", "--keyset", "nobody"][..], &["pin", "change", "--keyset", "nobody"]]
        {
            somebody.machine.tokenkeep_without_terminal(&[command, &source].concat()).fails_with(3);
        }
        // A letter for a keyset of a name that is taken by another token.
        let taken = ["enroll", "--letter", "again.letter", "--keyset", "second", "--new-token"];
        let new = ["--new-pin-source", "file:wrong.pin"];
        somebody.machine.tokenkeep_without_terminal(&[&taken[..], &new].concat()).fails_with(5);
    });
}

#[test]
fn a_right_pin_costs_no_wrong_try_and_no_more_log_ins_than_its_act_needs() {
    let (somebody, faulty) = somebody();
    // At level High: the log-in, and the one for the use of the key.
    let twice = ["C_Login user CKR_OK", "C_Login context CKR_OK"];
    for (what, command) in commands().into_iter().take(2) {
        faulty.forget();
        somebody.tokenkeep(&[&command[..], &["--pin-source", "file:pin"]].concat()).ok();
        assert_eq!(faulty.calls(), twice, "{what}");
    }
    faulty.forget();
    let change = ["pin", "change", "--pin-source", "file:pin", "--new-pin-source", "file:other.pin"];
    somebody.tokenkeep(&change).ok();
    assert_eq!(faulty.wrong_tries(), 0);
}

/// An administrator's commands: each signs a statement.
#[test]
fn one_wrong_pin_of_an_administrator_costs_one_try() {
    let mut story = Story::begin();
    let faulty = Faulty::in_front_of(&mut story.machine);
    story.machine.write_secret("wrong.pin", Somebody::WRONG_PIN);
    let commands: [&[&str]; 5] = [
        &["issue", "user@example.org", "--name", "Example, User", "--letter-out", "user.letter"],
        &["recover", "admin@example.org", "--letter-out", "recovery.letter"],
        &["list"],
        &["show", "admin@example.org"],
        &["issue", "user@example.org", "--name", "Example, User", "--statement-out", "statement.p7m"],
    ];
    for command in commands {
        let all = [&["admin"], command, &["--keyset", "admin"]].concat();
        let with =
            |source: &str| [&all[..], &["--pin-source", source]].concat().iter().map(ToString::to_string).collect();
        let run = |arguments: Vec<String>| -> Output {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            story.machine.tokenkeep_without_terminal(&arguments)
        };
        costs(&faulty, &format!("{command:?}"), 1, || drop(run(with("file:wrong.pin")).fails_with(4)));
        costs(&faulty, &format!("{command:?}"), 0, || drop(run(with("file:no-such-file")).fails_with(4)));
        assert!(!story.machine.file("user.letter").exists() && !story.machine.file("statement.p7m").exists());
        // A right one clears what the token remembers.
        story.machine.write_secret("right.pin", Story::ADMIN_PIN);
        story.admin(&["list"]).ok();
    }
}

/// An authority's token, whose PIN its service is started with.
#[test]
fn one_wrong_pin_of_an_authority_costs_one_try() {
    let mut machine = Machine::new();
    let authority = Authority::init(&machine);
    let faulty = in_front_of_the_authority(&mut machine);
    machine.write_secret("wrong.pin", Somebody::WRONG_PIN);
    let serve = |source| {
        let line = ["authority", "serve", "--config", "authority.toml", "--pin-source", source];
        machine.tokenkeep_without_terminal(&line)
    };
    costs(&faulty, "authority serve", 1, || drop(serve("file:wrong.pin").fails_with(4).says("is wrong")));
    costs(&faulty, "authority serve", 0, || drop(serve("file:no-such-file").fails_with(4)));
    costs(&faulty, "authority serve, locked", 0, || {
        faulty.does("flags LOCKED");
        serve("file:wrong.pin").fails_with(4).says("is locked");
        faulty.behaves();
    });
    // Onto the token that is there.
    std::fs::remove_dir_all(machine.file("state")).unwrap();
    machine.write_secret("authority.pin", Somebody::WRONG_PIN);
    faulty.forget();
    assert_ne!(machine.tokenkeep_without_terminal(&Authority::INIT).code(), 0);
    assert!(faulty.wrong_tries() <= 1, "{:?}", faulty.calls());
    drop(authority);
}

/// Where nothing but files goes between the two: the person at the authority, then the administrator with the response.
#[test]
fn one_wrong_pin_costs_one_try_where_a_command_goes_by_files() {
    let mut story = Story::begin();
    for (command, file) in [(&["list"][..], "list"), (&["recover", "admin@example.org"], "letter")] {
        story.admin(&[command, &["--statement-out", &format!("{file}.statement")]].concat()).ok();
    }
    story.authority.stop();
    let faulty = in_front_of_the_authority(&mut story.machine);
    story.machine.write_secret("wrong.pin", Somebody::WRONG_PIN);
    for file in ["list", "letter"] {
        let (statement, response) = (format!("{file}.statement"), format!("{file}.response"));
        let answer = ["authority", "answer", "--config", "authority.toml", "--in", &statement, "--out", &response];
        let open = ["admin", "open", &response, "--statement", &statement, "--keyset", "admin"];
        let letter = ["--letter-out", "recovery.letter"];
        let open = [&open[..], if file == "letter" { &letter } else { &[] }].concat();
        for (command, right) in [(&answer[..], "file:authority.pin"), (&open, "file:admin.pin")] {
            let what = format!("{command:?}");
            let run = |source| story.machine.tokenkeep_without_terminal(&[command, &["--pin-source", source]].concat());
            costs(&faulty, &what, 1, || drop(run("file:wrong.pin").fails_with(4).says("is wrong")));
            costs(&faulty, &what, 0, || drop(run("file:no-such-file").fails_with(4)));
            assert!(!story.machine.file("recovery.letter").exists());
            // A right one clears what the token remembers, and makes what the next command takes.
            run(right).ok();
        }
    }
}

/// `authority.toml` names its module itself.
fn in_front_of_the_authority(machine: &mut Machine) -> Faulty {
    let real = machine.module().display().to_string();
    let faulty = Faulty::in_front_of(machine);
    let text = machine.read_text("authority.toml");
    machine.write("authority.toml", text.replace(&real, &faulty::module().display().to_string()));
    faulty
}

/// An agent on this machine whose prompter gives the PIN in this file; its module counts.
fn agent_given(machine: &mut Machine, pin: &str) -> (Agent, Faulty) {
    Agent::configure_with_pin_in(machine, pin, &format!("allow = [\"{}\"]", machine.path().display()));
    let faulty = Faulty::in_front_of(machine);
    (Agent::start(machine, &[]), faulty)
}

/// A message that a client of an SSH agent has signed to log in (RFC 4252 §7), and the key's blob.
fn ssh_log_in(agent: &Agent, keyset: &str) -> (Vec<u8>, Vec<u8>) {
    let blob = Speaker::connect(&agent.ssh_socket()).key(keyset);
    let kind = split_string(&blob).0.to_vec();
    let head = [string([7; 32]), vec![50], string("user"), string("ssh-connection"), string("publickey"), vec![1]];
    ([head.concat(), string(kind), string(&blob)].concat(), blob)
}

#[test]
fn one_wrong_pin_costs_one_try_through_the_agent_too() {
    let (mut somebody, _) = somebody();
    let (agent, faulty) = agent_given(&mut somebody.machine, "wrong.pin");
    // Commands ask for the PIN themselves; what they are given goes to the token through the agent.
    for (what, command) in commands() {
        costs(&faulty, what, 1, || {
            let all = [&command[..], &["--pin-source", "file:wrong.pin"]].concat();
            somebody.machine.tokenkeep_without_terminal(&all).fails_with(4).says("is wrong");
        });
        costs(&faulty, what, 0, || {
            let all = [&command[..], &["--pin-source", "file:no-such-file"]].concat();
            somebody.machine.tokenkeep_without_terminal(&all).fails_with(4);
        });
    }
    // A client of the SSH door is answered for by the agent's own prompter.
    let (data, blob) = ssh_log_in(&agent, "default");
    costs(&faulty, "an SSH log-in", 1, || {
        assert_eq!(Speaker::connect(&agent.ssh_socket()).signs(&blob, &data, 0), None);
    });
    costs(&faulty, "what the SSH door does not sign", 0, || {
        assert_eq!(Speaker::connect(&agent.ssh_socket()).signs(&blob, b"anything", 0), None);
    });
}

/// What the API does with a token, for each of its endpoints that do: the paths, with the bodies.
fn endpoints(somebody: &Somebody) -> Vec<(&'static str, String)> {
    let base64 = |name: &str| STANDARD.encode(somebody.machine.read(name));
    // ContentInfo, [0], (Auth)EnvelopedData: the second part of that has the recipients.
    let message = somebody.machine.read("secret.p7m");
    let recipients = parts(inside(parts(inside(parts(inside(&message))[1]))[0]))[1];
    let recipient = STANDARD.encode(parts(inside(recipients))[0]);
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
    let (mut somebody, _) = somebody();
    somebody.issue("low.letter");
    let enroll = ["enroll", "--letter", "low.letter", "--keyset", "low", "--level", "low", "--new-token"];
    somebody.tokenkeep(&[&enroll[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    somebody.encrypts("a later secret\n", "later.p7m");
    let endpoints = endpoints(&somebody);
    let (agent, faulty) = agent_given(&mut somebody.machine, "given.pin");
    let machine = &somebody.machine;
    let socket = agent.api_socket().display().to_string();
    let post = |path: &str, body: &str, expected: u16| {
        let url = format!("http://agent/v1/{path}");
        let line = ["-sS", "--unix-socket", &socket, "-w", "\n%{http_code}", "--json", body, &url];
        machine.run("curl", &line, b"").ok().says(&format!("\n{expected}"))
    };
    for (path, body) in &endpoints {
        let what = format!("{path} {}", body.chars().take(40).collect::<String>());
        machine.write_secret("given.pin", Somebody::WRONG_PIN);
        costs(&faulty, &what, 1, || drop(post(path, body, 403).says("is wrong")));
        machine.write_secret("given.pin", "");
        costs(&faulty, &what, 0, || drop(post(path, body, 403).says("cancelled at the prompt")));
        machine.write_secret("given.pin", "1");
        costs(&faulty, &what, 0, || drop(post(path, body, 403)));
        // A right one clears what the token remembers; it stands for nothing else.
        machine.write_secret("given.pin", Somebody::PIN);
        faulty.forget();
        post(path, body, 200);
        assert_eq!(faulty.wrong_tries(), 0, "{what}");
        post("log-off", "{}", 200);
    }
}

#[test]
fn a_prompt_of_the_agent_that_is_cancelled_costs_no_try() {
    let (mut somebody, _) = somebody();
    somebody.machine.write("empty", "");
    let (agent, faulty) = agent_given(&mut somebody.machine, "empty");
    let (data, blob) = ssh_log_in(&agent, "default");
    costs(&faulty, "cancelled", 0, || {
        assert_eq!(Speaker::connect(&agent.ssh_socket()).signs(&blob, &data, 0), None);
    });
    for rule in ["flags LOCKED", "removed"] {
        costs(&faulty, rule, 0, || {
            somebody.machine.write_secret("empty", Somebody::WRONG_PIN);
            faulty.does(rule);
            assert_eq!(Speaker::connect(&agent.ssh_socket()).signs(&blob, &data, 0), None);
            faulty.behaves();
        });
    }
}

/// Somebody with the keyset `low` at that level.
fn somebody_at_low() -> Somebody {
    let somebody = Somebody::new();
    somebody.issue("low.letter");
    let line = ["enroll", "--letter", "low.letter", "--keyset", "low", "--level", "low", "--new-token"];
    somebody.tokenkeep(&[&line[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    somebody
}

#[test]
fn with_fifty_clients_waiting_behind_one_wrong_pin_it_costs_one_try() {
    const CLIENTS: usize = 50;
    let mut somebody = somebody_at_low();
    let (agent, faulty) = agent_given(&mut somebody.machine, "wrong.pin");
    // The person takes their time: until all fifty have asked.
    let prompter = somebody.machine.read_text("bin/prompter");
    let go = somebody.machine.file("go");
    let waits = format!("#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\n", go.display());
    somebody.machine.write("bin/prompter", prompter.replacen("#!/bin/sh\n", &waits, 1));
    let (data, blob) = ssh_log_in(&agent, "low");
    faulty.forget();
    let sign = |speaker: &mut Speaker| speaker.signs(&blob, &data, 0);
    let asked = std::sync::Barrier::new(CLIENTS + 1);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut speaker = Speaker::connect(&agent.ssh_socket());
                let (asked, sign) = (&asked, &sign);
                scope.spawn(move || {
                    asked.wait();
                    sign(&mut speaker)
                })
            })
            .collect();
        asked.wait();
        // All but the one whose prompt is open sleep in the queue: the worker uses no time any more.
        wait_until_it_rests(agent.worker());
        std::fs::write(&go, "").unwrap();
        for client in clients {
            assert_eq!(client.join().unwrap(), None, "signed with a wrong PIN");
        }
    });
    assert_eq!(faulty.calls(), ["C_Login user CKR_PIN_INCORRECT"]);

    // And with the right one behind which as many wait: one log-in for all.
    somebody.machine.write_secret("wrong.pin", Somebody::PIN);
    faulty.forget();
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| sign(&mut Speaker::connect(&agent.ssh_socket())))).collect();
        for client in clients {
            client.join().unwrap().expect("signed");
        }
    });
    assert_eq!(faulty.calls(), ["C_Login user CKR_OK"]);
}

/// Waits until a process has used no processor time for half a second.
fn wait_until_it_rests(id: u32) {
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').map(str::to_owned).collect();
        (fields[12].clone(), fields[13].clone())
    };
    let mut last = (used(), std::time::Instant::now());
    wait_for("the worker rests", || {
        let now = used();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        (last.1.elapsed() > std::time::Duration::from_millis(500)).then_some(())
    });
}
