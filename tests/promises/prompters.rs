//! The agent asks its person by the way that they chose: who asks, what for, which keyset, which token, and what a wrong
//! PIN would cost; one question at a time. A person who cancels has cancelled, and where nobody can be asked that is said
//! at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, wait_for};
use crate::support::display::Display;
use crate::support::machine::{Machine, TokenKind};
use crate::support::office::Somebody;
use crate::support::output::Output;
use crate::support::terminal::Terminal;
use crate::support::witness::present;

/// A program of the person's own; what it is asked stands in the machine's file `asked`.
fn script(machine: &Machine, name: &str, body: &str) -> String {
    let text = format!("#!/bin/sh\n{}\n", body.replace("$HERE", machine.path().to_str().unwrap()));
    let path = machine.write(&format!("bin/{name}"), text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.display().to_string()
}

/// An askpass that gives the right PIN, and this answer to a confirmation.
fn askpass(machine: &Machine, confirmation: &str) -> String {
    let body = format!(
        "printf '%s|%s\\n---\\n' \"$SSH_ASKPASS_PROMPT\" \"$1\" >> $HERE/asked\n\
         case \"$SSH_ASKPASS_PROMPT\" in confirm) {confirmation} ;; *) cat $HERE/pin ;; esac"
    );
    script(machine, "askpass", &body)
}

/// What was asked so far.
fn asked(machine: &Machine) -> String {
    fs::read_to_string(machine.file("asked")).unwrap_or_default()
}

/// An agent of somebody's, asking by this way, whose key is in the file `key.pub`.
fn agent(somebody: &mut Somebody, way: &str, variables: &[(&str, &str)]) -> Agent {
    for (name, value) in variables {
        somebody.machine.set_environment(name, value);
    }
    Agent::configure(&somebody.machine, &format!("prompter = \"{way}\""));
    let agent = Agent::start(&somebody.machine, &["-v"]);
    offer(&mut somebody.machine, &agent);
    agent
}

fn offer(machine: &mut Machine, agent: &Agent) {
    machine.set_environment("SSH_AUTH_SOCK", agent.ssh_socket().to_str().unwrap());
    let keys = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", keys.lines().next().unwrap());
}

/// OpenSSH's own client signs through the agent.
fn sign(machine: &Machine, namespace: &str) -> Output {
    machine.run("ssh-keygen", &["-Y", "sign", "-n", namespace, "-f", "key.pub"], b"a message\n")
}

/// … and it verifies.
fn signs(machine: &Machine, namespace: &str) {
    let signature = sign(machine, namespace).ok().out();
    let file = format!("{namespace}.sig");
    machine.write(&file, signature);
    machine.run("ssh-keygen", &["-Y", "check-novalidate", "-n", namespace, "-s", &file], b"a message\n").ok();
}

/// The same through the agent's own API; what it answers.
fn sign_by_api(machine: &Machine, agent: &Agent) -> Output {
    let socket = agent.api_socket().display().to_string();
    let body = r#"{"content":"YSBtZXNzYWdlCg=="}"#;
    machine.run("curl", &["-sS", "--unix-socket", &socket, "--json", body, "http://tokenkeep/v1/sign"], b"")
}

#[track_caller]
fn says_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not said in\n{text}");
    }
}

/// What the token itself remembers of wrong PINs.
fn pin_state(machine: &Machine) -> String {
    machine.tokenkeep(&["tokens", "--json", "--no-agent"]).ok().json()[0]["pin_state"].as_str().unwrap().to_owned()
}

/// What every question says, whichever way it is asked.
fn full_question(somebody: &Somebody) -> Vec<String> {
    let token = somebody.machine.listed_token("default");
    vec![
        "ssh-keygen (process ".to_owned(),
        "To sign in the namespace \"git\": sha512 ".to_owned(),
        "Keyset: default (level high)".to_owned(),
        format!("Token: default (serial {})", token.serial),
    ]
}

