//! Re-enrolling asks for the keyset's PIN. Without it the user is not re-enrolled, and an error
//! says so; nothing is sent, the temporary key is still valid, and the old keyset still works. A
//! wrong PIN costs one try, anything else none.

use crate::support::inventory::of_kind;
use crate::support::machine::TokenKind;
use crate::support::output::Output;
use crate::support::proxy::Proxy;
use crate::support::shared_authority::{TestUser, re_enroll_arguments};
use crate::support::terminal::Terminal;

/// A user with a keyset and a letter to re-enroll it, and an observer of the connection.
struct Attempt {
    user: TestUser,
    wire: Proxy,
    before: serde_json::Value,
}

impl Attempt {
    fn with(kind: TokenKind) -> Self {
        let user = TestUser::enrolled_with(kind);
        user.issue("again.letter");
        let wire = user.start_proxy();
        let before = user.keyset_info("default");
        Self { user, wire, before }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<_> = re_enroll_arguments("again.letter").iter().map(ToString::to_string).collect();
        arguments.extend(["--authority".to_owned(), self.wire.url()]);
        arguments
    }

    fn with_source(&self, source: &str) -> Output {
        let mut arguments = self.arguments();
        arguments.extend(["--pin-source".to_owned(), source.to_owned()]);
        self.run(&arguments)
    }

    fn run(&self, arguments: &[String]) -> Output {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.user.machine.tokenkeep_without_terminal(&arguments)
    }

