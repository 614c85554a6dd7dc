//! A locked PIN can be unblocked with the SO PIN: reading the state costs no try, unblocking costs
//! one try of the SO PIN and none of the user's, and the objects on the token stay.

use crate::support::agent::Agent;
use crate::support::machine::TokenKind;
use crate::support::output::Output;
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

const SO_PIN: &str = "officer-24680";

const UNBLOCK: [&str; 7] =
    ["pin", "unblock", "default", "--so-pin-source", "file:so.pin", "--new-pin-source", "file:other.pin"];

/// An enrolled user, whose token's SO PIN is in the file `so.pin`.
fn user_with_so_pin(kind: TokenKind) -> TestUser {
    let user = TestUser::with(kind);
    user.machine.write_secret("so.pin", SO_PIN);
    user.issue("first.letter");
    user.enroll_new_with("first.letter", "default", &["--so-pin-source", "file:so.pin"]).ok();
    user
}

/// The states that `pin status` reports for the one token: PIN and SO PIN.
fn pin_states(user: &TestUser) -> (String, String) {
    let status = user.tokenkeep(&["pin", "status", "default", "--json"]).ok().json();
    let text = |name: &str| status[0][name].as_str().unwrap().to_owned();
    assert_eq!(text("label"), "default");
    assert!(!text("serial").is_empty() && text("module").contains(".so"), "{status}");
    (text("pin_state"), text("so_pin_state"))
}

fn assert_pin_states(user: &TestUser, pin: &str, so_pin: &str) {
    assert_eq!(pin_states(user), (pin.to_owned(), so_pin.to_owned()));
}

/// Tries a wrong SO PIN with a foreign program.
fn try_wrong_so_pin(user: &TestUser) {
    assert!(!is_the_so_pin(user, "default", "no-officer-000"));
}

/// Whether a foreign program can set a new PIN with this SO PIN.
fn is_the_so_pin(user: &TestUser, label: &str, so_pin: &str) -> bool {
    let machine = &user.machine;
    let (module, slot) = (machine.module().display().to_string(), machine.listed_token(label).slot);
    let token = ["--module", &module, "--slot", &slot];
    let arguments = ["--login", "--login-type", "so", "--so-pin", so_pin, "--init-pin", "--new-pin", "x-12345678"];
    machine.run("pkcs11-tool", &[&token[..], &arguments].concat(), b"").code() == 0
}