#[track_caller]
fn says_the_question(somebody: &Somebody, text: &str) {
    let parts = full_question(somebody);
    says_all(text, &parts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn askpass_is_told_who_asks_what_for_and_with_what() {
    let mut somebody = Somebody::enrolled();
    let program = askpass(&somebody.machine, "exit 1");
    let _agent = agent(&mut somebody, "auto", &[("SSH_ASKPASS", &program), ("SSH_ASKPASS_REQUIRE", "force")]);
    signs(&somebody.machine, "git");
    says_the_question(&somebody, &asked(&somebody.machine));
    signs(&somebody.machine, "file");
    assert_eq!(asked(&somebody.machine).matches("---").count(), 2, "at level High every use asks");
}

#[test]
fn a_command_of_ones_own_reads_the_question_and_gives_the_pin() {
    let mut somebody = Somebody::enrolled();
    let command = script(&somebody.machine, "ask", "cat >> $HERE/asked; echo --- >> $HERE/asked; cat $HERE/$1");
    let _agent = agent(&mut somebody, &format!("command:{command} pin"), &[]);
    signs(&somebody.machine, "git");
    let question = asked(&somebody.machine);
    says_the_question(&somebody, &question);
    assert!(question.starts_with("pin\n") && question.ends_with("\nPIN\n---\n"), "{question}");
}

/// A terminal at which nothing runs: its device, and the person before it.
fn desk(machine: &Machine) -> (Terminal, String) {
    let terminal = Terminal::shell(machine, "tty > terminal; echo ready; exec sleep 600");
    let device = wait_for("a terminal", || {
        let named = fs::read_to_string(machine.file("terminal")).unwrap_or_default();
        named.ends_with('\n').then(|| named.trim().to_owned())
    });
    (terminal, device)
}

#[test]
fn pinentry_asks_at_the_terminal_that_gpg_tty_names() {
    if !present("pinentry-tty") {
        return;
    }
    let mut somebody = Somebody::enrolled();
    let (mut terminal, device) = desk(&somebody.machine);
    let way = "pinentry:/usr/bin/pinentry-tty";
    let _agent = agent(&mut somebody, way, &[("GPG_TTY", &device), ("TERM", "dumb")]);
    let question = full_question(&somebody);
    let machine = &somebody.machine;
    std::thread::scope(|scope| {
        scope.spawn(|| signs(machine, "git"));
        for part in &question {
            terminal.expect(part);
        }
        terminal.expect("PIN:").type_line(Somebody::PIN);
    });
    let refused = std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign(machine, "git"));
        terminal.expect("PIN:").end_of_input();
        signing.join().unwrap()
    });
    refused.fails_with(255).says("refused");
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn pinentry_curses_asks_where_nothing_is_configured() {
    if !present("pinentry-curses") {
        return;
    }
    let mut somebody = Somebody::enrolled();
    let (mut terminal, device) = desk(&somebody.machine);
    let _agent = agent(&mut somebody, "auto", &[("GPG_TTY", &device), ("TERM", "vt100")]);
    let machine = &somebody.machine;
    std::thread::scope(|scope| {
        scope.spawn(|| signs(machine, "git"));
        terminal.expect("ssh-keygen").expect("\"git\"").expect("Keyset: default").expect("Cancel");
        terminal.press(&format!("{}\r", Somebody::PIN));
    });
}

#[test]
fn pinentry_opens_a_window_where_there_is_a_display() {
    let mut somebody = Somebody::enrolled();
    if !present("pinentry-gtk-2") {
        return;
    }
    let Some(display) = Display::open(&somebody.machine) else { return };
    let _agent = agent(&mut somebody, "pinentry:/usr/bin/pinentry-gtk-2", &[("DISPLAY", &display.name)]);
    let machine = &somebody.machine;
    std::thread::scope(|scope| {
        scope.spawn(|| signs(machine, "git"));
        display.type_into(machine, "pinentry", Somebody::PIN, "Return");
    });
    let refused = std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign(machine, "git"));
        display.type_into(machine, "pinentry", Somebody::PIN, "Escape");
        signing.join().unwrap()
    });
    refused.fails_with(255).says("refused");
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn a_terminal_is_asked_at() {
    let mut somebody = Somebody::enrolled();
    let (mut terminal, device) = desk(&somebody.machine);
    let agent = agent(&mut somebody, &format!("terminal:{device}"), &[]);
    let question = full_question(&somebody);
    let machine = &somebody.machine;
    std::thread::scope(|scope| {
        scope.spawn(|| signs(machine, "git"));
        for part in &question {
            terminal.expect(part);
        }
        terminal.expect("PIN: ").type_line(Somebody::PIN);
    });
    let refused = std::thread::scope(|scope| {
        let signing = scope.spawn(|| sign_by_api(machine, &agent));
        terminal.expect("PIN: ").interrupt();
        signing.join().unwrap()
    });
    says_all(&refused.out(), &["\"kind\":\"pin\"", "cancelled at the prompt"]);
}

