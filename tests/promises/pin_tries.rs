//! What one wrong PIN costs: one try, on every path that takes a PIN. Everything else costs none: a
//! cancelled prompt, a PIN that is too short, an empty source, a locked PIN, a missing token, an
//! ambiguous keyset.
//!
//! A PKCS#11 module between the program and the token counts the tries: it passes each call on to
//! SoftHSM and records those with a PIN. What counts is what the token received, not what the
//! program reports.

use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::faulty_module::{self, FaultyModule};
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::pin_costs::{assert_tries, commands, faulty_user};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

#[test]
fn one_wrong_pin_costs_one_try_on_every_path() {
    let (user, faulty) = faulty_user();
    let before = user.keyset_info("default");
    for (what, command) in commands() {
        assert_tries(&faulty, what, 1, || {
            let all = [&command[..], &["--pin-source", "file:wrong.pin"]].concat();
            user.machine.tokenkeep_without_terminal(&all).fails_with(4).says("is wrong");
        });
        // One right PIN clears the token's counter, so that each case begins alike.
        user.signs_with("default", "pin");
    }
    assert_eq!(user.keyset_info("default"), before);
}

#[test]
fn one_wrong_pin_at_a_terminal_costs_one_try_without_a_retry() {
    let (user, faulty) = faulty_user();
    for (what, command) in commands() {
        assert_tries(&faulty, what, 1, || {
            let mut terminal = Terminal::tokenkeep(&user.machine, &command);
            terminal.expect("PIN").expect(":").type_line(TestUser::WRONG_PIN);
            let (code, shown) = terminal.finish();
            assert_eq!(code, 4, "{what}: {shown}");
        });
        user.signs_with("default", "pin");
    }
}

#[test]
fn a_source_without_a_pin_costs_no_try() {
    let (user, faulty) = faulty_user();
    user.machine.write_secret("empty.pin", "");
    user.machine.write_secret("short.pin", "1");
    user.machine.write_secret("long.pin", &"x".repeat(300));
    user.machine.write("open.pin", "12345678\n");
    // The right PIN, with characters that editors and web pages add.
    for (name, before, after) in
        [("mark.pin", "\u{feff}", ""), ("space.pin", "", "\u{a0}"), ("width.pin", "\u{200b}", "\u{2060}")]
    {
        user.machine.write_secret(name, &format!("{before}{}{after}", TestUser::PIN));
    }
    for (what, command) in commands() {
        assert_tries(&faulty, what, 0, || {
            for source in ["mark.pin", "space.pin", "width.pin"] {
                let source = format!("file:{source}");
                let all = [&command[..], &["--pin-source", &source]].concat();
                let output = user.machine.tokenkeep_without_terminal(&all).fails_with(4);
                output.says("which nobody sees or types").does_not_say(TestUser::PIN);
            }
            for source in ["empty.pin", "short.pin", "long.pin", "open.pin", "no-such-file"] {
                let source = format!("file:{source}");
                let all = [&command[..], &["--pin-source", &source]].concat();
                user.machine.tokenkeep_without_terminal(&all).fails_with(4);
            }
            // Nobody can be prompted.
            user.machine.tokenkeep_without_terminal(&command).fails_with(4);
        });
    }
}

#[test]
fn a_cancelled_prompt_costs_no_try() {
    let (user, faulty) = faulty_user();
    for (what, command) in commands() {
        assert_tries(&faulty, what, 0, || {
            let mut terminal = Terminal::tokenkeep(&user.machine, &command);
            terminal.expect("PIN").expect(":").interrupt();
            let (code, shown) = terminal.finish();
            assert_eq!(code, 130, "{what}: {shown}");
            let mut terminal = Terminal::tokenkeep(&user.machine, &command);
            terminal.expect("PIN").expect(":").type_line("");
            assert_eq!(terminal.finish().0, 4, "{what}");
        });
    }
}

