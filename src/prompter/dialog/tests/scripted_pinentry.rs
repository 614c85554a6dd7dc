//! A scripted Assuan peer, whose responses are mostly invalid.

use std::io;

use super::*;

/// A pinentry with windows that answers `GETPIN` and `CONFIRM` with these shell lines, and records
/// the commands it receives.
fn peer(test_dir: &TestDir, answer: &str) -> Dialog {
    peer_within(test_dir, answer, Duration::from_secs(20))
}

fn peer_within(test_dir: &TestDir, answer: &str, timeout: Duration) -> Dialog {
    let body = format!(
        "echo 'OK Pleased to meet you'\n\
         while IFS= read -r line; do\n\
         printf '%s\\n' \"$line\" >> $PLACE/commands\n\
         case \"$line\" in\n\
         'GETINFO flavor') printf 'D qt\\nOK\\n' ;;\n\
         GETPIN*|CONFIRM*) {answer} ;;\n\
         'OPTION lc-'*|SETTIMEOUT*) echo 'ERR 83886254 Unknown option' ;;\n\
         BYE) echo OK; exit 0 ;;\n\
         *) echo OK ;;\n\
         esac\n\
         done"
    );
    let method = PromptMethod::Pinentry(Some(test_dir.script("pinentry", &body)));
    Dialog::choose(&method, &environment(&[display()]).with_timeout(timeout)).unwrap()
}

#[test]
fn a_pin_arrives_as_it_was_typed() {
    let test_dir = TestDir::new();
    for (sent, typed) in [("D 123456", "123456"), ("D 12%2534", "12%34"), ("D a%C3%BCb c", "aüb c"), ("D %41%42", "AB")]
    {
        assert_eq!(peer(&test_dir, &format!("printf '%s\\nOK\\n' '{sent}'")).pin(&ask()).unwrap().as_str(), typed);
    }
    let parts = "printf '# a comment\\nS STATUS x\\nD 12\\nD 34\\nOK\\r\\n'";
    assert_eq!(peer(&test_dir, parts).pin(&ask()).unwrap().as_str(), "1234");
}

#[test]
fn a_pinentry_gets_the_question_and_no_cache_key() {
    let test_dir = TestDir::new();
    let ask = PromptRequest { warning: Some("The next wrong PIN locks it.".to_owned()), ..ask() };
    peer(&test_dir, "printf 'D 1\\nOK\\n'").pin(&ask).unwrap();
    let commands = test_dir.read("commands");
    let description = "SETDESC Use of a signing key%0Agit (process 4711) asks%0Akeyset \"Jürgen\", token \"card\"\n";
    assert!(commands.contains(description), "{commands}");
    assert!(
        commands.contains("SETPROMPT PIN:\n") && commands.contains("SETERROR The next wrong PIN locks it.\n"),
        "{commands}"
    );
    assert!(commands.contains("SETTIMEOUT 20\n"), "{commands}");
    assert!(commands.ends_with("GETPIN\nBYE\n"), "{commands}");
    assert!(
        !commands.contains("SETKEYINFO") && !commands.contains("cache") && !commands.contains("ttyname"),
        "{commands}"
    );
}

#[test]
fn a_hostile_name_is_neither_a_command_nor_markup_nor_too_long() {
    let test_dir = TestDir::new();
    let hostile = "x\nGETPIN\n%0A\u{202e}<b>".to_owned() + &"%\n".repeat(5_000);
    let ask = PromptRequest {
        title: hostile.clone(),
        lines: vec![hostile.clone(), hostile, "the token".to_owned()],
        ..ask()
    };
    peer(&test_dir, "printf 'D 1\\nOK\\n'").pin(&ask).unwrap();
    let commands = test_dir.read("commands");
    assert_eq!(commands.matches("\nGETPIN\n").count(), 1, "{commands}");
    let description = commands.lines().find(|line| line.starts_with("SETDESC ")).unwrap();
    assert!(description.len() <= 1_000 && description.ends_with("%0Athe token"), "{description}");
    assert!(description.contains("x\u{fffd}GETPIN\u{fffd}%250A\u{fffd}(b)"), "{description}");
}

