//! A shell completes keysets, tokens and addresses of this machine: without a PIN, without starting
//! an agent, silently, and within a second or two.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::{Machine, run};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

/// Calls the function of the script as bash does when Tab is pressed at the end of the line.
const PRESS_TAB: &str = r#"
    source completions.bash
    COMP_LINE=$1 COMP_POINT=${#1}
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _tokenkeep tokenkeep
    printf '%s\n' "${COMPREPLY[@]}"
"#;

/// The candidates that bash inserts for the last word of this line, without options. Fails the test
/// if the program writes anything to stderr.
#[track_caller]
fn offered(machine: &Machine, line: &str) -> Vec<String> {
    assert_silent(machine, line);
    press_tab(machine, line)
}

/// The candidates that bash inserts for the last word of this line, without options.
#[track_caller]
fn press_tab(machine: &Machine, line: &str) -> Vec<String> {
    all_candidates(machine, line).into_iter().filter(|candidate| !candidate.starts_with("--")).collect()
}

#[track_caller]
fn all_candidates(machine: &Machine, line: &str) -> Vec<String> {
    let script = machine.tokenkeep(&["completions", "bash"]).ok();
    machine.write("completions.bash", &script.stdout);
    let pieces = line.replace(':', " : ").replace('=', " = ");
    let mut pieces: Vec<_> = pieces.split(' ').collect();
    let last = pieces.pop().unwrap();
    pieces.retain(|piece| !piece.is_empty());
    let arguments = [&["-c", PRESS_TAB, "bash", line][..], &pieces, &[last]].concat();
    let output = machine.run("bash", &arguments, b"").ok();
    assert_eq!(output.err(), "", "{line}");
    output.out().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Runs the program as the script does, which discards its stderr: nothing may appear there.
#[track_caller]
fn assert_silent(machine: &Machine, line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    let mut command = machine.tokenkeep_command(&[&["--"], &words[..]].concat());
    command.env("TOKENKEEP_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    assert_eq!(run(command, b"").ok().err(), "", "{line}");
}

#[test]
fn a_shell_offers_the_keysets_and_tokens_of_this_machine() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let token = machine.make_token("Grüne Karte", TestUser::PIN);
    machine.write("message.txt", "a message\n");
    let email = &user.keyset_info("default")["certificates"][0]["emails"][0];
    let email = email.as_str().unwrap();
    let own = machine.listed_token("default").serial;

    for line in ["sign --keyset ", "sign --keyset de", "keyset show ", "keyset delete d", "sign --keyset=d"] {
        assert_eq!(offered(machine, &format!("tokenkeep {line}")), ["default"], "{line}");
    }
    assert_eq!(offered(machine, "tokenkeep pin status "), ["Grüne\\ Karte", "default"]);
    for line in ["sign --token Gr", "token erase Gr", "pin unblock G"] {
        assert_eq!(offered(machine, &format!("tokenkeep {line}")), ["Grüne\\ Karte"], "{line}");
    }
    assert_eq!(offered(machine, &format!("tokenkeep pin status {}", &token.serial[..8])), [token.serial.as_str()]);
    let uris = offered(machine, "tokenkeep sign --token pkcs11:");
    assert!(uris.len() == 2 && uris.iter().any(|uri| uri.contains(&own)), "{uris:?}");
    for line in ["encrypt --to ", "admin show ", "git-sign --local-user some"] {
        assert!(offered(machine, &format!("tokenkeep {line}")).contains(&email.to_owned()), "{line}");
    }
    assert_eq!(offered(machine, "tokenkeep enroll --level "), ["high", "medium", "low"]);
    assert_eq!(offered(machine, "tokenkeep admin issue a@b --levels high,m"), ["high\\,medium"]);
    assert_eq!(offered(machine, "tokenkeep sign --pin-source fi"), ["file:"]);
    assert!(offered(machine, "tokenkeep sign --pin-source file:").contains(&"pin".to_owned()));
    assert_eq!(offered(machine, "tokenkeep sign --in mess"), ["message.txt"]);
    let options = all_candidates(machine, "tokenkeep sign --");
    assert!(
        ["--pin-source", "--keyset"].iter().all(|option| options.iter().any(|other| other == option)),
        "{options:?}"
    );
    assert_eq!(offered(machine, "tokenkeep keyset f"), ["forget"]);
    // Not the commands that only the program itself runs.
    assert_eq!(offered(machine, "tokenkeep agen"), ["agent"]);
    assert_eq!(offered(machine, "tokenkeep token"), ["token", "tokens"]);
    // What bash itself makes of it, at a terminal.
    let mut terminal = Terminal::shell(machine, "bash --norc --noprofile -i");
    terminal.type_line("source completions.bash").type_line("tokenkeep keyset show def\t").expect("Signing key");
    terminal.type_line("exit");
    terminal.finish();

    // A hidden keyset is offered only to show it again.
    user.tokenkeep(&["keyset", "forget", "default"]).ok();
    assert!(offered(machine, "tokenkeep sign --keyset d").is_empty());
    assert_eq!(offered(machine, "tokenkeep keyset forget --undo "), ["default"]);
    let pins = machine.tokenkeep(&["pin", "status", "--json"]).ok().json();
    assert!(pins.as_array().unwrap().iter().all(|token| token["pin_state"] == "ok"), "{pins}");
}

/// A token's label may be anything, and a card may be anybody's.
#[test]
fn a_label_is_never_executed() {
    let machine = Machine::new();
    let labels = ["a$(touch made1)", "b`touch made2`", "c';touch made3;'", "d\";touch made4;\"", "e;touch made5"];
    for label in labels {
        machine.make_token(label, TestUser::PIN);
    }
    let script = machine.tokenkeep(&["completions", "bash"]).ok();
    machine.write("completions.bash", &script.stdout);
    let mut terminal = Terminal::shell(&machine, "bash --norc --noprofile -i");
    // Neither the echo of a typed line nor that of its end has the text that the test waits for.
    terminal.type_line("PS1=rea''dy: PS2=rea''dy: && source completions.bash").expect("ready:");
    for (label, quote) in labels.iter().flat_map(|label| ["", "\"", "'"].map(|quote| (label, quote))) {
        terminal.type_line(&format!("tokenkeep pin status {quote}{}\t", &label[..1]));
        if quote.is_empty() && !label.starts_with('a') {
            // Only the inserted label has this text.
            terminal.expect("made");
        }
        terminal.expect("ready:");
        // Without a candidate the quote is still open.
        terminal.interrupt().expect("ready:").type_line("echo en''d").expect("end").expect("ready:");
    }
    terminal.type_line("exit");
    terminal.finish();
    let made = |name: &str| machine.file(name).exists();
    assert!(!(1..=5).any(|number| made(&format!("made{number}"))), "a label was executed");
}

#[test]
fn the_variable_changes_no_ordinary_command() {
    let mut machine = Machine::new();
    for shell in ["bash", "zsh", "no such shell"] {
        machine.set_environment("TOKENKEEP_COMPLETE", shell);
        machine.tokenkeep(&["verify", "nothing.p7m"]).fails_with(3).says("cannot verify");
        machine.tokenkeep(&["completions", "bash"]).ok().says("printf -v piece %q");
    }
    machine.set_environment("TOKENKEEP_COMPLETE", "bash");
    // Not asked by a script, which also names the word: refused in silence, as a shell expects.
    let output = machine.tokenkeep(&["--", "tokenkeep", "sign", "--keyset", ""]);
    assert_eq!((output.code(), output.err().as_str()), (1, ""));
}

#[test]
fn completion_starts_no_agent_and_asks_a_running_one() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let directory = machine.file("runtime/tokenkeep/agent");
    fs::create_dir_all(&directory).unwrap();
    for private in [directory.parent().unwrap(), &directory] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).unwrap();
    }
    // As systemd listens for an agent: the first connection would start it.
    let socket = UnixListener::bind(directory.join("api.sock")).unwrap();
    socket.set_nonblocking(true).unwrap();
    assert_eq!(offered(machine, "tokenkeep sign --keyset "), ["default"]);
    assert_eq!(socket.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it connected");
    drop(socket);
    fs::remove_file(directory.join("api.sock")).unwrap();
    Agent::configure(machine, "");
    let agent = Agent::start(machine, &[]);
    assert_eq!(offered(machine, "tokenkeep sign --keyset "), ["default"]);
    assert_eq!(offered(machine, "tokenkeep token erase "), ["default"]);
    agent.stop();
}

