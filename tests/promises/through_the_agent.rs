//! With an agent running, the commands do the same, print the same and exit the same. The agent
//! uses the token; the command supplies the PIN and carries the bytes. If the command exits,
//! nothing more is tried.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::OFlags;
use tokenkeep::cmp::{PkiBody, PkiMessage};

use crate::support::agent::{Agent, wait_for};
use crate::support::authority::Authority;
use crate::support::machine::{Machine, TokenKind};
use crate::support::manual_pages::ManualPages;
use crate::support::output::Output;
use crate::support::proxy::{Direction, Proxy, ProxyAction};
use crate::support::shared_authority::{TestUser, re_enroll_arguments};
use crate::support::terminal::Terminal;

/// A command that finds no module: without the agent it can do nothing.
fn command(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.tokenkeep_command(arguments);
    command.env("SOFTHSM2_CONF", "/no/such/file").stdin(Stdio::null());
    command
}

/// Runs the command to its end.
#[track_caller]
fn run_through_agent(machine: &Machine, arguments: &[&str]) -> Output {
    Output::new(format!("{arguments:?}"), command(machine, arguments).output().unwrap())
}

fn spawn_through_agent(machine: &Machine, arguments: &[&str]) -> Child {
    command(machine, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_whole_workflow_is_the_same() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    // An authority's commands use no agent, and no agent uses its token.
    let mut authority = Authority::init(&machine);
    authority.serve(&machine);
    for (file, pin) in
        [("admin.pin", "admin-0815"), ("pin1", "first-pin-1"), ("pin2", "second-pin-2"), ("pin3", "third-3")]
    {
        machine.write_secret(file, pin);
    }
    let text = "Grüße: what nobody else should read.\n";
    machine.write("message.txt", text);
    let runs = |line: &str| run_through_agent(&machine, &line.split(' ').collect::<Vec<_>>()).ok();
    let admin = "--keyset admin --pin-source file:admin.pin --letter-out";

    runs("enroll --letter admin.letter --keyset admin --level high --new-token --new-pin-source file:admin.pin");
    runs(&format!("admin issue user@example.org --name User {admin} user.letter"));
    assert!(machine.read_text("user.letter").contains("user@example.org"));
    let new = "--level high --new-token --new-pin-source";
    runs(&format!("enroll --letter user.letter {new} file:pin1")).says("default").says("an encryption key");
    runs("sign --keyset default --pin-source file:pin1 --in message.txt --out signed.p7m");
    assert_eq!(runs("verify --in signed.p7m").says("user@example.org").out(), text);
    runs("encrypt --to user@example.org --in message.txt --out secret.p7m");
    let read =
        |keyset: &str, pin: &str| runs(&format!("decrypt --keyset {keyset} --pin-source file:{pin} --in secret.p7m"));
    assert_eq!(read("default", "pin1").out(), text);
    runs(&format!("admin issue user@example.org {admin} again.letter"));
    runs("enroll --letter again.letter --keyset default --level high --pin-source file:pin1").says("Re-enrolled");
    runs(&format!("admin recover user@example.org {admin} recovered.letter"));
    runs(&format!("enroll --letter recovered.letter --keyset second {new} file:pin2")).says("2 encryption keys");
    assert_eq!(read("second", "pin2").out(), text, "old mail, new PIN");
    runs("pin change --keyset second --pin-source file:pin2 --new-pin-source file:pin3");
    assert_eq!(read("second", "pin3").out(), text);
    runs("keysets").says("admin").says("default").says("second");
    runs("keyset show second").says("user@example.org");
    runs("tokens").says("second");
    let list = runs("admin list --keyset admin --pin-source file:admin.pin --json").json().to_string();
    assert!(list.contains("user@example.org"), "{list}");

    // A statement file, and its response.
    runs("admin show user@example.org --keyset admin --pin-source file:admin.pin --statement-out statement");
    let answer = ["--config", "authority.toml", "--in", "statement", "--out", "response"];
    machine.tokenkeep(&[&["authority", "answer"], &answer[..]].concat()).ok();
    runs("admin open response --statement statement --keyset admin --pin-source file:admin.pin")
        .says("user@example.org");

    runs("keyset delete second --yes --pin-source file:pin3");
    runs("keysets").does_not_say("second");

    // The keysets that the agent made are on the tokens: the user can continue without it.
    assert!(agent.stop().success());
    let decrypt = ["decrypt", "--keyset", "default", "--pin-source", "file:pin1", "--in", "secret.p7m"];
    assert_eq!(machine.tokenkeep(&decrypt).ok().out(), text);
    run_through_agent(&machine, &decrypt).fails_with(3);
}

#[test]
fn prompts_and_refusals_have_the_same_words() {
    let user = TestUser::enrolled();
    let machine = &user.machine;
    user.encrypt("mail\n", "own.p7m");
    let other = TestUser::enrolled();
    other.encrypt("mail\n", "others.p7m");
    machine.write("others.p7m", other.machine.read("others.p7m"));
    machine.write("message.txt", "a message\n");
    machine.write("damaged.p7m", &machine.read("own.p7m")[..200]);
    machine.write_secret("empty.pin", "");
    machine.write_secret("short.pin", "1");
    user.issue("again.letter");
    other.issue("others.letter");
    machine.write("others.letter", other.machine.read("others.letter"));
    let lines = [
        ("enroll --letter others.letter --keyset default --pin-source file:no-such-file", 5),
        ("tokens", 0),
        ("tokens --json", 0),
        ("keysets", 0),
        ("pin status", 0),
        ("pin status default --json", 0),
        ("pin status nowhere", 3),
        ("pin unblock default --so-pin-source file:empty.pin --new-pin-source file:pin", 4),
        ("keysets --json", 0),
        ("keyset show default", 0),
        ("keyset show default --json", 0),
        ("keyset show nobody", 3),
        ("keyset show default --token nowhere", 3),
        ("sign message.txt --keyset nobody --pin-source file:pin --out x", 3),
        ("sign message.txt --pin-source file:no-such-file --out x", 4),
        ("sign message.txt --pin-source file:empty.pin --out x --json", 4),
        ("decrypt others.p7m --pin-source file:wrong.pin", 5),
        ("decrypt damaged.p7m --pin-source file:wrong.pin", 8),
        ("decrypt message.txt --pin-source file:wrong.pin", 8),
        ("verify message.txt", 8),
        ("encrypt message.txt --to nobody@example.org --out x", 5),
        ("pin change --pin-source file:pin --new-pin-source file:short.pin", 4),
        ("pin change --pin-source file:empty.pin --new-pin-source file:other.pin", 4),
        ("keyset delete nobody --yes --pin-source file:pin", 3),
        ("keyset delete default --yes --pin-source file:empty.pin", 4),
        ("enroll --letter first.letter --keyset other --new-token --new-pin-source file:pin", 5),
        ("enroll --letter again.letter --level low --pin-source file:wrong.pin", 5),
        ("enroll --letter again.letter --new-token --new-pin-source file:pin", 5),
        ("enroll --letter again.letter --keyset other --pin-source file:pin", 3),
        ("enroll --letter again.letter --pin-source file:pin --authority http://127.0.0.1:1", 6),
        ("enroll --letter again.letter --pin-source file:pin --authority ftp://example.org", 2),
        ("admin list --pin-source file:pin --authority https://127.0.0.1:1 --authority-https https://127.0.0.1:1", 6),
        ("admin list --pin-source file:pin", 5),
        ("sign message.txt --pin-source file:wrong.pin --out x", 4),
        ("decrypt own.p7m --pin-source file:wrong.pin --json", 4),
        // Three wrong PINs in a row would end the tries from files.
        ("sign message.txt --pin-source file:pin --out x", 0),
        ("enroll --letter again.letter --pin-source file:wrong.pin", 4),
    ];
    let pages = ManualPages::read(machine);
    let result = |run: &dyn Fn(&[&str]) -> Output| -> Vec<(String, String)> {
        lines
            .iter()
            .map(|(line, code)| {
                let words: Vec<_> = line.split(' ').collect();
                let output = run(&words);
                assert_eq!(output.code(), *code, "{output}");
                pages.assert_lists_exit_code(&words, &output);
                (format!("{line}\n{}", output.out()), output.err())
            })
            .collect()
    };
    let agent = Agent::start(machine, &[]);
    let there = result(&|words| run_through_agent(machine, words));
    user.machine.tokenkeep(&["sign", "message.txt", "--pin-source", "file:pin", "--out", "x"]).ok();
    assert!(agent.stop().success());
    let here = result(&|words| machine.tokenkeep(words));
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there, here, "through the agent, and without it");
    }
}

