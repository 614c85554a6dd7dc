//! Removal of tokens: what was opened before a removal stays unusable, and a new open starts
//! afresh.

use cryptoki::error::RvError;

use super::verifies;
use crate::token::test_support::{PIN, SO_PIN, modules, new_token, open_token, pin, run, softhsm};
use crate::token::{KeyAlgorithm, KeyId, SecurityLevel, SignatureHash, TokenError};

#[test]
fn a_reinserted_token_is_reopened_logged_out() {
    for module in modules() {
        let token = open_token(&module);
        drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
        let id = KeyId::random().unwrap();
        let key = token.generate_signing_key("k", &id, KeyAlgorithm::P256, SecurityLevel::Low).unwrap();
        let signer = token.fast_signer(&key);
        signer.sign(SignatureHash::Sha256, b"m").unwrap();
        let before = token.under_active_session().unwrap();
        token.check().unwrap();

        let said = token.simulate_error(RvError::DeviceRemoved);
        assert!(matches!(said, TokenError::Absent { .. }), "{said}");
        assert!(!token.is_present() && !token.has_active_session() && !token.is_logged_in());
        // Every use of the earlier objects reports an absent token, never a wrong PIN.
        for error in [
            token.check().unwrap_err(),
            signer.sign(SignatureHash::Sha256, b"m").unwrap_err(),
            before.sign(&key, b"m").unwrap_err(),
            token.log_in(&pin("wrong-pin")).unwrap_err(),
            token.unlock(pin("wrong-pin")).unwrap_err(),
            token.keys().unwrap_err(),
            token.public_keys().unwrap_err(),
        ] {
            assert!(matches!(error, TokenError::Absent { .. }), "{error}");
        }

        // This process may list its tokens afresh in between.
        module.rescan().unwrap();
        let again = module.open(token.info()).unwrap();
        assert!(again.is_present() && !again.is_logged_in());
        assert!(!token.is_present(), "the old one stays gone");
        drop(again.acquire_pin_lease().open_session(pin(PIN)).unwrap());
        // Dropping the old token does not close sessions a second time.
        drop((token, signer, key));
        let key = again.keys().unwrap().remove(0);
        let signature = again.fast_signer(&key).sign(SignatureHash::Sha256, b"m").unwrap();
        assert!(verifies(&key, b"m", &signature));
        assert!(module.open(again.info()).unwrap().is_logged_in(), "it is opened only once per process");
    }
}

#[test]
fn the_end_of_a_session_alone_is_not_a_removal() {
    for module in modules() {
        let token = open_token(&module);
        token.log_in(&pin(PIN)).unwrap();
        for code in [RvError::SessionHandleInvalid, RvError::SessionClosed] {
            let said = token.simulate_error(code);
            assert!(matches!(said, TokenError::Fault { .. }), "{said}");
        }
        assert!(matches!(token.simulate_error(RvError::UserNotLoggedIn), TokenError::NotLoggedIn { .. }));
        assert!(token.is_present() && token.is_logged_in(), "the module reports a login");
    }
}

#[test]
fn an_unexpected_logout_is_noticed() {
    for module in modules() {
        let token = open_token(&module);
        drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
        token.log_out_unnoticed();
        assert!(token.has_active_session(), "it was noticed too early");
        token.check().unwrap();
        assert!(!token.has_active_session() && !token.is_logged_in());
    }
}

#[test]
fn a_reinitialized_token_is_not_the_one_that_was_opened() {
    let module = softhsm();
    let info = new_token(&module);
    let token = module.open(&info).unwrap();
    drop(token.acquire_pin_lease().open_session(pin(PIN)).unwrap());
    // A process of another program, with the right SO PIN.
    let slots = ["--module", module.path().to_str().unwrap(), "--token-label", &info.label];
    run("pkcs11-tool", &[&slots[..], &["--init-token", "--label", "made again", "--so-pin", SO_PIN]].concat());
    let error = token.check().unwrap_err();
    assert!(matches!(error, TokenError::Absent { .. }), "{error}");
    assert!(!token.has_active_session());
}
