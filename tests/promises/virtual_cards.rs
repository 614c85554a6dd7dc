//! The virtual card of the tests behaves as real ones: the programs of Yubico, OpenSC and OpenSSH
//! use it, and it refuses what a card must refuse.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::support::agent::wait_for;
use crate::support::foreign_programs;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::reader::{self, Reader, SharedCard, YUBIKEY_READER, lock};
use crate::support::virtual_card::{Card, FACTORY_MANAGEMENT_KEY, pem, self_signed};

mod access_rules;
mod faults;
mod host;
mod key_commands;
mod pkcs11_modules;
mod refusals;
mod transmission;
mod yubico_programs;

/// A card in a reader that Yubico's programs find.
struct CardFixture {
    reader: Reader,
    machine: Machine,
    card: SharedCard,
}

impl CardFixture {
    /// Inserts the card, and waits until a program finds it. `None` if this machine lacks a reader
    /// or one of the programs.
    fn with(card: Card, programs: &[&str]) -> Option<Self> {
        let mut needed = [&["yubico-piv-tool"], programs].concat().into_iter();
        if !reader::is_available() || !needed.all(foreign_programs::present) {
            return None;
        }
        let mut machine = Machine::new();
        let mut reader = Reader::with_name(&mut machine, YUBIKEY_READER);
        reader.start();
        let card = Arc::new(Mutex::new(card));
        reader.insert(&card);
        let fixture = Self { reader, machine, card };
        fixture.wait_for_card();
        Some(fixture)
    }

    fn wait_for_card(&self) {
        wait_for("the card is found", || {
            (self.piv_tool(&["-a", "list-readers"]).out().contains("Yubico")).then_some(())
        });
        wait_for("the card answers", || (self.piv_tool(&["-a", "version"]).code() == 0).then_some(()));
        self.card().clear_transcript();
    }

    fn card(&self) -> MutexGuard<'_, Card> {
        lock(&self.card)
    }

    /// Number of uses of private keys since the transcript was cleared.
    fn key_uses(&self) -> usize {
        self.card().transcript().key_uses()
    }

    /// Remaining tries of PIN and PUK.
    fn tries(&self) -> (u8, u8) {
        let card = self.card();
        (card.pin_tries(), card.puk_tries())
    }

    /// Runs `yubico-piv-tool` with the factory's management key.
    fn piv_tool(&self, arguments: &[&str]) -> Output {
        self.machine.run("yubico-piv-tool", arguments, b"")
    }

    /// Generates a key with `yubico-piv-tool`, and imports a certificate that the key has signed.
    /// The certificate is in the machine's file `SLOT.pem`.
    ///
    /// The program itself (2.2.0 with OpenSSL 3) makes no certificate: it fails before it asks the
    /// card for a signature. `ykman` makes one in `yubico_programs`.
    fn make_key(&self, slot: &str, algorithm: &str, policies: &[&str]) {
        let (public, certificate) = (format!("{slot}-public.pem"), format!("{slot}.pem"));
        let generate = ["-a", "generate", "-s", slot, "-A", algorithm, "-o", &public];
        self.piv_tool(&[&generate[..], policies].concat()).ok();
        let number = u8::from_str_radix(slot, 16).unwrap();
        let made = self_signed(&self.card().key(number).unwrap().key, &format!("Key {slot}"));
        self.machine.write(&certificate, pem(&made));
        self.piv_tool(&["-a", "import-certificate", "-s", slot, "-i", &certificate]).ok();
    }
}

impl Drop for CardFixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let card = self.card.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("commands to the card:\n{}", card.transcript());
        }
    }
}

/// A PIN as the card gets it, padded to eight bytes.
fn padded(pin: &str) -> Vec<u8> {
    let mut padded = pin.as_bytes().to_vec();
    padded.resize(8, 0xff);
    padded
}

/// The factory's management key, in hexadecimal.
fn factory_key() -> String {
    hex::encode(FACTORY_MANAGEMENT_KEY)
}
