//! The prompts for a use at each level.

use super::*;

#[test]
fn identities_are_listed_without_a_prompt() {
    let fixture = fixture(&[("h", SecurityLevel::High), ("l", SecurityLevel::Low)]);
    let identities = fixture.keystore.identities();
    assert_eq!(identities.len(), 2);
    for identity in &identities {
        assert_eq!(identity.user, "user@example.org");
        let found = fixture.keystore.find(&identity.spki).unwrap();
        assert!(Arc::ptr_eq(&found, identity));
    }
    assert!(fixture.keystore.find(b"another key").is_none());
    assert_eq!(fixture.person.asked(), [""; 0]);
}

#[test]
fn level_high_asks_for_each_use_and_starts_no_session() {
    let fixture = fixture(&[("h", SecurityLevel::High)]);
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN), ScriptedAnswer::Pin(PIN)]);
    fixture.sign("h", "one").unwrap();
    assert!(!fixture.has_active_session("h"));
    fixture.sign("h", "two").unwrap();
    assert_eq!(fixture.person.asked(), ["pin one h high", "pin two h high"]);
    assert!(!fixture.has_active_session("h"));
    // Nobody can start a session, either.
    let refused = fixture.keystore.log_in(&fixture.choice("h"), None, &requester()).unwrap_err();
    assert_eq!(refused.kind(), keyset::ErrorKind::Refused);
    assert_eq!(fixture.person.asked(), [""; 0]);
}

#[test]
fn concurrent_uses_get_one_prompt_each_in_order() {
    let fixture = Arc::new(fixture(&[("h", SecurityLevel::High)]));
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN), ScriptedAnswer::No, ScriptedAnswer::Pin(PIN)]);
    fixture.identity("h");
    let gate = fixture.person.answer_gate();
    let mut threads = Vec::new();
    for (number, namespace) in ["first", "second", "third"].into_iter().enumerate() {
        let at = Arc::clone(&fixture);
        threads.push(std::thread::spawn(move || at.sign("h", namespace)));
        if number == 0 {
            fixture.person.until_asked();
        }
        // The next request must come after this one waits for its turn, which only time can ensure.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(fixture.person.asked(), ["pin first h high"], "only one prompt is open");
    drop(gate);
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(results[1].as_ref().unwrap_err().is_cancelled(), "declining counts for one use: {results:?}");
    assert_eq!(fixture.person.asked(), ["pin second h high", "pin third h high"]);
}

#[test]
fn level_medium_asks_the_pin_once_then_confirms_each_use() {
    let fixture = fixture(&[("m", SecurityLevel::Medium)]);
    fixture.person.set_answers([
        ScriptedAnswer::Pin(PIN),
        ScriptedAnswer::Yes,
        ScriptedAnswer::No,
        ScriptedAnswer::Yes,
    ]);
    fixture.sign("m", "one").unwrap();
    assert!(fixture.has_active_session("m"));
    fixture.sign("m", "two").unwrap();
    let no = fixture.sign("m", "three").unwrap_err();
    assert!(no.is_cancelled() && no.to_string().contains("declined at the prompt; nothing was done with"), "{no}");
    fixture.sign("m", "four").unwrap();
    assert_eq!(
        fixture.person.asked(),
        ["pin one m medium", "confirm two m medium", "confirm three m medium", "confirm four m medium"]
    );
}

#[test]
fn level_low_asks_for_the_pin_once() {
    let fixture = fixture(&[("l", SecurityLevel::Low)]);
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    for namespace in ["one", "two", "three"] {
        fixture.sign("l", namespace).unwrap();
    }
    assert_eq!(fixture.person.asked(), ["pin one l low"]);
    assert!(fixture.has_active_session("l"));
}

#[test]
fn one_token_may_hold_keysets_of_every_level() {
    let fixture =
        fixture_on_one_token(&[("h", SecurityLevel::High), ("m", SecurityLevel::Medium), ("l", SecurityLevel::Low)]);
    fixture.person.set_answers([
        ScriptedAnswer::Pin(PIN),
        ScriptedAnswer::Yes,
        ScriptedAnswer::Pin(PIN),
        ScriptedAnswer::Pin("00000000"),
        ScriptedAnswer::Pin(PIN),
    ]);
    fixture.sign("l", "one").unwrap();
    fixture.sign("m", "two").unwrap();
    fixture.sign("h", "three").unwrap();
    fixture.sign("l", "four").unwrap();
    assert_eq!(fixture.person.asked(), ["pin one l low", "confirm two m medium", "pin three h high"]);
    // Checking a wrong PIN logs the token out: the session ends for all keysets.
    is_wrong_pin(&fixture.sign("h", "five"));
    assert!(!fixture.has_active_session("l"));
    fixture.sign("l", "six").unwrap();
    assert_eq!(fixture.person.asked(), ["pin five h high", "pin six l low"]);
}

