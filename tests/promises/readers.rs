//! Cards are inserted and removed under a running agent, pcscd restarts, and other programs use a
//! card exclusively. The agent notices and reports it, needs no restart, continues to serve other
//! tokens, and asks for no card's PIN.
//!
//! pcscd and OpenSC are the real programs; the reader and its card (PIV) are simulated in software.
//! tokenkeep keeps no keyset on such a card.

use std::fs;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::agent::wait_for;
use crate::support::machine::{Machine, TokenKind};
use crate::support::output::Output;
use crate::support::prompted_user::PromptedUser;
use crate::support::reader::{self, Reader, SharedCard, lock, opensc};
use crate::support::shared_authority::TestUser;
use crate::support::virtual_card::{Card, FACTORY_PIN, TRIES};

const PIN: &str = TestUser::PIN;
const ABSENT: i32 = 3;
/// The name in the card's certificate, which OpenSC uses as the token's label.
const LABEL: &str = Card::LABEL;

/// A user with the keyset `x` (level low) on a SoftHSM token, a reader, a card for it, and an agent
/// that knows both modules.
struct ReaderFixture {
    // In the order in which they are dropped.
    event_stream: Option<Child>,
    prompted: PromptedUser,
    reader: Reader,
    card: SharedCard,
    events_read: usize,
}

impl ReaderFixture {
    /// Starts pcscd with an empty reader, but no agent. `None` if no reader can be simulated here.
    fn prepare() -> Option<Self> {
        if !reader::is_available() {
            return None;
        }
        let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
        let machine = &mut prompted.user.machine;
        let mut reader = Reader::on_machine(machine);
        reader.start();
        let card = Arc::new(Mutex::new(Card::plain_with_key(FACTORY_PIN)));
        let modules = format!("modules = [\"{}\", \"{}\"]\n", machine.module().display(), opensc().display());
        machine.write("config/tokenkeep/agent.toml", modules);
        Some(Self { event_stream: None, prompted, reader, card, events_read: 0 })
    }

    /// Starts the agent, listens to its events, and logs in to `x`.
    fn start(&mut self) {
        self.prompted.start("");
        // Only later events count.
        assert!(self.prompted.offered_keys().contains(" x "));
        let machine = &self.prompted.user.machine;
        let events = fs::File::create(machine.file("events")).unwrap();
        let mut curl = machine.command("curl");
        curl.args(["-s", "-N", "--unix-socket"]).arg(self.prompted.agent().api_socket()).arg("http://agent/v1/events");
        self.event_stream = Some(curl.stdout(events).spawn().unwrap());
        wait_for("the agent listens", || machine.read_text("events").starts_with(": listening").then_some(()));
        self.prompted.set_answers(&[PIN]);
        assert!(self.prompted.signs("x", "first"), "{}", self.prompted.agent().log());
        assert_eq!(self.prompted.question_kinds(), ["pin"]);
        self.expect_event("logged-in", "x");
    }

    fn insert(&mut self) {
        self.reader.insert(&self.card);
        self.expect_event("inserted", LABEL);
    }

    fn remove(&mut self) {
        self.reader.remove();
        self.expect_event("removed", LABEL);
    }

    /// Checks that the next event is this one, for the token with this label.
    #[track_caller]
    fn expect_event(&mut self, event: &str, label: &str) {
        let machine = &self.prompted.user.machine;
        let next = wait_for("an event", || {
            let events = machine.read_text("events");
            let events: Vec<_> = events.split_inclusive("\n\n").filter(|one| one.ends_with("}\n\n")).collect();
            events.get(self.events_read).map(|one| (*one).to_owned())
        });
        self.events_read += 1;
        let expected = format!("\"label\":\"{label}\"");
        assert!(
            next.starts_with(&format!("event: {event}\n")) && next.contains(&expected),
            "{event} of {label} was expected: {next}"
        );
    }

    fn tokens(&self) -> Output {
        self.prompted.user.tokenkeep(&["tokens"]).ok().says("SoftHSM v2")
    }

    fn card_pin_status(&self) -> Output {
        self.prompted.user.tokenkeep(&["pin", "status", LABEL])
    }

    /// Checks that `x` is offered, and that its session is active.
    #[track_caller]
    fn assert_x_served(&self) {
        assert!(self.prompted.offered_keys().contains(" x "));
        assert!(self.prompted.signs("x", "again"), "{}", self.prompted.agent().log());
        assert_eq!(self.prompted.question_kinds(), [""; 0], "the session of another token has ended");
    }

    /// Checks that nobody tried a PIN of the card or used its key.
    #[track_caller]
    fn assert_card_untouched(&self) {
        let card = lock(&self.card);
        let transcript = card.transcript();
        assert_eq!((card.pin_tries(), transcript.verifications(), transcript.key_uses()), (TRIES, 0, 0));
    }
}

impl Drop for ReaderFixture {
    fn drop(&mut self) {
        if let Some(mut event_stream) = self.event_stream.take() {
            let _ = event_stream.kill();
            let _ = event_stream.wait();
        }
    }
}