#[test]
fn a_hung_or_missing_module_does_not_delay_a_shell() {
    let mut user = TestUser::with_keyset();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    assert_eq!(offered(&user.machine, "tokenkeep sign --keyset "), ["default"]);
    assert!(faulty.calls().is_empty(), "it used a PIN: {:?}", faulty.calls());
    faulty.set_faults("delay C_GetSlotList 20000ms\n");
    let started = Instant::now();
    assert!(press_tab(&user.machine, "tokenkeep encrypt --to ").is_empty());
    assert!(started.elapsed() < Duration::from_secs(6), "it took {:?}", started.elapsed());
    assert_silent(&user.machine, "tokenkeep encrypt --to ");
    let machine = Machine::new();
    machine.write("config/tokenkeep/agent.toml", "modules = [\"/nowhere/module.so\"]\n");
    assert!(offered(&machine, "tokenkeep sign --keyset ").is_empty());
    machine.write("config/tokenkeep/agent.toml", "not a configuration\n");
    assert!(offered(&machine, "tokenkeep sign --token ").is_empty());
}

#[test]
fn shells_accept_their_scripts() {
    let machine = Machine::new();
    for (shell, options) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let script = machine.tokenkeep(&["completions", shell]).ok().says("TOKENKEEP_COMPLETE").stdout;
        // Not every machine has the other two.
        if shell == "bash" || std::process::Command::new(shell).arg("--version").output().is_ok() {
            let file = machine.write(shell, &script);
            machine.run(shell, &[options, &[file.to_str().unwrap()]].concat(), b"").ok();
        }
    }
    // Their scripts do not quote candidates.
    machine.tokenkeep(&["completions", "powershell"]).fails_with(2);
    machine.tokenkeep(&["completions", "no-such-shell"]).fails_with(2);
}
