//! Tokens are made, resumed, emptied and reused.

use super::super::test_support::{PIN, SO_PIN, fresh_label, kryoptic, modules, new_token, open_token, pin, softhsm};
use crate::token::{PinState, TokenError, WhichPin};

#[test]
fn a_new_token_has_its_label_and_its_pin() {
    for module in modules() {
        let label = fresh_label("größe");
        let made = module.create_token(&label, &pin(SO_PIN), &pin(PIN)).unwrap();
        assert_eq!((made.label.as_str(), made.pin_state), (label.as_str(), PinState::Ok));
        assert!(module.tokens().unwrap().iter().any(|token| token.serial == made.serial && token.label == label));
        module.open(&made).unwrap().log_in(&pin(PIN)).unwrap();
    }
}

#[test]
fn threads_that_make_tokens_at_once_all_get_theirs() {
    let tokens = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| new_token(&softhsm()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut serials: Vec<_> = tokens.iter().map(|token| &token.serial).collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 8);
    for token in &tokens {
        softhsm().open(token).unwrap().log_in(&pin(PIN)).unwrap();
    }
}

#[test]
fn threads_that_want_one_label_get_one_token() {
    let module = softhsm();
    let label = fresh_label("contended");
    let made = std::thread::scope(|scope| {
        let make = || {
            let made = module.create_token(&label, &pin(SO_PIN), &pin(PIN))?;
            let token = module.open(&made)?;
            token.log_in(&pin(PIN))?;
            token.put_data("test", "mine", b"1", false)?;
            Ok::<_, TokenError>(made.serial)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect::<Vec<_>>()
    });
    assert!(!made.is_empty() && made.iter().all(|serial| *serial == made[0]), "{made:?}");
    assert_eq!(module.tokens().unwrap().iter().filter(|token| token.label == label).count(), 1);
}

#[test]
fn a_token_with_objects_is_not_changed() {
    for module in modules() {
        let token = open_token(&module);
        let label = token.info().label.clone();
        token.log_in(&pin(PIN)).unwrap();
        token.put_data("test", "here", b"value", false).unwrap();
        token.log_out().unwrap();
        let error = module.create_token(&label, &pin(SO_PIN), &pin("a new pin")).unwrap_err();
        assert!(matches!(error, TokenError::LabelTaken { .. }), "{error}");
        token.log_in(&pin(PIN)).unwrap();
        assert_eq!(token.data_objects("test", false).unwrap().len(), 1);
    }
}

#[test]
fn an_empty_token_of_the_label_is_resumed_with_its_so_pin_only() {
    for module in modules() {
        let made = new_token(&module);
        let error = module.create_token(&made.label, &pin("other so pin"), &pin("a new pin")).unwrap_err();
        assert!(matches!(error, TokenError::LabelTaken { .. }), "{error}");
        module.open(&made).unwrap().log_in(&pin(PIN)).unwrap();
        let resumed = module.create_token(&made.label, &pin(SO_PIN), &pin("a new pin")).unwrap();
        assert_eq!(resumed.serial, made.serial);
        module.open(&made).unwrap().log_in(&pin("a new pin")).unwrap();
    }
}

#[test]
fn an_unfinished_token_is_resumed_for_its_purpose_only() {
    for module in modules() {
        let label = fresh_label("marked");
        let create = |purpose: &str, so_pin: &str| module.create_token_for(purpose, &label, &pin(so_pin), &pin(PIN));
        let made = create("this", SO_PIN).unwrap();
        assert_eq!(create("this", SO_PIN).unwrap().serial, made.serial);
        let token = module.open(&made).unwrap();
        assert!(token.is_provisioned_for("this").unwrap() && !token.is_provisioned_for("that").unwrap());
        let refuses = |result: Result<_, TokenError>| assert!(matches!(result, Err(TokenError::LabelTaken { .. })));
        refuses(create("that", SO_PIN));
        let pin_session = token.unlock(pin(PIN)).unwrap();
        pin_session.token().put_data("test", "mine", b"1", false).unwrap();
        assert!(!token.is_provisioned_for("this").unwrap(), "it holds something else");
        pin_session.token().delete_data("test", "mine", false).unwrap();
        pin_session.token().finish_provisioning("this").unwrap();
        assert!(token.is_empty().unwrap());
        drop(pin_session);
        refuses(create("this", SO_PIN));
    }
}

/// SoftHSM aborts the process if two threads list its slots just when the last free one has become
/// a token.
#[test]
fn tokens_are_listed_by_many_threads_while_others_are_made() {
    let module = softhsm();
    let made = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !made.load(std::sync::atomic::Ordering::Relaxed) {
                    module.tokens().unwrap();
                    module.count_slots().unwrap();
                }
            });
        }
        for _ in 0..8 {
            new_token(&module);
        }
        made.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_discarded_token_is_empty_and_is_used_first() {
    // Kryoptic only, because no other test empties tokens there.
    let Some(module) = kryoptic() else { return };
    let token = open_token(&module);
    let info = token.info().clone();
    token.log_in(&pin(PIN)).unwrap();
    token.put_data("test", "here", b"value", false).unwrap();
    assert!(matches!(module.discard_token(&info, &pin(SO_PIN)).unwrap_err(), TokenError::Busy { .. }));
    drop(token);
    assert!(matches!(
        module.discard_token(&info, &pin("wrong so pin")).unwrap_err(),
        TokenError::SoPinIncorrect { .. }
    ));
    module.discard_token(&info, &pin(SO_PIN)).unwrap();
    assert!(!module.tokens().unwrap().iter().any(|other| other.serial == info.serial));
    assert!(module.can_create_tokens().unwrap());

    let mut reused = None;
    for _ in 0..4 {
        // Another test may take the emptied one first; it has then shown the reuse.
        let made = module.create_token(&fresh_label("again"), &pin("its own so pin"), &pin("its own pin")).unwrap();
        let opened = module.open(&made).unwrap();
        assert!(opened.is_empty().unwrap());
        opened.log_in(&pin("its own pin")).unwrap();
        opened.set_so_pin(&pin("its own so pin"), &pin(SO_PIN)).unwrap();
        if made.serial == info.serial {
            reused = Some(made);
            break;
        }
        if !module.tokens().unwrap().iter().any(|other| other.label == "tokenkeep empty") {
            break;
        }
    }
    let _ = reused;
}

