//! Login and PINs. Each function here spends at most one try of the PIN it gets, and none if the
//! PIN cannot be right.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use cryptoki::error::RvError;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use super::marks::put_provisioning_mark;
use super::return_values;
use super::token::Pkcs11Token;
use crate::token::authorization::LoginMode;
use crate::token::wrong_pins::WrongPinCounter;
use crate::token::{Pin, PinState, TokenError, WhichPin};

/// The next session number, for all tokens.
static NEXT_SESSION_NUMBER: AtomicU64 = AtomicU64::new(1);

/// The logins and PIN changes of a token.
pub(in crate::token) struct LogIn<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> LogIn<'a> {
    pub(in crate::token) fn to(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Logs in. It really verifies the PIN: waits for running operations, logs out and logs in.
    /// (During a login a module answers `CKR_USER_ALREADY_LOGGED_IN` to any PIN.) A call spends at
    /// most one try, and none if the PIN is locked, not set, or has a length that the token does
    /// not accept. Returns the number of the session that is active then (0: none).
    pub(in crate::token) fn log_in_for(&self, purpose: LoginMode, pin: &Pin) -> Result<u64, TokenError> {
        let operation = "log in";
        self.check_length(operation, pin)?;
        let _alone = self.token.exclusive();
        self.check_pin_can_be_tried(WhichPin::User, operation, pin)?;
        let previous_session = self.token.login().active_session();
        let result = self.token.sessions().in_login_session(|login_session| {
            self.log_out_session(login_session);
            self.token.login().note_new_pin(false);
            login_session.login(UserType::User, Some(&auth_pin(pin)))
        });
        let result = result.map_err(|error| self.token.explain(operation, &error));
        self.wrong_pins(WhichPin::User).note(pin, &result);
        if let Err(error) = result {
            return Err(if previous_session.is_some() { error.with_session_ended() } else { error });
        }
        self.token.login().note_logged_in();
        let active_session = match purpose {
            LoginMode::Persistent => None,
            LoginMode::SingleOperation => previous_session,
            LoginMode::ActiveSession => {
                previous_session.or_else(|| Some(NEXT_SESSION_NUMBER.fetch_add(1, Ordering::Relaxed)))
            }
        };
        self.token.login().set_active_session(active_session);
        Ok(active_session.unwrap_or(0))
    }

    /// Logs out and ends an active session. It is not an error if the token is not logged in.
    pub(in crate::token) fn log_out(&self) {
        let _alone = self.token.exclusive();
        self.log_out_exclusively();
    }

    /// Verifies the PIN and leaves the token as it was. It spends one try, as every login, and an
    /// active session continues.
    pub(in crate::token) fn verify_pin(&self, pin: &Pin) -> Result<(), TokenError> {
        self.log_in_for(LoginMode::SingleOperation, pin)?;
        self.end_operation();
        Ok(())
    }

    /// Verifies the SO PIN with one try. Logs the user out.
    pub(in crate::token) fn verify_so_pin(&self, so_pin: &Pin) -> Result<(), TokenError> {
        self.as_security_officer("set a new PIN", so_pin, |_| Ok(()))
    }

    /// Changes the user PIN. It spends one try of the old PIN.
    pub(in crate::token) fn change_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        let operation = "change the PIN";
        self.check_length(operation, old)?;
        self.check_length(operation, new)?;
        let _alone = self.token.exclusive();
        let before = self.check_pin_can_be_tried(WhichPin::User, operation, old)?;
        self.token.check_free_space(operation)?;
        self.token.login().note_new_pin(false);
        let result = self
            .token
            .sessions()
            .in_login_session(|login_session| login_session.set_pin(&auth_pin(old), &auth_pin(new)));
        let result = result.map_err(|error| {
            let now = Cell::new(None);
            let explained = self.token.explain_with(operation, &error, || {
                now.set(self.token.read_pin_states().ok().map(|states| states.pin));
                now.get().unwrap_or(PinState::CountLow)
            });
            match explained {
                // For a wrong old PIN a token returns CKR_PIN_INCORRECT. A token that returns
                // another value still counts the try.
                TokenError::PinIncorrect { operation, token, .. }
                    if return_values::is_of_a_new_pin(&error) && counts_no_try(now.get(), before) =>
                {
                    return_values::new_pin_refused(operation, token, &error)
                }
                explained => explained,
            }
        });
        self.wrong_pins(WhichPin::User).note(old, &result);
        result
    }

    /// Changes the SO PIN. It spends one try of the old SO PIN. Logs the user out.
    pub(in crate::token) fn set_so_pin(&self, old: &Pin, new: &Pin) -> Result<(), TokenError> {
        let operation = "change the SO PIN";
        self.check_length(operation, new)?;
        self.as_security_officer(operation, old, |session| session.set_pin(&auth_pin(old), &auth_pin(new)))
    }

    /// Sets a new user PIN as security officer, regardless of the old one. It spends one try of the
    /// SO PIN. Logs the user out.
    pub(in crate::token) fn init_pin_as_so(&self, so_pin: &Pin, pin: &Pin) -> Result<(), TokenError> {
        self.init_pin_and_mark(so_pin, pin, None)
    }

    /// Like `init_pin_as_so`; sets this mark on the token before the PIN.
    pub(super) fn init_pin_and_mark(&self, so_pin: &Pin, pin: &Pin, mark: Option<&str>) -> Result<(), TokenError> {
        let operation = "set a new PIN";
        self.check_length(operation, pin)?;
        self.as_security_officer(operation, so_pin, |session| {
            mark.map_or(Ok(()), |purpose| put_provisioning_mark(session, purpose))?;
            session.init_pin(&auth_pin(pin))
        })?;
        self.token.login().note_new_pin(true);
        self.wrong_pins(WhichPin::User).forget();
        Ok(())
    }

    fn as_security_officer(
        &self,
        operation: &'static str,
        so_pin: &Pin,
        action: impl FnOnce(&Session) -> cryptoki::error::Result<()>,
    ) -> Result<(), TokenError> {
        self.check_length(operation, so_pin)?;
        let _alone = self.token.exclusive();
        self.check_pin_can_be_tried(WhichPin::SecurityOfficer, operation, so_pin)?;
        let is_right = Cell::new(false);
        let result = self.token.sessions().in_login_session(|login_session| {
            self.log_out_session(login_session);
            let result = login_session.login(UserType::So, Some(&auth_pin(so_pin))).and_then(|()| {
                is_right.set(true);
                action(login_session)
            });
            self.log_out_session(login_session);
            result
        });
        let result = result.map_err(|error| match self.token.explain(operation, &error) {
            // The SO login succeeded: the token refuses the new PIN.
            TokenError::PinIncorrect { operation, token, .. } if is_right.get() => {
                return_values::new_pin_refused(operation, token, &error)
            }
            TokenError::PinLocked { operation, token } if is_right.get() => {
                TokenError::Fault { operation, token, code: return_values::code_of(&error) }
            }
            TokenError::PinIncorrect { operation, token, .. } => {
                let so_pin_state = self.token.read_pin_states().map_or(PinState::CountLow, |states| states.so_pin);
                TokenError::SoPinIncorrect { operation, token, so_pin_state }
            }
            TokenError::PinLocked { operation, token } => TokenError::SoPinLocked { operation, token },
            error => error,
        });
        let wrong_pins = self.wrong_pins(WhichPin::SecurityOfficer);
        if is_right.get() {
            wrong_pins.forget();
        } else {
            wrong_pins.note(so_pin, &result);
        }
        result
    }

    /// Ends an operation that unlocked the token with a PIN: logs out unless a session is active.
    pub(in crate::token) fn end_operation(&self) {
        let _alone = self.token.exclusive();
        if self.token.login().active_session().is_none() {
            self.log_out_exclusively();
        }
    }

    /// Logs out. The caller holds the token exclusively.
    fn log_out_exclusively(&self) {
        let _ = self.token.sessions().in_login_session(|login_session| {
            self.log_out_session(login_session);
            Ok(())
        });
    }

    /// Refuses a PIN that is too short or too long before a try.
    fn check_length(&self, operation: &'static str, pin: &Pin) -> Result<(), TokenError> {
        let allowed = self.token.pin_length_range();
        if allowed.contains(&pin.as_str().len()) {
            return Ok(());
        }
        let (min, max) = (*allowed.start(), *allowed.end());
        Err(TokenError::PinLength { operation, token: self.token.info().name(), min, max })
    }

    /// Reads the PIN state right before the try: another program may have spent tries since the
    /// prompt. Refuses the try if the state is unknown.
    fn check_pin_can_be_tried(
        &self,
        which: WhichPin,
        operation: &'static str,
        pin: &Pin,
    ) -> Result<PinState, TokenError> {
        let token = self.token.info().name();
        let state = self.token.pin_state_now(operation, which)?;
        match (state, which) {
            (PinState::Locked, WhichPin::User) => return Err(TokenError::PinLocked { operation, token }),
            (PinState::Locked, WhichPin::SecurityOfficer) => return Err(TokenError::SoPinLocked { operation, token }),
            (PinState::NotSet, WhichPin::User) => return Err(TokenError::PinNotSet { operation, token }),
            (PinState::FinalTry, _) if !pin.is_last_try_allowed() => {
                return Err(TokenError::LastTry { operation, token, which });
            }
            _ => {}
        }
        self.wrong_pins(which).refuse_unattended(pin, operation, self.token.info())?;
        Ok(state)
    }

    fn wrong_pins(&self, which: WhichPin) -> WrongPinCounter {
        WrongPinCounter::of(which, self.token.info())
    }

    /// Number of wrong PINs in a row, given by any process of this user, since the last correct one
    /// or the last start of an agent.
    pub(in crate::token) fn wrong_pins_in_a_row(&self) -> u32 {
        self.wrong_pins(WhichPin::User).in_a_row()
    }

    fn log_out_session(&self, session: &Session) {
        self.token.drop_copies();
        if let Err(error) = session.logout()
            && !return_values::is(&error, RvError::UserNotLoggedIn)
        {
            tracing::debug!(token = %self.token.info().name(), %error, "logout failed");
        }
        self.token.note_logged_out();
    }
}

