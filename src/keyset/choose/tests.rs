//! Selection: a single match is taken, no match is an error, several are refused with a list.

use std::path::PathBuf;

use super::*;
use crate::keyset::{AuthorityAddress, ErrorKind, KeysetStatus};
use crate::token::{PinState, SecurityLevel};

fn token(label: &str, serial: &str) -> TokenInfo {
    TokenInfo {
        label: label.into(),
        serial: serial.into(),
        manufacturer: "SoftHSM project".into(),
        model: "SoftHSM v2".into(),
        source: PathBuf::from("/usr/lib/softhsm/libsofthsm2.so"),
        pin_state: PinState::Ok,
        write_protected: false,
        non_utf8_names: Vec::new(),
    }
}

fn keyset(name: &str, token: TokenInfo) -> FoundKeyset {
    FoundKeyset {
        name: name.parse().unwrap(),
        level: SecurityLevel::High,
        authority: AuthorityAddress { name: "A".into(), http: "http://a".into(), https: "https://a".into() },
        status: KeysetStatus::Enrolled,
        token,
        signing: None,
        encryption: Vec::new(),
        authority_certificate: None,
        certificates: Vec::new(),
    }
}

fn choice(name: Option<&str>, default: Option<&str>) -> KeysetChoice {
    KeysetChoice {
        name: name.map(|name| name.parse().unwrap()),
        default: default.map(|name| name.parse().unwrap()),
        ..KeysetChoice::default()
    }
}

fn two() -> Vec<FoundKeyset> {
    vec![keyset("default", token("default", "1")), keyset("second", token("second", "2"))]
}

#[test]
fn a_name_overrides_the_default() {
    assert_eq!(pick(two(), &choice(Some("second"), Some("default")), &[]).unwrap().token.serial, "2");
}

#[test]
fn the_only_keyset_overrides_the_default() {
    let only = vec![keyset("mine", token("mine", "1"))];
    assert_eq!(pick(only, &choice(None, Some("default")), &[]).unwrap().name.as_str(), "mine");
}

#[test]
fn without_a_name_and_with_several_the_default_decides() {
    assert_eq!(pick(two(), &choice(None, Some("default")), &[]).unwrap().token.serial, "1");
}

#[test]
fn several_without_a_name_or_default_are_refused_with_a_list() {
    let refused = pick(two(), &choice(None, None), &[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let text = refused.to_string();
    assert!(text.contains("\"default\"") && text.contains("\"second\"") && text.contains("--keyset"), "{text}");
}

#[test]
fn the_same_name_on_two_tokens_is_refused_with_both_serials() {
    let both = vec![keyset("default", token("a", "1")), keyset("default", token("b", "2"))];
    let text = pick(both, &choice(Some("default"), None), &[]).unwrap_err().to_string();
    assert!(text.contains("serial 1") && text.contains("serial 2") && text.contains("--token"), "{text}");
}

#[test]
fn an_absent_name_lists_found_and_unreadable_keysets() {
    let unreadable_tokens =
        UnreadableToken { name: "token".into(), error: KeysetError::Refused("in use by tokenkeep (42)".into()) };
    let absent = pick(two(), &choice(Some("third"), None), &[unreadable_tokens]).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Absent);
    let text = absent.to_string();
    assert!(text.contains("third") && text.contains("second") && text.contains("in use by tokenkeep (42)"), "{text}");
    assert_eq!(pick(two(), &choice(None, Some("third")), &[]).unwrap_err().kind(), ErrorKind::Absent);
    assert_eq!(pick(Vec::new(), &choice(None, None), &[]).unwrap_err().kind(), ErrorKind::Absent);
}

#[test]
fn a_token_is_named_by_serial_or_label_exactly() {
    let tokens = vec![token("default", "0a1b"), token("default2", "ffff")];
    for text in ["0a1b", "default"] {
        assert_eq!(one_token(tokens.clone(), &text.parse().unwrap()).unwrap().serial, "0a1b");
    }
    let absent = one_token(tokens, &"defaul".parse().unwrap()).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Absent);
    assert!(absent.to_string().contains("ffff"), "{absent}");
}

#[test]
fn a_duplicate_label_is_refused_and_a_serial_is_accepted() {
    let tokens = vec![token("card", "1"), token("card", "2")];
    let refused = one_token(tokens.clone(), &"card".parse().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("serial 1") && refused.to_string().contains("serial 2"), "{refused}");
    assert_eq!(one_token(tokens, &"2".parse().unwrap()).unwrap().serial, "2");
}