/// An agent that was started with a descriptor: one that a test's own process cannot be given by [`Agent`].
struct WithDescriptor(Child);

impl Drop for WithDescriptor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_descriptor_gives_pins_but_no_confirmation() {
    let mut somebody = Somebody::new();
    somebody.issue("first.letter");
    enroll(&somebody, "medium").ok();
    let machine = &mut somebody.machine;
    Agent::configure(machine, "prompter = \"fd:7\"");
    let mut command = machine.command("sh");
    let log = fs::File::create(machine.file("agent.log")).unwrap();
    command.args(["-c", "exec tokenkeep -v agent 7< pin"]).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
    let _agent = WithDescriptor(command.stderr(log).spawn().unwrap());
    wait_for("the agent serves", || machine.read_text("agent.log").contains("Serving SSH on").then_some(()));
    machine.set_environment("SSH_AUTH_SOCK", machine.file("runtime/tokenkeep/agent/ssh.sock").to_str().unwrap());
    let keys = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", keys);
    // The first use logs in and is for the PIN; the second wants a yes.
    signs(machine, "git");
    sign(machine, "git").fails_with(255).says("refused");
    let socket = machine.file("runtime/tokenkeep/agent/api.sock").display().to_string();
    let body = r#"{"content":"YSBtZXNzYWdlCg=="}"#;
    let refused = machine.run("curl", &["-sS", "--unix-socket", &socket, "--json", body, "http://t/v1/sign"], b"");
    says_all(&refused.out(), &["descriptor 7", "gives PINs only", "agent.toml"]);
    says_how_to_get_a_yes(machine, &["descriptor 7", "gives PINs only"]);
}

/// A command cannot say yes to its own use, whatever it is given; it hears what to do instead, and that helps.
#[track_caller]
fn says_how_to_get_a_yes(machine: &Machine, reasons: &[&str]) {
    machine.write("mail", "mail\n");
    let sign = ["sign", "--in", "mail", "--out", "mail.p7m", "--pin-source", "file:pin"];
    let refused = machine.tokenkeep_without_terminal(&sign).fails_with(4);
    says_all(&refused.err(), reasons);
    says_all(
        &refused.err(),
        &["cannot sign", "its own prompter", "`prompter` in agent.toml", "`tokenkeep agent stop`"],
    );
    assert!(!machine.file("mail.p7m").exists());
    // While the agent has the token, it is not enough to go past it.
    let past = machine.tokenkeep_without_terminal(&[&sign[..], &["--no-agent"]].concat());
    assert_ne!(past.code(), 0, "{past}");
    machine.tokenkeep(&["agent", "stop"]).ok();
    machine.tokenkeep_without_terminal(&sign).ok();
}

#[test]
fn a_command_at_medium_whose_agent_can_ask_nobody_hears_what_to_do() {
    let somebody = Somebody::new();
    somebody.issue("first.letter");
    enroll(&somebody, "medium").ok();
    let machine = &somebody.machine;
    Agent::configure(machine, "prompter = \"auto\"");
    let _agent = Agent::start(machine, &["--background"]);
    // The PIN that begins the log-in is the command's to give, and is for its own use; the next one is not.
    machine.write("mail", "mail\n");
    machine.tokenkeep(&["sign", "--in", "mail", "--out", "first.p7m", "--pin-source", "file:pin"]).ok();
    says_how_to_get_a_yes(machine, &["cannot ask a person", "GPG_TTY", "SSH_ASKPASS"]);
}

fn enroll(somebody: &Somebody, level: &str) -> Output {
    let letter = ["enroll", "--letter", "first.letter", "--keyset", "default", "--level", level];
    somebody.tokenkeep(&[&letter[..], &["--new-token", "--new-pin-source", "file:pin"]].concat())
}

