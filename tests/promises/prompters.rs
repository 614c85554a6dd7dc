//! The agent prompts by the configured method, and says who asks, for what, with which keyset and
//! token. If nobody can be prompted, it reports that at once.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, wait_for};
use crate::support::display::Display;
use crate::support::foreign_programs::present;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::process_guard::ProcessGuard;
use crate::support::prompting::{
    assert_contains_all, enroll, export_offered_key, pin_state, questions, sign, sign_and_verify, sign_by_api,
    start_agent, write_askpass, write_script,
};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

/// The content of every prompt, by whatever method.
fn expected_question(user: &TestUser) -> Vec<String> {
    let token = user.machine.listed_token("default");
    vec![
        "ssh-keygen (process ".to_owned(),
        "To sign in the namespace \"git\": sha512 ".to_owned(),
        "Keyset: default (level high)".to_owned(),
        format!("Token: default (serial {})", token.serial),
    ]
}

#[track_caller]
fn assert_question(user: &TestUser, text: &str) {
    let parts = expected_question(user);
    assert_contains_all(text, &parts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn askpass_receives_the_program_its_purpose_and_the_keyset() {
    let mut user = TestUser::with_keyset();
    let program = write_askpass(&user.machine, "exit 1");
    let _agent = start_agent(&mut user, "auto", &[("SSH_ASKPASS", &program), ("SSH_ASKPASS_REQUIRE", "force")]);
    sign_and_verify(&user.machine, "git");
    assert_question(&user, &questions(&user.machine));
    sign_and_verify(&user.machine, "file");
    assert_eq!(questions(&user.machine).matches("---").count(), 2, "at level High every use asks");
}

#[test]
fn a_prompter_command_reads_the_question_and_gives_the_pin() {
    let mut user = TestUser::with_keyset();
    let command = write_script(&user.machine, "ask", "cat >> $HERE/asked; echo --- >> $HERE/asked; cat $HERE/$1");
    let _agent = start_agent(&mut user, &format!("command:{command} pin"), &[]);
    sign_and_verify(&user.machine, "git");
    let question = questions(&user.machine);
    assert_question(&user, &question);
    assert!(question.starts_with("pin\n") && question.ends_with("\nPIN\n---\n"), "{question}");
}

/// A terminal without a process: its device, and the person at it.
fn open_terminal(machine: &Machine) -> (Terminal, String) {
    let terminal = Terminal::shell(machine, "tty > terminal; echo ready; exec sleep 600");
    let device = wait_for("a terminal", || {
        let named = fs::read_to_string(machine.file("terminal")).unwrap_or_default();
        named.ends_with('\n').then(|| named.trim().to_owned())
    });
    (terminal, device)
}

/// Signs, and types the PIN at the prompt, which must show the whole question.
fn sign_at_prompt(user: &TestUser, terminal: &mut Terminal) {
    let (question, machine) = (expected_question(user), &user.machine);
    std::thread::scope(|scope| {
        scope.spawn(|| sign_and_verify(machine, "git"));
        for part in &question {
            terminal.expect(part);
        }
        terminal.expect("PIN:").type_line(TestUser::PIN);
    });
}

/// Makes a request, cancels its prompt, and returns the request's output.
fn request_and_cancel(request: impl FnOnce() -> Output + Send, cancel: impl FnOnce()) -> Output {
    std::thread::scope(|scope| {
        let request = scope.spawn(request);
        cancel();
        request.join().unwrap()
    })
}

#[test]
fn pinentry_asks_at_the_terminal_that_gpg_tty_names() {
    if !present("pinentry-tty") {
        return;
    }
    let mut user = TestUser::with_keyset();
    let (mut terminal, device) = open_terminal(&user.machine);
    let prompter = "pinentry:/usr/bin/pinentry-tty";
    let _agent = start_agent(&mut user, prompter, &[("GPG_TTY", &device), ("TERM", "dumb")]);
    let machine = &user.machine;
    sign_at_prompt(&user, &mut terminal);
    let refused = request_and_cancel(
        || sign(machine, "git"),
        || {
            terminal.expect("PIN:").end_of_input();
        },
    );
    refused.fails_with(255).says("refused");
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn pinentry_curses_asks_at_the_configured_terminal() {
    if !present("pinentry-curses") {
        return;
    }
    let mut user = TestUser::with_keyset();
    let (mut terminal, device) = open_terminal(&user.machine);
    let prompter = "pinentry:/usr/bin/pinentry-curses";
    let _agent = start_agent(&mut user, prompter, &[("GPG_TTY", &device), ("TERM", "vt100")]);
    let machine = &user.machine;
    std::thread::scope(|scope| {
        scope.spawn(|| sign_and_verify(machine, "git"));
        terminal.expect("ssh-keygen").expect("\"git\"").expect("Keyset: default").expect("Cancel");
        terminal.press(&format!("{}\r", TestUser::PIN));
    });
}

/// Input there would go to the shell that reads from it, and into its history.
#[test]
fn no_prompt_appears_on_another_shells_terminal() {
    let mut user = TestUser::with_keyset();
    let shell = "tty > terminal; echo ready; while read -r line; do echo \"$line\" >> history; done";
    let mut terminal = Terminal::shell(&user.machine, shell);
    terminal.expect("ready");
    let device = user.machine.read_text("terminal").trim().to_owned();
    for prompter in ["auto", "pinentry", "terminal"] {
        let agent = {
            for (name, value) in [("GPG_TTY", device.as_str()), ("TERM", "vt100")] {
                user.machine.set_environment(name, value);
            }
            Agent::configure(&user.machine, &format!("prompter = \"{prompter}\""));
            let agent = Agent::start(&user.machine, &["--background"]);
            export_offered_key(&mut user.machine, &agent);
            agent
        };
        let machine = &user.machine;
        let answer = sign_by_api(machine, &agent).out();
        assert_contains_all(&answer, &["\"kind\":\"pin\"", "`prompter` in agent.toml"]);
        assert_eq!(pin_state(machine), "ok");
        assert_no_prompter_warning(machine, &agent);
        assert!(agent.stop().success());
    }
    terminal.type_line("the shell's own").expect("the shell's own");
    let history = wait_for("the shell", || fs::read_to_string(user.machine.file("history")).ok());
    assert_eq!(history, "the shell's own\n", "something else was asked there");
}

/// `agent --env`, `agent status` and `doctor` warn beforehand that nobody can be prompted, and
/// suggest a fix.
#[track_caller]
fn assert_no_prompter_warning(machine: &Machine, agent: &Agent) {
    let shown = machine.tokenkeep(&["agent", "--env"]).ok();
    assert_contains_all(&shown.out(), &["SSH_AUTH_SOCK=", &agent.ssh_socket().display().to_string()]);
    assert_contains_all(&shown.err(), &["warning: the agent runs, but cannot prompt ", "`prompter` in agent.toml"]);
    machine.tokenkeep(&["agent", "status"]).ok().says("It cannot prompt ").says("`prompter` in agent.toml");
    let status = machine.tokenkeep(&["agent", "status", "--json"]).ok().json();
    assert!(status["prompter"].is_null() && status["prompter_problem"].is_string(), "{status}");
    let doctor = machine.tokenkeep(&["doctor"]).out();
    assert_contains_all(&doctor, &["it cannot prompt ", "uses that need a person are refused"]);
}

#[test]
fn a_foreground_agent_asks_on_its_own_terminal() {
    let mut user = TestUser::with_keyset();
    Agent::configure(&user.machine, "prompter = \"auto\"");
    // A shell with job control, as users have one.
    let mut terminal = Terminal::shell(&user.machine, "PS1='$ ' exec bash --norc --noprofile -i");
    terminal.expect("$ ").type_line("tokenkeep agent").expect("Serving SSH on");
    let socket = user.machine.file("runtime/tokenkeep/agent/ssh.sock");
    user.machine.set_environment("SSH_AUTH_SOCK", socket.to_str().unwrap());
    let machine = &user.machine;
    let keys = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", keys);
    let status = || machine.tokenkeep(&["agent", "status", "--json"]).ok().json();
    assert_eq!(status()["prompter"], "terminal /dev/tty");
    std::thread::scope(|scope| {
        scope.spawn(|| sign_and_verify(machine, "git"));
        terminal.expect("ssh-keygen").expect("PIN: ").type_line(TestUser::PIN);
    });
    // While the agent is in the background, the shell has the terminal, and input goes to the
    // shell.
    terminal.press("\x1a").expect("$ ").type_line("bg").expect("$ ");
    wait_for("it is in the background", || status()["prompter"].is_null().then_some(()));
    sign(machine, "git").fails_with(255).says("refused");
    assert_eq!(pin_state(machine), "ok");
    terminal.type_line("fg").expect("tokenkeep agent");
    wait_for("it is in the foreground", || status()["prompter"].is_string().then_some(()));
    std::thread::scope(|scope| {
        scope.spawn(|| sign_and_verify(machine, "git"));
        terminal.expect("PIN: ").type_line(TestUser::PIN);
    });
    machine.tokenkeep(&["agent", "stop"]).ok();
}

#[test]
fn pinentry_opens_a_window_where_there_is_a_display() {
    let mut user = TestUser::with_keyset();
    if !present("pinentry-gtk-2") {
        return;
    }
    let Some(display) = Display::open(&user.machine) else { return };
    let _agent = start_agent(&mut user, "pinentry:/usr/bin/pinentry-gtk-2", &[("DISPLAY", &display.name)]);
    let machine = &user.machine;
    std::thread::scope(|scope| {
        scope.spawn(|| sign_and_verify(machine, "git"));
        display.type_into(machine, "pinentry", TestUser::PIN, "Return");
    });
    let refused =
        request_and_cancel(|| sign(machine, "git"), || display.type_into(machine, "pinentry", TestUser::PIN, "Escape"));
    refused.fails_with(255).says("refused");
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn a_configured_terminal_shows_the_prompts() {
    let mut user = TestUser::with_keyset();
    let (mut terminal, device) = open_terminal(&user.machine);
    let agent = start_agent(&mut user, &format!("terminal:{device}"), &[]);
    let machine = &user.machine;
    sign_at_prompt(&user, &mut terminal);
    let refused = request_and_cancel(
        || sign_by_api(machine, &agent),
        || {
            terminal.expect("PIN: ").interrupt();
        },
    );
    assert_contains_all(&refused.out(), &["\"kind\":\"pin\"", "cancelled at the prompt"]);
}

#[test]
fn a_descriptor_gives_pins_but_no_confirmation() {
    let mut user = TestUser::new();
    user.issue("first.letter");
    enroll(&user, "medium").ok();
    let machine = &mut user.machine;
    Agent::configure(machine, "prompter = \"fd:7\"");
    let mut command = machine.command("sh");
    let log = fs::File::create(machine.file("agent.log")).unwrap();
    command.args(["-c", "exec tokenkeep -v agent 7< pin"]).stdin(Stdio::null()).stdout(log.try_clone().unwrap());
    let _agent = ProcessGuard(command.stderr(log).spawn().unwrap());
    wait_for("the agent serves", || machine.read_text("agent.log").contains("Serving SSH on").then_some(()));
    machine.set_environment("SSH_AUTH_SOCK", machine.file("runtime/tokenkeep/agent/ssh.sock").to_str().unwrap());
    let keys = machine.run("ssh-add", &["-L"], b"").ok().out();
    machine.write("key.pub", keys);
    // The first use needs the PIN and logs in; the second needs a confirmation.
    sign_and_verify(machine, "git");
    sign(machine, "git").fails_with(255).says("refused");
    let socket = machine.file("runtime/tokenkeep/agent/api.sock").display().to_string();
    let body = r#"{"content":"YSBtZXNzYWdlCg=="}"#;
    let refused = machine.run("curl", &["-sS", "--unix-socket", &socket, "--json", body, "http://t/v1/sign"], b"");
    assert_contains_all(&refused.out(), &["descriptor 7", "gives PINs only", "agent.toml"]);
    assert_confirmation_remedy(machine, &["descriptor 7", "gives PINs only"]);
}

/// A command cannot confirm its own use, whatever input it gets; the error suggests a fix that
/// works.
#[track_caller]
fn assert_confirmation_remedy(machine: &Machine, reasons: &[&str]) {
    machine.write("mail", "mail\n");
    let sign = ["sign", "--in", "mail", "--out", "mail.p7m", "--pin-source", "file:pin"];
    let refused = machine.tokenkeep_without_terminal(&sign).fails_with(4);
    assert_contains_all(&refused.err(), reasons);
    assert_contains_all(
        &refused.err(),
        &["cannot sign", "its own prompter", "`prompter` in agent.toml", "`tokenkeep agent stop`"],
    );
    assert!(!machine.file("mail.p7m").exists());
    // While the agent owns the token, bypassing the agent does not help.
    let past = machine.tokenkeep_without_terminal(&[&sign[..], &["--no-agent"]].concat());
    assert_ne!(past.code(), 0, "{past}");
    machine.tokenkeep(&["agent", "stop"]).ok();
    machine.tokenkeep_without_terminal(&sign).ok();
}

#[test]
fn level_medium_without_a_prompter_names_the_remedy() {
    let user = TestUser::new();
    user.issue("first.letter");
    enroll(&user, "medium").ok();
    let machine = &user.machine;
    Agent::configure(machine, "prompter = \"auto\"");
    let _agent = Agent::start(machine, &["--background"]);
    // The command may give the PIN that begins a session, for its own use; it cannot confirm the
    // next one.
    machine.write("mail", "mail\n");
    machine.tokenkeep(&["sign", "--in", "mail", "--out", "first.p7m", "--pin-source", "file:pin"]).ok();
    assert_confirmation_remedy(machine, &["cannot prompt the user", "in a terminal of its own", "SSH_ASKPASS"]);
}

#[test]
fn the_agent_prompts_for_a_command_without_a_terminal() {
    let mut user = TestUser::with_keyset();
    user.encrypt("a secret\n", "secret.p7m");
    let program = write_script(&user.machine, "askpass", "echo \"$1\" >> $HERE/asked; cat $HERE/pin");
    let _agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    machine.write("mail", "Subject: an offer\n\nmail\n");
    machine.tokenkeep_without_terminal(&["sign", "--in", "mail", "--out", "mail.p7m"]).ok();
    machine.tokenkeep(&["verify", "--in", "mail.p7m"]).ok().says("Signed by");
    assert_contains_all(
        &questions(machine),
        &["tokenkeep sign --in mail", "To sign the mail \"an offer\"", "(level high)"],
    );
    machine.tokenkeep_without_terminal(&["decrypt", "--in", "secret.p7m", "--out", "opened"]).ok();
    assert_eq!(machine.read_text("opened"), "a secret\n");
    assert_contains_all(&questions(machine), &["tokenkeep decrypt --in secret.p7m", "To open a message encrypted"]);
    // Operations that change keys or PINs are confirmed at the command, or not at all.
    let before = questions(machine);
    for command in [&["keyset", "delete", "default", "--yes"][..], &["pin", "change", "--new-pin-source", "file:pin"]] {
        machine.tokenkeep_without_terminal(command).fails_with(4).says("there is no terminal");
    }
    assert_eq!(questions(machine), before);
}

#[test]
fn without_a_prompter_a_request_fails_at_once_with_a_remedy() {
    let mut user = TestUser::with_keyset();
    // Started without a terminal of its own, and without the name of one.
    Agent::configure(&user.machine, "prompter = \"auto\"");
    let agent = Agent::start(&user.machine, &["-v", "--background"]);
    export_offered_key(&mut user.machine, &agent);
    let machine = &user.machine;
    let began = Instant::now();
    sign(machine, "git").fails_with(255).says("refused");
    let answer = sign_by_api(machine, &agent).out();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_contains_all(
        &answer,
        &["\"kind\":\"pin\"", "cannot prompt the user", "in a terminal of its own", "`prompter` in agent.toml"],
    );
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn a_missing_prompter_is_named_with_a_remedy() {
    let mut user = TestUser::with_keyset();
    let agent = start_agent(&mut user, "askpass:/nonexistent/askpass", &[]);
    let answer = sign_by_api(&user.machine, &agent).out();
    assert_contains_all(&answer, &["cannot prompt with askpass:/nonexistent/askpass", "`prompter` in agent.toml"]);
}
