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
use crate::support::piv_card::{PivCard, TRIES};
use crate::support::prompted_user::PromptedUser;
use crate::support::reader::{self, Card, Reader, lock, opensc};
use crate::support::shared_authority::TestUser;

const PIN: &str = TestUser::PIN;
const ABSENT: i32 = 3;
/// The name in the card's certificate, which OpenSC uses as the token's label.
const LABEL: &str = PivCard::LABEL;

/// A user with the keyset `x` (level low) on a SoftHSM token, a reader, a card for it, and an agent
/// that knows both modules.
struct AtTheReader {
    // In the order in which they are dropped.
    listening: Option<Child>,
    asked: PromptedUser,
    reader: Reader,
    card: Card,
    heard: usize,
}

impl AtTheReader {
    /// Starts pcscd with an empty reader, but no agent. `None` if no reader can be simulated here.
    fn sits() -> Option<Self> {
        if !reader::can_be_had() {
            return None;
        }
        let mut asked = PromptedUser::with(TokenKind::SoftHsm, &[("x", "low")]);
        let machine = &mut asked.user.machine;
        let mut reader = Reader::at(machine);
        reader.start();
        let card = Arc::new(Mutex::new(PivCard::new(machine, "123456")));
        let modules = format!("modules = [\"{}\", \"{}\"]\n", machine.module().display(), opensc().display());
        machine.write("config/tokenkeep/agent.toml", modules);
        Some(Self { listening: None, asked, reader, card, heard: 0 })
    }

    /// Starts the agent, listens to its events, and logs in to `x`.
    fn start(&mut self) {
        self.asked.start("");
        // Only later events count.
        assert!(self.asked.offered().contains(" x "));
        let machine = &self.asked.user.machine;
        let events = fs::File::create(machine.file("events")).unwrap();
        let mut curl = machine.command("curl");
        curl.args(["-s", "-N", "--unix-socket"]).arg(self.asked.agent().api_socket()).arg("http://agent/v1/events");
        self.listening = Some(curl.stdout(events).spawn().unwrap());
        wait_for("the agent listens", || machine.read_text("events").starts_with(": listening").then_some(()));
        self.asked.will(&[PIN]);
        assert!(self.asked.signs("x", "first"), "{}", self.asked.agent().log());
        assert_eq!(self.asked.asked_for(), ["pin"]);
        self.hears("logged-in", "x");
    }

    fn insert(&mut self) {
        self.reader.insert(&self.card);
        self.hears("inserted", LABEL);
    }

    fn remove(&mut self) {
        self.reader.remove();
        self.hears("removed", LABEL);
    }

    /// Checks that the next event is this one, for the token with this label.
    #[track_caller]
    fn hears(&mut self, event: &str, label: &str) {
        let machine = &self.asked.user.machine;
        let next = wait_for("an event", || {
            let told = machine.read_text("events");
            let told: Vec<_> = told.split_inclusive("\n\n").filter(|one| one.ends_with("}\n\n")).collect();
            told.get(self.heard).map(|one| (*one).to_owned())
        });
        self.heard += 1;
        let expected = format!("\"label\":\"{label}\"");
        assert!(
            next.starts_with(&format!("event: {event}\n")) && next.contains(&expected),
            "{event} of {label} was expected: {next}"
        );
    }

    fn tokens(&self) -> Output {
        self.asked.user.tokenkeep(&["tokens"]).ok().says("SoftHSM v2")
    }

    fn pin_status_of_the_card(&self) -> Output {
        self.asked.user.tokenkeep(&["pin", "status", LABEL])
    }

    /// Checks that `x` is offered, and that its session is active.
    #[track_caller]
    fn x_is_served(&self) {
        assert!(self.asked.offered().contains(" x "));
        assert!(self.asked.signs("x", "again"), "{}", self.asked.agent().log());
        assert_eq!(self.asked.asked_for(), [""; 0], "the log-in to another token is over");
    }

    /// Checks that nobody tried a PIN of the card or used its key.
    #[track_caller]
    fn the_card_is_untouched(&self) {
        let card = lock(&self.card);
        assert_eq!((card.tries(), card.verifications(), card.signatures()), (TRIES, 0, 0));
    }
}

impl Drop for AtTheReader {
    fn drop(&mut self) {
        if let Some(mut listening) = self.listening.take() {
            let _ = listening.kill();
            let _ = listening.wait();
        }
    }
}

