//! Parses real messages and encodes each structure again: the bytes must be the same, also where
//! they are re-encoded from the fields.

use der::{Decode, Encode};

use super::{SECRET, corpus};
use crate::cmp::*;

fn messages(directory: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus(directory)).unwrap().map(|entry| entry.unwrap().path());
    let messages: Vec<_> = entries.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect();
    assert!(messages.len() >= 10, "the corpus {directory} has too few messages");
    messages
}

/// Encodes a parsed value from its fields.
fn rewritten<T: Encode>(kept: &WithDer<T>) -> Vec<u8> {
    (**kept).to_der().unwrap()
}

#[test]
fn every_message_is_written_as_it_was_read() {
    for (name, bytes) in messages("openssl").into_iter().chain(messages("own")) {
        let message = PkiMessage::from_der(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(rewritten(&message.wire.header), message.wire.header.der(), "header of {name}");
        assert_eq!(rewritten(&message.wire.body), message.wire.body.der(), "body of {name}");
        assert_eq!(message.wire.to_der().unwrap(), bytes, "{name}");
        if let PkiBody::Ir(requests) | PkiBody::Cr(requests) | PkiBody::Kur(requests) | PkiBody::Krr(requests) =
            message.body()
        {
            for request in requests {
                assert_eq!(rewritten(&request.cert_req), request.cert_req.der(), "request in {name}");
            }
        }
    }
}

#[test]
fn each_file_contains_the_body_in_its_name() {
    for (name, bytes) in messages("openssl") {
        let body = PkiMessage::from_der(&bytes).unwrap().body().name().to_lowercase();
        let file = name.rsplit('/').next().unwrap().to_lowercase();
        assert!(file.starts_with(&body), "{file} has a body {body}");
    }
}

#[test]
fn openssl_macs_hold_and_break_with_any_byte() {
    for name in ["ir", "ip", "certconf", "pkiconf", "ir_options", "p10cr", "genm", "pollreq"] {
        let bytes = std::fs::read(corpus("openssl").join(name).with_extension("der")).unwrap();
        let message = PkiMessage::from_der(&bytes).unwrap();
        assert!(verify_mac(&message, b"SECRET").is_ok(), "{name}");
        assert_eq!(verify_mac(&message, b"SECREt"), Err(ProtectionError::Mismatch), "{name}");
    }
    let bytes = std::fs::read(corpus("openssl/ir.der")).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(changed) = PkiMessage::from_der(&changed) {
            assert!(verify_mac(&changed, b"SECRET").is_err(), "byte {at}");
        }
    }
}

#[test]
fn references_are_found_as_clients_send_them() {
    let bytes = std::fs::read(corpus("openssl/ir.der")).unwrap();
    let message = PkiMessage::from_der(&bytes).unwrap();
    assert_eq!(message.references(), ["EABCDEF", "user"]);
}

#[test]
fn only_a_signature_proves_possession() {
    let possession = |name: &str| {
        let bytes = std::fs::read(corpus("openssl").join(name).with_extension("der")).unwrap();
        let message = PkiMessage::from_der(&bytes).unwrap();
        let PkiBody::Ir(requests) = message.body() else { panic!("{name} is an ir") };
        requests[0].possession()
    };
    assert!(possession("ir").is_ok());
    for name in ["ir_raverified", "ir_no_possession", "ir_key_encipherment"] {
        assert!(matches!(possession(name), Err(CmpError::Malformed(_))), "{name}");
    }
}

#[test]
fn signed_messages_are_not_accepted_as_maced_ones() {
    let bytes = std::fs::read(corpus("openssl/kur.der")).unwrap();
    let message = PkiMessage::from_der(&bytes).unwrap();
    assert!(matches!(verify_mac(&message, SECRET), Err(ProtectionError::WrongKind(_))));
    assert_eq!(message.extra_certs().len(), 0, "the mock client sent none");
}

#[test]
fn truncated_and_lengthened_messages_are_refused() {
    for (name, bytes) in messages("own") {
        for length in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
            assert!(PkiMessage::from_der(&bytes[..length]).is_err(), "{name} cut to {length}");
        }
        assert!(PkiMessage::from_der(&[&bytes[..], &[0]].concat()).is_err(), "{name} with a trailing byte");
    }
    assert!(matches!(PkiMessage::from_der(&vec![0; MAX_MESSAGE_BYTES + 1]), Err(CmpError::TooLong { .. })));
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    let mut nested = vec![0x05, 0x00];
    for _ in 0..2000 {
        nested = der::Any::new(der::Tag::Sequence, nested).unwrap().to_der().unwrap();
    }
    assert!(PkiMessage::from_der(&nested).is_err());
    assert!(CertTemplate::from_der(&nested).is_err());
}
