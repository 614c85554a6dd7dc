//! Askpass, command, descriptor and terminal.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::*;

fn askpass(place: &Place, body: &str) -> Dialog {
    let path = place.script("askpass", body);
    Dialog::choose(&Way::Askpass(Some(path)), &environment(&[])).unwrap()
}

fn command_within(place: &Place, body: &str, patience: Duration) -> Dialog {
    let path = place.script("command", body);
    let words = vec![path.display().to_string(), "two words".to_owned()];
    Dialog::choose(&Way::Command(words), &environment(&[]).with_patience(patience)).unwrap()
}

fn command(place: &Place, body: &str) -> Dialog {
    command_within(place, body, Duration::from_secs(20))
}

#[test]
fn askpass_is_given_the_question_and_gives_the_pin() {
    let place = Place::new();
    let dialog = askpass(&place, "printf '%s' \"$#:$1:$SSH_ASKPASS_PROMPT\" > $PLACE/seen; echo 'geh 1\r'");
    let ask = Ask { warning: Some("The next wrong PIN locks it.".to_owned()), ..ask() };
    assert_eq!(dialog.pin(&ask).unwrap().as_str(), "geh 1\r".trim_end());
    let expected = "1:Use of a signing key\ngit (process 4711) asks\nkeyset \"Jürgen\", token \"card\"\n\
                    The next wrong PIN locks it.\nPIN: :";
    assert_eq!(place.read("seen"), expected);
}

#[test]
fn whoever_cancels_askpass_has_cancelled() {
    let place = Place::new();
    for body in ["exit 1", "exit 255", "echo 123456; exit 1", "echo", "true"] {
        let error = askpass(&place, body).pin(&ask()).unwrap_err();
        assert!(error.is_cancelled(), "{body}: {error}");
        assert!(error.to_string().contains("Use of a signing key"), "{error}");
    }
}

#[test]
fn a_program_that_breaks_is_no_person_who_cancelled() {
    let place = Place::new();
    for (body, reason) in [
        ("kill -KILL $$", "signal: 9"),
        ("exec /nonexistent/askpass", "127"),
        ("head -c 100000 /dev/zero | tr '\\0' 1", "a line of more than 1024 bytes"),
        ("echo 123456; yes", "bytes after its answer"),
        ("printf '12\\t34\\n'", "control character"),
        ("printf '\\377\\n'", "UTF-8"),
        ("head -c 300 /dev/zero | tr '\\0' 1", "longer than 255 bytes"),
    ] {
        let error = askpass(&place, body).pin(&ask()).unwrap_err();
        assert!(!error.is_cancelled() && error.to_string().contains(reason), "{body}: {error}");
        assert!(!error.to_string().contains("12\t34") && !error.to_string().contains("1111"), "{error}");
    }
}

#[test]
fn askpass_confirms_as_ssh_does() {
    let place = Place::new();
    let body = "[ \"$SSH_ASKPASS_PROMPT\" = confirm ] || exit 3; case $1 in *Sign?) ;; *) exit 4;; esac; ";
    for (answer, yes) in [("true", true), ("echo", true), ("echo yes", true), ("echo no", false), ("echo y", false)] {
        let dialog = askpass(&place, &format!("{body}{answer}"));
        assert_eq!(dialog.confirm(&question()).unwrap(), yes, "{answer}");
    }
    assert!(!askpass(&place, &format!("{body}exit 1")).confirm(&question()).unwrap());
    assert!(!askpass(&place, "kill -KILL $$").confirm(&question()).unwrap_err().is_cancelled());
    assert!(askpass(&place, "kill -KILL $$").confirm(&question()).is_err());
}

#[test]
fn askpass_is_asked_for_a_new_pin_twice() {
    let place = Place::new();
    let turns = |answers: &str| {
        let _ = fs::remove_file(place.path("turn"));
        let body = "echo x >> $PLACE/turn; echo \"$1\" >> $PLACE/asked; set -- $ANSWERS; \
                    shift $(($(wc -l < $PLACE/turn) - 1)); [ \"$1\" != - ] && echo $1";
        askpass(&place, &body.replace("$ANSWERS", answers)).new_pin(&ask())
    };
    assert_eq!(turns("123456 123456").unwrap().as_str(), "123456");
    assert!(place.read("asked").contains("PIN once more: "));
    assert_eq!(turns("123456 123457 abcdef abcdef").unwrap().as_str(), "abcdef");
    assert!(place.read("asked").contains("The two entries differ."));
    assert!(matches!(turns("1 2 3 4 5 6"), Err(PrompterError::Differ)));
    assert!(turns("123456 -").unwrap_err().is_cancelled());
}

