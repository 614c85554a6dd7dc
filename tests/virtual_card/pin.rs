//! PIN and PUK: verification, change, unblocking, and their tries.

use super::apdu::{Command, Status};
use super::applet::PivApplet;

/// Length of a PIN or PUK with its padding, in bytes.
const LENGTH: usize = 8;
/// Shortest PIN or PUK, in bytes.
const MIN_LENGTH: usize = 6;
/// Key references in P2 (SP 800-73-4 part 1 table 4b).
const APPLICATION_PIN: u8 = 0x80;
const PUK: u8 = 0x81;

/// Tries of the PIN and of the PUK when the card is new.
pub const TRIES: u8 = 3;
pub const FACTORY_PIN: &str = "123456";
pub const FACTORY_PUK: &str = "12345678";

/// A PIN or PUK with its tries.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    value: [u8; LENGTH],
    pub(super) tries: u8,
    pub(super) limit: u8,
    factory_value: [u8; LENGTH],
}

impl Pin {
    pub(super) fn new(factory_value: &str) -> Self {
        let value = pad(factory_value);
        Self { value, tries: TRIES, limit: TRIES, factory_value: value }
    }

    /// Compares, and counts a wrong value.
    fn check(&mut self, candidate: &[u8]) -> Result<(), Status> {
        if self.tries == 0 {
            return Err(Status::BLOCKED);
        }
        if candidate != self.value {
            self.tries -= 1;
            return Err(Status::tries_left(self.tries));
        }
        self.tries = self.limit;
        Ok(())
    }

    /// Sets a new value with all tries. Its padding is at the end, and it is not too short.
    fn set(&mut self, value: &[u8]) -> Result<(), Status> {
        let value: [u8; LENGTH] = value.try_into().map_err(|_| Status::WRONG_DATA)?;
        let length = value.iter().position(|byte| *byte == 0xff).unwrap_or(LENGTH);
        if length < MIN_LENGTH || value[length..].iter().any(|byte| *byte != 0xff) {
            return Err(Status::WRONG_DATA);
        }
        self.value = value;
        self.tries = self.limit;
        Ok(())
    }

    pub(super) fn set_text(&mut self, value: &str) {
        self.set(&pad(value)).expect("a PIN has six to eight characters");
    }

    /// Sets the factory's value, with this number of tries.
    fn restore(&mut self, limit: u8) {
        (self.value, self.tries, self.limit) = (self.factory_value, limit, limit);
    }

    pub(super) fn is_factory_value(&self) -> bool {
        self.value == self.factory_value
    }
}

/// A PIN in ASCII, padded with FF (SP 800-73-4 part 2 section 2.4.3).
fn pad(text: &str) -> [u8; LENGTH] {
    let mut padded = [0xff; LENGTH];
    padded[..text.len()].copy_from_slice(text.as_bytes());
    padded
}

impl PivApplet {
    /// VERIFY (SP 800-73-4 part 2 section 3.2.1). Without data it returns the remaining tries, and
    /// with P1 = FF it ends the verification.
    pub(super) fn verify(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        if command.p2 != APPLICATION_PIN {
            return Err(Status::NO_SUCH_KEY);
        }
        match (command.p1, command.data.len()) {
            (0xff, 0) => {
                self.session.end_verification();
                Ok(Vec::new())
            }
            (0, 0) if self.session.pin_verified => Ok(Vec::new()),
            (0, 0) if self.pin.tries == 0 => Err(Status::BLOCKED),
            (0, 0) => Err(Status::tries_left(self.pin.tries)),
            (0, LENGTH) => {
                self.session.end_verification();
                self.pin.check(&command.data)?;
                self.session.pin_verified = true;
                self.session.pin_unused = true;
                Ok(Vec::new())
            }
            // A wrong length costs no try.
            (0, _) => Err(Status::WRONG_DATA),
            _ => Err(Status::WRONG_PARAMETERS),
        }
    }

    /// CHANGE REFERENCE DATA (SP 800-73-4 part 2 section 3.2.2): the old value, then the new one.
    pub(super) fn change_reference_data(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        let (old, new) = command.data.split_at_checked(LENGTH).ok_or(Status::WRONG_DATA)?;
        let pin = match (command.p1, command.p2) {
            (0, APPLICATION_PIN) => &mut self.pin,
            (0, PUK) => &mut self.puk,
            (0, _) => return Err(Status::NO_SUCH_KEY),
            _ => return Err(Status::WRONG_PARAMETERS),
        };
        // The old value first: a wrong one costs a try whatever the new one is.
        let checked = pin.check(old).and_then(|()| pin.set(new));
        if command.p2 == APPLICATION_PIN {
            self.session.end_verification();
        }
        checked.map(|()| Vec::new())
    }

    /// RESET RETRY COUNTER (SP 800-73-4 part 2 section 3.2.3): the PUK, then a new PIN.
    pub(super) fn reset_retry_counter(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        if (command.p1, command.p2) != (0, APPLICATION_PIN) {
            return Err(Status::WRONG_PARAMETERS);
        }
        let (puk, new) = command.data.split_at_checked(LENGTH).ok_or(Status::WRONG_DATA)?;
        self.puk.check(puk)?;
        self.pin.set(new)?;
        self.session.end_verification();
        Ok(Vec::new())
    }

    /// SET PIN RETRIES (Yubico, "Set PIN retries"): the new numbers of tries in P1 and P2. PIN and
    /// PUK get the factory's values. It needs the PIN and the management key.
    pub(super) fn set_pin_retries(&mut self, command: &Command) -> Result<Vec<u8>, Status> {
        self.require_management()?;
        if !self.session.pin_verified {
            return Err(Status::NOT_PERMITTED);
        }
        if command.p1 == 0 || command.p2 == 0 {
            return Err(Status::WRONG_PARAMETERS);
        }
        self.pin.restore(command.p1);
        self.puk.restore(command.p2);
        self.session.end_verification();
        Ok(Vec::new())
    }
}
