//! Makes a token in a free slot, and empties a token, because PKCS#11 cannot delete one.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use cryptoki::slot::{Slot, TokenInfo as CkTokenInfo};

use super::fresh_process::NOT_SEEN_AFRESH;
use super::log_in::{LogIn, auth_pin};
use super::marks::TokenMarks;
use super::module::EMPTY_LABEL;
use super::objects::Objects;
use super::slot_info::{pin_length_range, pin_states_of};
use super::source::Pkcs11Source;
use super::token::Pkcs11Token;
use crate::token::owner_lock::OwnerLock;
use crate::token::wrong_pins::WrongPinCounter;
use crate::token::{Pin, PinState, TokenError, TokenInfo, TokenName, WhichPin};

/// The SO PIN of an emptied token. It is not secret and protects nothing: it lets the next caller
/// use the token.
const EMPTY_SO_PIN: &str = "tokenkeep-empty-token";

/// The operation in errors.
const MAKE: &str = "create the token";

/// Maximum length of a token label in bytes (PKCS#11 `CK_TOKEN_INFO`); SoftHSM refuses a longer
/// one.
const LABEL_BYTES: usize = 32;

/// Time to wait for another process that makes a token. Several may be making one, in turn.
const SLOTS_TIMEOUT: Duration = Duration::from_secs(30);

/// Two threads that make tokens concurrently destroy each other's tokens (SoftHSM): only one may
/// run at a time.
static PROVISIONING_LOCK: Mutex<()> = Mutex::new(());