#[test]
fn a_command_is_told_the_question_on_its_input() {
    let place = Place::new();
    let dialog = command(&place, "printf '%s' \"$#:$1:\" > $PLACE/seen; cat >> $PLACE/seen; echo 123456; echo 'more'");
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    let text = "Use of a signing key\ngit (process 4711) asks\nkeyset \"Jürgen\", token \"card\"\nPIN\n";
    assert_eq!(place.read("seen"), format!("1:two words:pin\n{text}"));
    assert_eq!(dialog.new_pin(&ask()).unwrap().as_str(), "123456");
    assert!(place.read("seen").contains(":new-pin\n"));
}

#[test]
fn a_command_that_does_not_listen_may_answer() {
    let place = Place::new();
    assert_eq!(command(&place, "exec <&-; echo 123456").pin(&ask()).unwrap().as_str(), "123456");
}

#[test]
fn only_yes_is_a_commands_yes() {
    let place = Place::new();
    for (body, yes) in [("echo yes", true), ("echo YES", true), ("echo y", false), ("echo", false), ("true", false)] {
        assert_eq!(command(&place, body).confirm(&question()).unwrap(), yes, "{body}");
    }
    let wanted = "read wanted; [ $wanted = confirm ] && echo yes";
    assert!(command(&place, wanted).confirm(&question()).unwrap());
    assert!(!command(&place, "echo yes; exit 1").confirm(&question()).unwrap());
}

#[test]
fn nobody_who_answers_has_cancelled_and_the_programs_are_ended() {
    let place = Place::new();
    let body = "sleep 987 & echo $$ $! > $PLACE/ids; wait";
    let dialog = command_within(&place, body, Duration::from_secs(2));
    let began = Instant::now();
    let error = dialog.pin(&ask()).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }) && error.is_cancelled(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    for process in place.wait_for("ids").split_whitespace() {
        ends_soon(process);
    }
}

#[test]
fn a_question_is_withdrawn_when_whoever_wanted_to_know_has_gone() {
    let place = Place::new();
    let body = "sleep 987 & echo $$ $! > $PLACE/ids; wait";
    let mut asker = Started::new("sleep").arg("600").spawn().unwrap();
    let number = i32::try_from(asker.id()).unwrap();
    let dialog = command(&place, body).for_process(number).unwrap();
    let began = Instant::now();
    let error = std::thread::scope(|scope| {
        let asking = scope.spawn(|| dialog.pin(&ask()));
        place.wait_for("ids");
        asker.kill().unwrap();
        asking.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, PrompterError::Withdrawn { .. }) && error.is_cancelled(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(15));
    place.read("ids").split_whitespace().for_each(ends_soon);
    asker.wait().unwrap();
    let error = command(&place, body).for_process(number).unwrap_err();
    assert!(matches!(error, PrompterError::Withdrawn { .. }), "{error}");
    let own = i32::try_from(std::process::id()).unwrap();
    for somebody in [own, 0, -1, i32::MIN] {
        let dialog = command(&place, "echo 123456").for_process(somebody).unwrap();
        assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    }
}

#[test]
fn at_a_terminal_and_at_a_descriptor_a_question_is_withdrawn_too() {
    let (reader, _writer) = io::pipe().unwrap();
    let desk = Desk::new();
    let around = environment(&[]).with_terminal(&desk.path);
    for way in [Way::Terminal(None), Way::Descriptor(reader.as_raw_fd().try_into().unwrap())] {
        let mut asker = Started::new("sleep").arg("0.5").spawn().unwrap();
        let dialog = Dialog::choose(&way, &around).unwrap().for_process(asker.id().try_into().unwrap()).unwrap();
        let error = dialog.pin(&ask()).unwrap_err();
        assert!(matches!(error, PrompterError::Withdrawn { .. }), "{way}: {error}");
        asker.wait().unwrap();
    }
}

#[test]
fn a_program_that_will_not_end_is_ended() {
    let place = Place::new();
    let body =
        "trap '' TERM HUP INT; (while :; do sleep 0.1; done) & echo $$ $! > $PLACE/ids; while :; do sleep 0.1; done";
    let error = command_within(&place, body, Duration::from_secs(2)).pin(&ask()).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let ids = place.wait_for("ids");
    assert_eq!(ids.split_whitespace().count(), 2);
    ids.split_whitespace().for_each(ends_soon);
}

/// A process left behind by a program keeps the pipe open: no further answer is expected.
#[test]
fn a_program_that_leaves_another_behind_has_answered() {
    let place = Place::new();
    let began = Instant::now();
    let dialog = command(&place, "sleep 5 & echo $! > $PLACE/ids; echo 123456");
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    assert!(began.elapsed() < Duration::from_secs(4));
    ends_soon(&place.wait_for("ids"));
}

#[test]
fn a_program_gets_no_descriptor_and_no_variable_of_ours() {
    let place = Place::new();
    let ours = File::create(place.path("ours")).unwrap();
    let (_reader, _writer) = io::pipe().unwrap();
    let path = place.script("command", "ls -l /proc/self/fd > $PLACE/open; env > $PLACE/variables; echo 123456");
    let variables = [("LISTEN_FDS", Path::new("2")), ("NOTIFY_SOCKET", Path::new("/run/x")), ("LANG", Path::new("C"))];
    let way = Way::Command(vec![path.display().to_string()]);
    Dialog::choose(&way, &environment(&variables)).unwrap().pin(&ask()).unwrap();
    assert!(place.read("open").contains("/open"), "{}", place.read("open"));
    assert!(!place.read("open").contains("/ours"), "{}", place.read("open"));
    let variables = place.read("variables");
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
    let around = environment(&[]).with_patience(Duration::from_millis(300));
    let dialog = Dialog::choose(&Way::Descriptor(number), &around).unwrap();
    writer.write_all(b"123456\nabcdef\n").unwrap();
    assert_eq!(dialog.pin(&ask()).unwrap().as_str(), "123456");
    assert!(matches!(dialog.confirm(&question()), Err(PrompterError::PinsOnly { .. })));
    assert_eq!(dialog.new_pin(&ask()).unwrap().as_str(), "abcdef", "the confirmation read nothing");
    let error = dialog.pin(&ask()).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
    drop(writer);
    let error = dialog.pin(&ask()).unwrap_err();
    assert!(!error.is_cancelled() && error.to_string().contains("empty"), "{error}");
}

fn at_a_terminal<T: Send>(
    desk: &mut Desk,
    keys: &[(&str, &str)],
    patience: Duration,
    act: impl FnOnce(Dialog) -> T + Send,
) -> T {
    let around = environment(&[]).with_terminal(&desk.path).with_patience(patience);
    let dialog = Dialog::choose(&Way::Auto, &around).unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| act(dialog));
        for (prompt, keys) in keys {
            desk.until(prompt);
            desk.press(keys);
        }
        asking.join().unwrap()
    })
}

