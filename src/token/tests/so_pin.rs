//! The SO PIN sets a new user PIN, and is tried once.

use crate::token::test_support::{PIN, SO_PIN, modules, open_token, pin};
use crate::token::{PinState, TokenError};

const NEW_PIN: &str = "a new pin of mine";

#[test]
fn the_so_pin_sets_a_new_pin_and_a_wrong_one_costs_one_try() {
    for module in modules() {
        let token = open_token(&module);
        let state = || module.flags(token.info()).unwrap().so_pin_state;
        assert_eq!(state(), PinState::Ok);
        let error = token.unblock_pin(&pin("no so pin at all"), &pin(NEW_PIN)).unwrap_err();
        assert!(matches!(error, TokenError::SoPinIncorrect { .. }), "{error}");
        assert!(error.to_string().contains("SO PIN of "), "{error}");
        token.log_in(&pin(PIN)).unwrap();
        token.unblock_pin(&pin(SO_PIN), &pin(NEW_PIN)).unwrap();
        assert_eq!(state(), PinState::Ok);
        assert!(token.log_in(&pin(PIN)).is_err(), "the old PIN is still good");
        token.log_in(&pin(NEW_PIN)).unwrap();
    }
}

#[test]
fn an_so_pin_is_verified_without_setting_a_new_pin() {
    for module in modules() {
        let token = open_token(&module);
        let error = token.verify_so_pin(&pin("no so pin at all")).unwrap_err();
        assert!(matches!(error, TokenError::SoPinIncorrect { .. }), "{error}");
        token.verify_so_pin(&pin(SO_PIN)).unwrap();
        token.log_in(&pin(PIN)).unwrap();
    }
}

#[test]
fn a_pin_of_a_wrong_length_costs_no_try() {
    for module in modules() {
        let token = open_token(&module);
        let error = token.unblock_pin(&pin("no so pin at all"), &pin("1")).unwrap_err();
        assert!(matches!(error, TokenError::PinLength { .. }), "{error}");
        assert_eq!(module.flags(token.info()).unwrap().so_pin_state, PinState::Ok);
    }
}

#[test]
fn slots_and_tokens_are_counted() {
    for module in modules() {
        let _token = open_token(&module);
        let count = module.count_slots().unwrap();
        assert!(count.with_token >= 1 && count.slots >= count.with_token, "{count:?}");
    }
}
