//! The PIN queue, active sessions, and the cost of one PIN entry for many waiting callers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::verifies;
use crate::token::test_support::{PIN, kryoptic, modules, open_token, pin, softhsm};
use crate::token::{KeyAlgorithm, KeyId, PinState, SecurityLevel, Token, TokenError, TokenKey};

/// A signing key of this level.
fn signing_key(token: &Token, level: SecurityLevel) -> TokenKey {
    let enrollment = token.acquire_pin_lease().unlock(pin(PIN)).unwrap().begin_enrollment();
    enrollment.generate_signing_key("s", &KeyId::random().unwrap(), KeyAlgorithm::P256, level).unwrap()
}

#[test]
fn a_session_lasts_until_logout_and_has_parallel_uses() {
    for module in modules() {
        let token = open_token(&module);
        let key = signing_key(&token, SecurityLevel::Low);
        assert!(!token.has_active_session() && token.under_active_session().is_none() && !token.is_logged_in());
        let pin_session = token.acquire_pin_lease().open_session(pin(PIN)).unwrap();
        let other = token.under_active_session().unwrap();
        assert!(verifies(&key, b"one", &pin_session.sign(&key, b"one").unwrap()));
        assert!(token.has_active_session(), "the end of an operation ended the session");
        assert!(verifies(&key, b"two", &other.sign(&key, b"two").unwrap()));
        let late = token.under_active_session().unwrap();
        token.log_out().unwrap();
        assert!(!token.has_active_session() && token.under_active_session().is_none() && !token.is_logged_in());
        assert!(matches!(late.sign(&key, b"three").unwrap_err(), TokenError::NotLoggedIn { .. }));
    }
}

#[test]
fn a_session_is_unusable_while_another_operation_holds_the_pin() {
    for module in modules() {
        let token = open_token(&module);
        let key = signing_key(&token, SecurityLevel::Low);
        drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
        let stale = token.under_active_session().unwrap();
        token.log_out().unwrap();
        let operation = token.acquire_pin_lease().unlock(pin(PIN)).unwrap();
        assert!(matches!(stale.sign(&key, b"stale").unwrap_err(), TokenError::NotLoggedIn { .. }));
        drop(operation);
        let stale = {
            drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
            token.under_active_session().unwrap()
        };
        token.log_out().unwrap();
        drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
        assert!(matches!(stale.sign(&key, b"stale").unwrap_err(), TokenError::NotLoggedIn { .. }));
        assert!(token.has_active_session());
    }
}

#[test]
fn a_high_key_is_refused_under_a_session_without_a_try() {
    for module in modules() {
        let token = open_token(&module);
        let key = signing_key(&token, SecurityLevel::High);
        let pin_session = token.acquire_pin_lease().open_session(pin(PIN)).unwrap();
        assert!(matches!(pin_session.sign(&key, b"m").unwrap_err(), TokenError::PinEachUse { .. }));
        let agreed = token.under_active_session().unwrap().agree(&key, key.public_key_der()).unwrap_err();
        assert!(matches!(agreed, TokenError::PinEachUse { .. }), "{agreed}");
        assert_eq!(token.refresh_pin_state().unwrap(), PinState::Ok);
    }
}

#[test]
fn a_pin_is_really_verified_and_the_session_survives() {
    for module in modules() {
        let token = open_token(&module);
        let (low, high) = (signing_key(&token, SecurityLevel::Low), signing_key(&token, SecurityLevel::High));
        let before = token.acquire_pin_lease().open_session(pin(PIN)).unwrap();
        let operation = token.acquire_pin_lease().unlock(pin(PIN)).unwrap();
        assert!(token.has_active_session(), "the session is not active during the operation");
        assert!(verifies(&high, b"high", &operation.sign(&high, b"high").unwrap()));
        assert!(token.has_active_session() && token.is_logged_in());
        assert!(verifies(&low, b"low", &before.sign(&low, b"low").unwrap()));
        // During a login, a module answers CKR_USER_ALREADY_LOGGED_IN to any PIN; that must not
        // count as a correct PIN.
        let error = token.acquire_pin_lease().unlock(pin("wrong-pin")).unwrap_err();
        assert!(matches!(error, TokenError::PinIncorrect { log_in_ended: true, .. }), "{error}");
        assert!(error.to_string().contains("the active session on this token has ended"), "{error}");
        assert!(!token.has_active_session() && !token.is_logged_in());
    }
}

