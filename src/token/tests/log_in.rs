//! A typed PIN costs at most one try.

use crate::token::test_support::{PIN, SO_PIN, kryoptic, modules, open_token, pin};
use crate::token::{KeyAlgorithm, KeyId, PinState, SecurityLevel, TokenError, TokenErrorKind};

/// Number of wrong tries after which Kryoptic locks a PIN.
const KRYOPTIC_TRIES: usize = 10;

#[test]
fn a_wrong_pin_costs_exactly_one_try_and_nothing_else_does() {
    let Some(module) = kryoptic() else { return };
    let token = open_token(&module);
    for number in 1..=KRYOPTIC_TRIES {
        // None of these spends a try.
        for _ in 0..KRYOPTIC_TRIES {
            let error = token.log_in(&pin("short")).unwrap_err();
            assert!(matches!(error, TokenError::PinLength { min: 8, .. }), "{error}");
            token.refresh_pin_state().unwrap();
        }
        if number == KRYOPTIC_TRIES {
            let error = token.log_in(&pin("wrong-pin")).unwrap_err();
            assert!(matches!(error, TokenError::LastTry { .. }), "{error}");
            assert_eq!(
                token.refresh_pin_state().unwrap(),
                PinState::FinalTry,
                "the last try was spent without a warning"
            );
        }
        let error = token.log_in(&pin("wrong-pin").allow_last_try()).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Pin);
        let expected = match number {
            1..7 => PinState::Ok,
            7..9 => PinState::CountLow,
            9 => PinState::FinalTry,
            _ => PinState::Locked,
        };
        assert_eq!(token.refresh_pin_state().unwrap(), expected, "after wrong try {number}: {error}");
        assert!(!token.is_logged_in());
    }
    let error = token.log_in(&pin(PIN)).unwrap_err();
    assert!(matches!(error, TokenError::PinLocked { .. }), "{error}");
    token.unblock_pin(&pin(SO_PIN), &pin("a new pin")).unwrap();
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::Ok);
    token.log_in(&pin("a new pin")).unwrap();
}

#[test]
fn the_last_try_is_announced_and_a_right_pin_restores_all() {
    let Some(module) = kryoptic() else { return };
    let token = open_token(&module);
    for _ in 1..KRYOPTIC_TRIES {
        token.log_in(&pin("wrong-pin")).unwrap_err();
    }
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::FinalTry);
    token.log_in(&pin(PIN).allow_last_try()).unwrap();
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::Ok);
}

#[test]
fn an_enrollment_at_high_with_the_right_pin_costs_no_try() {
    for module in modules() {
        let token = open_token(&module);
        let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
        let id = KeyId::random().unwrap();
        let key = enrollment.generate_signing_key("s", &id, KeyAlgorithm::P256, SecurityLevel::High).unwrap();
        for _ in 0..=KRYOPTIC_TRIES {
            enrollment.sign(&key, b"message").unwrap();
        }
        assert_eq!(token.refresh_pin_state().unwrap(), PinState::Ok);
    }
}

#[test]
fn a_wrong_pin_is_noticed_during_an_active_login() {
    for module in modules() {
        let token = open_token(&module);
        token.log_in(&pin(PIN)).unwrap();
        let error = token.log_in(&pin("wrong-pin")).unwrap_err();
        assert!(matches!(error, TokenError::PinIncorrect { .. }), "{error}");
        assert!(!token.is_logged_in());
        assert!(matches!(token.keys().unwrap_err(), TokenError::NotLoggedIn { .. }));
    }
}

#[test]
fn an_error_names_the_operation_the_token_and_the_state() {
    for module in modules() {
        let token = open_token(&module);
        let text = token.log_in(&pin("wrong-pin")).unwrap_err().to_string();
        assert!(text.starts_with("cannot log in"), "{text}");
        assert!(text.contains(&token.info().label) && text.contains(&token.info().serial), "{text}");
        assert!(!text.contains("wrong-pin"), "{text}");
    }
}

#[test]
fn softhsm_remembers_a_wrong_try_and_a_right_one_clears_it() {
    let token = open_token(&crate::token::test_support::softhsm());
    token.log_in(&pin("wrong-pin")).unwrap_err();
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::CountLow);
    token.log_in(&pin(PIN)).unwrap();
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::Ok);
}

#[test]
fn a_pin_session_is_for_one_operation() {
    for module in modules() {
        let token = open_token(&module);
        let pin_session = token.unlock(pin(PIN)).unwrap();
        assert!(matches!(token.unlock(pin(PIN)).unwrap_err(), TokenError::Busy { .. }));
        assert!(token.is_logged_in());
        drop(pin_session);
        assert!(!token.is_logged_in());
        token.unlock(pin("wrong-pin")).unwrap_err();
        drop(token.unlock(pin(PIN)).unwrap());
    }
}

#[test]
fn changing_the_pin_needs_the_old_one() {
    for module in modules() {
        let token = open_token(&module);
        let error = token.change_pin(&pin("wrong-pin"), &pin("a new pin")).unwrap_err();
        assert!(matches!(error, TokenError::PinIncorrect { .. }), "{error}");
        token.change_pin(&pin(PIN), &pin("a new pin")).unwrap();
        token.log_in(&pin(PIN)).unwrap_err();
        token.log_in(&pin("a new pin")).unwrap();
        // Also while logged in, as the authority's process is.
        token.change_pin(&pin("a new pin"), &pin("a newer pin")).unwrap();
        token.log_in(&pin("a newer pin")).unwrap();
    }
}

#[test]
fn a_new_pin_of_an_impossible_length_costs_nothing() {
    let Some(module) = kryoptic() else { return };
    let token = open_token(&module);
    let error = token.change_pin(&pin(PIN), &pin("short")).unwrap_err();
    assert!(matches!(error, TokenError::PinLength { .. }), "{error}");
    token.log_in(&pin(PIN)).unwrap();
}

#[test]
fn the_security_officer_sets_a_new_pin_and_may_be_replaced() {
    for module in modules() {
        let token = open_token(&module);
        token.log_in(&pin(PIN)).unwrap();
        token.set_so_pin(&pin(SO_PIN), &pin("another so pin")).unwrap();
        assert!(!token.is_logged_in());
        token.unblock_pin(&pin(SO_PIN), &pin("a new pin")).unwrap_err();
        token.log_in(&pin(PIN)).unwrap();
        token.unblock_pin(&pin("another so pin"), &pin("a new pin")).unwrap();
        token.log_in(&pin("a new pin")).unwrap();
    }
}
