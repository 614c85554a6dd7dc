//! Tests: the audit key signs each checkpoint for one authority and one position in its log.

use ::signature::Signer;

use super::*;
use crate::pki::test_support::SoftwareKey;

/// A checkpoint signed with this key.
pub(crate) fn signed(key: &SoftwareKey, authority: Fingerprint, newest: LogPosition, at: Timestamp) -> Checkpoint {
    let content = Checkpoint::content(authority, newest, at).unwrap();
    let signature = key.try_sign(&content).unwrap().as_bytes().to_vec();
    Checkpoint { sequence: newest.sequence, head: newest.head, at, key: key.public_key_der(), signature }
}

fn authority() -> Fingerprint {
    Fingerprint::of(b"a CA certificate")
}

#[test]
fn every_kind_of_key_signs_checkpoints_that_verify() {
    let at: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
    let newest = LogPosition { sequence: 7, head: [3; 32] };
    for key in [SoftwareKey::p256(), SoftwareKey::p384(), SoftwareKey::rsa()] {
        let good = signed(&key, authority(), newest, at);
        good.verify(authority()).unwrap();
        assert_eq!(good.position(), newest);
        let refused = |checkpoint: Checkpoint| checkpoint.verify(authority()).is_err();
        assert!(good.verify(Fingerprint::of(b"another CA certificate")).is_err());
        assert!(refused(Checkpoint { sequence: 8, ..good.clone() }));
        assert!(refused(Checkpoint { head: [4; 32], ..good.clone() }));
        assert!(refused(Checkpoint { at: "2026-11-22T14:00:01Z".parse().unwrap(), ..good.clone() }));
        assert!(refused(Checkpoint { key: SoftwareKey::p256().public_key_der(), ..good.clone() }));
        assert!(refused(Checkpoint { key: Vec::new(), ..good.clone() }));
        assert!(refused(Checkpoint { signature: Vec::new(), ..good }));
    }
}

#[test]
fn the_signed_content_is_as_documented() {
    let at = "2026-11-22T14:00:00Z".parse().unwrap();
    let ca = authority();
    let content = Checkpoint::content(ca, LogPosition { sequence: 300, head: [3; 32] }, at).unwrap();
    let documented = [
        &[0x30, 0x6c, 0x0c, 28][..],
        b"tokenkeep audit checkpoint 1",
        &[0x04, 32],
        ca.as_bytes(),
        &[0x02, 2, 1, 44, 0x04, 32],
        &[3; 32],
        &[0x02, 4, 0x6b, 0x02, 0xf5, 0x60],
    ];
    assert_eq!(hex::encode(content), hex::encode(documented.concat()));
}
