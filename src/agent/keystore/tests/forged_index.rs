//! Anybody can write the public index: what a forged one can cause, and what not.

use super::*;
use crate::keyset::ErrorKind;

const APPLICATION: &str = "tokenkeep keyset";

/// Changes the public index of this keyset. (The PIN used here is not necessary: `SoftHSM` lets
/// anybody write public objects.)
fn forge(fixture: &Fixture, name: &str, from: &str, to: &str) {
    let tokens = fixture.wallet.tokens.list().unwrap();
    let label = fixture.wallet.name(name);
    let info = tokens.iter().find(|token| token.label == label.as_str()).unwrap();
    let pin_session = fixture.wallet.tokens.sources()[0].open(info).unwrap().unlock(pin(PIN)).unwrap();
    let token = pin_session.token();
    let index = token.data_objects(APPLICATION, false).unwrap().remove(0);
    let text = String::from_utf8(index.value).unwrap();
    assert!(text.contains(from), "{text}");
    token.put_data(APPLICATION, label.as_str(), text.replace(from, to).as_bytes(), false).unwrap();
}

#[test]
fn a_forged_lower_level_gets_no_signature_and_no_session() {
    for (level, forged) in
        [(SecurityLevel::High, "low"), (SecurityLevel::High, "medium"), (SecurityLevel::Medium, "low")]
    {
        let fixture = fixture(&[("x", level)]);
        forge(&fixture, "x", &format!("\"{level}\""), &format!("\"{forged}\""));
        fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
        let refused = fixture.sign("x", "one").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        assert!(refused.to_string().contains("was rewritten"), "{refused}");
        assert!(fixture.keystore.tokens.active_sessions().is_empty(), "the session is active");
        // From now on the index is correct again.
        fixture.person.asked();
        fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
        fixture.sign("x", "two").unwrap();
        assert_eq!(fixture.person.asked(), [format!("pin two x {level}")]);
    }
}

#[test]
fn a_keyset_only_in_the_public_index_signs_nothing() {
    let fixture = fixture(&[("x", SecurityLevel::High)]);
    let real = fixture.wallet.name("x");
    let forged = fixture.wallet.name("f");
    let tokens = fixture.wallet.tokens.list().unwrap();
    let pin_session = fixture.wallet.tokens.sources()[0].open(&tokens[0]).unwrap().unlock(pin(PIN)).unwrap();
    let token = pin_session.token();
    let index = token.data_objects(APPLICATION, false).unwrap().remove(0);
    let text = String::from_utf8(index.value).unwrap().replace(real.as_str(), forged.as_str());
    token.put_data(APPLICATION, forged.as_str(), text.replace("\"high\"", "\"low\"").as_bytes(), false).unwrap();
    drop(pin_session);
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    let refused = fixture.sign("f", "one").unwrap_err();
    assert!(refused.to_string().contains("no private one"), "{refused}");
    assert!(fixture.keystore.tokens.active_sessions().is_empty(), "the session is active");
}

#[test]
fn the_key_is_the_one_that_the_private_index_names() {
    let fixture = fixture(&[("x", SecurityLevel::Low)]);
    let keyset = fixture.identity("x").keyset.clone();
    let (signing, encryption) = (keyset.signing.clone().unwrap().to_string(), keyset.encryption[0].to_string());
    fixture.keystore.tokens.forget_all_keysets();
    // Offer the certificate of another key as the signing certificate.
    forge(&fixture, "x", &format!("\"signing\":\"{signing}\""), &format!("\"signing\":\"{encryption}\""));
    fixture.clock.pass(SignedDuration::from_secs(10));
    assert_eq!(fixture.identity("x").keyset.signing.as_ref().unwrap().to_string(), encryption, "the forgery failed");
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    let refused = fixture.sign("x", "one").unwrap_err();
    assert!(refused.to_string().contains("nothing was signed"), "{refused}");
    fixture.sign("x", "two").unwrap();
}

#[test]
fn an_authoritys_token_is_never_used() {
    let fixture = fixture(&[("x", SecurityLevel::Low)]);
    let keystore = &fixture.keystore;
    let all = Tokens::new(vec![crate::token::test_support::softhsm()]);
    let other = Keystore::new(all, Arc::clone(&fixture.person.link), Settings::default(), Arc::new(SystemClock));
    let label = crate::token::test_support::fresh_label("authority");
    let info = crate::token::test_support::softhsm().create_token(&label, &pin("so-pin-of-it"), &pin(PIN)).unwrap();
    let token = crate::token::test_support::softhsm().open(&info).unwrap();
    token.log_in(&pin(PIN)).unwrap();
    token.put_data(crate::token::AUTHORITY_MARK, "authority", b"{}", false).unwrap();
    let selector = TokenSelector::SerialOrLabel(label);
    let refused = other.log_in_with(&selector, pin(PIN), None, &requester()).unwrap_err();
    assert!(refused.to_string().contains("belongs to an authority"), "{refused}");
    drop(other);
    assert_eq!(keystore.identities().len(), 1);
}
