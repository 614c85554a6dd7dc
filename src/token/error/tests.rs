//! Every error is a complete sentence and gives the next step.

use super::*;

#[test]
fn errors_complete_a_sentence_and_end_with_a_remedy() {
    let token = || TokenName { label: "default".into(), serial: "a1b2".into() };
    let wrong =
        |pin_state| TokenError::PinIncorrect { operation: "log in", token: token(), pin_state, log_in_ended: false };
    let text = wrong(PinState::FinalTry).to_string();
    assert_eq!(
        text,
        "cannot log in: the PIN of token \"default\" (serial a1b2) is wrong (one try is left); the next wrong one \
         locks it"
    );
    let ended = wrong(PinState::Ok).with_session_ended().to_string();
    assert!(ended.ends_with("nothing was changed; the active session on this token has ended"), "{ended}");
    let locked = wrong(PinState::Locked).to_string();
    let (letter, so_pin) = (locked.find("recovery letter").unwrap(), locked.find("SO PIN").unwrap());
    assert!(letter < so_pin, "most people have no SO PIN: {locked}");
    assert!(!wrong(PinState::Ok).to_string().contains("all tries are left"), "one was just spent");
    let locked = TokenError::PinLocked { operation: "sign", token: token() };
    assert!(locked.to_string().starts_with("cannot sign: "), "{locked}");
    let fault = TokenError::Fault { operation: "sign", token: token(), code: "CKR_FUNCTION_FAILED".into() };
    assert_ne!(fault.to_string(), "CKR_FUNCTION_FAILED");
}

#[test]
fn a_failed_login_names_the_intended_operation() {
    let token = || TokenName { label: "default".into(), serial: "a1b2".into() };
    let state = PinState::CountLow;
    let wrong = TokenError::PinIncorrect { operation: LOG_IN, token: token(), pin_state: state, log_in_ended: false };
    assert!(wrong.with_operation("decrypt").to_string().starts_with("cannot decrypt: the PIN of "));
    let signing = TokenError::PinIncorrect { operation: "sign", token: token(), pin_state: state, log_in_ended: false };
    assert!(signing.with_operation("decrypt").to_string().starts_with("cannot sign: "), "not a log-in's");
}

#[test]
fn every_error_names_the_next_step() {
    let token = || TokenName { label: "default".into(), serial: "a1b2".into() };
    let (operation, reason) = ("sign", || "a reason".to_owned());
    for error in [
        TokenError::KeyAbsent { operation, token: token() },
        TokenError::Unsupported { operation, token: token(), what: "P-521".into() },
        TokenError::BadDelivery { operation, token: token(), reason: reason() },
        TokenError::BadData { operation, token: token(), reason: reason() },
        TokenError::Spent { token: token() },
        TokenError::LastTry { operation, token: token(), which: WhichPin::User },
        TokenError::PinStateUnknown { operation, token: token(), which: WhichPin::User, reason: reason() },
        TokenError::TooManyUnattended { operation, token: token(), which: WhichPin::SecurityOfficer, wrong: 3 },
        TokenError::NoRoom { operation, token: token(), condition: reason() },
        TokenError::NotStored { operation, token: token(), missing: reason(), condition: reason() },
        TokenError::Encoding(reason()),
        TokenError::NoRandom(reason()),
        TokenError::LockDirectory { path: "/run/x".into(), reason: "is not a directory".into() },
        TokenError::LockFile { token: token(), path: "/run/x/y".into(), reason: reason() },
    ] {
        let text = error.to_string();
        let (what, next) = text.split_once("; ").unwrap_or((&text, ""));
        assert!(what.starts_with("cannot ") && next.len() > 20, "{text}");
    }
}

#[test]
fn kinds_lead_to_the_exit_codes() {
    let token = || TokenName { label: "default".into(), serial: "a1b2".into() };
    for (error, kind) in [
        (TokenError::Absent { operation: "sign", token: token() }, TokenErrorKind::Absent),
        (TokenError::PinLocked { operation: "sign", token: token() }, TokenErrorKind::Pin),
        (TokenError::Spent { token: token() }, TokenErrorKind::Pin),
        (TokenError::LabelTaken { label: "x".into(), serial: "1".into() }, TokenErrorKind::Refused),
        (TokenError::Owned { token: token(), owner: "agent".into(), remedy: "wait".into() }, TokenErrorKind::Fault),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
    }
}
