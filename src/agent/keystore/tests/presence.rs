//! Inserted and removed tokens, as the polling thread sees them.

use super::*;

#[test]
fn a_new_keyset_is_reported_and_offered() {
    let fixture = fixture(&[("a", SecurityLevel::Low)]);
    let events = fixture.keystore.events();
    fixture.poll();
    let published = published_events(&events);
    assert!(matches!(&published[..], [Event::Inserted(_)]), "{published:?}");
    fixture.poll();
    assert_eq!(published_events(&events), [], "unexpected events");
    let options = keyset::EnrollOptions { level: Some(SecurityLevel::Low), ..fixture.wallet.on_new_token("b") };
    enrolled(run(authority(), &fixture.wallet, &letter(), &options, &mut Script::with(PIN)));
    fixture.poll();
    let published = published_events(&events);
    assert!(matches!(&published[..], [Event::Inserted(token)] if token.label.ends_with('b')), "{published:?}");
    assert_eq!(fixture.keystore.identities().len(), 2);
}

#[test]
fn a_certificate_that_expires_soon_is_reported_once() {
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
    let fixture = fixture(&[("a", SecurityLevel::Low)]);
    let der = fixture.identity("a").certificate.clone();
    let end = crate::pki::Certificate::from_der(&der).unwrap().not_after();
    let told_at = |time: Timestamp| {
        let link = Arc::clone(&fixture.person.link);
        let keystore = Keystore::new(fixture.wallet.tokens.clone(), link, Settings::default(), Arc::new(Later(time)));
        let events = keystore.events();
        keystore.key_cache.try_refresh().unwrap();
        keystore.key_cache.try_refresh().unwrap();
        published_events(&events).into_iter().filter(|event| matches!(event, Event::Expiring { .. })).count()
    };
    let day = SignedDuration::from_hours(24);
    assert_eq!(told_at(end - day * 61), 0);
    assert_eq!(told_at(end - day * 59), 2, "one for the signing and one for the encryption certificate");
}

#[test]
fn the_polling_thread_ends_with_its_keystore() {
    let fixture = fixture(&[("a", SecurityLevel::Low)]);
    let events = fixture.keystore.events();
    let watching = TokenWatcher::start(&fixture.keystore).unwrap();
    assert!(matches!(events.next(Duration::from_secs(30)), Some(Event::Inserted(_))));
    drop(watching);
    let weak = Arc::downgrade(&fixture.keystore);
    drop(fixture);
    assert!(weak.upgrade().is_none(), "the keystore is still referenced");
}

#[test]
fn modules_without_readers_are_recognized() {
    for module in crate::token::test_support::modules() {
        assert!(!module.has_readers().unwrap(), "{}", module.path().display());
    }
}

#[test]
fn keys_that_are_gone_are_forgotten() {
    let fixture = fixture(&[("a", SecurityLevel::Low), ("b", SecurityLevel::Low), ("c", SecurityLevel::Low)]);
    let keystore = &fixture.keystore;
    keystore.key_cache.try_refresh().unwrap();
    assert_eq!(keystore.key_cache.cached_signers.key_count(), 3);
    // A client holds the first identity.
    let held = fixture.identity("a");
    fixture.delete("a");
    fixture.delete("b");
    keystore.key_cache.try_refresh().unwrap();
    assert_eq!(keystore.key_cache.cached_signers.key_count(), 2);
    drop(held);
    keystore.key_cache.try_refresh().unwrap();
    assert_eq!(keystore.key_cache.cached_signers.key_count(), 1);
}