#[test]
fn locked_last_try_and_absent_tokens_cost_no_try() {
    let (user, faulty) = faulty_user();
    for (what, command) in commands() {
        let all = [&command[..], &["--pin-source", "file:wrong.pin"]].concat();
        // Without its token, the program cannot know that a keyset is a message's recipient: exit
        // code 5.
        for (rule, codes) in [("flags LOCKED", &[4][..]), ("flags FINAL_TRY", &[4]), ("removed", &[3, 5])] {
            assert_tries(&faulty, &format!("{what}, {rule}"), 0, || {
                faulty.set_faults(rule);
                let output = user.machine.tokenkeep_without_terminal(&all);
                faulty.clear_faults();
                assert!(codes.contains(&output.code()), "{rule}: {output}");
                output.does_not_say("is wrong");
            });
        }
    }
}

#[test]
fn an_ambiguous_or_unknown_keyset_costs_no_try() {
    let (user, faulty) = faulty_user();
    user.issue("second.letter");
    user.enroll_new("second.letter", "second").ok();
    let source = ["--pin-source", "file:wrong.pin"];
    assert_tries(&faulty, "several", 0, || {
        // Neither keyset is named `default`, and the configuration names none.
        for command in
            [&["sign", "--in", "message.txt", "--keyset", "nobody"][..], &["pin", "change", "--keyset", "nobody"]]
        {
            user.machine.tokenkeep_without_terminal(&[command, &source].concat()).fails_with(3);
        }
        // A letter for a keyset whose name another token has.
        let taken = ["enroll", "--letter", "again.letter", "--keyset", "second", "--new-token"];
        let new = ["--new-pin-source", "file:wrong.pin"];
        user.machine.tokenkeep_without_terminal(&[&taken[..], &new].concat()).fails_with(5);
    });
}

#[test]
fn a_right_pin_costs_no_try_and_no_extra_login() {
    let (user, faulty) = faulty_user();
    // At level high: the login, and the one for the use of the key.
    let twice = ["C_Login user CKR_OK", "C_Login context CKR_OK"];
    for (what, command) in commands().into_iter().take(2) {
        faulty.reset_calls();
        user.tokenkeep(&[&command[..], &["--pin-source", "file:pin"]].concat()).ok();
        assert_eq!(faulty.calls(), twice, "{what}");
    }
    faulty.reset_calls();
    let change = ["pin", "change", "--pin-source", "file:pin", "--new-pin-source", "file:other.pin"];
    user.tokenkeep(&change).ok();
    assert_eq!(faulty.wrong_tries(), 0);
}

#[test]
fn an_old_pin_is_verified_before_a_new_one_is_asked_for() {
    let (user, faulty) = faulty_user();
    assert_tries(&faulty, "a wrong old PIN", 1, || {
        let mut terminal = Terminal::tokenkeep(&user.machine, &["pin", "change"]);
        terminal.expect("PIN of").expect(": ").type_line(TestUser::WRONG_PIN);
        let (code, shown) = terminal.finish();
        assert!(code == 4 && shown.contains("is wrong") && !shown.contains("New PIN"), "{code} {shown}");
    });
    faulty.reset_calls();
    {
        let mut terminal = Terminal::tokenkeep(&user.machine, &["pin", "change"]);
        terminal.expect("PIN of").expect(": ").type_line(TestUser::PIN);
        // SoftHSM accepts PINs of 4 to 255 characters.
        terminal.expect("New PIN for").expect("(4 to 255 characters): ").type_line("123");
        terminal.expect("takes PINs of 4 to 255 characters").expect("New PIN for").expect(": ").interrupt();
        let (code, shown) = terminal.finish();
        assert!(code == 130 && shown.contains("is unchanged"), "{code} {shown}");
    }
    assert_eq!((faulty.wrong_tries(), faulty.calls().len()), (0, 1), "a right one, given once: {:#?}", faulty.calls());
    user.signs_with("default", "pin");
}

