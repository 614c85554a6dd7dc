//! What this process' own module cannot be believed about, and where its tokens lie: what a token says about its PIN, and
//! whether what was stored is there.
//!
//! | module | what it says about a PIN | what it says is stored |
//! |---|---|---|
//! | one with readers | the card is asked each time | is on the card |
//! | `SoftHSM` | its files are read each time | may be lost on a full disk, and is still shown to this process |
//! | any other in software (Kryoptic, NSS) | taken for as old as its start | taken for what `SoftHSM` says |

use std::path::Path;

use cryptoki::error::{Error, RvError};

use super::answers;
use crate::token::check::{self, CheckOutcome, CheckQuestion, CheckReport, CheckRequest, StoredObject};
use crate::token::stores::Store;
use crate::token::{Module, Pin, PinState, Token, TokenError, TokenName};

/// The library that is known to read what a token says from its files each time.
const READS_ANEW: &str = "SoftHSM";

impl Module {
    /// What a process that loads the module afresh reads of the PIN; none where this one reads as well, or where there is
    /// no such process.
    pub(super) fn pin_state_seen_anew(&self, serial: &str) -> Option<PinState> {
        if !self.keeps_pin_state() {
            return None;
        }
        match self.ask_anew(CheckQuestion::PinState { serial: serial.to_owned() }, None)? {
            CheckOutcome::Answered(CheckReport::PinState(state)) => Some(state),
            outcome => {
                tracing::warn!(module = %self.path().display(), ?outcome, "cannot read the state of a PIN anew");
                None
            }
        }
    }

    /// Does it go on saying of a PIN what it said when it was started, while other processes spend its tries?
    fn keeps_pin_state(&self) -> bool {
        *self.known().keeps_pin_state.get_or_init(|| {
            let library = self.pkcs11().get_library_info();
            let reads_anew = library.is_ok_and(|library| library.manufacturer_id().trim_end() == READS_ANEW);
            !reads_anew && !self.has_readers().unwrap_or(true)
        })
    }

    pub(super) fn not_started(&self, error: &Error) -> TokenError {
        TokenError::Module {
            path: self.path().to_owned(),
            reason: error.to_string(),
            remedy: start_remedy(self.path()),
        }
    }

    fn ask_anew(&self, question: CheckQuestion, pin: Option<&Pin>) -> Option<CheckOutcome> {
        check::ask(&CheckRequest { module: self.path().to_owned(), question }, pin)
    }

    /// A module's answer, and where it is only that something failed, what is known of the place where its tokens lie.
    pub(super) fn explain(
        &self,
        operation: &'static str,
        token: &TokenName,
        error: &Error,
        pin_state: impl FnOnce() -> PinState,
    ) -> TokenError {
        let says_nothing = [
            RvError::FunctionFailed,
            RvError::GeneralError,
            RvError::DeviceError,
            RvError::DeviceMemory,
            RvError::HostMemory,
            RvError::TokenWriteProtected,
        ];
        let explained = answers::explain(operation, token, error, pin_state);
        if self.known().has_readers() || !says_nothing.iter().any(|code| answers::is(error, *code)) {
            return explained;
        }
        match (explained, Store::of(self.path()).condition()) {
            (TokenError::Fault { operation, token, code }, Some(condition)) => {
                TokenError::Fault { operation, token, code: format!("{code} ({condition})") }
            }
            (
                TokenError::Full { operation, token } | TokenError::WriteProtected { operation, token },
                Some(condition),
            ) => TokenError::NoRoom { operation, token, condition },
            (explained, _) => explained,
        }
    }

    /// Refuses what would store something where there is no room for it: `SoftHSM` says that it was stored all the same,
    /// and destroys what was there before.
    pub(super) fn must_have_room(&self, operation: &'static str, token: &TokenName) -> Result<(), TokenError> {
        if self.known().has_readers() {
            return Ok(());
        }
        match Store::of(self.path()).lack() {
            Some(condition) => Err(TokenError::NoRoom { operation, token: token.clone(), condition }),
            None => Ok(()),
        }
    }
}

impl Token {
    /// The same, of this token's module.
    pub(super) fn must_have_room(&self, operation: &'static str) -> Result<(), TokenError> {
        self.module().must_have_room(operation, &self.info().name())
    }

    /// Has a process with a module of its own look whether all this is there. The PIN is the one that this process is
    /// logged in with. A module with readers is not asked: the card is its store, and a second process would take it away.
    ///
    /// # Errors
    /// [`TokenError::NotStored`] names what is missing.
    pub fn must_be_stored(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
        pin: Option<&Pin>,
    ) -> Result<(), TokenError> {
        let module = self.module();
        if module.has_readers()? {
            return Ok(());
        }
        // Nobody else of this process logs in or out, or writes, while the child does.
        let _alone = self.exclusive();
        let serial = self.info().serial.clone();
        let missing = match module.ask_anew(CheckQuestion::Stored { serial, objects }, pin) {
            Some(CheckOutcome::Answered(CheckReport::Missing(missing))) => missing.join(", "),
            Some(CheckOutcome::Answered(CheckReport::TokenFailed(reason))) => reason,
            Some(CheckOutcome::Died(how)) => format!("the process that looked ended {how}"),
            Some(CheckOutcome::Answered(CheckReport::Well {})) | None => return Ok(()),
            // A module that cannot be loaded twice, or not shut in, is no worse for that.
            Some(outcome) => {
                tracing::warn!(token = %self.info().name(), ?outcome, "cannot look whether all was stored");
                return Ok(());
            }
        };
        let condition = Store::of(module.path()).condition().unwrap_or_else(|| "the disk may be full".to_owned());
        Err(TokenError::NotStored { operation, token: self.info().name(), missing, condition })
    }
}

/// What may help where a module cannot be started.
pub(super) fn start_remedy(path: &Path) -> String {
    if path.to_string_lossy().contains("softhsm") {
        "check that SOFTHSM2_CONF names a configuration that you can read, and that its token directory is there"
            .to_owned()
    } else {
        "see the module's own documentation for its configuration".to_owned()
    }
}