#[test]
fn fifty_waiting_uses_share_the_failure_of_one_wrong_pin() {
    for level in [SecurityLevel::Low, SecurityLevel::Medium] {
        let fixture = Arc::new(fixture(&[("x", level)]));
        fixture.person.set_answers([ScriptedAnswer::Pin("00000000")]);
        fixture.identity("x");
        let gate = fixture.person.answer_gate();
        let sign = |number: usize| {
            let at = Arc::clone(&fixture);
            std::thread::spawn(move || at.sign("x", &format!("use {number}")))
        };
        let first = sign(0);
        fixture.person.until_asked();
        let others: Vec<_> = (1..50).map(sign).collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(gate);
        for thread in others.into_iter().chain([first]) {
            is_wrong_pin(&thread.join().unwrap());
        }
        assert_eq!(fixture.person.asked(), [format!("pin use 0 x {level}")], "one prompt, one try");
        assert!(!fixture.has_active_session("x"));
    }
}

#[test]
fn a_cancelled_prompt_costs_no_try_and_is_reported() {
    for level in [SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low] {
        let fixture = fixture(&[("x", level)]);
        fixture.person.set_answers([ScriptedAnswer::No, ScriptedAnswer::Unavailable, ScriptedAnswer::Pin(PIN)]);
        assert!(fixture.sign("x", "one").unwrap_err().is_cancelled());
        let away = fixture.sign("x", "two").unwrap_err();
        assert!(!away.is_cancelled() && away.to_string().contains("nobody is there"), "{away}");
        assert!(away.to_string().contains("was not tried"), "{away}");
        let token = fixture.identity("x").keyset.token.clone();
        let now = fixture.keystore.tokens().unwrap().into_iter().find(|state| state.info.id() == token.id()).unwrap();
        assert_eq!(now.info.pin_state, crate::token::PinState::Ok, "a try was counted");
        fixture.sign("x", "three").unwrap();
    }
}

#[test]
fn a_wrong_pin_is_one_try_and_is_not_kept() {
    for level in [SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low] {
        let fixture = fixture(&[("x", level)]);
        fixture.person.set_answers([ScriptedAnswer::Pin("00000000"), ScriptedAnswer::Pin(PIN)]);
        is_wrong_pin(&fixture.sign("x", "one"));
        assert_eq!(fixture.person.asked().len(), 1, "the PIN was asked for again automatically");
        fixture.sign("x", "two").unwrap();
        assert_eq!(fixture.person.asked(), [format!("pin two x {level}")]);
    }
}

#[test]
fn wrong_pins_are_limited_on_a_token_that_never_locks() {
    let fixture = fixture(&[("x", SecurityLevel::Low)]);
    let wrong = || {
        fixture.person.set_answers([ScriptedAnswer::Pin("00000000")]);
        fixture.sign("x", "guess")
    };
    // A correct PIN resets the count.
    for _ in 0..5 {
        is_wrong_pin(&wrong());
    }
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    fixture.sign("x", "right").unwrap();
    fixture.keystore.log_off(None).unwrap();
    for _ in 0..10 {
        is_wrong_pin(&wrong());
    }
    fixture.person.asked();
    let refused = fixture.sign("x", "once more").unwrap_err();
    assert!(refused.to_string().contains("10 wrong PINs in a row"), "{refused}");
    assert_eq!(refused.kind(), keyset::ErrorKind::Pin);
    assert_eq!(fixture.person.asked(), [""; 0], "the person was asked in vain");
    // A restarted agent resets the count.
    crate::token::forget_wrong_pins_in_a_row();
    fixture.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    fixture.sign("x", "again").unwrap();
}

#[test]
fn an_unsupported_hash_is_refused_before_any_prompt() {
    let fixture = fixture(&[("l", SecurityLevel::Low)]);
    let identity = fixture.identity("l");
    let refused = fixture
        .keystore
        .use_key(
            SignData { identity: &identity, hash: SignatureHash::Sha512, data: b"", purpose: &ssh_signature("one") },
            &requester(),
        )
        .unwrap_err();
    assert!(matches!(refused, AgentError::NoSuchHash { .. }), "{refused}");
    assert_eq!(fixture.person.asked(), [""; 0]);
}