#[test]
fn without_a_pin_nothing_is_sent_and_nobody_is_re_enrolled() {
    let user = TestUser::enrolled();
    let machine = &user.machine;
    user.issue("again.letter");
    let wire = user.start_proxy();
    let before = user.keyset_info("default");
    let _agent = Agent::start(machine, &[]);
    let url = wire.url();
    let re_enroll = |source: &str| {
        let arguments =
            [&re_enroll_arguments("again.letter")[..], &["--authority", &url, "--pin-source", source]].concat();
        run_through_agent(machine, &arguments)
    };
    for source in ["file:no-such-file", "fd:9", "credential:nothing"] {
        re_enroll(source).fails_with(4).says("not re-enrolled");
    }
    let mut terminal =
        Terminal::tokenkeep(machine, &[&re_enroll_arguments("again.letter")[..], &["--authority", &url]].concat());
    terminal.expect("PIN of token").expect("to enroll").interrupt();
    let (code, screen) = terminal.finish();
    assert_eq!(code, 130, "{screen}");
    assert!(screen.contains("not re-enrolled"), "{screen}");
    assert!(!machine.listed_token("default").count_is_low(), "a PIN was tried");

    re_enroll("file:wrong.pin").fails_with(4).says("not re-enrolled").says("wrong");
    assert!(machine.listed_token("default").count_is_low(), "the wrong PIN was tried");
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert_eq!(user.keyset_info("default"), before);
    re_enroll("file:pin").ok().says("Re-enrolled");
    assert_ne!(user.keyset_info("default"), before);
}