/// Whether the token now reports that no try was counted. False if its state is unknown.
fn counts_no_try(now: Option<PinState>, before: PinState) -> bool {
    now.is_some_and(|now| !is_nearer_to_locked(now, before))
}

fn is_nearer_to_locked(now: PinState, before: PinState) -> bool {
    let order = [PinState::Ok, PinState::CountLow, PinState::FinalTry, PinState::Locked];
    let place = |state| order.iter().position(|other| *other == state);
    place(now).zip(place(before)).is_some_and(|(now, before)| now > before)
}

/// The context-specific login that a key with `CKA_ALWAYS_AUTHENTICATE` requires between the init
/// call and the operation.
pub(super) fn context_specific(session: &Session, pin: Option<&Pin>) -> cryptoki::error::Result<()> {
    match pin {
        Some(pin) => session.login(UserType::ContextSpecific, Some(&auth_pin(pin))),
        None => Ok(()),
    }
}

/// The PIN in cryptoki's form, which is wiped too.
pub(super) fn auth_pin(pin: &Pin) -> AuthPin {
    AuthPin::new(pin.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_nearer_to_locked_or_not() {
        assert!(is_nearer_to_locked(PinState::CountLow, PinState::Ok));
        assert!(is_nearer_to_locked(PinState::Locked, PinState::FinalTry));
        assert!(!is_nearer_to_locked(PinState::FinalTry, PinState::FinalTry));
        assert!(!is_nearer_to_locked(PinState::Ok, PinState::CountLow));
        assert!(!is_nearer_to_locked(PinState::NotSet, PinState::Ok));
    }

    #[test]
    fn an_unknown_pin_state_never_claims_that_no_try_was_counted() {
        for before in [PinState::Ok, PinState::CountLow, PinState::FinalTry] {
            assert!(counts_no_try(Some(before), before) && !counts_no_try(None, before), "{before:?}");
        }
        assert!(!counts_no_try(Some(PinState::FinalTry), PinState::CountLow));
    }
}
