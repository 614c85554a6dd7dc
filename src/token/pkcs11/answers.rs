//! What a module's answers (`CKR_…`) mean to us.

use std::time::Duration;

use cryptoki::context::Function;
use cryptoki::error::{Error, Result, RvError};

use crate::token::{PinState, TokenError, TokenName};

/// Turns a module's answer into an error of ours. `pin_state` is asked only when the PIN was wrong.
pub(super) fn explain(
    operation: &'static str,
    token: &TokenName,
    error: &Error,
    pin_state: impl FnOnce() -> PinState,
) -> TokenError {
    let token = token.clone();
    let Error::Pkcs11(code, _) = error else {
        return TokenError::Fault { operation, token, code: error.to_string() };
    };
    match code {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
            TokenError::PinIncorrect { operation, token, pin_state: pin_state(), log_in_ended: false }
        }
        RvError::PinLocked => TokenError::PinLocked { operation, token },
        RvError::UserPinNotInitialized => TokenError::PinNotSet { operation, token },
        RvError::UserNotLoggedIn => TokenError::NotLoggedIn { operation, token },
        code if says_removed(*code) => TokenError::Absent { operation, token },
        RvError::DeviceMemory => TokenError::Full { operation, token },
        RvError::TokenWriteProtected | RvError::SessionReadOnly => TokenError::WriteProtected { operation, token },
        RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::CurveNotSupported => TokenError::Unsupported { operation, token, what: name_of(*code) },
        RvError::EncryptedDataInvalid
        | RvError::EncryptedDataLenRange
        | RvError::DataInvalid
        | RvError::DataLenRange
        | RvError::WrappedKeyInvalid
        | RvError::WrappedKeyLenRange => TokenError::BadData { operation, token, reason: name_of(*code) },
        RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid => TokenError::KeyAbsent { operation, token },
        other => TokenError::Fault { operation, token, code: name_of(*other) },
    }
}

/// Does the answer to a change of a PIN say that the new one is not as the token wants PINs?
pub(super) fn is_of_a_new_pin(error: &Error) -> bool {
    is(error, RvError::PinInvalid) || is(error, RvError::PinLenRange)
}

/// What is said of a PIN's change that failed though the PIN that entitles to it was right: by the
/// token's own policy for new PINs, else a fault.
pub(super) fn new_pin_refused(operation: &'static str, token: TokenName, error: &Error) -> TokenError {
    let code = code_of(error);
    if is_of_a_new_pin(error) {
        TokenError::NewPinRefused { operation, token, code }
    } else {
        TokenError::Fault { operation, token, code }
    }
}

/// The return value's name (`CKR_…`), or what else went wrong.
pub(super) fn code_of(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, _) => name_of(*code),
        error => error.to_string(),
    }
}

fn says_removed(code: RvError) -> bool {
    matches!(
        code,
        RvError::TokenNotPresent | RvError::TokenNotRecognized | RvError::DeviceRemoved | RvError::SlotIdInvalid
    )
}

/// Does the answer say that the token is not there any more?
pub(super) fn is_removed(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(code, _) if says_removed(*code))
}

/// Does it say that the session is no more? A module closes all sessions of a token that is pulled out.
pub(super) fn is_session_gone(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::SessionHandleInvalid | RvError::SessionClosed, _))
}

/// Does it say that the token takes nothing more?
pub(super) fn is_no_room(error: &Error) -> bool {
    is(error, RvError::DeviceMemory) || is(error, RvError::TokenWriteProtected)
}

/// Does it say that nobody is logged in?
pub(super) fn is_not_logged_in(error: &Error) -> bool {
    is(error, RvError::UserNotLoggedIn)
}

/// Does the module not take an attribute of a template? Each has its own answer to one that it does not know.
pub(super) fn refuses_an_attribute(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::AttributeReadOnly
                | RvError::TemplateInconsistent,
            _
        )
    )
}

/// Did it fail in the log-in that a key asks for at each use, or after it?
pub(super) fn is_after_init(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(_, Function::Login | Function::Sign | Function::Decrypt))
}