/// A program that uses the card exclusively, through libpcsclite, until its stdin ends. It retries
/// until it gets the card, and then says so.
const HOLD_SCRIPT: &str = r#"
import ctypes, sys, time
pcsc = ctypes.CDLL("libpcsclite.so.1")
context, card, protocol = ctypes.c_long(), ctypes.c_long(), ctypes.c_ulong()
both, system, shared, exclusive = (ctypes.c_ulong(number) for number in (3, 2, 2, 1))
assert pcsc.SCardEstablishContext(system, None, None, ctypes.byref(context)) == 0
share = exclusive if sys.argv[1] == "exclusive" else shared
name = b"Virtual 00 00"
while pcsc.SCardConnect(context, name, share, both, ctypes.byref(card), ctypes.byref(protocol)) != 0:
    time.sleep(0.02)
if sys.argv[1] == "transaction":
    assert pcsc.SCardBeginTransaction(card) == 0
print("held", flush=True)
sys.stdin.read()
leave = ctypes.c_ulong(0)
if sys.argv[1] == "transaction":
    pcsc.SCardEndTransaction(card, leave)
pcsc.SCardDisconnect(card, leave)
pcsc.SCardReleaseContext(context)
"#;

/// The program runs until this value is dropped.
struct CardHolder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl CardHolder {
    fn start(machine: &Machine, how: &str) -> Self {
        let mut command: Command = machine.command("python3");
        command
            .args(["-c", HOLD_SCRIPT, how])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(machine.file("held")).unwrap());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        wait_for("the card is held", || machine.read_text("held").contains("held").then_some(()));
        Self { child, stdin }
    }
}

impl Drop for CardHolder {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn cards_are_detected_on_insertion_and_removal() {
    let Some(mut fixture) = ReaderFixture::prepare() else { return };
    fixture.start();
    let worker = fixture.prompted.agent().worker();
    fixture.tokens().does_not_say(LABEL);
    for _ in 0..2 {
        fixture.insert();
        fixture.tokens().says(LABEL).says("PKCS#15");
        fixture.card_pin_status().ok().says("ok");
        fixture.assert_x_served();
        fixture.remove();
        fixture.tokens().does_not_say(LABEL);
        fixture.assert_x_served();
    }
    fixture.card_pin_status().fails_with(ABSENT).says("cannot find the token").does_not_say("wrong");
    assert_eq!(fixture.prompted.agent().worker(), worker);
    fixture.assert_card_untouched();
}

#[test]
fn pcscd_can_exit_or_crash_and_restart() {
    let Some(mut fixture) = ReaderFixture::prepare() else { return };
    fixture.start();
    let worker = fixture.prompted.agent().worker();
    fixture.insert();
    for end in [Reader::kill, Reader::stop] {
        end(&mut fixture.reader);
        fixture.expect_event("removed", LABEL);
        fixture.tokens().does_not_say(LABEL);
        fixture.assert_x_served();
        fixture.reader.start();
        fixture.expect_event("inserted", LABEL);
        fixture.tokens().says(LABEL);
        fixture.card_pin_status().ok();
        fixture.assert_x_served();
    }
    fixture.reader.kill();
    fixture.expect_event("removed", LABEL);
    fixture.card_pin_status().fails_with(ABSENT).says("cannot find the token").does_not_say("wrong");
    assert_eq!(fixture.prompted.agent().worker(), worker);
    fixture.assert_card_untouched();
}

#[test]
fn a_card_in_a_transaction_does_not_delay_other_tokens() {
    let Some(mut fixture) = ReaderFixture::prepare() else { return };
    fixture.start();
    let worker = fixture.prompted.agent().worker();
    fixture.insert();
    let holder = CardHolder::start(&fixture.prompted.user.machine, "transaction");
    // The card is still listed, with the message that it cannot be reached.
    fixture.tokens().says(LABEL).says("opensc-pkcs11.so").says("does not answer: another program has exclusive access");
    fixture.assert_x_served();
    fixture.card_pin_status().fails_with(ABSENT).says("does not answer").does_not_say("wrong");
    let log = fixture.prompted.agent().log();
    assert!(log.contains("does not answer: another program has exclusive access"), "{log}");
    drop(holder);
    wait_for("the card can be reached", || fixture.card_pin_status().out().contains("ok").then_some(()));
    fixture.tokens().says(LABEL).does_not_say("does not answer");
    fixture.assert_x_served();
    // The next event shows that the card was not removed in between, and that no session ended.
    fixture.remove();
    assert_eq!(fixture.prompted.agent().worker(), worker);
    fixture.assert_card_untouched();
}

#[test]
fn an_exclusively_held_card_is_found_when_released() {
    let Some(mut fixture) = ReaderFixture::prepare() else { return };
    fixture.reader.insert(&fixture.card);
    let holder = CardHolder::start(&fixture.prompted.user.machine, "exclusive");
    fixture.start();
    fixture
        .tokens()
        .does_not_say(LABEL)
        .says("opensc-pkcs11.so")
        .says("cannot be accessed: another program has exclusive access");
    let log = fixture.prompted.agent().log();
    assert!(log.contains("cannot be accessed: another program has exclusive access"), "{log}");
    fixture.card_pin_status().fails_with(ABSENT).does_not_say("wrong");
    fixture.prompted.set_answers(&[PIN]);
    assert!(fixture.prompted.signs("x", "meanwhile"));
    drop(holder);
    wait_for("the card is listed", || fixture.tokens().out().contains(LABEL).then_some(()));
    fixture.tokens().does_not_say("has exclusive access");
    assert!(fixture.prompted.signs("x", "afterwards"));
    fixture.assert_card_untouched();
}
