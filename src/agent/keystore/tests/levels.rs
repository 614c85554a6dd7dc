//! The prompts for a use at each level.

use super::*;

#[test]
fn identities_are_known_without_any_question() {
    let home = home(&[("h", SecurityLevel::High), ("l", SecurityLevel::Low)]);
    let identities = home.keystore.identities();
    assert_eq!(identities.len(), 2);
    for identity in &identities {
        assert_eq!(identity.user, "user@example.org");
        let found = home.keystore.find(&identity.spki).unwrap();
        assert!(Arc::ptr_eq(&found, identity));
    }
    assert!(home.keystore.find(b"another key").is_none());
    assert_eq!(home.person.asked(), [""; 0]);
}

#[test]
fn at_high_every_use_asks_for_its_own_pin_and_nothing_stands() {
    let home = home(&[("h", SecurityLevel::High)]);
    home.person.will([Answer::Pin(PIN), Answer::Pin(PIN)]);
    home.sign("h", "one").unwrap();
    assert!(!home.stands("h"));
    home.sign("h", "two").unwrap();
    assert_eq!(home.person.asked(), ["pin one h high", "pin two h high"]);
    assert!(!home.stands("h"));
    // Nobody can start a session, either.
    let refused = home.keystore.log_in(&home.choice("h"), &usage("login")).unwrap_err();
    assert_eq!(refused.kind(), keyset::ErrorKind::Refused);
    assert_eq!(home.person.asked(), [""; 0]);
}

