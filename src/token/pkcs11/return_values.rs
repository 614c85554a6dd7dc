//! Interprets PKCS#11 return values (`CKR_…`).

use std::time::Duration;

use cryptoki::context::Function;
use cryptoki::error::{Error, Result, RvError};

use crate::token::{PinState, TokenError, TokenName};

/// Converts a return value into a [`TokenError`]. `pin_state` is called only if the PIN was wrong.
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

/// Whether a PIN change failed because the token does not accept the new PIN.
pub(super) fn is_of_a_new_pin(error: &Error) -> bool {
    is(error, RvError::PinInvalid) || is(error, RvError::PinLenRange)
}

/// The error for a PIN change that failed although the authorizing PIN was right: the token's
/// policy for new PINs, or else a fault.
pub(super) fn new_pin_refused(operation: &'static str, token: TokenName, error: &Error) -> TokenError {
    let code = code_of(error);
    if is_of_a_new_pin(error) {
        TokenError::NewPinRefused { operation, token, code }
    } else {
        TokenError::Fault { operation, token, code }
    }
}

/// The name of the return value (`CKR_…`), or the text of another error.
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

/// Whether the token was removed.
pub(super) fn is_removed(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(code, _) if says_removed(*code))
}

/// Whether the session is closed. A module closes all sessions of a removed token.
pub(super) fn is_session_gone(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::SessionHandleInvalid | RvError::SessionClosed, _))
}

/// Whether the token cannot store anything more.
pub(super) fn is_out_of_space(error: &Error) -> bool {
    is(error, RvError::DeviceMemory) || is(error, RvError::TokenWriteProtected)
}

/// Whether the user is not logged in.
pub(super) fn is_not_logged_in(error: &Error) -> bool {
    is(error, RvError::UserNotLoggedIn)
}

/// Whether the module refuses an attribute of a template. Modules return different values for
/// unknown attributes.
pub(super) fn is_template_error(error: &Error) -> bool {
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

/// Whether the failure occurred in the context-specific login of an always-authenticate key, or
/// after it.
pub(super) fn is_after_init(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(_, Function::Login | Function::Sign | Function::Decrypt))
}

/// Retries a call that fails with `CKR_GENERAL_ERROR`: SoftHSM returns it while another process
/// writes the file that it reads. Use it only for calls that cost no PIN try.
pub(super) fn retry_transient<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..5 {
        match ask() {
            Err(error) if is(&error, RvError::GeneralError) => std::thread::sleep(Duration::from_millis(15)),
            answer => return answer,
        }
    }
    ask()
}

/// Whether the handle is stale, so that the object must be looked up again.
pub(super) fn is_stale_handle(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid, _))
}

/// Whether the module refuses the mechanism parameters (`SoftHSM` returns `CKR_ARGUMENTS_BAD`).
pub(super) fn is_parameter_error(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::MechanismParamInvalid | RvError::ArgumentsBad, _))
}

/// Whether `C_Decrypt` failed because of the ciphertext. Modules report that differently (`SoftHSM`
/// `CKR_ENCRYPTED_DATA_INVALID` or `CKR_GENERAL_ERROR`, Kryoptic `CKR_DEVICE_ERROR`), and nobody
/// may learn which. So every value that does not blame token, session, key or PIN blames the
/// ciphertext.
pub(super) fn is_ciphertext_error(error: &Error) -> bool {
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

/// Whether the error is exactly this return value.
pub(super) fn is(error: &Error, code: RvError) -> bool {
    matches!(error, Error::Pkcs11(other, _) if *other == code)
}

/// The PKCS#11 name of a return value: `CKR_PIN_INCORRECT` for `PinIncorrect`.
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
        let blames = |code| is_ciphertext_error(&Error::Pkcs11(code, Function::Decrypt));
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
        assert!(said(RvError::HostMemory).contains("CKR_HOST_MEMORY"), "host memory is not the token's");
    }

    #[test]
    fn removal_is_never_reported_as_a_wrong_pin() {
        let token = TokenName { label: "card".into(), serial: "1".into() };
        for code in [RvError::TokenNotPresent, RvError::DeviceRemoved, RvError::TokenNotRecognized] {
            let error = explain("log in", &token, &Error::Pkcs11(code, Function::Login), || PinState::CountLow);
            assert!(matches!(error, TokenError::Absent { .. }), "{error}");
        }
    }
}
