//! Counts the wrong PINs in a row that processes of this user gave to a token. The lock directory
//! has one file per token, named by the SHA-256 of its serial number. It contains two counts and a
//! time, and nothing of a PIN.
//!
//! The counts limit what a token need not limit (`SoftHSM` accepts wrong PINs forever), and the
//! effect of concurrent commands: twenty that start at once with a wrong PIN in a file would lock a
//! token that locks after ten. Only the owner of the token reads and writes the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::private_file::{self, lock_directory};
use super::{Pin, TokenError, TokenInfo, WhichPin};

/// Number of wrong unattended PINs after which no more are tried.
const MAX_UNATTENDED: u32 = 3;

/// File name prefix for user PINs.
const PREFIX: &str = "wrong-pins-";

/// File name prefix for SO PINs.
const SO_PREFIX: &str = "wrong-so-pins-";

/// Format version of the file.
const VERSION: u32 = 1;

/// The record of one PIN of a token.
#[derive(Debug)]
pub(super) struct WrongPinCounter {
    file: PathBuf,
    which: WhichPin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// wrong PINs since the last correct one, or since an agent was started
    in_a_row: u32,
    /// wrong unattended PINs since the last correct one, or since a person typed one
    unattended: u32,
    /// time of the last wrong one, in seconds since 1970
    last: u64,
}

impl WrongPinCounter {
    pub fn of(which: WhichPin, token: &TokenInfo) -> Self {
        Self::in_directory(&lock_directory(), which, &token.serial)
    }

    fn in_directory(directory: &Path, which: WhichPin, serial: &str) -> Self {
        let name: String = hex::encode(Sha256::digest(serial)).chars().take(32).collect();
        let prefix = match which {
            WhichPin::User => PREFIX,
            WhichPin::SecurityOfficer => SO_PREFIX,
        };
        Self { file: directory.join(format!("{prefix}{name}")), which }
    }

    /// The number of wrong PINs in a row.
    pub fn in_a_row(&self) -> u32 {
        self.read().in_a_row
    }

    /// Refuses an unattended PIN after too many wrong ones. Costs no try.
    pub fn refuse_unattended(&self, pin: &Pin, operation: &'static str, token: &TokenInfo) -> Result<(), TokenError> {
        let wrong = self.read().unattended;
        if pin.is_attended() || wrong < MAX_UNATTENDED {
            return Ok(());
        }
        Err(TokenError::TooManyUnattended { operation, token: token.name(), which: self.which, wrong })
    }

    /// Records the result of a try.
    pub fn note<T>(&self, pin: &Pin, result: &Result<T, TokenError>) {
        match result {
            Ok(_) => self.forget(),
            Err(
                TokenError::PinIncorrect { .. }
                | TokenError::PinLocked { .. }
                | TokenError::SoPinIncorrect { .. }
                | TokenError::SoPinLocked { .. },
            ) => self.note_wrong(pin.is_attended()),
            // The old PIN may be wrong after all: some tokens call it invalid without counting the
            // try.
            Err(TokenError::NewPinRefused { .. }) if !pin.is_attended() => self.note_wrong(false),
            Err(_) => {}
        }
    }

    /// Resets the counts after a correct or a new PIN.
    pub fn forget(&self) {
        // Most tokens have no record.
        let _ = fs::remove_file(&self.file);
    }

    fn note_wrong(&self, attended: bool) {
        let mut record = self.read();
        record.in_a_row = record.in_a_row.saturating_add(1);
        record.unattended = if attended { 0 } else { record.unattended.saturating_add(1) };
        record.last = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.write(record);
    }

    fn read(&self) -> Record {
        let text = private_file::read(&self.file).unwrap_or_default();
        let record = serde_json::from_str::<Record>(&text).ok().filter(|record| record.version == VERSION);
        record.unwrap_or(Record { version: VERSION, in_a_row: 0, unattended: 0, last: 0 })
    }

    fn write(&self, record: Record) {
        let written = serde_json::to_string(&record).map_err(|error| error.to_string());
        if let Err(reason) = written.and_then(|text| private_file::write(&self.file, &text)) {
            tracing::warn!(reason, file = %self.file.display(), "cannot record a wrong PIN");
        }
    }
}