#[test]
fn two_at_once_are_two_prompts_in_order_each_for_its_own_use() {
    let home = Arc::new(home(&[("h", SecurityLevel::High)]));
    home.person.will([Answer::Pin(PIN), Answer::No, Answer::Pin(PIN)]);
    home.identity("h");
    let door = home.person.door.lock().unwrap();
    let mut threads = Vec::new();
    for (number, namespace) in ["first", "second", "third"].into_iter().enumerate() {
        let at = Arc::clone(&home);
        threads.push(std::thread::spawn(move || at.sign("h", namespace)));
        if number == 0 {
            home.person.until_asked();
        }
        // The next request must come after this one waits for its turn, which only time can ensure.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(home.person.asked(), ["pin first h high"], "only one prompt is open");
    drop(door);
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(results[1].as_ref().unwrap_err().is_cancelled(), "declining counts for one use: {results:?}");
    assert_eq!(home.person.asked(), ["pin second h high", "pin third h high"]);
}

#[test]
fn at_medium_the_pin_confirms_its_own_use_and_each_later_one_is_confirmed() {
    let home = home(&[("m", SecurityLevel::Medium)]);
    home.person.will([Answer::Pin(PIN), Answer::Yes, Answer::No, Answer::Yes]);
    home.sign("m", "one").unwrap();
    assert!(home.stands("m"));
    home.sign("m", "two").unwrap();
    let no = home.sign("m", "three").unwrap_err();
    assert!(no.is_cancelled() && no.to_string().contains("declined at the prompt; nothing was done with"), "{no}");
    home.sign("m", "four").unwrap();
    assert_eq!(
        home.person.asked(),
        ["pin one m medium", "confirm two m medium", "confirm three m medium", "confirm four m medium"]
    );
}

#[test]
fn at_low_the_pin_is_asked_for_once() {
    let home = home(&[("l", SecurityLevel::Low)]);
    home.person.will([Answer::Pin(PIN)]);
    for namespace in ["one", "two", "three"] {
        home.sign("l", namespace).unwrap();
    }
    assert_eq!(home.person.asked(), ["pin one l low"]);
    assert!(home.stands("l"));
}

#[test]
fn one_token_may_hold_keysets_of_every_level() {
    let home =
        home_on_one_token(&[("h", SecurityLevel::High), ("m", SecurityLevel::Medium), ("l", SecurityLevel::Low)]);
    home.person.will([Answer::Pin(PIN), Answer::Yes, Answer::Pin(PIN), Answer::Pin("00000000"), Answer::Pin(PIN)]);
    home.sign("l", "one").unwrap();
    home.sign("m", "two").unwrap();
    home.sign("h", "three").unwrap();
    home.sign("l", "four").unwrap();
    assert_eq!(home.person.asked(), ["pin one l low", "confirm two m medium", "pin three h high"]);
    // Checking a wrong PIN logs the token out: the session ends for all keysets.
    is_wrong_pin(&home.sign("h", "five"));
    assert!(!home.stands("l"));
    home.sign("l", "six").unwrap();
    assert_eq!(home.person.asked(), ["pin five h high", "pin six l low"]);
}

#[test]
fn fifty_who_wait_behind_one_wrong_pin_share_its_failure() {
    for level in [SecurityLevel::Low, SecurityLevel::Medium] {
        let home = Arc::new(home(&[("x", level)]));
        home.person.will([Answer::Pin("00000000")]);
        home.identity("x");
        let door = home.person.door.lock().unwrap();
        let sign = |number: usize| {
            let at = Arc::clone(&home);
            std::thread::spawn(move || at.sign("x", &format!("use {number}")))
        };
        let first = sign(0);
        home.person.until_asked();
        let others: Vec<_> = (1..50).map(sign).collect();
        std::thread::sleep(Duration::from_millis(500));
        drop(door);
        for thread in others.into_iter().chain([first]) {
            is_wrong_pin(&thread.join().unwrap());
        }
        assert_eq!(home.person.asked(), [format!("pin use 0 x {level}")], "one prompt, one try");
        assert!(!home.stands("x"));
    }
}

#[test]
fn cancelled_costs_nothing_and_is_said_as_such() {
    for level in [SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low] {
        let home = home(&[("x", level)]);
        home.person.will([Answer::No, Answer::Away, Answer::Pin(PIN)]);
        assert!(home.sign("x", "one").unwrap_err().is_cancelled());
        let away = home.sign("x", "two").unwrap_err();
        assert!(!away.is_cancelled() && away.to_string().contains("nobody is there"), "{away}");
        assert!(away.to_string().contains("was not tried"), "{away}");
        let token = home.identity("x").keyset.token.clone();
        let now = home.keystore.tokens().unwrap().into_iter().find(|state| is_at(&state.info, &token)).unwrap();
        assert_eq!(now.info.pin_state, crate::token::PinState::Ok, "a try was counted");
        home.sign("x", "three").unwrap();
    }
}

#[test]
fn a_wrong_pin_is_one_try_and_is_not_kept() {
    for level in [SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low] {
        let home = home(&[("x", level)]);
        home.person.will([Answer::Pin("00000000"), Answer::Pin(PIN)]);
        is_wrong_pin(&home.sign("x", "one"));
        assert_eq!(home.person.asked().len(), 1, "the PIN was asked for again automatically");
        home.sign("x", "two").unwrap();
        assert_eq!(home.person.asked(), [format!("pin two x {level}")]);
    }
}

#[test]
fn guesses_are_bounded_though_the_token_never_locks() {
    let home = home(&[("x", SecurityLevel::Low)]);
    let wrong = || {
        home.person.will([Answer::Pin("00000000")]);
        home.sign("x", "guess")
    };
    // A correct PIN resets the count.
    for _ in 0..5 {
        is_wrong_pin(&wrong());
    }
    home.person.will([Answer::Pin(PIN)]);
    home.sign("x", "right").unwrap();
    home.keystore.log_off(None).unwrap();
    for _ in 0..10 {
        is_wrong_pin(&wrong());
    }
    home.person.asked();
    let refused = home.sign("x", "once more").unwrap_err();
    assert!(refused.to_string().contains("10 wrong PINs in a row"), "{refused}");
    assert_eq!(refused.kind(), keyset::ErrorKind::Pin);
    assert_eq!(home.person.asked(), [""; 0], "the person was asked in vain");
    // A restarted agent resets the count.
    crate::token::forget_wrong_pins_in_a_row();
    home.person.will([Answer::Pin(PIN)]);
    home.sign("x", "again").unwrap();
}

#[test]
fn a_hash_that_the_key_does_not_take_is_refused_before_any_question() {
    let home = home(&[("l", SecurityLevel::Low)]);
    let identity = home.identity("l");
    let refused = home.keystore.sign(&identity, SignatureHash::Sha512, b"", &usage("one")).unwrap_err();
    assert!(matches!(refused, AgentError::NoSuchHash { .. }), "{refused}");
    assert_eq!(home.person.asked(), [""; 0]);
}