#[test]
fn a_refusal_before_any_try_keeps_the_session() {
    let Some(module) = kryoptic() else { return };
    let token = open_token(&module);
    drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
    let error = token.acquire_pin_lease().unlock(pin("short")).unwrap_err();
    assert!(matches!(error, TokenError::PinLength { .. }), "{error}");
    drop(token.acquire_pin_lease());
    assert!(token.has_active_session());
}

#[test]
fn fifty_waiting_threads_behind_a_wrong_pin_cost_one_try() {
    let Some(module) = kryoptic() else { return };
    let token = open_token(&module);
    // Two wrong tries more than these seven, and the state would be FinalTry.
    for _ in 0..7 {
        token.log_in(&pin("wrong-pin")).unwrap_err();
    }
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::CountLow);
    let tries = AtomicUsize::new(0);
    let first = token.acquire_pin_lease();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    let turn = token.acquire_pin_lease();
                    if let Some(failed) = turn.failed_meanwhile() {
                        return failed;
                    }
                    tries.fetch_add(1, Ordering::SeqCst);
                    turn.open_session(pin("wrong-pin")).unwrap_err()
                })
            })
            .collect();
        wait_until("all fifty wait", || token.waiting() == 50);
        first.open_session(pin("wrong-pin")).unwrap_err();
        for thread in waiting {
            let error = thread.join().unwrap();
            assert!(matches!(error, TokenError::PinIncorrect { .. }), "{error}");
        }
    });
    assert_eq!(tries.load(Ordering::SeqCst), 0);
    // One try: after two it would be FinalTry.
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::CountLow);
    token.log_in(&pin("wrong-pin")).unwrap_err();
    assert_eq!(token.refresh_pin_state().unwrap(), PinState::FinalTry);
    assert!(token.acquire_pin_lease().failed_meanwhile().is_none(), "a later caller may try");
}

#[test]
fn waiting_threads_see_the_refusal_of_the_first() {
    let token = open_token(&softhsm());
    let first = token.acquire_pin_lease();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| token.acquire_pin_lease().declined_meanwhile());
        wait_until("it waits", || token.waiting() == 1);
        first.decline();
        assert!(waiting.join().unwrap());
    });
    assert!(!token.acquire_pin_lease().declined_meanwhile());
}

#[test]
fn leases_are_granted_in_the_order_of_request() {
    let token = open_token(&softhsm());
    let order = Mutex::new(Vec::new());
    let first = token.acquire_pin_lease();
    std::thread::scope(|scope| {
        for number in 0..8_usize {
            let (token, order) = (&token, &order);
            scope.spawn(move || {
                let turn = token.acquire_pin_lease();
                order.lock().unwrap().push(number);
                drop(turn);
            });
            wait_until("it waits", || token.waiting() == number + 1);
        }
        drop(first);
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_lease_blocks_a_login_to_the_same_token_and_no_other() {
    let module = softhsm();
    let (token, other) = (open_token(&module), open_token(&module));
    let turn = token.acquire_pin_lease();
    assert!(matches!(token.unlock(pin(PIN)).unwrap_err(), TokenError::Busy { .. }));
    drop(other.unlock(pin(PIN)).unwrap());
    let pin_session = turn.unlock(pin(PIN)).unwrap();
    assert!(
        matches!(token.unlock(pin(PIN)).unwrap_err(), TokenError::Busy { .. }),
        "the lease lasts as long as the login"
    );
    drop(pin_session);
    drop(token.unlock(pin(PIN)).unwrap());
    assert!(!token.is_logged_in());
}

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}