#[test]
fn cancel_and_silence_both_cancel() {
    let test_dir = TestDir::new();
    for answer in [
        "echo 'ERR 83886179 Operation cancelled <Pinentry>'",
        "echo 'ERR 83886278 Fully canceled <Pinentry>'",
        "echo 'ERR 83886194 Not confirmed <Pinentry>'",
        "echo OK",
        "printf 'D \\nOK\\n'",
    ] {
        let error = peer(&test_dir, answer).pin(&ask()).unwrap_err();
        assert!(matches!(error, PrompterError::Cancelled { .. }), "{answer}: {error}");
    }
    let error = peer(&test_dir, "echo 'ERR 83886142 Timeout <Pinentry>'").pin(&ask()).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
}

#[test]
fn a_failed_peer_does_not_count_as_cancelled() {
    let test_dir = TestDir::new();
    for (answer, reason) in [
        ("echo hello", "does not speak Assuan"),
        ("printf '\\377\\376\\n'", "does not speak Assuan"),
        ("printf 'D %%zz\\nOK\\n'", "does not speak Assuan"),
        ("printf 'D 1234\\nINQUIRE CHECKPIN 1234\\n'", "does not speak Assuan"),
        ("head -c 1000000 /dev/zero | tr '\\0' D", "a line of more than 1000 bytes"),
        ("while :; do echo 'S PIN_REPEATED'; done", "more than 64 lines"),
        ("while :; do echo 'D 1234567890123456789012345678901234567890'; done", "longer than 1024 bytes"),
        ("exit 0", "it exited during the dialog"),
        ("printf 'D 1234\\n'; exit 0", "it exited during the dialog"),
        ("kill -KILL $$", "it exited during the dialog"),
        ("echo 'ERR 83918950 Inappropriate ioctl for device'", "error 32870, Inappropriate ioctl for device"),
        ("echo 'ERR 1'", "error 1"),
        ("printf 'D 1234\\nERR 83918950 it was 1234\\n'", "error 32870;"),
        ("printf 'D 12%%0A34\\nOK\\n'", "control character"),
        ("printf 'D %%FF\\nOK\\n'", "UTF-8"),
        ("printf \"D $(head -c 300 /dev/zero | tr '\\0' 7)\\nOK\\n\"", "longer than 255 bytes"),
    ] {
        let error = peer(&test_dir, answer).pin(&ask()).unwrap_err();
        assert!(!error.is_cancelled(), "{answer}: {error}");
        assert!(error.to_string().contains(reason), "{answer}: {error}");
        assert!(!error.to_string().contains("1234"), "{answer}: {error}");
        assert!(!matches!(peer(&test_dir, answer).confirm(&question()), Ok(true)) || answer.contains("OK"), "{answer}");
    }
}

#[test]
fn a_peer_that_hangs_is_ended_and_counts_as_cancelled() {
    let test_dir = TestDir::new();
    let answer = "echo $$ > $PLACE/ids; sleep 600";
    let began = Instant::now();
    let error = peer_within(&test_dir, answer, Duration::from_secs(3)).pin(&ask()).unwrap_err();
    assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    ends_soon(&test_dir.wait_for("ids"));
}

#[test]
fn only_ok_is_a_yes() {
    let test_dir = TestDir::new();
    assert!(peer(&test_dir, "echo OK").confirm(&question()).unwrap());
    assert!(test_dir.read("commands").contains("token \"card\"%0ASign?\n"), "{}", test_dir.read("commands"));
    assert!(!peer(&test_dir, "echo 'ERR 83886194 Not confirmed <Pinentry>'").confirm(&question()).unwrap());
    for answer in ["echo 'ERR 83886179 Operation cancelled <Pinentry>'", "echo 'ERR 83886142 Timeout <Pinentry>'"] {
        assert!(peer(&test_dir, answer).confirm(&question()).unwrap_err().is_cancelled(), "{answer}");
    }
    for answer in ["echo yes", "exit 0", "echo 'ERR 83886340 Invalid IPC response'", "echo INQUIRE"] {
        assert!(!peer(&test_dir, answer).confirm(&question()).unwrap_err().is_cancelled(), "{answer}");
    }
}