/// Resets the counts of all tokens for a new agent. The person who starts it may have typed the
/// wrong PINs, so these no longer count against its prompts. PINs from files still count against
/// files.
pub fn forget_wrong_pins_in_a_row() {
    for entry in fs::read_dir(lock_directory()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let wrong = WrongPinCounter { file: entry.path(), which: WhichPin::User };
            let record = wrong.read();
            if record.in_a_row > 0 {
                wrong.write(Record { in_a_row: 0, ..record });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::token::test_support::a_card;
    use crate::token::{PinState, TokenName};

    fn token() -> TokenInfo {
        TokenInfo { label: "mine".into(), serial: "4711/a b".into(), ..a_card() }
    }

    fn pin() -> Pin {
        Pin::new("geheim-4711".to_owned()).unwrap()
    }

    fn wrong() -> Result<(), TokenError> {
        let token = TokenName { label: "mine".into(), serial: "4711".into() };
        Err(TokenError::PinIncorrect { operation: "sign", token, pin_state: PinState::Ok, log_in_ended: false })
    }

    #[test]
    fn three_unattended_wrong_pins_block_until_one_is_typed() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let record = WrongPinCounter::in_directory(home.path(), WhichPin::User, "4711/a b");
        let is_refused = |pin: &Pin| record.refuse_unattended(pin, "sign", &token()).is_err();
        for count in 0..MAX_UNATTENDED {
            assert!(!is_refused(&pin().unattended()), "after {count}");
            record.note(&pin().unattended(), &wrong());
        }
        assert!(is_refused(&pin().unattended()) && !is_refused(&pin()));
        assert_eq!(record.in_a_row(), 3);
        // A result that does not tell whether the PIN is right does not count.
        record.note(&pin(), &Err::<(), _>(TokenError::Busy { token: token().name() }));
        assert!(is_refused(&pin().unattended()));
        record.note(&pin(), &wrong());
        assert!(!is_refused(&pin().unattended()), "a person typed one");
        assert_eq!(record.in_a_row(), 4);
        for _ in 0..MAX_UNATTENDED {
            record.note(&pin().unattended(), &wrong());
        }
        assert!(is_refused(&pin().unattended()));
        let of_officer = WrongPinCounter::in_directory(home.path(), WhichPin::SecurityOfficer, "4711/a b");
        assert_eq!(of_officer.in_a_row(), 0, "the SO PIN has a count of its own");
        of_officer.note(&pin(), &Ok(()));
        assert!(is_refused(&pin().unattended()), "a correct SO PIN reset the count of the user PIN");
        record.note(&pin(), &Ok(()));
        assert!(!is_refused(&pin().unattended()));
        assert_eq!(record.in_a_row(), 0);
        // A token that calls the new PIN invalid may mean the old one.
        for _ in 0..MAX_UNATTENDED {
            let (operation, token) = ("change the PIN", token().name());
            let refused =
                || Err::<(), _>(TokenError::NewPinRefused { operation, token: token.clone(), code: String::new() });
            record.note(&pin(), &refused());
            record.note(&pin().unattended(), &refused());
        }
        assert!(is_refused(&pin().unattended()) && !is_refused(&pin()));
        assert_eq!(record.in_a_row(), MAX_UNATTENDED);
    }

    #[test]
    fn the_record_is_private_and_holds_no_pin_or_serial() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let record = WrongPinCounter::in_directory(home.path(), WhichPin::User, "4711/a b");
        record.note(&pin(), &wrong());
        let name = record.file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.contains("4711") && name.len() == PREFIX.len() + 32, "{name}");
        let text = fs::read_to_string(&record.file).unwrap();
        assert!(!text.contains("geheim") && !text.contains("4711"), "{text}");
        assert_eq!(fs::metadata(&record.file).unwrap().mode() & 0o777, 0o600);
        // An invalid record counts as none.
        fs::write(&record.file, "{\"version\":2}").unwrap();
        assert_eq!(record.in_a_row(), 0);
    }
}
