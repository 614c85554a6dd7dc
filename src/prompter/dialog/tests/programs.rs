//! Askpass, command, descriptor and terminal.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::*;

fn askpass(test_dir: &TestDir, body: &str) -> Dialog {
    let path = test_dir.script("askpass", body);
    Dialog::choose(&PromptMethod::Askpass(Some(path)), &environment(&[])).unwrap()
}

fn command_within(test_dir: &TestDir, body: &str, timeout: Duration) -> Dialog {
    let path = test_dir.script("command", body);
    let words = vec![path.display().to_string(), "two words".to_owned()];
    Dialog::choose(&PromptMethod::Command(words), &environment(&[]).with_timeout(timeout)).unwrap()
}

fn command(test_dir: &TestDir, body: &str) -> Dialog {
    command_within(test_dir, body, Duration::from_secs(20))
}

#[test]
fn askpass_is_given_the_question_and_gives_the_pin() {
    let test_dir = TestDir::new();
    let dialog = askpass(&test_dir, "printf '%s' \"$#:$1:$SSH_ASKPASS_PROMPT\" > $PLACE/seen; echo 'geh 1\r'");
    let ask = PromptRequest { warning: Some("The next wrong PIN locks it.".to_owned()), ..ask() };
    assert_eq!(dialog.pin(&ask).unwrap().as_str(), "geh 1\r".trim_end());
    let expected = "1:Use of a signing key\ngit (process 4711) asks\nkeyset \"Jürgen\", token \"card\"\n\
                    The next wrong PIN locks it.\nPIN: :";
    assert_eq!(test_dir.read("seen"), expected);
}

#[test]
fn cancelling_askpass_cancels() {
    let test_dir = TestDir::new();
    for body in ["exit 1", "exit 255", "echo 123456; exit 1", "echo", "true"] {
        let error = askpass(&test_dir, body).pin(&ask()).unwrap_err();
        assert!(error.is_cancelled(), "{body}: {error}");
        assert!(error.to_string().contains("Use of a signing key"), "{error}");
    }
}

#[test]
fn a_failed_program_does_not_count_as_cancelled() {
    let test_dir = TestDir::new();
    for (body, reason) in [
        ("kill -KILL $$", "signal: 9"),
        ("exec /nonexistent/askpass", "127"),
        ("head -c 100000 /dev/zero | tr '\\0' 1", "a line of more than 1024 bytes"),
        ("echo 123456; yes", "bytes after its answer"),
        ("printf '12\\t34\\n'", "control character"),
        ("printf '\\377\\n'", "UTF-8"),
        ("head -c 300 /dev/zero | tr '\\0' 1", "longer than 255 bytes"),
    ] {
        let error = askpass(&test_dir, body).pin(&ask()).unwrap_err();
        assert!(!error.is_cancelled() && error.to_string().contains(reason), "{body}: {error}");
        assert!(!error.to_string().contains("12\t34") && !error.to_string().contains("1111"), "{error}");
    }
}

#[test]
fn askpass_confirms_as_ssh_does() {
    let test_dir = TestDir::new();
    let body = "[ \"$SSH_ASKPASS_PROMPT\" = confirm ] || exit 3; case $1 in *Sign?) ;; *) exit 4;; esac; ";
    for (answer, yes) in [("true", true), ("echo", true), ("echo yes", true), ("echo no", false), ("echo y", false)] {
        let dialog = askpass(&test_dir, &format!("{body}{answer}"));
        assert_eq!(dialog.confirm(&question()).unwrap(), yes, "{answer}");
    }
    assert!(!askpass(&test_dir, &format!("{body}exit 1")).confirm(&question()).unwrap());
    assert!(!askpass(&test_dir, "kill -KILL $$").confirm(&question()).unwrap_err().is_cancelled());
    assert!(askpass(&test_dir, "kill -KILL $$").confirm(&question()).is_err());
}

#[test]
fn a_command_reads_the_question_from_its_input() {
    let test_dir = TestDir::new();
    let dialog =
        command(&test_dir, "printf '%s' \"$#:$1:\" > $PLACE/seen; cat >> $PLACE/seen; echo 123456; echo 'more'");
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    let text = "Use of a signing key\ngit (process 4711) asks\nkeyset \"Jürgen\", token \"card\"\nPIN\n";
    assert_eq!(test_dir.read("seen"), format!("1:two words:pin\n{text}"));
}

