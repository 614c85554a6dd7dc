//! `init` and the start: their refusals, and the state after an interruption.

use super::support::*;
use crate::authority::{Authority, AuthorityError};
use crate::token::test_support::{PIN, pin, softhsm};
use crate::token::{AUTHORITY_MARK, TokenErrorKind};

#[test]
fn init_marks_the_token_and_refuses_a_second_run() {
    let mut fixture = AuthorityFixture::new();
    let token = fixture.authority().keys.token.clone();
    assert_eq!(token.data_objects(AUTHORITY_MARK, false).unwrap().len(), 1);
    assert_eq!(fixture.authority().tls_identity().chain.len(), 2);
    drop(token);
    fixture.close();
    let again = init(&fixture.configuration, &pin(PIN), ADMINISTRATOR, now());
    assert!(matches!(again, Err(AuthorityError::StateNotEmpty(_))), "{again:?}");
}

#[test]
fn invalid_init_arguments_are_reported_before_any_change() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = configuration(directory.path());
    let wrong = init(&configuration, &pin(PIN), "nobody", now());
    assert!(matches!(wrong, Err(AuthorityError::Administrator { .. })), "{wrong:?}");
    configuration.ca.key = "rsa-2048".parse().unwrap();
    let wrong = init(&configuration, &pin(PIN), ADMINISTRATOR, now()).unwrap_err();
    assert!(matches!(wrong, AuthorityError::Configuration(_)), "{wrong}");
    assert!(wrong.to_string().contains("does not allow rsa-2048 keys; use one of p256, p384"), "{wrong}");
    configuration.ca.key = "p256".parse().unwrap();
    configuration.token.module = Some("/nowhere/module.so".into());
    assert!(init(&configuration, &pin(PIN), ADMINISTRATOR, now()).is_err());
    assert!(!configuration.state.exists());
}

#[test]
fn a_state_directory_with_something_in_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = configuration(directory.path());
    std::fs::create_dir(&configuration.state).unwrap();
    std::fs::write(configuration.state.join("letter.txt"), "x").unwrap();
    let refused = init(&configuration, &pin(PIN), ADMINISTRATOR, now());
    assert!(matches!(refused, Err(AuthorityError::StateNotEmpty(_))), "{refused:?}");
    assert!(softhsm().tokens().unwrap().iter().all(|token| token.label != configuration.token.label));
}

#[test]
fn the_start_needs_the_right_pin_and_the_right_token() {
    let mut fixture = AuthorityFixture::new();
    fixture.close();
    let wrong = Authority::open(fixture.configuration.clone(), &pin("00000000"), now()).unwrap_err();
    let AuthorityError::Token(error) = wrong else { panic!("{wrong}") };
    assert_eq!(error.kind(), TokenErrorKind::Pin);

    let mut other = fixture.configuration.clone();
    other.token.label = "nobody's".into();
    let absent = Authority::open(other, &pin(PIN), now()).unwrap_err();
    assert!(matches!(absent, AuthorityError::TokenAbsent { .. }), "{absent}");

    let neighbor = AuthorityFixture::new();
    let mut mixed = fixture.configuration.clone();
    mixed.token.label.clone_from(&neighbor.configuration.token.label);
    let mismatch = Authority::open(mixed, &pin(PIN), now()).unwrap_err();
    assert!(mismatch.to_string().contains("serial number"), "{mismatch}");
}

#[test]
fn service_certificates_are_renewed_in_time_and_for_new_names() {
    let mut fixture = AuthorityFixture::new();
    let first = fixture.authority().tls_identity().chain;
    fixture.close();
    fixture.open(later(24 * 60));
    assert_eq!(fixture.authority().tls_identity().chain, first);
    fixture.close();
    fixture.configuration.listen.public_https_url = Some("https://ca.example.org:8830".into());
    fixture.open(later(24 * 60));
    let second = fixture.authority().tls_identity().chain;
    assert_ne!(second[0], first[0]);
    assert_eq!(second[1], first[1]);
    fixture.close();
    fixture.open(later(3 * 365 * 24 * 60));
    assert_ne!(fixture.authority().tls_identity().chain[0], second[0]);
}