/// Asks a question again, a few times, that a module answers with `CKR_GENERAL_ERROR`: SoftHSM does so when another
/// process is just writing what it reads. Only for what costs no try of a PIN.
pub(super) fn patiently<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..5 {
        match ask() {
            Err(error) if is(&error, RvError::GeneralError) => std::thread::sleep(Duration::from_millis(15)),
            answer => return answer,
        }
    }
    ask()
}

/// Has the handle become invalid, so that the object must be looked up again?
pub(super) fn is_stale_handle(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid, _))
}

/// Does the module refuse a mechanism's parameters (`SoftHSM` calls them bad arguments)?
pub(super) fn blames_the_parameters(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::MechanismParamInvalid | RvError::ArgumentsBad, _))
}

/// Did `C_Decrypt` fail because of the ciphertext? A module says so in its own way (`SoftHSM`
/// `CKR_ENCRYPTED_DATA_INVALID` or `CKR_GENERAL_ERROR`, Kryoptic `CKR_DEVICE_ERROR`), and nobody may learn which:
/// whatever does not blame token, session, key or PIN, blames the ciphertext.
pub(super) fn blames_the_ciphertext(error: &Error) -> bool {
    let Error::Pkcs11(code, _) = error else { return false };
    !matches!(
        code,
        RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::DeviceRemoved
            | RvError::DeviceMemory
            | RvError::HostMemory
            | RvError::SlotIdInvalid
            | RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::CryptokiNotInitialized
            | RvError::ObjectHandleInvalid
            | RvError::KeyHandleInvalid
            | RvError::KeyFunctionNotPermitted
            | RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::FunctionNotSupported
            | RvError::OperationNotInitialized
            | RvError::UserNotLoggedIn
            | RvError::PinIncorrect
            | RvError::PinExpired
            | RvError::PinLocked
    )
}

/// Is it exactly this answer?
pub(super) fn is(error: &Error, code: RvError) -> bool {
    matches!(error, Error::Pkcs11(other, _) if *other == code)
}

/// The name that PKCS#11 gives a return value: `CKR_PIN_INCORRECT` for `PinIncorrect`.
pub(super) fn name_of(code: RvError) -> String {
    let mut name = String::from("CKR");
    for character in format!("{code:?}").chars() {
        if character.is_uppercase() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_standards() {
        assert_eq!(name_of(RvError::PinIncorrect), "CKR_PIN_INCORRECT");
        assert_eq!(name_of(RvError::GeneralError), "CKR_GENERAL_ERROR");
    }

    #[test]
    fn only_the_ciphertext_is_blamed_for_itself() {
        let blames = |code| blames_the_ciphertext(&Error::Pkcs11(code, Function::Decrypt));
        for code in [RvError::EncryptedDataInvalid, RvError::GeneralError, RvError::DeviceError, RvError::DataInvalid] {
            assert!(blames(code), "{code:?}");
        }
        for code in [RvError::DeviceRemoved, RvError::UserNotLoggedIn, RvError::PinIncorrect, RvError::KeyHandleInvalid]
        {
            assert!(!blames(code), "{code:?}");
        }
    }

    #[test]
    fn a_full_and_a_write_protected_token_are_called_so() {
        let token = TokenName { label: "card".into(), serial: "1".into() };
        let said = |code| {
            let error = Error::Pkcs11(code, Function::CreateObject);
            explain("write a certificate", &token, &error, || PinState::Ok).to_string()
        };
        assert!(said(RvError::DeviceMemory).contains("is full"));
        assert!(said(RvError::TokenWriteProtected).contains("write-protected"));
        assert!(said(RvError::SessionReadOnly).contains("write-protected"));
        assert!(said(RvError::HostMemory).contains("CKR_HOST_MEMORY"), "that is not the token's");
    }

    #[test]
    fn removal_is_never_taken_for_a_wrong_pin() {
        let token = TokenName { label: "card".into(), serial: "1".into() };
        for code in [RvError::TokenNotPresent, RvError::DeviceRemoved, RvError::TokenNotRecognized] {
            let error = explain("log in", &token, &Error::Pkcs11(code, Function::Login), || PinState::CountLow);
            assert!(matches!(error, TokenError::Absent { .. }), "{error}");
        }
    }
}