#[test]
fn at_a_terminal_the_question_is_shown_and_answered() {
    let mut desk = Desk::new();
    let long = Duration::from_secs(20);
    let shown = [("Use of a signing key", ""), ("token \"card\"", ""), ("PIN: ", "123456\n")];
    assert_eq!(at_a_terminal(&mut desk, &shown, long, |dialog| dialog.pin(&ask())).unwrap().as_str(), "123456");
    let twice = [("PIN: ", "1\n"), ("Once more: ", "2\n"), ("differ", ""), ("PIN: ", "ab\n"), ("Once more: ", "ab\n")];
    assert_eq!(at_a_terminal(&mut desk, &twice, long, |dialog| dialog.new_pin(&ask())).unwrap().as_str(), "ab");
    for (keys, yes) in [("y\n", true), ("\n", false), ("no\n", false)] {
        let keys = [("Sign? [y/N] ", keys)];
        assert_eq!(at_a_terminal(&mut desk, &keys, long, |dialog| dialog.confirm(&question())).unwrap(), yes);
    }
    let given_up = [("PIN: ", "12\x03")];
    assert!(at_a_terminal(&mut desk, &given_up, long, |dialog| dialog.pin(&ask())).unwrap_err().is_cancelled());
}

#[test]
fn a_terminal_that_has_gone_since_it_was_chosen_is_a_way_that_is_closed() {
    let dialog = Dialog::new(By::Terminal("/nonexistent".into()), &environment(&[]));
    let error = dialog.pin(&ask()).unwrap_err().to_string();
    assert!(error.starts_with("cannot prompt with terminal:/nonexistent: ") && error.contains("agent.toml"), "{error}");
    assert!(!error.contains("--"), "only commands have options: {error}");
}

#[test]
fn at_a_terminal_nobody_who_answers_has_cancelled() {
    let mut desk = Desk::new();
    let short = Duration::from_millis(500);
    let error = at_a_terminal(&mut desk, &[("PIN: ", "12")], short, |dialog| dialog.pin(&ask())).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
    let error = at_a_terminal(&mut desk, &[("[y/N] ", "y")], short, |dialog| dialog.confirm(&question())).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
}
