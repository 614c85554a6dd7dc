//! Tokens that come and go, as the thread that looks sees them.

use super::*;

#[test]
fn a_new_keyset_is_told_and_offered() {
    let home = home(&[("a", SecurityLevel::Low)]);
    let events = home.keystore.events();
    home.keystore.inner.look(false);
    let told = heard(&events);
    assert!(matches!(&told[..], [Event::Inserted(_)]), "{told:?}");
    home.keystore.inner.look(false);
    assert_eq!(heard(&events), [], "nothing has changed");
    let options = keyset::EnrollOptions { level: Some(SecurityLevel::Low), ..home.wallet.on_new_token("b") };
    enrolled(run(authority(), &home.wallet, &letter(), &options, &mut Script::with(PIN)));
    home.keystore.inner.look(false);
    let told = heard(&events);
    assert!(matches!(&told[..], [Event::Inserted(token)] if token.label.ends_with('b')), "{told:?}");
    assert_eq!(home.keystore.identities().len(), 2);
}

#[test]
fn a_certificate_that_ends_soon_is_told_once() {
    struct Later(Timestamp);
    impl Clock for Later {
        fn now(&self) -> Timestamp {
            self.0
        }
        fn awake(&self) -> Duration {
            Duration::ZERO
        }
        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }
    let home = home(&[("a", SecurityLevel::Low)]);
    let der = home.identity("a").certificate.clone();
    let end = crate::pki::Certificate::from_der(&der).unwrap().not_after();
    let told_at = |time: Timestamp| {
        let asks = Arc::clone(&home.person) as Arc<dyn Asks>;
        let keystore = Keystore::new(home.wallet.tokens.clone(), asks, Settings::default(), Arc::new(Later(time)));
        let events = keystore.events();
        keystore.inner.refresh().unwrap();
        keystore.inner.refresh().unwrap();
        heard(&events).into_iter().filter(|event| matches!(event, Event::Expiring { .. })).count()
    };
    let day = SignedDuration::from_hours(24);
    assert_eq!(told_at(end - day * 31), 0);
    assert_eq!(told_at(end - day * 29), 2, "the signing and the encryption key's, once each");
}

#[test]
fn the_thread_that_looks_ends_with_what_began_it() {
    let home = home(&[("a", SecurityLevel::Low)]);
    let events = home.keystore.events();
    let watching = home.keystore.watch().unwrap();
    assert!(matches!(events.next(Duration::from_secs(30)), Some(Event::Inserted(_))));
    drop(watching);
    let weak = Arc::downgrade(&home.keystore.inner);
    drop(home);
    assert!(weak.upgrade().is_none(), "something holds the keystore");
}

#[test]
fn modules_without_readers_are_known_as_such() {
    for module in crate::token::test_support::modules() {
        assert!(!module.has_readers().unwrap(), "{}", module.path().display());
    }
}