#[test]
fn a_wrong_pin_costs_one_try() {
    let user = TestUser::enrolled_with(TokenKind::Kryoptic);
    let machine = &user.machine;
    let _agent = Agent::start(machine, &[]);
    machine.write("message.txt", "a message\n");
    user.issue("again.letter");
    // Kryoptic reports count-low after 7 wrong PINs, and the final try after 9.
    let sign = ["sign", "message.txt", "--out", "x", "--pin-source", "file:wrong.pin"];
    let enroll = [&re_enroll_arguments("again.letter")[..], &["--pin-source", "file:wrong.pin"]].concat();
    let change = ["pin", "change", "--pin-source", "file:wrong.pin", "--new-pin-source", "file:other.pin"];
    for arguments in [&sign[..], &enroll, &change] {
        machine.tokenkeep(arguments).fails_with(4).says("wrong");
    }
    // No more PINs from a file are tried.
    machine.tokenkeep(&sign).fails_with(4).says("3 wrong PINs").says("nothing was tried");
    let another_program = || machine.pkcs11_tool("default", Some("wrong-000000"), &["--list-objects"]);
    for _ in 0..3 {
        assert_ne!(another_program().code(), 0);
    }
    assert!(!machine.listed_token("default").count_is_low(), "six wrong PINs cost more than six tries");
    for _ in 0..3 {
        assert_ne!(another_program().code(), 0);
    }
    assert!(machine.listed_token("default").is_at_final_try(), "nine wrong PINs cost less than nine tries");
    // Nobody can be warned: the last try is not spent, not even with the right PIN.
    machine
        .tokenkeep_without_terminal(&["sign", "message.txt", "--out", "x", "--pin-source", "file:pin"])
        .fails_with(4);
    assert!(machine.listed_token("default").is_at_final_try());
}