    fn run_at_terminal(&self) -> Terminal {
        let arguments = self.arguments();
        Terminal::tokenkeep(&self.user.machine, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Checks that the user was not re-enrolled, and that the error says so.
    #[track_caller]
    fn assert_failed(&self, output: Output) {
        output.fails_with(4).says("not re-enrolled");
        self.assert_not_re_enrolled();
    }

    #[track_caller]
    fn assert_failed_at_terminal(&self, terminal: Terminal) {
        self.assert_ended_at_terminal(terminal, 4);
    }

    #[track_caller]
    fn assert_ended_at_terminal(&self, terminal: Terminal, with: i32) {
        let (code, screen) = terminal.finish();
        assert_eq!(code, with, "{screen}");
        assert!(screen.contains("not re-enrolled"), "{screen}");
        self.assert_not_re_enrolled();
    }

    #[track_caller]
    fn assert_not_re_enrolled(&self) {
        let seen: Vec<_> = self.wire.exchanges().into_iter().map(|exchange| exchange.target).collect();
        assert!(seen.is_empty(), "nothing should have been sent: {seen:?}");
        assert_eq!(self.user.keyset_info("default"), self.before, "the keyset is not the old one");
    }

    /// Checks that the old keyset works and the temporary key is valid: with the right PIN the same
    /// letter re-enrolls.
    #[track_caller]
    fn assert_unchanged(&self) {
        self.user.signs_with("default", "pin");
        self.assert_re_enrollment_works();
    }

    #[track_caller]
    fn assert_re_enrollment_works(&self) {
        self.with_source("file:pin").ok();
        assert!(self.wire.exchanges().len() >= 3, "the wire was not watched");
        assert_ne!(self.user.keyset_info("default"), self.before, "nothing was re-enrolled");
        self.user.signs_with("default", "pin");
    }
}

#[test]
fn no_pin_means_not_re_enrolled() {
    let attempt = Attempt::with(TokenKind::SoftHsm);
    attempt.user.machine.write_secret("empty.pin", "");
    for source in ["file:no-such-file", "file:empty.pin", "fd:9", "credential:nothing"] {
        attempt.assert_failed(attempt.with_source(source));
    }
    // Nobody can be prompted.
    attempt.assert_failed(attempt.run(&attempt.arguments()).says("--pin-source"));
    let token = attempt.user.machine.listed_token("default");
    assert!(!token.count_is_low(), "a PIN was tried: {}", token.flags);
    attempt.assert_unchanged();
}

#[test]
fn a_cancelled_prompt_means_not_re_enrolled() {
    let attempt = Attempt::with(TokenKind::SoftHsm);
    let mut terminal = attempt.run_at_terminal();
    terminal.expect("PIN").interrupt();
    attempt.assert_ended_at_terminal(terminal, 130);

    let mut terminal = attempt.run_at_terminal();
    terminal.expect("PIN").end_of_input();
    attempt.assert_failed_at_terminal(terminal);

    let mut terminal = attempt.run_at_terminal();
    terminal.expect("PIN").type_line("");
    attempt.assert_failed_at_terminal(terminal);

    let token = attempt.user.machine.listed_token("default");
    assert!(!token.count_is_low(), "a PIN was tried: {}", token.flags);
    attempt.user.signs_with("default", "pin");

    // The same prompt, with an answer.
    let mut terminal = attempt.run_at_terminal();
    terminal.expect("PIN").type_line(TestUser::PIN);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains(TestUser::PIN), "the PIN is on the screen: {screen}");
    assert_ne!(attempt.user.keyset_info("default"), attempt.before);
}

#[test]
fn a_wrong_pin_means_not_re_enrolled_and_costs_one_try() {
    // SoftHSM does not count tries, but it shows whether a PIN was tried.
    let attempt = Attempt::with(TokenKind::SoftHsm);
    assert!(!attempt.user.machine.listed_token("default").count_is_low());
    attempt.assert_failed(attempt.with_source("file:wrong.pin"));
    assert!(attempt.user.machine.listed_token("default").count_is_low(), "no PIN was tried");
    attempt.assert_unchanged();
}

#[test]
fn a_wrong_pin_costs_one_try_where_the_token_counts() {
    // Kryoptic locks the PIN after the tenth wrong one, and reports the final try after the ninth.
    let attempt = Attempt::with(TokenKind::Kryoptic);
    let machine = &attempt.user.machine;
    let token = || machine.listed_token("default");
    for _ in 0..7 {
        assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    assert!(token().count_is_low() && !token().is_at_final_try(), "{}", token().flags);

    attempt.assert_failed(attempt.with_source("file:wrong.pin"));
    attempt.assert_failed(attempt.with_source("file:no-such-file"));
    attempt.assert_failed(attempt.run(&attempt.arguments()));
    assert!(!token().is_at_final_try(), "one wrong PIN cost more than one try: {}", token().flags);

    attempt.assert_failed(attempt.with_source("file:wrong.pin"));
    assert!(token().is_at_final_try(), "two wrong PINs did not cost two tries: {}", token().flags);

    // The right PIN restores all tries.
    assert!(machine.pin_is_right("default", TestUser::PIN));
    attempt.assert_unchanged();
}

#[test]
fn the_last_try_has_a_warning_and_needs_a_terminal() {
    let attempt = Attempt::with(TokenKind::Kryoptic);
    let machine = &attempt.user.machine;
    for _ in 0..9 {
        assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    let token = || machine.listed_token("default");
    assert!(token().is_at_final_try(), "{}", token().flags);

    // Nobody can be prompted: no operation tries even the right PIN.
    attempt.assert_failed(attempt.with_source("file:pin").says("one try"));
    attempt.assert_failed(attempt.with_source("file:wrong.pin").says("one try"));
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "--keyset", "default", "--in", "message.txt", "--out", "signed.p7m"];
    machine.tokenkeep_without_terminal(&[&sign[..], &["--pin-source", "file:pin"]].concat()).fails_with(4);
    assert!(token().is_at_final_try(), "the last try was used: {}", token().flags);

    // A person who declines the risk.
    let mut terminal = attempt.run_at_terminal();
    terminal.expect("lock").expect("[y/N]").type_line("n");
    attempt.assert_failed_at_terminal(terminal);
    let mut terminal = attempt.run_at_terminal();
    terminal.expect("[y/N]").interrupt();
    attempt.assert_ended_at_terminal(terminal, 130);
    assert!(token().is_at_final_try(), "the last try was used: {}", token().flags);

    // A person who knows the PIN.
    let mut terminal = attempt.run_at_terminal();
    terminal.expect("[y/N]").type_line("y").expect("PIN").type_line(TestUser::PIN);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert!(!token().is_at_final_try() && !token().is_locked(), "{}", token().flags);
    attempt.user.signs_with("default", "pin");
}

#[test]
fn a_locked_pin_and_a_wrong_pin_are_distinct_errors() {
    let attempt = Attempt::with(TokenKind::Kryoptic);
    let machine = &attempt.user.machine;
    for _ in 0..10 {
        assert!(!machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    assert!(machine.listed_token("default").is_locked());
    attempt.assert_failed(attempt.with_source("file:pin").says("locked"));
}

#[test]
fn re_enrolling_keeps_older_encryption_keys_for_reading() {
    let user = TestUser::enrolled();
    user.encrypt("written before\n", "old.p7m");
    let keys = |user: &TestUser| {
        let objects = user.machine.objects("default", Some(TestUser::PIN));
        let private = of_kind(&objects, "Private Key Object");
        let using = |usage: &str| private.iter().filter(|key| key.contains(usage)).count();
        (using("sign"), using("decrypt"), private.len())
    };
    assert_eq!(keys(&user), (1, 1, 2), "signing keys, encryption keys, all");

    user.issue("again.letter");
    user.re_enroll("again.letter", "pin", &[]).ok();
    assert_eq!(keys(&user), (1, 2, 3), "the old signing key goes, the old encryption key stays");
    assert_eq!(user.decrypt("default", "pin", "old.p7m"), "written before\n");

    user.encrypt("written after\n", "new.p7m");
    assert_eq!(user.decrypt("default", "pin", "new.p7m"), "written after\n");
    // The new message is for the new key: the old key alone could not read it.
    let recipients = |message: &str| {
        let arguments = ["cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", message];
        let text = user.machine.openssl(&arguments).ok().out();
        let serials = text.lines().filter(|line| line.contains("serialNumber")).map(str::trim).map(str::to_owned);
        serials.collect::<Vec<_>>()
    };
    let (old, new) = (recipients("old.p7m"), recipients("new.p7m"));
    assert!(!old.is_empty() && old.iter().all(|serial| !new.contains(serial)), "{old:?} {new:?}");
}
