//! Sessions of real clients with OpenSSH's agent, recorded in `tests/corpus/ssh` and replayed to
//! this endpoint.

use jiff::SignedDuration;

use super::{SshFixture, answer, connection, corpus, written};
use crate::agent::ssh::framing::MessageReader;
use crate::agent::ssh::key_blob::KeyBlob;
use crate::agent::ssh::signature_kind::is_valid_signature;
use crate::agent::ssh::wire::Reader;
use crate::agent::ssh::{SignedData, SshRequest};
use crate::keyset::Purpose;

/// The messages of a client on one connection, each with the agent's answer.
type Recording = Vec<(Vec<u8>, Vec<u8>)>;

/// The recorded connections whose names have this prefix.
fn recordings(prefix: &str) -> Vec<(String, Recording)> {
    let entries = std::fs::read_dir(corpus().join("ssh/openssh")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    assert!(!names.is_empty(), "no recordings of {prefix}");
    names.into_iter().map(|name| (name.clone(), recording(&name))).collect()
}

fn recording(name: &str) -> Recording {
    let bytes = std::fs::read(corpus().join("ssh/openssh").join(name)).unwrap();
    let (mut stream, mut incoming) = (&bytes[..], MessageReader::new());
    let mut next = || incoming.next(&mut stream).unwrap().map(<[u8]>::to_vec);
    std::iter::from_fn(|| Some((next()?, next().unwrap()))).collect()
}

/// Returns true if the answer to a request to sign is valid.
fn is_signed(message: &[u8], answer: &[u8]) -> bool {
    let SshRequest::Sign(request) = SshRequest::read(message).unwrap() else { panic!() };
    let key = KeyBlob::read(request.key_blob).unwrap().key;
    let mut reader = Reader::new(answer);
    reader.byte() == Some(14)
        && reader.string().is_some_and(|signature| is_valid_signature(key, request.data, signature))
        && reader.is_at_end()
}

#[test]
fn every_login_is_signed_for_the_bound_host() {
    let fixture = SshFixture::shared();
    let mut signed = 0;
    for (name, messages) in recordings("log-in-").into_iter().chain(recordings("forwarded-1")) {
        let mut connection = connection(fixture.keystore());
        for (message, theirs) in messages {
            let ours = answer(&mut connection, &message);
            match message[0] {
                27 if name.contains("p521") => assert_eq!((&ours[..], &theirs[..]), (&[28][..], &[6][..])),
                13 => {
                    assert!(is_signed(&message, &ours), "{name}");
                    assert!(is_signed(&message, &theirs), "{name}");
                    // RSA signatures (PKCS #1 v1.5) are deterministic.
                    assert!(!name.contains("rsa-") || name.contains("p256-to") || ours == theirs, "{name}");
                    signed += 1;
                }
                11 => assert_eq!(ours[..5], theirs[..5], "{name}"),
                _ => assert_eq!(ours, theirs, "{name}"),
            }
        }
        let purposes = fixture.purposes();
        let [Purpose::SshLogIn { user, host_key: Some(host), forwarded_by: None }] = &purposes[..] else {
            panic!("{name}: {purposes:?}")
        };
        assert!(!user.is_empty() && host.starts_with("SHA256:"), "{name}: {purposes:?}");
        assert_eq!(host.contains("not verified"), name.contains("p521"), "{name}");
    }
    assert!(signed >= 10, "{signed}");
}

#[test]
fn a_login_over_a_forwarded_connection_names_the_forwarder() {
    let fixture = SshFixture::shared();
    let mut connection = connection(fixture.keystore());
    for (message, theirs) in recording("forwarded-3.bin") {
        let ours = answer(&mut connection, &message);
        match message[0] {
            13 => assert!(is_signed(&message, &ours)),
            11 => assert_eq!(ours[..5], theirs[..5]),
            _ => assert_eq!(ours, theirs),
        }
    }
    let purposes = fixture.purposes();
    let [Purpose::SshLogIn { host_key: Some(host), forwarded_by: Some(forwarder), .. }] = &purposes[..] else {
        panic!("{purposes:?}")
    };
    assert!(host.starts_with("SHA256:") && forwarder.starts_with("SHA256:"), "{purposes:?}");
}

#[test]
fn every_sshsig_blob_is_signed() {
    let fixture = SshFixture::shared();
    let mut namespaces = Vec::new();
    for (name, messages) in ["sshsig-", "git-", "forwarded-git-3"].into_iter().flat_map(recordings) {
        let mut connection = connection(fixture.keystore());
        for (message, theirs) in messages {
            let ours = answer(&mut connection, &message);
            match message[0] {
                13 => {
                    assert!(is_signed(&message, &ours) && is_signed(&message, &theirs), "{name}");
                    assert!(!name.contains("rsa") || ours == theirs, "{name}");
                }
                11 => assert_eq!(ours[..5], theirs[..5], "{name}"),
                _ => assert_eq!(ours, theirs, "{name}"),
            }
        }
        for purpose in fixture.purposes() {
            let Purpose::SshSignature { namespace, hash, .. } = &purpose else { panic!("{name}: {purpose:?}") };
            namespaces.push(format!("{namespace} {} {}", hash.0, hash.1.len()));
        }
    }
    namespaces.sort();
    let expected = [
        "file sha512 64",
        "file sha512 64",
        "file sha512 64",
        "git sha512 64",
        "git sha512 64",
        "user@example.org sha256 32",
    ];
    assert_eq!(namespaces, expected);
}

#[test]
fn the_keys_are_listed_as_openssh_lists_them() {
    let fixture = SshFixture::shared();
    for (_, messages) in recordings("list-") {
        for (message, theirs) in messages {
            let ours = super::first_answer(fixture.keystore(), &message);
            let blobs = |answer: &[u8]| {
                let mut reader = Reader::new(&answer[5..]);
                let mut blobs: Vec<Vec<u8>> = std::iter::from_fn(|| {
                    let blob = reader.string()?.to_vec();
                    reader.text().map(|_comment| blob)
                })
                .collect();
                assert!(reader.is_at_end());
                // OpenSSH's agent lists keys as they were added, this one as the token does.
                blobs.sort();
                blobs
            };
            assert_eq!(blobs(&ours), blobs(&theirs));
            assert_eq!(blobs(&ours).len(), 3);
        }
    }
}

/// The recorded message, with the path of this machine's module.
fn for_this_module(fixture: &SshFixture, message: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(message);
    let Some(kind @ (20 | 21 | 26)) = reader.byte() else { return message.to_vec() };
    let recorded = reader.string().unwrap();
    assert_eq!(recorded, b"/usr/lib/softhsm/libsofthsm2.so");
    written(|writer| {
        writer.byte(kind);
        writer.string(fixture.token.source.as_os_str().as_encoded_bytes());
        writer.bytes(&message[5 + recorded.len()..]);
    })
}

#[test]
fn ssh_add_logs_in_logs_off_locks_and_unlocks() {
    let fixture = SshFixture::shared();
    for (prefix, ours, before, after, locked) in [
        ("add-card-1", &[6][..], 0, 1, false),
        ("add-card-c", &[6], 0, 1, false),
        ("remove-card", &[6], 1, 0, false),
        ("remove-key", &[6], 1, 0, false),
        // A private key is rejected; the SSH 1 message that follows the removal of all keys is
        // unknown.
        ("add-key", &[5], 1, 1, false),
        ("remove-all", &[6, 5], 1, 0, false),
        ("lock-1", &[6], 1, 0, true),
        ("lock-2", &[12], 0, 0, true),
        ("lock-3", &[6], 0, 0, false),
    ] {
        if before == 0 {
            fixture.keystore().log_off(None).unwrap();
        } else {
            fixture.log_in();
        }
        for (name, messages) in recordings(prefix) {
            let answers = messages
                .iter()
                .map(|(message, _)| super::first_answer(fixture.keystore(), &for_this_module(&fixture, message))[0]);
            assert_eq!(answers.collect::<Vec<_>>(), ours, "{name}");
        }
        assert_eq!((fixture.agent.session_count(), fixture.keystore().is_locked()), (after, locked), "{prefix}");
        // The recordings have the PIN: nobody is asked.
        fixture.assert_untouched(after);
        // `ssh-add -t 60` was recorded; `ssh-add` alone sets no limit.
        fixture.agent.clock.pass(SignedDuration::from_secs(61));
        fixture.agent.poll();
        let left = if prefix == "add-card-c" { 0 } else { after };
        assert_eq!(fixture.agent.session_count(), left, "{prefix}");
    }
}

/// A recorded request is signed for its content, not because it was recorded.
#[test]
fn a_truncated_recorded_request_is_rejected() {
    for (name, messages) in ["log-in-", "sshsig-"].into_iter().flat_map(recordings) {
        for (message, _) in messages.iter().filter(|(message, _)| message[0] == 13) {
            let SshRequest::Sign(request) = SshRequest::read(message).unwrap() else { panic!() };
            for cut in 0..request.data.len() {
                assert!(SignedData::read(&request.data[..cut]).is_err(), "{name} {cut}");
                assert!(cut == 0 || SignedData::read(&request.data[cut..]).is_err(), "{name} from {cut}");
            }
        }
    }
}