#[test]
fn a_command_that_does_not_listen_may_answer() {
    let test_dir = TestDir::new();
    assert_eq!(command(&test_dir, "exec <&-; echo 123456").pin(&ask()).unwrap().as_str(), "123456");
}

#[test]
fn only_yes_is_a_commands_yes() {
    let test_dir = TestDir::new();
    for (body, yes) in [("echo yes", true), ("echo YES", true), ("echo y", false), ("echo", false), ("true", false)] {
        assert_eq!(command(&test_dir, body).confirm(&question()).unwrap(), yes, "{body}");
    }
    let wanted = "read wanted; [ $wanted = confirm ] && echo yes";
    assert!(command(&test_dir, wanted).confirm(&question()).unwrap());
    assert!(!command(&test_dir, "echo yes; exit 1").confirm(&question()).unwrap());
}

#[test]
fn a_timeout_counts_as_cancelled_and_ends_the_programs() {
    let test_dir = TestDir::new();
    let body = "sleep 987 & echo $$ $! > $PLACE/ids; wait";
    let dialog = command_within(&test_dir, body, Duration::from_secs(2));
    let began = Instant::now();
    let error = dialog.pin(&ask()).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }) && error.is_cancelled(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    for process in test_dir.wait_for("ids").split_whitespace() {
        ends_soon(process);
    }
}

#[test]
fn a_question_is_withdrawn_when_its_client_disconnects() {
    let test_dir = TestDir::new();
    let body = "sleep 987 & echo $$ $! > $PLACE/ids; wait";
    let mut requester = Started::new("sleep").arg("600").spawn().unwrap();
    let number = i32::try_from(requester.id()).unwrap();
    let dialog = command(&test_dir, body).for_process(number).unwrap();
    let began = Instant::now();
    let error = std::thread::scope(|scope| {
        let asking = scope.spawn(|| dialog.pin(&ask()));
        test_dir.wait_for("ids");
        requester.kill().unwrap();
        asking.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, PrompterError::Withdrawn { .. }) && error.is_cancelled(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(15));
    test_dir.read("ids").split_whitespace().for_each(ends_soon);
    requester.wait().unwrap();
    let error = command(&test_dir, body).for_process(number).unwrap_err();
    assert!(matches!(error, PrompterError::Withdrawn { .. }), "{error}");
    let own = i32::try_from(std::process::id()).unwrap();
    for somebody in [own, 0, -1, i32::MIN] {
        let dialog = command(&test_dir, "echo 123456").for_process(somebody).unwrap();
        assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    }
}

#[test]
fn terminal_and_descriptor_prompts_are_withdrawn_too() {
    let (reader, _writer) = io::pipe().unwrap();
    let test_terminal = TestTerminal::new();
    let around = environment(&[]).with_terminal(&test_terminal.path);
    for method in [PromptMethod::Terminal(None), PromptMethod::Descriptor(reader.as_raw_fd().try_into().unwrap())] {
        let mut requester = Started::new("sleep").arg("0.5").spawn().unwrap();
        let dialog = Dialog::choose(&method, &around).unwrap().for_process(requester.id().try_into().unwrap()).unwrap();
        let error = dialog.pin(&ask()).unwrap_err();
        assert!(matches!(error, PrompterError::Withdrawn { .. }), "{method}: {error}");
        requester.wait().unwrap();
    }
}

#[test]
fn a_program_that_will_not_end_is_ended() {
    let test_dir = TestDir::new();
    let body =
        "trap '' TERM HUP INT; (while :; do sleep 0.1; done) & echo $$ $! > $PLACE/ids; while :; do sleep 0.1; done";
    let error = command_within(&test_dir, body, Duration::from_secs(2)).pin(&ask()).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let ids = test_dir.wait_for("ids");
    assert_eq!(ids.split_whitespace().count(), 2);
    ids.split_whitespace().for_each(ends_soon);
}

/// A process left behind by a program keeps the pipe open: no further answer is expected.
#[test]
fn a_program_that_leaves_another_behind_has_answered() {
    let test_dir = TestDir::new();
    let began = Instant::now();
    let dialog = command(&test_dir, "sleep 5 & echo $! > $PLACE/ids; echo 123456");
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    assert!(began.elapsed() < Duration::from_secs(4));
    ends_soon(&test_dir.wait_for("ids"));
}

#[test]
fn a_program_inherits_no_descriptor_and_no_variable() {
    let test_dir = TestDir::new();
    let ours = File::create(test_dir.path("ours")).unwrap();
    let (_reader, _writer) = io::pipe().unwrap();
    let path = test_dir.script("command", "ls -l /proc/self/fd > $PLACE/open; env > $PLACE/variables; echo 123456");
    let variables = [("LISTEN_FDS", Path::new("2")), ("NOTIFY_SOCKET", Path::new("/run/x")), ("LANG", Path::new("C"))];
    let method = PromptMethod::Command(vec![path.display().to_string()]);
    Dialog::choose(&method, &environment(&variables)).unwrap().pin(&ask()).unwrap();
    assert!(test_dir.read("open").contains("/open"), "{}", test_dir.read("open"));
    assert!(!test_dir.read("open").contains("/ours"), "{}", test_dir.read("open"));
    let variables = test_dir.read("variables");
    assert!(
        variables.contains("LANG=C") && !variables.contains("LISTEN") && !variables.contains("NOTIFY"),
        "{variables}"
    );
    drop(ours);
}

#[test]
fn a_descriptor_gives_pins_and_nothing_else() {
    let (reader, mut writer) = io::pipe().unwrap();
    let number = reader.as_raw_fd().try_into().unwrap();
    let around = environment(&[]).with_timeout(Duration::from_millis(300));
    let dialog = Dialog::choose(&PromptMethod::Descriptor(number), &around).unwrap();
    writer.write_all(b"123456\nabcdef\n").unwrap();
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    assert!(matches!(dialog.confirm(&question()), Err(PrompterError::PinsOnly { .. })));
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "abcdef", "the confirmation read nothing");
    let error = dialog.pin(&ask()).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
    drop(writer);
    let error = dialog.pin(&ask()).unwrap_err();
    assert!(!error.is_cancelled() && error.to_string().contains("empty"), "{error}");
}