#[test]
fn a_forgotten_pin_is_reset_with_the_so_pin() {
    let user = TestUser::new();
    let machine = &user.machine;
    user.issue("the.letter");
    machine.write_secret("so.pin", "the-so-pin-8642");
    let agent = Agent::start(machine, &[]);
    let enroll = ["enroll", "--letter", "the.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin"];
    run_through_agent(machine, &[&enroll[..], &["--so-pin-source", "file:so.pin"]].concat()).ok();
    let unblock = |so_pin: &str| {
        run_through_agent(machine, &["pin", "unblock", "--so-pin-source", so_pin, "--new-pin-source", "file:other.pin"])
    };
    machine.write("message.txt", "a message\n");
    let sign = |pin: &str| run_through_agent(machine, &["sign", "message.txt", "--out", "x", "--pin-source", pin]);
    unblock("file:wrong.pin").fails_with(4).says("SO PIN");
    sign("file:pin").ok();
    unblock("file:so.pin").ok().says("default");
    sign("file:pin").fails_with(4);
    sign("file:other.pin").ok();
    run_through_agent(machine, &["pin", "status"]).ok().says("default");
    assert!(agent.stop().success());
    user.signs_with("default", "other.pin");
}

#[test]
fn several_commands_at_once_take_turns() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let agent = Agent::start(machine, &[]);
    machine.write("message.txt", "a message\n");
    let children: Vec<_> = (0..6)
        .map(|number| {
            let out = format!("signed{number}");
            spawn_through_agent(machine, &["sign", "message.txt", "--pin-source", "file:pin", "--out", &out])
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success(), "{}", agent.log());
    }
    for number in 0..6 {
        run_through_agent(machine, &["verify", &format!("signed{number}")]).ok().says(&user.email);
    }
}

#[test]
fn a_command_killed_at_its_prompt_costs_no_try_and_no_delay() {
    let user = TestUser::enrolled();
    let machine = &user.machine;
    let _agent = Agent::start(machine, &[]);
    machine.write("message.txt", "a message\n");
    // A pipe as the PIN file: opening it blocks.
    machine.run("mkfifo", &["-m", "600", "asked"], b"").ok();
    let killed = spawn_through_agent(machine, &["sign", "message.txt", "--pin-source", "file:asked", "--out", "x"]);
    let nonblocking = OFlags::NONBLOCK.bits().try_into().unwrap();
    let _pipe = wait_for("the command asks for the PIN", || {
        OpenOptions::new().write(true).custom_flags(nonblocking).open(machine.file("asked")).ok()
    });
    kill(killed);
    let mut next = spawn_through_agent(machine, &["sign", "message.txt", "--pin-source", "file:pin", "--out", "x"]);
    assert!(wait_for("the next one has its turn", || next.try_wait().unwrap()).success());
    run_through_agent(machine, &["keysets"]).ok().says("default");
}

/// A proxy that holds back a body of this kind until it is released, and then drops it.
struct HoldingProxy {
    proxy: Proxy,
    arrived: mpsc::Receiver<()>,
    holds: Arc<AtomicBool>,
}

impl HoldingProxy {
    fn start(user: &TestUser, direction: Direction, is_meant: fn(&PkiBody) -> bool) -> Self {
        let holds = Arc::new(AtomicBool::new(true));
        let (sender, arrived) = mpsc::channel();
        let on = Arc::clone(&holds);
        let proxy = Proxy::tampering(user.authority.http_address(), move |body_direction, _, body| {
            let meant =
                body_direction == direction && PkiMessage::from_der(body).is_ok_and(|message| is_meant(message.body()));
            if meant && on.load(Ordering::SeqCst) {
                let _ = sender.send(());
                while on.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5)); // until the test has killed the waiting process
                }
                return ProxyAction::Swallow;
            }
            ProxyAction::Pass
        });
        Self { proxy, arrived, holds }
    }
}