#[test]
fn a_confirmation_shows_the_warning_in_its_question() {
    let test_dir = TestDir::new();
    let ask = PromptRequest { warning: Some("One more wrong PIN locks it.".to_owned()), ..question() };
    peer(&test_dir, "echo OK").confirm(&ask).unwrap();
    assert!(
        test_dir.read("commands").contains("%0AOne more wrong PIN locks it.%0ASign?\n"),
        "{}",
        test_dir.read("commands")
    );
}

#[test]
fn the_same_program_asks_again_after_a_wrong_pin() {
    let test_dir = TestDir::new();
    let answer = "echo $$ >> $PLACE/ids; printf 'D 123%s\\nOK\\n' $(grep -c GETPIN $PLACE/commands)";
    let mut dialog = peer(&test_dir, answer);
    assert!(!dialog.is_reusable(), "no prompt was shown yet");
    assert_eq!(dialog.pin_and_keep_open(&ask()).unwrap().as_str(), "1231");
    assert!(dialog.is_reusable());
    // The first requester may exit: the dialog is no longer bound to it.
    let (reader, writer) = io::pipe().unwrap();
    let mut dialog = dialog.until_closed(reader.into()).without_requesters();
    drop(writer);
    let wrong = PromptRequest { warning: Some("That PIN was wrong.".to_owned()), ..ask() };
    assert_eq!(dialog.pin_and_keep_open(&wrong).unwrap().as_str(), "1232");
    let ids = test_dir.read("ids");
    let ids: Vec<_> = ids.lines().collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
    let commands = test_dir.read("commands");
    let (first, second) = commands.split_once("GETPIN\n").unwrap();
    assert!(!first.contains("SETERROR") && second.contains("SETERROR That PIN was wrong.\n"), "{commands}");
    assert!(second.contains("SETPROMPT PIN:\n") && second.ends_with("GETPIN\n"), "{commands}");
    drop(dialog);
    ends_soon(ids[0]);
}

#[test]
fn a_program_that_ended_after_its_answer_is_started_again() {
    let test_dir = TestDir::new();
    let mut dialog = peer(&test_dir, "echo $$ >> $PLACE/ids; printf 'D 1234\\nOK\\n'; exit 0");
    dialog.pin_and_keep_open(&ask()).unwrap();
    ends_soon(test_dir.read("ids").trim());
    assert!(!dialog.is_reusable());
    assert_eq!(dialog.pin_and_keep_open(&ask()).unwrap().as_str(), "1234");
    assert_eq!(test_dir.read("ids").lines().count(), 2);
}

#[test]
fn a_reused_dialog_is_withdrawn_with_its_current_requester() {
    let test_dir = TestDir::new();
    let answer =
        "echo $$ >> $PLACE/ids; [ $(grep -c GETPIN $PLACE/commands) = 1 ] || sleep 600; printf 'D 1234\\nOK\\n'";
    let mut dialog = peer(&test_dir, answer);
    dialog.pin_and_keep_open(&ask()).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let mut dialog = dialog.until_closed(reader.into());
    let error = std::thread::scope(|scope| {
        let asking = scope.spawn(|| dialog.pin_and_keep_open(&ask()).unwrap_err());
        let end = Instant::now() + Duration::from_secs(20);
        while test_dir.read("ids").lines().count() < 2 {
            assert!(Instant::now() < end, "the second prompt does not appear");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(writer);
        asking.join().unwrap()
    });
    assert!(matches!(error, PrompterError::Withdrawn { .. }), "{error}");
    ends_soon(test_dir.read("ids").lines().next().unwrap());
    assert!(!dialog.is_reusable());
}
