//! URIs of RFC 7512, and URIs that other programs write.

use proptest::prelude::*;

use super::*;
use crate::token::PinState;

fn info() -> TokenInfo {
    TokenInfo {
        label: "The Software PKCS#11 Softtoken".into(),
        serial: "a1b2".into(),
        manufacturer: "Snake Oil, Inc.".into(),
        model: "1.0".into(),
        source: "/usr/lib/softhsm/libsofthsm2.so".into(),
        pin_state: PinState::Ok,
        write_protected: false,
        non_utf8_names: Vec::new(),
    }
}

fn parse(text: &str) -> Result<TokenUri, TokenUriError> {
    text.parse()
}

#[test]
fn the_rfcs_examples_are_read() {
    let uri = parse("pkcs11:object=my-pubkey;type=public").unwrap();
    assert_eq!((uri.object.as_deref(), uri.object_type.as_deref()), (Some("my-pubkey"), Some("public")));
    let uri = parse("pkcs11:object=my-key;type=private?pin-source=file:/etc/token").unwrap();
    assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/token"));
    let uri = parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
         object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=",
    )
    .unwrap();
    assert_eq!(uri.id.unwrap().as_bytes(), b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91");
    assert_eq!(uri.serial.as_deref(), Some(""));
    let uri = parse("pkcs11:object=my-sign-key;type=private?module-name=mypkcs11").unwrap();
    assert_eq!(uri.module_name.as_deref(), Some("mypkcs11"));
    assert_eq!(parse("pkcs11:").unwrap(), TokenUri::default());
    assert_eq!(parse("PKCS11:token=x").unwrap().token.as_deref(), Some("x"));
    parse("pkcs11:token=x;x-vendor=whatever").unwrap();
}

#[test]
fn an_id_may_be_any_bytes() {
    assert_eq!(parse("pkcs11:id=%00%ff%80").unwrap().id.unwrap().as_bytes(), [0, 0xff, 0x80]);
    assert!(matches!(parse("pkcs11:object=%ff").unwrap_err(), TokenUriError::NonUtf8Name { .. }));
}

#[test]
fn a_label_that_is_not_utf_8_is_percent_encoded_byte_for_byte() {
    let bytes = b"Gr\xfc\xdfe".to_vec();
    let non_utf8_names = vec![NonUtf8Name { attribute: "token".into(), bytes }];
    let odd = TokenInfo { label: String::from_utf8_lossy(b"Gr\xfc\xdfe").into_owned(), non_utf8_names, ..info() };
    let uri = TokenUri::of(&odd);
    assert!(uri.to_string().contains("token=Gr%FC%DFe") && uri.matches(&odd), "{uri}");
    assert_eq!(parse(&uri.to_string()).unwrap(), uri);
    // A label that looks the same as text names a different token, in both directions.
    let similar = TokenInfo { non_utf8_names: Vec::new(), ..odd.clone() };
    assert!(!uri.matches(&similar) && !TokenUri::of(&similar).matches(&odd));
    assert!(matches!(parse("pkcs11:token=%ff;token=a").unwrap_err(), TokenUriError::Twice { .. }));
    assert!(matches!(parse("pkcs11:token=a;token=%ff").unwrap_err(), TokenUriError::Twice { .. }));
}

#[test]
fn invalid_and_unsupported_uris_are_refused() {
    use TokenUriError as E;
    for (text, expected) in [
        ("", E::Scheme),
        ("pkcs12:token=x", E::Scheme),
        ("token=x", E::Scheme),
        ("pkcs11:token=%4", E::PercentEncoding { attribute: "token".into() }),
        ("pkcs11:token=%zz", E::PercentEncoding { attribute: "token".into() }),
        ("pkcs11:token=a;token=b", E::Twice { attribute: "token".into() }),
        ("pkcs11:id=%01;id=%02", E::Twice { attribute: "id".into() }),
        ("pkcs11:token", E::Malformed { part: "token".into() }),
        ("pkcs11:=x", E::Malformed { part: "=x".into() }),
        ("pkcs11:token=a b", E::Malformed { part: "token=a b".into() }),
        ("pkcs11:token=x;", E::Malformed { part: String::new() }),
        ("pkcs11:tokn=x", E::Unsupported { attribute: "tokn".into() }),
        ("pkcs11:slot-id=3", E::Unsupported { attribute: "slot-id".into() }),
        ("pkcs11:module-path=x", E::Unsupported { attribute: "module-path".into() }),
        ("pkcs11:token=x?token=y", E::Unsupported { attribute: "token".into() }),
        ("pkcs11:type=secret", E::Unsupported { attribute: "type=secret".into() }),
        ("pkcs11:token=x?pin-value=1234", E::PinValue),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn only_given_attributes_are_compared_exactly() {
    let info = info();
    for (text, matches) in [
        ("pkcs11:", true),
        ("pkcs11:serial=a1b2", true),
        ("pkcs11:serial=A1B2", false),
        ("pkcs11:serial=", false),
        ("pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;model=1.0", true),
        ("pkcs11:token=The%20Software", false),
        ("pkcs11:model=2.0;serial=a1b2", false),
        ("pkcs11:serial=a1b2?module-name=softhsm2", true),
        ("pkcs11:serial=a1b2?module-name=libsofthsm2", true),
        ("pkcs11:serial=a1b2?module-name=other", false),
        ("pkcs11:?module-path=/usr/lib/softhsm/libsofthsm2.so", true),
        ("pkcs11:?module-path=/usr/lib/softhsm", false),
    ] {
        assert_eq!(parse(text).unwrap().matches(&info), matches, "{text}");
    }
    let own = TokenUri::of(&info);
    assert!(own.matches(&info) && parse(&own.to_string()).unwrap().matches(&info));
}

fn any_text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("\\PC{0,20}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn elements_round_trip(
        token in any_text(),
        serial in any_text(),
        object in any_text(),
        module_path in any_text(),
        pin_source in any_text(),
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        object_type in proptest::option::of(proptest::sample::select(&OBJECT_TYPES[..])),
    ) {
        let object_type = object_type.map(str::to_owned);
        let id = id.map(KeyId::from);
        let uri = TokenUri { token, serial, object, id, object_type, module_path, pin_source, ..TokenUri::default() };
        prop_assert_eq!(parse(&uri.to_string()).unwrap(), uri);
    }

    #[test]
    fn nothing_makes_it_panic(text in "(pkcs11:)?\\PC{0,60}") {
        let _ = parse(&text);
    }
}