/// A program that uses the card exclusively, through libpcsclite, until its stdin ends. It retries
/// until it gets the card, and then says so.
const HOLD: &str = r#"
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
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Holder {
    fn holds(machine: &Machine, how: &str) -> Self {
        let mut command: Command = machine.command("python3");
        command.args(["-c", HOLD, how]).stdin(Stdio::piped()).stdout(fs::File::create(machine.file("held")).unwrap());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        wait_for("the card is held", || machine.read_text("held").contains("held").then_some(()));
        Self { child, stdin }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn cards_are_detected_on_insertion_and_removal() {
    let Some(mut desk) = AtTheReader::sits() else { return };
    desk.start();
    let worker = desk.asked.agent().worker();
    desk.tokens().does_not_say(LABEL);
    for _ in 0..2 {
        desk.insert();
        desk.tokens().says(LABEL).says("PKCS#15");
        desk.pin_status_of_the_card().ok().says("ok");
        desk.x_is_served();
        desk.remove();
        desk.tokens().does_not_say(LABEL);
        desk.x_is_served();
    }
    desk.pin_status_of_the_card().fails_with(ABSENT).says("cannot find the token").does_not_say("wrong");
    assert_eq!(desk.asked.agent().worker(), worker);
    desk.the_card_is_untouched();
}

#[test]
fn pcscd_can_exit_or_crash_and_restart() {
    let Some(mut desk) = AtTheReader::sits() else { return };
    desk.start();
    let worker = desk.asked.agent().worker();
    desk.insert();
    for end in [Reader::kill, Reader::stop] {
        end(&mut desk.reader);
        desk.hears("removed", LABEL);
        desk.tokens().does_not_say(LABEL);
        desk.x_is_served();
        desk.reader.start();
        desk.hears("inserted", LABEL);
        desk.tokens().says(LABEL);
        desk.pin_status_of_the_card().ok();
        desk.x_is_served();
    }
    desk.reader.kill();
    desk.hears("removed", LABEL);
    desk.pin_status_of_the_card().fails_with(ABSENT).says("cannot find the token").does_not_say("wrong");
    assert_eq!(desk.asked.agent().worker(), worker);
    desk.the_card_is_untouched();
}

#[test]
fn a_card_in_a_transaction_does_not_delay_other_tokens() {
    let Some(mut desk) = AtTheReader::sits() else { return };
    desk.start();
    let worker = desk.asked.agent().worker();
    desk.insert();
    let holder = Holder::holds(&desk.asked.user.machine, "transaction");
    // The card is still listed, with the message that it cannot be reached.
    desk.tokens().says(LABEL).says("opensc-pkcs11.so").says("does not answer: another program has exclusive access");
    desk.x_is_served();
    desk.pin_status_of_the_card().fails_with(ABSENT).says("does not answer").does_not_say("wrong");
    let log = desk.asked.agent().log();
    assert!(log.contains("does not answer: another program has exclusive access"), "{log}");
    drop(holder);
    wait_for("the card can be reached", || desk.pin_status_of_the_card().out().contains("ok").then_some(()));
    desk.tokens().says(LABEL).does_not_say("does not answer");
    desk.x_is_served();
    // The next event shows that the card was not removed in between, and that no session ended.
    desk.remove();
    assert_eq!(desk.asked.agent().worker(), worker);
    desk.the_card_is_untouched();
}

#[test]
fn an_exclusively_held_card_is_found_when_released() {
    let Some(mut desk) = AtTheReader::sits() else { return };
    desk.reader.insert(&desk.card);
    let holder = Holder::holds(&desk.asked.user.machine, "exclusive");
    desk.start();
    desk.tokens()
        .does_not_say(LABEL)
        .says("opensc-pkcs11.so")
        .says("cannot be accessed: another program has exclusive access");
    let log = desk.asked.agent().log();
    assert!(log.contains("cannot be accessed: another program has exclusive access"), "{log}");
    desk.pin_status_of_the_card().fails_with(ABSENT).does_not_say("wrong");
    desk.asked.will(&[PIN]);
    assert!(desk.asked.signs("x", "meanwhile"));
    drop(holder);
    wait_for("the card is listed", || desk.tokens().out().contains(LABEL).then_some(()));
    desk.tokens().does_not_say("has exclusive access");
    assert!(desk.asked.signs("x", "afterwards"));
    desk.the_card_is_untouched();
}