#[test]
fn a_locked_pin_is_reset_and_the_keyset_still_works() {
    let user = user_with_so_pin(TokenKind::Kryoptic);
    let machine = &user.machine;
    assert_pin_states(&user, "ok", "ok");
    for _ in 0..10 {
        assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    for _ in 0..3 {
        assert_pin_states(&user, "locked", "ok");
    }
    user.tokenkeep(&["pin", "status"]).ok().says("default").says("locked");
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m", "--pin-source", "file:pin"];
    user.tokenkeep(&sign).fails_with(4).says("locked").says("tokenkeep pin unblock");

    user.encrypt("written before\n", "secret.p7m");
    user.tokenkeep(&UNBLOCK).ok().says("default");
    assert_pin_states(&user, "ok", "ok");
    user.signs_with("default", "other.pin");
    assert_eq!(user.decrypt("default", "other.pin", "secret.p7m"), "written before\n");
    user.tokenkeep(&sign).fails_with(4).says("wrong");
}

#[test]
fn a_forgotten_pin_of_a_soft_token_is_reset() {
    let user = user_with_so_pin(TokenKind::SoftHsm);
    let answer = user.tokenkeep(&[&UNBLOCK[..], &["--json"]].concat()).ok().json();
    assert_eq!(answer["token"]["label"], "default");
    user.signs_with("default", "other.pin");
}

#[test]
fn an_agent_shows_and_unblocks_the_pins_of_its_token() {
    let user = user_with_so_pin(TokenKind::SoftHsm);
    let machine = &user.machine;
    let pin = machine.file("pin").display().to_string();
    Agent::configure(machine, &format!("pin_source = \"file:{pin}\""));
    let agent = Agent::start(machine, &[]);
    user.signs_with("default", "pin");
    assert_pin_states(&user, "ok", "ok");
    let without_agent = [&UNBLOCK[..], &["--no-agent"]].concat();
    user.tokenkeep(&without_agent).fails_with(1).says(&format!("the agent (process {})", agent.id()));
    user.signs_with("default", "pin");
    user.tokenkeep(&UNBLOCK).ok();
    user.signs_with("default", "other.pin");
    agent.stop();
    user.signs_with("default", "other.pin");
}

#[test]
fn a_wrong_so_pin_costs_one_so_pin_try_and_no_pin_try() {
    let user = user_with_so_pin(TokenKind::SoftHsm);
    user.machine.write_secret("so.pin", "no-officer-000");
    user.tokenkeep(&UNBLOCK).fails_with(4).says("cannot set a new PIN: the SO PIN of").says("wrong");
    assert_pin_states(&user, "ok", "count-low");
    user.signs_with("default", "pin");

    // Without a source, a new PIN or an SO PIN nothing is tried. The source in agent.toml is for
    // the user's PIN.
    user.machine.write_secret("so.pin", SO_PIN);
    let configuration = user.machine.read_text("config/tokenkeep/agent.toml");
    let pin = user.machine.file("pin").display().to_string();
    user.machine.write("config/tokenkeep/agent.toml", format!("{configuration}pin_source = \"file:{pin}\"\n"));
    user.machine.tokenkeep_without_terminal(&UNBLOCK[..3]).fails_with(4);
    let no_so_pin = ["pin", "unblock", "default", "--new-pin-source", "file:other.pin"];
    user.machine.tokenkeep_without_terminal(&no_so_pin).fails_with(4).says("not tried");
    user.tokenkeep(&["pin", "unblock", "another"]).fails_with(3).says("another");
    assert_pin_states(&user, "ok", "count-low");
    user.tokenkeep(&UNBLOCK).ok();
    assert_pin_states(&user, "ok", "ok");
}

#[test]
fn the_last_so_pin_try_has_a_warning_and_is_never_unattended() {
    let user = user_with_so_pin(TokenKind::Kryoptic);
    for _ in 0..9 {
        try_wrong_so_pin(&user);
    }
    assert_pin_states(&user, "ok", "final-try");
    user.tokenkeep(&UNBLOCK).fails_with(4).says("one try");
    let at_a_terminal = || {
        let unblock = ["pin", "unblock", "default", "--new-pin-source", "file:other.pin"];
        Terminal::tokenkeep(&user.machine, &unblock)
    };
    let mut terminal = at_a_terminal();
    terminal.expect("can never be unblocked").expect("[y/N]").type_line("n");
    assert_eq!(terminal.finish().0, 4);
    assert_pin_states(&user, "ok", "final-try");
    let mut terminal = at_a_terminal();
    terminal.expect("[y/N]").type_line("y").expect("security officer").type_line(SO_PIN);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert_pin_states(&user, "ok", "ok");
    user.signs_with("default", "other.pin");

    // Wrong SO PINs until the SO PIN locks, which is reported.
    for _ in 0..10 {
        try_wrong_so_pin(&user);
    }
    assert_pin_states(&user, "ok", "locked");
    user.tokenkeep(&UNBLOCK).fails_with(4).says("SO PIN").says("locked").says("recovery");
}

/// A locked SO PIN cannot be unblocked: right before each try a process that loads the module
/// afresh reads the token's state, and unattended tries are counted over all commands.
#[test]
fn twenty_commands_at_once_with_a_wrong_so_pin_do_not_lock_it() {
    let user = user_with_so_pin(TokenKind::Kryoptic);
    user.machine.write_secret("wrong-so.pin", "no-officer-000");
    let unblock = |source: &str| {
        let line = ["pin", "unblock", "default", "--so-pin-source", source, "--new-pin-source", "file:other.pin"];
        user.machine.tokenkeep_without_terminal(&line)
    };
    let outcomes: Vec<Output> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| unblock("file:wrong-so.pin"))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let wrong = outcomes.iter().filter(|output| output.err().contains("is wrong")).count();
    assert_eq!(wrong, 3, "{}", outcomes.iter().map(ToString::to_string).collect::<String>());
    assert!(outcomes.iter().all(|output| output.code() != 0));
    unblock("file:wrong-so.pin").fails_with(4).says("3 wrong SO PINs").says("--so-pin-source");
    unblock("file:so.pin").fails_with(4).says("nothing was tried");
    assert_pin_states(&user, "ok", "ok");
    let typed = ["pin", "unblock", "default", "--new-pin-source", "file:other.pin"];
    let mut terminal = Terminal::tokenkeep(&user.machine, &typed);
    terminal.expect("security officer").type_line(SO_PIN);
    assert_eq!(terminal.finish().0, 0);
    unblock("file:so.pin").ok();
    user.signs_with("default", "other.pin");
}

/// An emptied token is reused for a new one. That takes at most two tries of its SO PIN, and never
/// the last one.
#[test]
fn the_last_so_pin_try_of_an_emptied_token_is_not_spent() {
    let user = TestUser::with(TokenKind::Kryoptic);
    let discarded = "tokenkeep empty";
    user.machine.make_token(discarded, TestUser::PIN);
    for _ in 0..8 {
        assert!(!is_the_so_pin(&user, discarded, "no-officer-000"));
    }
    for (letter, keyset) in [("first.letter", "first"), ("second.letter", "second")] {
        user.issue(letter);
        user.enroll_new(letter, keyset).ok();
        let flags = user.machine.listed_token(discarded).flags;
        assert!(flags.contains("final SO PIN try") && !flags.contains("SO PIN locked"), "{keyset}: {flags}");
    }
    assert!(is_the_so_pin(&user, discarded, "so-pin-1234"));
}