fn at_a_terminal<T: Send>(
    test_terminal: &mut TestTerminal,
    keys: &[(&str, &str)],
    timeout: Duration,
    action: impl FnOnce(Dialog) -> T + Send,
) -> T {
    let around = environment(&[]).with_terminal(&test_terminal.path).with_timeout(timeout);
    let dialog = Dialog::choose(&PromptMethod::Auto, &around).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| action(dialog));
        for (prompt, keys) in keys {
            test_terminal.until(prompt);
            test_terminal.press(keys);
        }
        asking.join().unwrap()
    })
}

#[test]
fn at_a_terminal_the_question_is_shown_and_answered() {
    let mut test_terminal = TestTerminal::new();
    let long = Duration::from_secs(20);
    let shown = [("Use of a signing key", ""), ("token \"card\"", ""), ("PIN: ", "123456\n")];
    assert_eq!(
        at_a_terminal(&mut test_terminal, &shown, long, |dialog| dialog.pin(&ask())).unwrap().as_str(),
        "123456"
    );
    for (keys, yes) in [("y\n", true), ("\n", false), ("no\n", false)] {
        let keys = [("Sign? [y/N] ", keys)];
        assert_eq!(at_a_terminal(&mut test_terminal, &keys, long, |dialog| dialog.confirm(&question())).unwrap(), yes);
    }
    let given_up = [("PIN: ", "12\x03")];
    assert!(
        at_a_terminal(&mut test_terminal, &given_up, long, |dialog| dialog.pin(&ask())).unwrap_err().is_cancelled()
    );
}

#[test]
fn a_terminal_lost_after_selection_is_unavailable() {
    let dialog = Dialog::new(DialogBackend::Terminal("/nonexistent".into()), &environment(&[]));
    let error = dialog.pin(&ask()).unwrap_err().to_string();
    assert!(error.starts_with("cannot prompt with terminal:/nonexistent: ") && error.contains("agent.toml"), "{error}");
    assert!(!error.contains("--"), "only commands have options: {error}");
}

#[test]
fn a_timeout_at_a_terminal_counts_as_cancelled() {
    let mut test_terminal = TestTerminal::new();
    let short = Duration::from_millis(500);
    let error = at_a_terminal(&mut test_terminal, &[("PIN: ", "12")], short, |dialog| dialog.pin(&ask())).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
    let error =
        at_a_terminal(&mut test_terminal, &[("[y/N] ", "y")], short, |dialog| dialog.confirm(&question())).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
}
