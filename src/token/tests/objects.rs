//! Data objects and certificates.

use crate::token::test_support::{PIN, modules, open_token, pin, run};
use crate::token::{KeyId, StoredCertificate, Token, TokenError};

fn certificate(name: &str) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let path = |file: &str| home.path().join(file).to_string_lossy().into_owned();
    let (key, file, subject) = (path("key"), path("certificate"), format!("/CN={name}"));
    let make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    run("openssl", &[&make[..], &["-subj", &subject, "-keyout", &key, "-out", &file, "-outform", "DER"]].concat());
    std::fs::read(file).unwrap()
}

fn labels(token: &Token, private: bool) -> Vec<String> {
    token.data_objects("tokenkeep test", private).unwrap().into_iter().map(|object| object.label).collect()
}

#[test]
fn data_objects_are_written_replaced_and_deleted() {
    for module in modules() {
        let token = open_token(&module);
        token.log_in(&pin(PIN)).unwrap();
        for private in [false, true] {
            token.put_data("tokenkeep test", "one", b"first", private).unwrap();
            token.put_data("tokenkeep test", "two", b"", private).unwrap();
            token.put_data("another program", "one", b"not ours", private).unwrap();
            let large = vec![0x5a; 20_000];
            token.put_data("tokenkeep test", "one", &large, private).unwrap();
            let mut objects = token.data_objects("tokenkeep test", private).unwrap();
            objects.sort_by(|one, other| one.label.cmp(&other.label));
            assert_eq!(objects.len(), 2);
            assert_eq!((objects[0].label.as_str(), &objects[0].value), ("one", &large));
            assert_eq!(objects[1].value, b"");
            assert!(token.delete_data("tokenkeep test", "one", private).unwrap());
            assert!(!token.delete_data("tokenkeep test", "one", private).unwrap());
            assert_eq!(labels(&token, private), ["two"]);
        }
    }
}

#[test]
fn private_objects_are_visible_after_login_only() {
    for module in modules() {
        let token = open_token(&module);
        token.log_in(&pin(PIN)).unwrap();
        token.put_data("tokenkeep test", "public", b"p", false).unwrap();
        token.put_data("tokenkeep test", "private", b"s", true).unwrap();
        token.log_out().unwrap();
        assert_eq!(labels(&token, false), ["public"]);
        assert!(matches!(token.data_objects("tokenkeep test", true).unwrap_err(), TokenError::NotLoggedIn { .. }));
        token.put_data("tokenkeep test", "public", b"changed", false).unwrap_err();
        token.delete_data("tokenkeep test", "public", false).unwrap_err();
        token.log_in(&pin(PIN)).unwrap();
        assert_eq!(labels(&token, true), ["private"]);
        assert_eq!(labels(&token, false), ["public"]);
    }
}

#[test]
fn certificates_are_written_once_and_deleted() {
    let (one, other) = (certificate("one"), certificate("other"));
    for module in modules() {
        let token = open_token(&module);
        let id = KeyId::random().unwrap();
        assert!(matches!(token.put_certificate(&id, "c", &one).unwrap_err(), TokenError::NotLoggedIn { .. }));
        token.log_in(&pin(PIN)).unwrap();
        for der in [&one, &other, &one] {
            token.put_certificate(&id, "certificate", der).unwrap();
        }
        assert!(matches!(token.put_certificate(&id, "c", b"no DER").unwrap_err(), TokenError::Encoding(_)));
        token.log_out().unwrap();
        let mut found = token.certificates().unwrap();
        assert_eq!(found.len(), 2);
        token.log_in(&pin(PIN)).unwrap();
        let first = StoredCertificate { id: id.clone(), label: "certificate".into(), der: one.clone() };
        token.delete_certificate(&first).unwrap();
        token.delete_certificate(&first).unwrap();
        found.retain(|certificate| certificate.der != one);
        assert_eq!(token.certificates().unwrap(), found);
    }
}

#[test]
fn a_token_is_empty_until_something_is_on_it() {
    for module in modules() {
        let token = open_token(&module);
        assert!(token.is_empty().unwrap());
        token.log_in(&pin(PIN)).unwrap();
        token.put_data("tokenkeep test", "public", b"p", false).unwrap();
        assert!(!token.is_empty().unwrap());
    }
}