#[test]
fn whoever_cancels_has_used_nothing_up() {
    let mut somebody = Somebody::enrolled();
    let program = script(&somebody.machine, "askpass", "[ -e $HERE/cancel ] && exit 1; cat $HERE/pin");
    let agent = agent(&mut somebody, &format!("askpass:{program}"), &[]);
    somebody.machine.write("cancel", "");
    sign(&somebody.machine, "git").fails_with(255).says("refused");
    let answer = sign_by_api(&somebody.machine, &agent).out();
    says_all(&answer, &["\"kind\":\"pin\"", "cannot sign", "\\\"default\\\"", "cancelled at the prompt"]);
    assert_eq!(pin_state(&somebody.machine), "ok");
    fs::remove_file(somebody.machine.file("cancel")).unwrap();
    signs(&somebody.machine, "git");
}

#[test]
fn where_nobody_can_be_asked_it_fails_at_once_and_says_what_to_do() {
    let mut somebody = Somebody::enrolled();
    // Started without a terminal of its own, and told of none.
    Agent::configure(&somebody.machine, "prompter = \"auto\"");
    let agent = Agent::start(&somebody.machine, &["-v", "--background"]);
    offer(&mut somebody.machine, &agent);
    let machine = &somebody.machine;
    let began = Instant::now();
    sign(machine, "git").fails_with(255).says("refused");
    let answer = sign_by_api(machine, &agent).out();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    says_all(
        &answer,
        &["\"kind\":\"pin\"", "cannot ask a person", "GPG_TTY", "SSH_ASKPASS", "`prompter` in agent.toml"],
    );
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn a_prompter_that_is_not_there_is_named_with_what_to_do() {
    let mut somebody = Somebody::enrolled();
    let agent = agent(&mut somebody, "askpass:/nonexistent/askpass", &[]);
    let answer = sign_by_api(&somebody.machine, &agent).out();
    says_all(&answer, &["cannot ask by askpass:/nonexistent/askpass", "`prompter` in agent.toml"]);
}

#[test]
fn a_question_that_nobody_answers_counts_as_cancelled_and_its_window_goes() {
    let mut somebody = Somebody::enrolled();
    let program = script(&somebody.machine, "askpass", "sleep 654 & echo $$ $! > $HERE/processes; wait");
    Agent::configure(&somebody.machine, &format!("prompter = \"askpass:{program}\"\nprompter_timeout = \"3s\""));
    let agent = Agent::start(&somebody.machine, &["-v"]);
    offer(&mut somebody.machine, &agent);
    let answer = sign_by_api(&somebody.machine, &agent).out();
    says_all(&answer, &["\"kind\":\"pin\"", "cancelled at the prompt"]);
    for process in somebody.machine.read_text("processes").split_whitespace() {
        wait_for("its processes end", || {
            let line = fs::read(Path::new("/proc").join(process).join("cmdline")).unwrap_or_default();
            line.is_empty().then_some(())
        });
    }
    assert_eq!(pin_state(&somebody.machine), "ok");
}

#[test]
fn a_question_goes_when_the_program_that_asked_has_gone_and_the_next_one_is_asked() {
    let mut somebody = Somebody::enrolled();
    let body = "echo \"$1\" >> $HERE/asked; case \"$1\" in *'\"first\"'*) sleep 654 & echo $! > $HERE/sleeper; wait ;; esac; \
                cat $HERE/pin";
    let program = script(&somebody.machine, "askpass", body);
    let _agent = agent(&mut somebody, &format!("askpass:{program}"), &[]);
    let machine = &somebody.machine;
    let mut command = machine.command("ssh-keygen");
    let input = fs::File::open(machine.write("message", "a message\n")).unwrap();
    command.args(["-Y", "sign", "-n", "first", "-f", "key.pub"]).stdin(input).stdout(Stdio::null());
    let mut first = command.stderr(Stdio::null()).spawn().unwrap();
    let sleeper = wait_for("the first question", || {
        fs::read_to_string(machine.file("sleeper")).ok().filter(|number| number.ends_with('\n'))
    });
    // As Ctrl-C would.
    first.kill().unwrap();
    first.wait().unwrap();
    let began = Instant::now();
    signs(machine, "second");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let line = fs::read(Path::new("/proc").join(sleeper.trim()).join("cmdline")).unwrap_or_default();
    assert!(line.is_empty(), "the first dialog goes on");
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn two_requests_are_asked_about_one_after_the_other_each_for_its_own_use() {
    let mut somebody = Somebody::enrolled();
    let body = "echo begin >> $HERE/asked; echo \"$1\" >> $HERE/asked; sleep 1; echo end >> $HERE/asked; cat $HERE/pin";
    let program = script(&somebody.machine, "askpass", body);
    let _agent = agent(&mut somebody, &format!("askpass:{program}"), &[]);
    let machine = &somebody.machine;
    let namespaces = ["first", "second", "third"];
    std::thread::scope(|scope| {
        for namespace in namespaces {
            scope.spawn(move || signs(machine, namespace));
        }
    });
    let asked = asked(machine);
    let order: Vec<_> = asked.lines().filter(|line| ["begin", "end"].contains(line)).collect();
    assert_eq!(order, ["begin", "end"].repeat(3), "no two at once:\n{asked}");
    for namespace in namespaces {
        assert_eq!(asked.matches(&format!("in the namespace {namespace:?}")).count(), 1, "{asked}");
    }
}

#[test]
fn at_level_medium_each_use_is_confirmed_and_a_no_is_a_no() {
    let mut somebody = Somebody::new();
    somebody.issue("first.letter");
    enroll(&somebody, "medium").ok();
    let program = askpass(&somebody.machine, "[ ! -e $HERE/no ]");
    let agent = agent(&mut somebody, &format!("askpass:{program}"), &[]);
    let machine = &somebody.machine;
    signs(machine, "git");
    signs(machine, "git");
    let asked = asked(machine);
    assert_eq!((asked.matches("\n---").count(), asked.matches("confirm|").count()), (2, 1), "{asked}");
    says_all(&asked, &["Keyset: default (level medium)", "Allow this once?"]);
    machine.write("no", "");
    sign(machine, "git").fails_with(255).says("refused");
    let refused = sign_by_api(machine, &agent).out();
    says_all(&refused, &["\"kind\":\"pin\"", "cannot sign: declined at the prompt; nothing was done with"]);
    assert!(!refused.contains("cancelled"), "{refused}");
    // A command's use is asked about by the agent, and told in the same words.
    machine.write("mail", "mail\n");
    let by_command = machine.tokenkeep(&["sign", "--in", "mail", "--out", "mail.p7m"]);
    by_command.fails_with(4).says("cannot sign: declined at the prompt; nothing was done with").does_not_say("cancel");
}

#[test]
fn before_the_last_try_a_person_is_warned_and_may_keep_it() {
    let mut somebody = Somebody::enrolled_with(TokenKind::Kryoptic);
    let program = askpass(&somebody.machine, "[ -e $HERE/risk ]");
    for _ in 0..9 {
        assert!(!somebody.machine.pin_is_right("default", Somebody::WRONG_PIN));
    }
    assert_eq!(pin_state(&somebody.machine), "final-try");
    let a_command_told = |machine: &Machine, answer: &str, said: &str| {
        machine.write("mail", "mail\n");
        let mut terminal = Terminal::tokenkeep(machine, &["sign", "--in", "mail", "--out", "mail.p7m"]);
        let _ = terminal.expect("the next wrong PIN locks it. Go on?").type_line(answer);
        let (code, shown) = terminal.finish();
        assert!(code == 4 && shown.contains(said), "{code} {shown}");
    };
    a_command_told(&somebody.machine, "n", "declined at the prompt; nothing was done with");
    let _agent = agent(&mut somebody, &format!("askpass:{program}"), &[]);
    let machine = &somebody.machine;
    a_command_told(machine, "n", "declined at the prompt; nothing was done with");
    sign(machine, "git").fails_with(255).says("refused");
    says_all(&asked(machine), &["confirm|", "ssh-keygen", "The next wrong PIN locks this token."]);
    assert_eq!(asked(machine).matches("---").count(), 1, "the PIN is not asked for after a no");
    machine.write("risk", "");
    signs(machine, "git");
    says_all(&asked(machine), &["One try is left: a wrong PIN now locks the token.\nPIN"]);
}
