//! The indexes: round trips, and rejection of foreign, newer and damaged data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn record() -> KeysetRecord {
    KeysetRecord {
        name: "default".parse().unwrap(),
        level: SecurityLevel::High,
        authority: AuthorityAddress {
            name: "Example, Authority".into(),
            http: "http://127.0.0.1:8829".into(),
            https: "https://127.0.0.1:8830".into(),
        },
        keys: Some(KeysetKeyIds {
            signing: Hex(vec![1; 20]),
            encryption: vec![Hex(vec![2; 20]), Hex(vec![3; 20])],
            authority: Hex(vec![4; 20]),
        }),
    }
}

fn pending(stage: EnrollmentStage) -> Pending {
    Pending {
        transaction_id: Hex(vec![9; 16]),
        reference: "E12345678X".into(),
        new_token: true,
        signing: Hex(vec![5; 20]),
        signing_algorithm: KeyAlgorithm::P256,
        transport: Hex(vec![6; 20]),
        stage,
    }
}

fn object(label: &str, value: &[u8]) -> DataObject {
    DataObject { label: label.into(), value: value.to_vec() }
}

fn stages() -> Vec<EnrollmentStage> {
    let keys = record().keys.unwrap();
    let (request, made) = (Base64(vec![0x30, 0]), vec![Hex(vec![7; 20])]);
    vec![
        EnrollmentStage::Making,
        EnrollmentStage::Requested { request: request.clone() },
        EnrollmentStage::Installing { request: request.clone(), keys: keys.clone(), made: made.clone() },
        EnrollmentStage::Installed {
            request: request.clone(),
            keys: keys.clone(),
            made: made.clone(),
            confirmation: Base64(vec![0x30, 2]),
        },
        EnrollmentStage::Confirmed { keys },
        EnrollmentStage::Abandoned { request: Some(request), made },
    ]
}

#[test]
fn every_stage_is_read_back_as_it_was_written() {
    for stage in stages() {
        let mut index = PrivateIndex::new(record(), [8; 32]);
        index.pending = Some(pending(stage));
        let value = serde_json::to_vec(&index).unwrap();
        assert_eq!(read::<PrivateIndex>(&value).unwrap(), index);
        let public = PublicIndex::of(&index);
        assert_eq!(read::<PublicIndex>(&serde_json::to_vec(&public).unwrap()).unwrap(), public);
    }
}

#[test]
fn the_public_index_reveals_no_private_fields() {
    let mut index = PrivateIndex::new(record(), [0xCA; 32]);
    index.pending = Some(pending(EnrollmentStage::Requested { request: Base64(b"request".to_vec()) }));
    let text = serde_json::to_string(&PublicIndex::of(&index)).unwrap();
    assert!(!text.contains(&STANDARD.encode(b"request")) && !text.contains("stage"), "{text}");
    assert!(text.contains("E12345678X") && text.contains(&"09".repeat(16)), "{text}");
}

#[test]
fn a_value_padded_with_zeros_is_read() {
    let mut value = serde_json::to_vec(&PrivateIndex::new(record(), [8; 32])).unwrap();
    value.extend([0; 7]);
    assert!(read::<PrivateIndex>(&value).is_ok());
}

#[test]
fn of_two_indexes_after_a_kill_the_later_one_counts() {
    let old = PrivateIndex { revision: 3, ..PrivateIndex::new(record(), [1; 32]) };
    let new = PrivateIndex { revision: 4, ..PrivateIndex::new(record(), [2; 32]) };
    let objects = [&old, &new].map(|index| object("default", &serde_json::to_vec(index).unwrap()));
    for order in [[0, 1], [1, 0]] {
        let (found, unreadable) =
            latest::<PrivateIndex>(order.iter().map(|at| objects[*at].clone()).collect(), |index| index.revision);
        assert_eq!(found, vec![("default".to_owned(), new.clone())]);
        assert!(unreadable.is_empty());
    }
}

#[test]
fn a_damaged_index_does_not_hide_a_valid_one() {
    let whole = PrivateIndex::new(record(), [1; 32]);
    let objects = vec![object("default", b"{\"version\":1,"), object("default", &serde_json::to_vec(&whole).unwrap())];
    let (found, unreadable) = latest::<PrivateIndex>(objects, |index| index.revision);
    assert_eq!((found.len(), unreadable.len()), (1, 0));
}

#[test]
fn an_unreadable_index_is_reported_with_the_reason() {
    let newer =
        serde_json::to_string(&PrivateIndex::new(record(), [1; 32])).unwrap().replace("\"version\":1", "\"version\":2");
    let unknown = serde_json::to_string(&PrivateIndex::new(record(), [1; 32]))
        .unwrap()
        .replace("\"version\":1", "\"version\":1,\"x\":0");
    for (value, why) in [
        (newer.as_str(), "newer tokenkeep"),
        (unknown.as_str(), "unknown field"),
        ("", "cannot be read"),
        ("[]", "cannot be read"),
    ] {
        let (found, mut unreadable) =
            latest::<PrivateIndex>(vec![object("default", value.as_bytes())], |index| index.revision);
        assert!(found.is_empty());
        let message = unreadable.remove(0).into_error("token").to_string();
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn every_change_to_a_public_index_is_detected() {
    let mut private = PrivateIndex::new(record(), [1; 32]);
    private.pending = Some(pending(EnrollmentStage::Making));
    let honest = PublicIndex::of(&private);
    assert_eq!(honest.differs_from(&private), None);

    let changed = |change: &dyn Fn(&mut PublicIndex)| {
        let mut index = honest.clone();
        change(&mut index);
        index.differs_from(&private)
    };
    assert_eq!(changed(&|index| index.keyset.level = SecurityLevel::Low), Some("security level"));
    assert_eq!(changed(&|index| index.keyset.authority.http = "http://elsewhere".into()), Some("authority"));
    assert_eq!(changed(&|index| index.keyset.keys = None), Some("keys"));
    assert_eq!(changed(&|index| index.pending = None), Some("unfinished enrollment"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_the_reader_panic(value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = read::<PrivateIndex>(&value);
        let _ = read::<PublicIndex>(&value);
    }

    #[test]
    fn any_bytes_survive_hex_and_base64(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
        let hex: Hex = serde_json::from_str(&serde_json::to_string(&Hex(bytes.clone())).unwrap()).unwrap();
        let base64: Base64 = serde_json::from_str(&serde_json::to_string(&Base64(bytes.clone())).unwrap()).unwrap();
        proptest::prop_assert_eq!(&hex.0, &bytes);
        proptest::prop_assert_eq!(&base64.0, &bytes);
    }
}
