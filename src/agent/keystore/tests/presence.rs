//! Inserted and removed tokens, as the polling thread sees them.

use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn a_new_keyset_is_reported_and_offered() {
    let fixture = fixture(&[("a", SecurityLevel::Low)]);
    let events = fixture.keystore.events();
    fixture.keystore.inner.poll(false);
    let published = published_events(&events);
    assert!(matches!(&published[..], [Event::Inserted(_)]), "{published:?}");
    fixture.keystore.inner.poll(false);
    assert_eq!(published_events(&events), [], "unexpected events");
    let options = keyset::EnrollOptions { level: Some(SecurityLevel::Low), ..fixture.wallet.on_new_token("b") };
    enrolled(run(authority(), &fixture.wallet, &letter(), &options, &mut Script::with(PIN)));
    fixture.keystore.inner.poll(false);
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
        let prompt_backend = Arc::clone(&fixture.person) as Arc<dyn PromptBackend>;
        let keystore =
            Keystore::new(fixture.wallet.tokens.clone(), prompt_backend, Settings::default(), Arc::new(Later(time)));
        let events = keystore.events();
        keystore.inner.refresh().unwrap();
        keystore.inner.refresh().unwrap();
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
    let watching = fixture.keystore.watch().unwrap();
    assert!(matches!(events.next(Duration::from_secs(30)), Some(Event::Inserted(_))));
    drop(watching);
    let weak = Arc::downgrade(&fixture.keystore.inner);
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
fn keys_that_a_module_worker_withdraws_are_forgotten() {
    let fixture = fixture(&[("a", SecurityLevel::Low), ("b", SecurityLevel::Low), ("c", SecurityLevel::Low)]);
    let (fd_channel, _other_end) = UnixStream::pair().unwrap();
    let module_worker = Arc::new(ModuleWorker::new("/own.so".into(), fd_channel));
    let prompt_backend = Arc::clone(&fixture.person) as Arc<dyn PromptBackend>;
    let (tokens, module_workers, clock) =
        (Tokens::new(Vec::new()), vec![Arc::clone(&module_worker)], Arc::new(SystemClock));
    let keystore = Keystore::with_module_workers(tokens, module_workers, prompt_backend, Settings::default(), clock);
    let mut held = Vec::new();
    for (number, keyset) in fixture.keystore.keysets().unwrap().0.into_iter().enumerate() {
        let token = keyset.token.clone();
        module_worker.note(Inventory::new(Ok(vec![token]), Vec::new(), false, (vec![keyset], Vec::new())));
        keystore.inner.refresh().unwrap();
        let listed = keystore.inner.key_cache.list();
        assert_eq!(listed.len(), 1);
        // A client holds the first identity.
        assert_eq!(keystore.inner.key_cache.cached_key_count(), if number == 0 { 1 } else { 2 });
        if number == 0 {
            held = listed;
        }
    }
    drop(held);
    keystore.inner.refresh().unwrap();
    assert_eq!(keystore.inner.key_cache.cached_key_count(), 1);
}
