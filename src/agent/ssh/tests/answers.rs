//! The answer to each message, and its effect.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::{
    KeyFile, PIN, SshFixture, TestUserAuth, answer, blob_of, connection, first_answer, remove, sign_request, smartcard,
    sshsig, with_phrase, without_tokens, written,
};
use crate::agent::keystore::tests::{ScriptedAnswer, authority, fixture, open, published_events};
use crate::agent::ssh::wire::Reader;
use crate::agent::{Event, LogOffReason};
use crate::keyset::Purpose;
use crate::keyset::tests::Wallet;
use crate::pki::public_key::PublicKey;
use crate::pki::signature::{Hash, Scheme, verify_with};
use crate::pki::test_support::SoftwareKey;
use crate::token::SecurityLevel;
use crate::token::test_support;

const FAILURE: &[u8] = &[5];
const SUCCESS: &[u8] = &[6];

/// The three key types with the flags, names and schemes of their signatures.
fn kinds(fixture: &SshFixture) -> [(&SoftwareKey, u32, &'static str, Scheme); 4] {
    [
        (&fixture.p256, 0, "ecdsa-sha2-nistp256", Scheme::Ecdsa(Hash::Sha256)),
        (&fixture.p384, 0, "ecdsa-sha2-nistp384", Scheme::Ecdsa(Hash::Sha384)),
        (&fixture.rsa, 2, "rsa-sha2-256", Scheme::Pkcs1(Hash::Sha256)),
        (&fixture.rsa, 4, "rsa-sha2-512", Scheme::Pkcs1(Hash::Sha512)),
    ]
}

/// Parses `SSH_AGENT_SIGN_RESPONSE` and verifies its signature.
fn verify(answer: &[u8], name: &str, key: &SoftwareKey, scheme: Scheme, data: &[u8]) {
    let mut reader = Reader::new(answer);
    assert_eq!(reader.byte(), Some(14), "{answer:?}");
    let mut blob = Reader::new(reader.string().unwrap());
    assert!(reader.is_at_end());
    assert_eq!(blob.text(), Some(name));
    let mut signature = blob.string().unwrap().to_vec();
    assert!(blob.is_at_end());
    if let Scheme::Ecdsa(_) = scheme {
        let mut pair = Reader::new(&signature);
        let integer = |magnitude: &[u8]| {
            let zero: &[u8] = if magnitude[0] & 0x80 != 0 { &[0] } else { &[] };
            [&[2, u8::try_from(magnitude.len() + zero.len()).unwrap()], zero, magnitude].concat()
        };
        let integers = [(); 2].map(|()| integer(pair.positive_mpint().unwrap())).concat();
        assert!(pair.is_at_end());
        signature = [&[0x30, u8::try_from(integers.len()).unwrap()], &integers[..]].concat();
    }
    let key = PublicKey::from_spki_der(&key.public_key_der()).unwrap();
    verify_with("the answer", &key.into(), scheme, data, &signature).unwrap();
}

#[test]
fn log_ins_and_sshsig_blobs_are_signed_with_every_kind_of_key() {
    let fixture = SshFixture::shared();
    for (key, flags, name, scheme) in kinds(&fixture) {
        let mut connection = connection(fixture.keystore());
        let blob = blob_of(&key.public_key_der());
        let log_in = TestUserAuth { algorithm: name, ..TestUserAuth::with(key) }.to_bytes();
        verify(&answer(&mut connection, &sign_request(&blob, &log_in, flags)), name, key, scheme, &log_in);
        let file = sshsig("file", b"", "sha512", &[9; 64]);
        verify(&answer(&mut connection, &sign_request(&blob, &file, flags)), name, key, scheme, &file);
        let purposes = fixture.purposes();
        assert_eq!(purposes[0], Purpose::SshLogIn { user: "user".into(), host_key: None, forwarded_by: None });
        let hash = ("sha512".to_owned(), vec![9; 64]);
        assert_eq!(purposes[1], Purpose::SshSignature { namespace: "file".into(), hash, forwarded_by: None });
    }
}

#[test]
fn a_log_in_with_a_certificate_is_passed_through() {
    let fixture = SshFixture::shared();
    for (key, flags, name, scheme) in kinds(&fixture) {
        let certificate = KeyFile::of(key).certificate(&[]);
        let algorithm: &'static str = format!("{name}-cert-v01@openssh.com").leak();
        let log_in = TestUserAuth { algorithm, key_blob: certificate.clone(), ..TestUserAuth::default() }.to_bytes();
        for requested in [blob_of(&key.public_key_der()), certificate] {
            let answer = first_answer(fixture.keystore(), &sign_request(&requested, &log_in, flags));
            verify(&answer, name, key, scheme, &log_in);
        }
    }
}

#[test]
fn refused_data_never_reaches_the_key() {
    let fixture = SshFixture::shared();
    let (key, rsa, other) = (&fixture.p256, &fixture.rsa, SoftwareKey::p256());
    let (blob, rsa_blob) = (blob_of(&key.public_key_der()), blob_of(&rsa.public_key_der()));
    let log_in = TestUserAuth::with(key).to_bytes();
    let with_rsa = |algorithm| TestUserAuth { algorithm, ..TestUserAuth::with(rsa) }.to_bytes();
    let git = sshsig("git", b"", "sha512", &[9; 64]);
    let good = sign_request(&blob, &git, 0);
    for (what, message) in [
        ("free bytes", sign_request(&blob, b"free bytes", 0)),
        ("a digest", sign_request(&blob, &[7; 32], 0)),
        ("nothing", sign_request(&blob, b"", 0)),
        ("a login with trailing bytes", sign_request(&blob, &[&log_in[..], &[0]].concat(), 0)),
        ("another key's login", sign_request(&blob, &TestUserAuth::with(&other).to_bytes(), 0)),
        ("a login for another of the agent's keys", sign_request(&rsa_blob, &log_in, 2)),
        ("a key that is not here", sign_request(&blob_of(&other.public_key_der()), &git, 0)),
        ("SHA-1", sign_request(&rsa_blob, &with_rsa("ssh-rsa"), 0)),
        ("SHA-1 for a file", sign_request(&rsa_blob, &git, 0)),
        ("another hash than the flags'", sign_request(&rsa_blob, &with_rsa("rsa-sha2-512"), 2)),
        ("SHA-1 under good flags", sign_request(&rsa_blob, &with_rsa("ssh-rsa"), 2)),
        ("RSA's flags for a curve", sign_request(&blob, &log_in, 2)),
        ("an empty namespace", sign_request(&blob, &sshsig("", b"", "sha512", &[9; 64]), 0)),
        ("trailing bytes after the flags", [&good[..], &[0]].concat()),
        ("no flags", good[..good.len() - 4].to_vec()),
        ("a key with trailing bytes", sign_request(&[&blob[..], &[0]].concat(), &git, 0)),
        ("no key", sign_request(b"", &git, 0)),
    ] {
        assert_eq!(first_answer(fixture.keystore(), &message), FAILURE, "{what}");
    }
    assert!(fixture.purposes().is_empty(), "a key was used");
    assert_eq!(first_answer(fixture.keystore(), &good)[0], 14);
}

#[test]
fn keys_are_listed_with_the_keysets_name_and_the_users_address() {
    let fixture = SshFixture::shared();
    let identities = fixture.keystore().identities();
    let expected = written(|answer| {
        answer.byte(12);
        answer.uint32(3);
        // The order is the token's.
        for identity in &identities {
            let keys = [("p256", &fixture.p256), ("p384", &fixture.p384), ("rsa", &fixture.rsa)];
            let (name, key) = keys.into_iter().find(|(_, key)| key.public_key_der() == identity.spki).unwrap();
            answer.string(&blob_of(&key.public_key_der()));
            answer.string(format!("{} user@example.org", fixture.agent.wallet.name(name).as_str()).as_bytes());
        }
    });
    assert_eq!(first_answer(fixture.keystore(), &[11]), expected);
    assert_eq!(first_answer(fixture.keystore(), &[11, 0]), FAILURE);
}

#[test]
fn a_locked_agent_lists_and_does_nothing() {
    let fixture = SshFixture::shared();
    let mut connection = connection(fixture.keystore());
    let provider = fixture.agent.wallet.name("p256");
    let smartcard = smartcard(20, provider.as_str(), PIN, b"");
    let sign = sign_request(&blob_of(&fixture.p256.public_key_der()), &sshsig("git", b"", "sha256", &[9; 32]), 0);
    assert_eq!(answer(&mut connection, &with_phrase(23, b"phrase")), FAILURE, "it is not locked");
    assert_eq!(answer(&mut connection, &with_phrase(22, b"phrase")), SUCCESS);
    assert_eq!(answer(&mut connection, &[11]), [12, 0, 0, 0, 0]);
    let locked = [sign.clone(), smartcard.clone(), vec![19], with_phrase(22, b"other"), with_phrase(23, b"other")];
    for message in locked {
        assert_eq!(answer(&mut connection, &message), FAILURE, "{}", message[0]);
    }
    fixture.assert_untouched(0);
    assert_eq!(answer(&mut connection, &with_phrase(23, b"phrase")), SUCCESS);
    assert_eq!(answer(&mut connection, &sign)[0], 14);
    assert_eq!(answer(&mut connection, &smartcard), SUCCESS, "the same login");
}

#[test]
fn the_keystore_logs_in_and_off() {
    let (key, other) = (SoftwareKey::p256(), SoftwareKey::p384());
    let wallet = Wallet::new();
    let level = SecurityLevel::Medium;
    wallet.import(authority(), PIN, level, &[("default", &key)]);
    wallet.import(authority(), PIN, level, &[("other", &other)]);
    let agent = open(wallet);
    let keystore = &agent.keystore;
    let events = keystore.events();
    let smartcard =
        |kind: u8, name: &str, pin: &str, tail: &[u8]| smartcard(kind, agent.wallet.name(name).as_str(), pin, tail);
    let says = |message: &[u8], asked: &[&str], events_expected: &str| {
        assert_eq!(first_answer(keystore, message), SUCCESS);
        assert_eq!(agent.person.asked(), asked);
        assert_eq!(changes(&published_events(&events)), events_expected);
    };
    keystore.identities();
    published_events(&events);
    // "log in default Some(PIN)": the session has no time limit.
    says(&smartcard(20, "default", PIN, b""), &[], "+default");
    agent.clock.pass(SignedDuration::from_secs(61));
    agent.poll();
    assert_eq!(agent.session_count(), 1);
    says(&smartcard(21, "default", "", b""), &[], "-default");
    // Without a PIN the agent's own prompter asks, for the token that the client named.
    agent.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    says(&smartcard(26, "default", "", &[1, 0, 0, 0, 60]), &["pin log in t medium"], "+default");
    agent.clock.pass(SignedDuration::from_secs(61));
    agent.poll();
    assert_eq!(changes(&published_events(&events)), "-default");
    agent.person.set_answers([ScriptedAnswer::Pin(PIN)]);
    says(&smartcard(26, "default", "", b""), &["pin log in t medium"], "+default");
    says(&smartcard(20, "other", PIN, b""), &[], "+other");
    says(&remove(&key), &[], "-default");
    // A lifetime of 60 seconds, and a confirmation of each use.
    says(&smartcard(26, "default", PIN, &[1, 0, 0, 0, 60, 2]), &[], "+default");
    agent.clock.pass(SignedDuration::from_secs(59));
    agent.poll();
    assert_eq!(agent.session_count(), 2);
    agent.clock.pass(SignedDuration::from_secs(2));
    agent.poll();
    assert_eq!(changes(&published_events(&events)), "-default");
    says(&smartcard(20, "default", PIN, b""), &[], "+default");
    let before = agent.session_count();
    assert_eq!(first_answer(keystore, &[19]), SUCCESS);
    assert_eq!((before, agent.session_count()), (2, 0));
}

/// The started (+) and ended (-) sessions, by the names of their tokens' only keysets.
fn changes(events: &[Event]) -> String {
    let name = |label: &str| if label.contains("default") { "default" } else { "other" }.to_owned();
    let of_event = |event: &Event| match event {
        Event::LoggedIn(token) => Some(format!("+{}", name(&token.label))),
        Event::LoggedOff { token, reason: LogOffReason::Requested | LogOffReason::Idle } => {
            Some(format!("-{}", name(&token.label)))
        }
        _ => None,
    };
    events.iter().filter_map(of_event).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_login_with_an_unenforceable_constraint_is_refused() {
    let fixture = SshFixture::shared();
    let provider = fixture.agent.wallet.name("p256");
    let with = |tail: &[u8]| smartcard(26, provider.as_str(), PIN, tail);
    let restricted = written(|constraint| {
        constraint.byte(255);
        constraint.string(b"restrict-destination-v00@openssh.com");
        constraint.string(b"");
    });
    for tail in [&[0][..], &[3, 0, 0, 0, 1], &[4], &[1], &[1, 0, 0, 0, 9, 1, 0, 0, 0, 9], &[2, 2], &[255], &restricted]
    {
        assert_eq!(first_answer(fixture.keystore(), &with(tail)), FAILURE, "{tail:?}");
    }
    let control = smartcard(20, provider.as_str(), "123\n456", b"");
    assert_eq!(first_answer(fixture.keystore(), &control), FAILURE);
    fixture.assert_untouched(0);
    assert_eq!(first_answer(fixture.keystore(), &with(b"")), SUCCESS, "without a constraint");
}

#[test]
fn a_token_is_named_by_its_module_uri_label_serial_or_keyset() {
    let fixture = SshFixture::shared();
    let token = &fixture.token;
    let uri = crate::token::TokenUri::of(token).to_string();
    let module = token.source.to_str().unwrap();
    let name = fixture.agent.wallet.name("rsa");
    for provider in [module, &uri, &token.label, &token.serial, name.as_str()] {
        assert_eq!(first_answer(fixture.keystore(), &smartcard(20, provider, PIN, b"")), SUCCESS, "{provider}");
        assert_eq!(fixture.agent.session_count(), 1, "{provider}");
        assert_eq!(first_answer(fixture.keystore(), &smartcard(21, provider, "", b"")), SUCCESS, "{provider}");
        fixture.assert_untouched(0);
    }
    for provider in ["/usr/lib/another.so", "pkcs11:token=another", "pkcs11:%", "another", ""] {
        assert_eq!(first_answer(fixture.keystore(), &smartcard(20, provider, PIN, b"")), FAILURE, "{provider}");
        fixture.assert_untouched(0);
    }
}

#[test]
fn private_keys_ssh_1_and_unknown_messages_are_refused() {
    let fixture = SshFixture::shared();
    fixture.log_in();
    let keystore = fixture.keystore();
    for kind in (0..=255).filter(|kind| ![11, 19].contains(kind)) {
        assert_eq!(first_answer(keystore, &[kind]), FAILURE, "{kind}");
    }
    for kind in [17, 25] {
        let message = written(|message| {
            message.byte(kind);
            message.string(b"ssh-ed25519");
            message.string(&[7; 32]);
            message.string(&[7; 64]);
            message.string(b"comment");
        });
        assert_eq!(first_answer(keystore, &message), FAILURE);
    }
    assert!(!keystore.is_locked());
    fixture.assert_untouched(1);
}

#[test]
fn known_extensions_are_listed_and_unknown_ones_refused() {
    let keystore = without_tokens();
    let extension = |name: &[u8]| {
        written(|message| {
            message.byte(27);
            message.string(name);
        })
    };
    let expected = written(|answer| {
        answer.byte(29);
        for name in [&b"query"[..], b"query", b"session-bind@openssh.com"] {
            answer.string(name);
        }
    });
    assert_eq!(first_answer(&keystore, &extension(b"query")), expected);
    assert_eq!(first_answer(&keystore, &[&extension(b"query")[..], &[0]].concat()), [28]);
    assert_eq!(first_answer(&keystore, &extension(b"session-bind@openssh.com")), [28]);
    for name in [&b"restrict-destination-v00@openssh.com"[..], b"", b"\xff"] {
        assert_eq!(first_answer(&keystore, &extension(name)), FAILURE);
    }
}

#[test]
fn a_refusal_is_logged_with_its_reason_and_no_secret() {
    use crate::agent::ssh::SshRequest;
    let message = written(|message| {
        message.byte(26);
        message.string(b"default");
        message.string(b"geheim-4711");
        message.bytes(&[2, 1, 0, 0, 0, 9]);
    });
    let request = SshRequest::read(&message).unwrap();
    assert!(!format!("{request:?}").contains("4711"), "{request:?}");
    let lock = written(|message| {
        message.byte(22);
        message.string(b"geheim-4711");
    });
    let shown = format!("{:?}", SshRequest::read(&lock).unwrap());
    assert!(!shown.contains("4711") && !shown.contains("52, 55"), "{shown}");
    for message in [vec![], vec![99], vec![13, 0]] {
        assert!(SshRequest::read(&message).unwrap_err().to_string().starts_with("cannot "));
    }
}

/// A key blob is converted once, not for each signature.
#[test]
fn the_second_signature_with_a_key_does_not_read_its_blob_again() {
    let agent = fixture(&[("a", SecurityLevel::Low)]);
    let spki = agent.identity("a").spki.clone();
    let mut connection = connection(&agent.keystore);
    agent.person.set_answers([ScriptedAnswer::Pin(test_support::PIN)]);
    let request = sign_request(&blob_of(&spki), &sshsig("git", b"", "sha256", &[9; 32]), 0);
    let mut converted = Vec::new();
    for _ in 0..3 {
        assert_eq!(answer(&mut connection, &request)[0], 14);
        converted.push(connection.last_key.1.as_ptr());
    }
    assert_eq!(converted, [converted[0]; 3], "the blob was converted again");
    agent.delete("a");
    let answered = answer(&mut connection, &request);
    assert_eq!(answered, FAILURE, "the keystore is asked each time, because the key may be absent");
    // An invalid blob must not match the previous key.
    let none = sign_request(b"none", &sshsig("git", b"", "sha256", &[9; 32]), 0);
    assert_eq!(answer(&mut connection, &none), FAILURE);
    assert_eq!(answer(&mut connection, &none), FAILURE);
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let fixture = SshFixture::shared();
    let (mut client, agent) = UnixStream::pair().unwrap();
    let served = std::thread::spawn({
        let keystore = fixture.keystore().clone();
        move || connection(&keystore).serve(&agent)
    });
    let mut ask = |message: &[u8]| {
        client.write_all(&u32::try_from(message.len()).unwrap().to_be_bytes())?;
        client.write_all(message)?;
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        client.read_exact(&mut answer).map(|()| answer)
    };
    assert_eq!(ask(&[11]).unwrap()[..5], [12, 0, 0, 0, 3]);
    assert_eq!(ask(&[99]).unwrap(), FAILURE);
    assert_eq!(ask(&vec![13; 200_000]).unwrap(), FAILURE);
    assert_eq!(ask(&[11]).unwrap()[0], 12);
    ask(&vec![13; 256 * 1024 + 1]).unwrap_err();
    drop(client);
    served.join().unwrap().unwrap_err();
}

proptest! {
    #[test]
    fn every_message_gets_an_answer(message in prop::collection::vec(any::<u8>(), 1..400)) {
        prop_assert!(!first_answer(&without_tokens(), &message).is_empty());
    }

    #[test]
    fn every_message_of_a_known_kind_gets_an_answer(
        kind in prop::sample::select(vec![11_u8, 13, 17, 18, 19, 20, 21, 22, 23, 25, 26, 27]),
        strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        tail in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let message = written(|message| {
            message.byte(kind);
            for string in &strings {
                message.string(string);
            }
            message.bytes(&tail);
        });
        prop_assert!(!first_answer(&without_tokens(), &message).is_empty());
    }
}