/// An administrator's commands, each of which signs a statement.
#[test]
fn one_wrong_pin_of_an_administrator_costs_one_try() {
    let mut deployment = Deployment::begin();
    let faulty = FaultyModule::wrap_module_of(&mut deployment.machine);
    deployment.machine.write_secret("wrong.pin", TestUser::WRONG_PIN);
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
            deployment.machine.tokenkeep_without_terminal(&arguments)
        };
        assert_tries(&faulty, &format!("{command:?}"), 1, || drop(run(with("file:wrong.pin")).fails_with(4)));
        assert_tries(&faulty, &format!("{command:?}"), 0, || drop(run(with("file:no-such-file")).fails_with(4)));
        assert!(!deployment.machine.file("user.letter").exists() && !deployment.machine.file("statement.p7m").exists());
        // A right PIN clears the token's counter.
        deployment.machine.write_secret("right.pin", Deployment::ADMIN_PIN);
        deployment.admin(&["list"]).ok();
    }
}

/// The token of an authority, with the PIN that its service starts with.
#[test]
fn one_wrong_pin_of_an_authority_costs_one_try() {
    let mut machine = Machine::new();
    let authority = Authority::init(&machine);
    let faulty = wrap_module_of_authority(&mut machine);
    machine.write_secret("wrong.pin", TestUser::WRONG_PIN);
    let serve = |source| {
        let line = ["authority", "serve", "--config", "authority.toml", "--pin-source", source];
        machine.tokenkeep_without_terminal(&line)
    };
    assert_tries(&faulty, "authority serve", 1, || drop(serve("file:wrong.pin").fails_with(4).says("is wrong")));
    assert_tries(&faulty, "authority serve", 0, || drop(serve("file:no-such-file").fails_with(4)));
    assert_tries(&faulty, "authority serve, locked", 0, || {
        faulty.set_faults("flags LOCKED");
        serve("file:wrong.pin").fails_with(4).says("is locked");
        faulty.clear_faults();
    });
    // For the existing token.
    std::fs::remove_dir_all(machine.file("state")).unwrap();
    machine.write_secret("authority.pin", TestUser::WRONG_PIN);
    faulty.reset_calls();
    assert_ne!(machine.tokenkeep_without_terminal(&Authority::INIT).code(), 0);
    assert!(faulty.wrong_tries() <= 1, "{:?}", faulty.calls());
    drop(authority);
}

/// With only files between the two: the person at the authority, then the administrator with the
/// response.
#[test]
fn one_wrong_pin_costs_one_try_with_statement_files() {
    let mut deployment = Deployment::begin();
    for (command, file) in [(&["list"][..], "list"), (&["recover", "admin@example.org"], "letter")] {
        deployment.admin(&[command, &["--statement-out", &format!("{file}.statement")]].concat()).ok();
    }
    deployment.authority.stop();
    let faulty = wrap_module_of_authority(&mut deployment.machine);
    deployment.machine.write_secret("wrong.pin", TestUser::WRONG_PIN);
    for file in ["list", "letter"] {
        let (statement, response) = (format!("{file}.statement"), format!("{file}.response"));
        let answer = ["authority", "answer", "--config", "authority.toml", "--in", &statement, "--out", &response];
        let open = ["admin", "open", &response, "--statement", &statement, "--keyset", "admin"];
        let letter = ["--letter-out", "recovery.letter"];
        let open = [&open[..], if file == "letter" { &letter } else { &[] }].concat();
        for (command, right) in [(&answer[..], "file:authority.pin"), (&open, "file:admin.pin")] {
            let what = format!("{command:?}");
            let run =
                |source| deployment.machine.tokenkeep_without_terminal(&[command, &["--pin-source", source]].concat());
            assert_tries(&faulty, &what, 1, || drop(run("file:wrong.pin").fails_with(4).says("is wrong")));
            assert_tries(&faulty, &what, 0, || drop(run("file:no-such-file").fails_with(4)));
            assert!(!deployment.machine.file("recovery.letter").exists());
            // A right PIN clears the token's counter, and creates the input of the next command.
            run(right).ok();
        }
    }
}

/// `authority.toml` names its own module.
fn wrap_module_of_authority(machine: &mut Machine) -> FaultyModule {
    let real = machine.module().display().to_string();
    let faulty = FaultyModule::wrap_module_of(machine);
    let text = machine.read_text("authority.toml");
    machine.write("authority.toml", text.replace(&real, &faulty_module::module().display().to_string()));
    faulty
}