#[test]
fn the_last_try_of_an_so_pin_is_not_spent_to_empty_a_token() {
    let Some(module) = kryoptic() else { return };
    let info = new_token(&module);
    let empty = |so_pin: &str| module.discard_token(&info, &pin(so_pin)).unwrap_err();
    let refused =
        (0..12).map(|_| empty("wrong so pin")).find(|error| !matches!(error, TokenError::SoPinIncorrect { .. }));
    let refused = refused.expect("every try was spent");
    assert!(matches!(refused, TokenError::LastTry { which: WhichPin::SecurityOfficer, .. }), "{refused}");
    for so_pin in ["wrong so pin", SO_PIN] {
        let refused = empty(so_pin);
        assert!(matches!(refused, TokenError::LastTry { .. }), "{refused}");
    }
    assert_eq!(module.flags(&info).unwrap().so_pin_state, PinState::FinalTry);
    // An unattended SO PIN gets at most three tries.
    let info = new_token(&module);
    for _ in 0..3 {
        let wrong = module.discard_token(&info, &pin("wrong so pin").unattended()).unwrap_err();
        assert!(matches!(wrong, TokenError::SoPinIncorrect { .. }), "{wrong}");
    }
    let refused = module.discard_token(&info, &pin(SO_PIN).unattended()).unwrap_err();
    assert!(matches!(refused, TokenError::TooManyUnattended { .. }), "{refused}");
}

#[test]
fn a_discarded_softhsm_token_is_used_again() {
    let module = softhsm();
    let info = new_token(&module);
    module.discard_token(&info, &pin(SO_PIN)).unwrap();
    assert!(!module.tokens().unwrap().iter().any(|other| other.serial == info.serial));
    let made = module.create_token(&fresh_label("again"), &pin("its own so pin"), &pin("its own pin")).unwrap();
    let opened = module.open(&made).unwrap();
    assert!(opened.is_empty().unwrap());
    opened.log_in(&pin("its own pin")).unwrap();
    opened.unblock_pin(&pin("its own so pin"), &pin(PIN)).unwrap();
}

#[test]
fn labels_that_do_not_fit_are_refused_before_anything_is_made() {
    let module = softhsm();
    for label in ["", " ", "a\nb", "tokenkeep empty", "123456789012345678901234567890123", "trailing "] {
        let error = module.create_token(label, &pin(SO_PIN), &pin(PIN)).unwrap_err();
        assert!(matches!(error, TokenError::LabelUnfit { .. }), "{label:?}: {error}");
    }
}

#[test]
fn a_pin_that_does_not_fit_is_refused_before_anything_is_made() {
    for module in modules() {
        let label = fresh_label("never");
        let error = module.create_token(&label, &pin(SO_PIN), &pin("123")).unwrap_err();
        assert!(matches!(error, TokenError::PinLength { .. }), "{error}");
        assert!(!module.tokens().unwrap().iter().any(|token| token.label == label));
    }
}

#[test]
fn opening_twice_in_a_process_gives_the_same_token() {
    let module = softhsm();
    let first = open_token(&module);
    let second = module.open(first.info()).unwrap();
    first.log_in(&pin(PIN)).unwrap();
    assert!(second.is_logged_in());
}

#[test]
fn only_a_token_that_is_made_of_files_can_be_erased() {
    let soft = new_token(&softhsm());
    for module in modules() {
        let info = new_token(&module);
        let is_soft = module.path() == softhsm().path();
        assert_eq!(module.can_erase(&info), is_soft, "{module}");
        assert_eq!(module.can_erase(&soft), is_soft, "{module}: a token of another module");
        if !is_soft {
            assert!(module.erase(&info).unwrap_err().contains("no files"));
            assert!(module.tokens().unwrap().iter().any(|token| token.id() == info.id()));
        }
    }
}

#[test]
fn an_absent_token_is_reported_as_absent() {
    let module = softhsm();
    let mut info = new_token(&module);
    info.serial = "0000000000000000".into();
    assert!(matches!(module.open(&info).unwrap_err(), TokenError::Absent { .. }));
}

#[test]
fn a_file_that_is_not_a_module_is_refused_with_a_remedy() {
    for path in ["/nonexistent/module.so", "/etc/passwd", "/usr/lib/x86_64-linux-gnu/libc.so.6"] {
        let error = crate::token::TokenSource::load(std::path::Path::new(path)).unwrap_err();
        assert!(matches!(error, TokenError::Source { .. }), "{error}");
    }
}