#[test]
fn an_enrollment_resumes_after_its_command_was_killed() {
    type IsMeant = fn(&PkiBody) -> bool;
    let places: [(Direction, IsMeant); 4] = [
        (Direction::ToAuthority, |body| matches!(body, PkiBody::Genm(_))),
        (Direction::ToAuthority, |body| matches!(body, PkiBody::Ir(_))),
        (Direction::ToClient, |body| matches!(body, PkiBody::Ip(_))),
        (Direction::ToClient, |body| matches!(body, PkiBody::PkiConf(_))),
    ];
    for (number, (direction, is_meant)) in places.into_iter().enumerate() {
        let user = TestUser::new();
        let machine = &user.machine;
        user.issue("the.letter");
        let agent = Agent::start(machine, &[]);
        let wire = HoldingProxy::start(&user, direction, is_meant);
        let url = wire.proxy.url();
        let line =
            ["enroll", "--letter", "the.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin"];
        let line = [&line[..], &["--authority", &url]].concat();

        // Stopped where it would receive the result, then killed: the agent receives nothing more.
        let mut child = spawn_through_agent(machine, &line);
        wire.arrived.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|_| {
            panic!("place {number} was not reached: {:?}\n{}", child.try_wait(), agent.log());
        });
        kill(child);
        wire.holds.store(false, Ordering::SeqCst);
        let wrong = [&line[..7], &["file:wrong.pin", "--authority", &url]].concat();
        if number > 0 {
            // The created token already has its PIN; another PIN is wrong.
            run_through_agent(machine, &wrong).fails_with(4);
        }
        run_through_agent(machine, &line).ok();
        assert!(agent.stop().success());
        machine.assert_one_keyset("default", TestUser::PIN, 1);
        assert_eq!(machine.object_files().len(), 1, "tokens, at place {number}");
        user.signs_with("default", "pin");
        user.enroll_new("the.letter", "other").fails_with(5).says("used");
    }
}

#[test]
fn enrollment_resumes_after_an_agent_crash() {
    let mut user = TestUser::new();
    user.issue("the.letter");
    user.machine.set_environment("TOKENKEEP_CRASH_AT", "keyset.request_written");
    let agent = Agent::start(&user.machine, &[]);
    user.machine.set_environment("TOKENKEEP_CRASH_AT", "");
    let machine = &user.machine;
    let line = ["enroll", "--letter", "the.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin"];
    run_through_agent(machine, &line).fails_with(1).says("cannot enroll: the agent exited").says("again");
    // The supervisor starts another worker, which sends the stored request.
    wait_for("the enrollment is finished", || (run_through_agent(machine, &line).code() == 0).then_some(()));
    assert!(agent.stop().success());
    machine.assert_one_keyset("default", TestUser::PIN, 1);
}

#[test]
fn without_the_agent_a_command_names_the_owner_of_the_token() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    machine.write("message.txt", "a message\n");
    let agent = Agent::start(machine, &[]);
    let sign = ["sign", "message.txt", "--pin-source", "file:pin", "--out", "x"];
    run_through_agent(machine, &sign).ok();
    // The process that `agent status` names, too.
    let holder = format!("the agent (process {})", agent.id());
    machine.tokenkeep(&["agent", "status"]).ok().says(&format!("(process {})", agent.id()));
    let module = machine.module().display().to_string();
    for without_agent in [&["--no-agent"][..], &["--module", &module]] {
        machine
            .tokenkeep(&[&sign[..], &["--keyset", "default"], without_agent].concat())
            .fails_with(1)
            .says(&holder)
            .says(&format!("`{}`", without_agent[0]))
            .says("tokenkeep agent stop");
        machine.tokenkeep(&[without_agent, &["keysets"]].concat()).ok().says(&holder);
    }
    assert!(!machine.listed_token("default").count_is_low());
    assert!(agent.stop().success());
    machine.tokenkeep(&[&sign[..], &["--no-agent"]].concat()).ok();
    // The socket of a killed agent counts as absent.
    let mut agent = Agent::start(machine, &[]);
    let socket = agent.api_socket();
    agent.kill();
    wait_for("its worker ends, too", || UnixStream::connect(&socket).is_err().then_some(()));
    machine.tokenkeep(&sign).ok();
}

#[test]
fn a_socket_named_in_the_environment_is_used() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let agent = Agent::start(machine, &[]);
    let keysets = |socket: &str| {
        let mut command = command(machine, &["keysets"]);
        command.env("TOKENKEEP_AGENT_API", socket).env("XDG_RUNTIME_DIR", machine.file("tmp"));
        Output::new(socket.to_owned(), command.output().unwrap())
    };
    keysets(&agent.api_socket().display().to_string()).ok().says("default");
    // No process listens there: the command runs the operation itself, as far as it can.
    keysets("/no/such/socket").fails_with(3);
}