impl Pkcs11Source {
    /// Restarts the module, so that it sees tokens made by other processes. Does nothing while this
    /// process has a token of the module open, which would lose its sessions, or makes one, whose
    /// slot might get another number. Returns whether it restarted the module.
    pub(in crate::token) fn rescan(&self) -> Result<bool, TokenError> {
        match PROVISIONING_LOCK.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            _making => self.restart_if_unused(),
        }
    }

    /// Whether the module has a slot for a new token. An emptied token counts.
    pub(in crate::token) fn can_create_tokens(&self) -> Result<bool, TokenError> {
        let is_room = |info: &CkTokenInfo| !info.token_initialized() || (is_discarded(info) && spares_a_try(info));
        let has_free_slot = || Ok(self.module().slots()?.iter().any(|(_, info)| is_room(info)));
        // Checked twice: another thread may just have taken the free slot (SoftHSM then adds a new
        // one).
        Ok(has_free_slot()? || has_free_slot()?)
    }

    /// Refuses a label of an existing token that [`Pkcs11Source::create_token`] would not resume.
    /// It tries no PIN. Does not see a token that another process makes meanwhile; `create_token`
    /// does.
    ///
    /// # Errors
    /// [`TokenError::LabelTaken`].
    pub(in crate::token) fn refuse_taken_label(&self, label: &str) -> Result<(), TokenError> {
        match self.module().tokens()?.iter().find(|token| token.label == label) {
            Some(existing) => self.find_unfinished(existing, None).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Makes a token with this label (1 to 32 bytes), SO PIN and user PIN.
    ///
    /// Resumes an interrupted earlier call with the same label and SO PIN: a token with that label
    /// that has no user PIN, or no object, is finished with one try of the SO PIN. Any other token
    /// with that label is [`TokenError::LabelTaken`]. A token emptied by
    /// [`Pkcs11Source::discard_token`] is used before a free slot.
    pub(in crate::token) fn create_token(&self, label: &str, so_pin: &Pin, pin: &Pin) -> Result<TokenInfo, TokenError> {
        self.create(label, so_pin, pin, None)
    }

    /// Like [`Pkcs11Source::create_token`], with a mark on the token that tells its purpose until
    /// [`TokenMarks::finish`]. A token of an earlier call that has a user PIN is resumed
    /// only if it carries exactly this mark and nothing else, so that an emptied token with an
    /// unknown SO PIN loses no try.
    pub(in crate::token) fn create_token_for(
        &self,
        purpose: &str,
        label: &str,
        so_pin: &Pin,
        pin: &Pin,
    ) -> Result<TokenInfo, TokenError> {
        self.create(label, so_pin, pin, Some(purpose))
    }

    fn create(&self, label: &str, so_pin: &Pin, pin: &Pin, mark: Option<&str>) -> Result<TokenInfo, TokenError> {
        if label.is_empty()
            || label.len() > LABEL_BYTES
            || label.trim() != label
            || label.chars().any(char::is_control)
            || label == EMPTY_LABEL
        {
            return Err(TokenError::LabelUnfit { label: label.to_owned() });
        }
        let new = TokenName { label: label.to_owned(), serial: "new".to_owned() };
        self.module().check_free_space("make a token", &new)?;
        let _making = PROVISIONING_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = TokenName { label: "its free slots".to_owned(), serial: "slots".to_owned() };
        let _one_process = OwnerLock::acquire_within(self.module().path(), &slots, SLOTS_TIMEOUT)?;
        self.restart_if_unused()?;
        if let Some(existing) = self.module().tokens()?.iter().find(|token| token.label == label) {
            return self.resume(existing, so_pin, pin, mark);
        }
        let slots = self.module().slots()?;
        for (slot, info) in slots.iter().filter(|(_, info)| is_discarded(info)) {
            if let Some(token) = self.reuse((*slot, info), label, so_pin, pin, mark)? {
                return Ok(token);
            }
        }
        let free = slots.iter().find(|(_, info)| !info.token_initialized());
        let (slot, info) = free.ok_or_else(|| TokenError::NoFreeSlot { module: self.module().path().to_owned() })?;
        Self::check_lengths(info, label, so_pin, pin)?;
        self.initialize_token(MAKE, &new, *slot, so_pin, label)?;
        self.finish(*slot, so_pin, pin, mark)
    }

    /// Empties the token, so that the next [`Pkcs11Source::create_token`] uses it first. All its
    /// objects are lost. No clone of it may be open in this process ([`TokenError::Busy`]), because
    /// a token with sessions cannot be initialized. It spends one try of the SO PIN, and never the
    /// last one.
    pub(in crate::token) fn discard_token(&self, token: &TokenInfo, so_pin: &Pin) -> Result<(), TokenError> {
        let operation = "empty the token";
        if self.has_open(token) {
            return Err(TokenError::Busy { token: token.name() });
        }
        let _making = PROVISIONING_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = OwnerLock::acquire(self.module().path(), &token.name())?;
        let (slot, _) = self.module().slot_of(operation, token)?;
        self.initialize_again(operation, token, slot, so_pin, EMPTY_LABEL)?;
        drop(owner);
        // Kryoptic assigns a new serial number here.
        let empty = self.module().token_in(slot)?;
        LogIn::to(&*self.open(&empty)?).set_so_pin(so_pin, &empty_so_pin()?)
    }

    /// Finishes a token with the wanted label that an earlier call left unfinished.
    fn resume(
        &self,
        existing: &TokenInfo,
        so_pin: &Pin,
        pin: &Pin,
        mark: Option<&str>,
    ) -> Result<TokenInfo, TokenError> {
        let refusal = || label_taken(existing);
        let (token, without_pin) = self.find_unfinished(existing, mark)?;
        match LogIn::to(&token).init_pin_and_mark(so_pin, pin, mark) {
            // Made from an emptied token, and interrupted before it had its own SO PIN.
            Err(TokenError::SoPinIncorrect { .. }) if without_pin => {
                LogIn::to(&token).set_so_pin(&empty_so_pin()?, so_pin).map_err(|_| refusal())?;
                LogIn::to(&token).init_pin_and_mark(so_pin, pin, mark)?;
            }
            Err(TokenError::SoPinIncorrect { .. }) => return Err(refusal()),
            result => result?,
        }
        Ok(TokenInfo { pin_state: PinState::Ok, ..existing.clone() })
    }

    /// Opens an unfinished token with the wanted label, and returns whether it has no user PIN yet.
    /// [`TokenError::LabelTaken`] for a finished token. It tries no PIN.
    fn find_unfinished(
        &self,
        existing: &TokenInfo,
        mark: Option<&str>,
    ) -> Result<(Arc<Pkcs11Token>, bool), TokenError> {
        let token = match self.open(existing) {
            Err(TokenError::Owned { .. }) => return Err(label_taken(existing)),
            result => result?,
        };
        let without_pin = token.refresh_pin_state()? == PinState::NotSet;
        let is_left_behind = match mark {
            None => Objects::on(&token).is_empty()?,
            Some(purpose) => TokenMarks::on(&token).is_provisioned_for(purpose)?,
        };
        if without_pin || is_left_behind { Ok((token, without_pin)) } else { Err(label_taken(existing)) }
    }

    /// Makes a token from an emptied one. `None` if the token accepts neither the SO PIN of emptied
    /// tokens nor `so_pin` (the SO PIN of a token whose emptying was interrupted).
    fn reuse(
        &self,
        (slot, info): (Slot, &CkTokenInfo),
        label: &str,
        so_pin: &Pin,
        pin: &Pin,
        mark: Option<&str>,
    ) -> Result<Option<TokenInfo>, TokenError> {
        Self::check_lengths(info, label, so_pin, pin)?;
        let emptied = self.module().token_in(slot)?;
        let initialize = |so_pin: &Pin| self.initialize_again(MAKE, &emptied, slot, so_pin, label);
        let old = empty_so_pin()?;
        let by_old = initialize(&old);
        let has_old = by_old.is_ok();
        // Only a wrong SO PIN leads to the other one, not a fault.
        let made = match by_old {
            Err(TokenError::SoPinIncorrect { .. }) => initialize(so_pin),
            made => made,
        };
        if let Err(error) = made {
            tracing::warn!("not using an emptied token: {error}");
            return Ok(None);
        }
        if has_old {
            LogIn::to(&*self.open(&self.module().token_in(slot)?)?).set_so_pin(&old, so_pin)?;
        }
        self.finish(slot, so_pin, pin, mark).map(Some)
    }

    /// Calls `C_InitToken` for a token that is initialized, with one try of its SO PIN and never
    /// the last one.
    fn initialize_again(
        &self,
        operation: &'static str,
        token: &TokenInfo,
        slot: Slot,
        so_pin: &Pin,
        label: &str,
    ) -> Result<(), TokenError> {
        self.refuse_the_last_try(operation, &token.name(), slot)?;
        let wrong_pins = WrongPinCounter::of(WhichPin::SecurityOfficer, token);
        wrong_pins.refuse_unattended(so_pin, operation, token)?;
        let result = self.initialize_token(operation, &token.name(), slot, so_pin, label);
        wrong_pins.note(so_pin, &result);
        result
    }

    /// Refuses if a wrong SO PIN could lock the token.
    fn refuse_the_last_try(&self, operation: &'static str, token: &TokenName, slot: Slot) -> Result<(), TokenError> {
        let (token, which) = (token.clone(), WhichPin::SecurityOfficer);
        match self.so_pin_state_in(slot) {
            Ok(PinState::Locked) => Err(TokenError::SoPinLocked { operation, token }),
            Ok(PinState::FinalTry) => Err(TokenError::LastTry { operation, token, which }),
            Ok(PinState::Ok | PinState::CountLow | PinState::NotSet) => Ok(()),
            Err(reason) => Err(TokenError::PinStateUnknown { operation, token, which, reason }),
        }
    }

    /// The current SO PIN state of the token in this slot, or the reason why it is unknown.
    fn so_pin_state_in(&self, slot: Slot) -> Result<PinState, String> {
        let info = self.module().read_token_info(slot).map_err(|error| error.to_string())?;
        let Some(all) = self.module().pin_states_seen_afresh()? else { return Ok(pin_states_of(&info).so_pin) };
        let token = self.module().token_info(slot, &info).id();
        let own = all.iter().find(|(other, _)| *other == token).map(|(_, states)| states.so_pin);
        own.ok_or_else(|| NOT_SEEN_AFRESH.to_owned())
    }

    fn finish(&self, slot: Slot, so_pin: &Pin, pin: &Pin, mark: Option<&str>) -> Result<TokenInfo, TokenError> {
        let token = self.module().token_in(slot)?;
        LogIn::to(&*self.open(&token)?).init_pin_and_mark(so_pin, pin, mark)?;
        self.module().token_in(slot)
    }

    /// Calls `C_InitToken`. On an initialized token it spends one try of the SO PIN.
    fn initialize_token(
        &self,
        operation: &'static str,
        name: &TokenName,
        slot: Slot,
        so_pin: &Pin,
        label: &str,
    ) -> Result<(), TokenError> {
        let _call = self.module().calls().begin();
        let made = self.module().pkcs11().init_token(slot, &auth_pin(so_pin), label);
        made.map_err(|error| match self.module().explain(operation, name, &error, || PinState::CountLow) {
            TokenError::PinIncorrect { operation, token, .. } => {
                let so_pin_state = self.so_pin_state_in(slot).unwrap_or(PinState::CountLow);
                TokenError::SoPinIncorrect { operation, token, so_pin_state }
            }
            TokenError::PinLocked { operation, token } => TokenError::SoPinLocked { operation, token },
            other => other,
        })
    }

    fn check_lengths(info: &CkTokenInfo, label: &str, so_pin: &Pin, pin: &Pin) -> Result<(), TokenError> {
        let allowed = pin_length_range(info);
        if [so_pin, pin].iter().all(|pin| allowed.contains(&pin.as_str().len())) {
            return Ok(());
        }
        let token = TokenName { label: label.to_owned(), serial: "new".to_owned() };
        let (min, max) = (*allowed.start(), *allowed.end());
        Err(TokenError::PinLength { operation: "create the token", token, min, max })
    }
}

fn label_taken(existing: &TokenInfo) -> TokenError {
    TokenError::LabelTaken { label: existing.label.clone(), serial: existing.serial.clone() }
}

/// Whether one wrong SO PIN would not lock the token, as this process' module reports.
fn spares_a_try(info: &CkTokenInfo) -> bool {
    spares(pin_states_of(info).so_pin)
}

fn spares(state: PinState) -> bool {
    !matches!(state, PinState::Locked | PinState::FinalTry)
}

fn is_discarded(info: &CkTokenInfo) -> bool {
    info.token_initialized() && info.label().trim_end() == EMPTY_LABEL
}

fn empty_so_pin() -> Result<Pin, TokenError> {
    // The constant is a valid PIN; this error only avoids a panic.
    let pin = Pin::new(EMPTY_SO_PIN.to_owned()).map_err(|error| TokenError::NoRandom(error.to_string()))?;
    Ok(pin.unattended())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenSource;
    use crate::token::test_support::{PIN, SO_PIN, fresh_label, modules, pin};

    /// Leaves a token as a process that is killed before it sets the user PIN.
    fn interrupted(module: &TokenSource, so_pin: &str) -> String {
        let _making = PROVISIONING_LOCK.lock().unwrap();
        let label = fresh_label("killed");
        let source = module.pkcs11();
        let slots = source.module().slots().unwrap();
        let free = slots.iter().find(|(_, info)| !info.token_initialized()).unwrap();
        let name = TokenName { label: label.clone(), serial: "new".to_owned() };
        source.initialize_token(MAKE, &name, free.0, &pin(so_pin), &label).unwrap();
        label
    }

    #[test]
    fn a_token_without_pin_is_finished_by_the_same_call() {
        for module in modules() {
            // A new token, or one made from an emptied token without its own SO PIN.
            for so_pin in [SO_PIN, EMPTY_SO_PIN] {
                let label = interrupted(&module, so_pin);
                let before = module.tokens().unwrap().into_iter().find(|token| token.label == label).unwrap();
                assert_eq!(before.pin_state, PinState::NotSet);
                let error = module.open(&before).unwrap().log_in(&pin(PIN)).unwrap_err();
                assert!(matches!(error, TokenError::PinNotSet { .. }), "{error}");
                let made = module.create_token(&label, &pin(SO_PIN), &pin(PIN)).unwrap();
                assert_eq!((made.serial, made.pin_state), (before.serial.clone(), PinState::Ok));
                let token = module.open(&before).unwrap();
                token.log_in(&pin(PIN)).unwrap();
                token.unblock_pin(&pin(SO_PIN), &pin("the so pin is ours")).unwrap();
            }
        }
    }

    #[test]
    fn somebody_elses_unfinished_token_is_left_alone() {
        for module in modules() {
            let label = interrupted(&module, "somebody else's");
            let error = module.create_token(&label, &pin(SO_PIN), &pin(PIN)).unwrap_err();
            assert!(matches!(error, TokenError::LabelTaken { .. }), "{error}");
        }
    }
}
