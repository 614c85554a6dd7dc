//! What the card permits after PIN and management key, and refuses without them.

use super::host::respond;
use super::host::{
    NOT_PERMITTED, PROFILES, authenticate, content, factory_key, generate, get, prove_management, put, selected, verify,
};
use super::padded;
use crate::support::virtual_card::{
    Algorithm, Card, KeySlot, ManagementAlgorithm, ManagementKey, Origin, PinPolicy, PrivateKey, Profile, Status,
    TouchPolicy, element, instruction, tag,
};

#[test]
fn the_management_key_is_proved_in_all_algorithms() {
    let algorithms = [
        ManagementAlgorithm::TripleDes,
        ManagementAlgorithm::Aes128,
        ManagementAlgorithm::Aes192,
        ManagementAlgorithm::Aes256,
    ];
    for algorithm in algorithms {
        let mut card = selected(Profile::YubiKey571);
        assert_eq!(prove_management(&mut card, &factory_key(Profile::YubiKey571)), Status::OK);
        let value: Vec<u8> = (1..=32).take(algorithm.key_length()).collect();
        let set = [&[algorithm as u8, 0x9b, u8::try_from(value.len()).unwrap()], &value[..]].concat();
        assert_eq!(card.send(instruction::SET_MANAGEMENT_KEY, 0xff, 0xff, &set).1, Status::OK);
        card.reset();
        card.send(instruction::SELECT, 4, 0, &[0xa0, 0, 0, 3, 8]);
        let key = ManagementKey::new(algorithm, &value);
        // Mutual authentication.
        let witness = content(&authenticate(&mut card, algorithm as u8, &[element(0x80, &[])]).0, 0x80);
        let challenge = vec![0x5a; witness.len()];
        let answer = [element(0x80, &key.decrypt(&witness)), element(0x81, &challenge)];
        let (response, status) = authenticate(&mut card, algorithm as u8, &answer);
        assert_eq!((content(&response, 0x82), status), (key.encrypt(&challenge), Status::OK));
        assert!(generate(&mut card, 0x9a, Algorithm::P256).1.is_success());
        // The same answer again is refused.
        assert_ne!(authenticate(&mut card, algorithm as u8, &answer).1, Status::OK);
    }
}

#[test]
fn a_wrong_management_key_ends_the_authentication() {
    for profile in PROFILES {
        let mut card = selected(profile);
        let right = factory_key(profile);
        let wrong = ManagementKey::new(right.algorithm, &[9; 24]);
        assert_eq!(prove_management(&mut card, &right), Status::OK);
        assert_eq!(prove_management(&mut card, &wrong), NOT_PERMITTED);
        assert_eq!(generate(&mut card, 0x9a, Algorithm::P256).1, NOT_PERMITTED);
        let other = ManagementKey::new(ManagementAlgorithm::Aes128, &[9; 16]);
        assert_eq!(prove_management(&mut card, &other), Status(0x6a86), "another algorithm");
        // A response without a challenge of the card.
        let answer = [element(0x82, &[0; 8])];
        assert_ne!(authenticate(&mut card, right.algorithm as u8, &answer).1, Status::OK);
    }
    // YubiKeys before 5.4 have no AES.
    let mut card = selected(Profile::YubiKey435);
    prove_management(&mut card, &factory_key(Profile::YubiKey435));
    let set = [&[0x08, 0x9b, 16], &[1; 16][..]].concat();
    assert_eq!(card.send(instruction::SET_MANAGEMENT_KEY, 0xff, 0xff, &set).1, Status(0x6a80));
}

#[test]
fn changes_are_refused_without_the_management_key() {
    for profile in PROFILES {
        let mut card = selected(profile);
        assert_eq!(verify(&mut card, "123456"), Status::OK);
        assert_eq!(generate(&mut card, 0x9a, Algorithm::P256).1, NOT_PERMITTED);
        assert_eq!(put(&mut card, tag::CHUID, &[1]), NOT_PERMITTED);
        assert_eq!(get(&mut card, tag::CHUID).1, Status(0x6a82));
        if profile != Profile::Plain {
            let scalar = element(6, &[7; 32]);
            assert_eq!(card.send(instruction::IMPORT_KEY, 0x11, 0x9a, &scalar).1, NOT_PERMITTED);
            let set = [&[0x03, 0x9b, 24], &[1; 24][..]].concat();
            assert_eq!(card.send(instruction::SET_MANAGEMENT_KEY, 0xff, 0xff, &set).1, NOT_PERMITTED);
            assert_eq!(card.send(instruction::SET_PIN_RETRIES, 5, 5, &[]).1, NOT_PERMITTED);
        }
        assert!(card.key(0x9a).is_none());
    }
    let mut card = selected(Profile::YubiKey571);
    card.put_key_with_certificate(0x9a, Algorithm::P256, "a");
    assert_eq!(card.send(instruction::MOVE_KEY, 0x82, 0x9a, &[]).1, NOT_PERMITTED);
    prove_management(&mut card, &factory_key(Profile::YubiKey571));
    assert_eq!(card.send(instruction::SET_PIN_RETRIES, 5, 5, &[]).1, NOT_PERMITTED, "without the PIN");
}

#[test]
fn cards_refuse_commands_that_they_do_not_have() {
    let unknown = |profile: Profile, instructions: &[u8]| {
        let mut card = selected(profile);
        for instruction in instructions {
            assert_eq!(card.send(*instruction, 0, 0x80, &[]).1, Status(0x6d00), "{instruction:02x}");
        }
    };
    let [metadata, serial, move_key] = [instruction::GET_METADATA, instruction::GET_SERIAL, instruction::MOVE_KEY];
    unknown(Profile::YubiKey435, &[metadata, serial, move_key]);
    unknown(Profile::YubiKey543, &[move_key]);
    unknown(Profile::Plain, &[0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfd, 0xfe, 0xff]);
    // Policies are an extension of YubiKeys too.
    let mut card = selected(Profile::Plain);
    prove_management(&mut card, &factory_key(Profile::Plain));
    let control = element(0xac, &[element(0x80, &[0x11]), element(0xaa, &[1])].concat());
    assert_eq!(card.send(instruction::GENERATE, 0, 0x9a, &control).1, Status(0x6a80));
    for profile in [Profile::YubiKey435, Profile::YubiKey543, Profile::Plain] {
        let mut card = selected(profile);
        prove_management(&mut card, &factory_key(profile));
        for algorithm in [Algorithm::Rsa3072, Algorithm::Rsa4096, Algorithm::Ed25519] {
            assert_eq!(generate(&mut card, 0x9a, algorithm).1, Status(0x6a80), "{profile:?} {algorithm:?}");
        }
    }
}

#[test]
fn pins_of_wrong_length_cost_no_try() {
    let mut card = selected(Profile::YubiKey543);
    assert_eq!(card.send(instruction::VERIFY, 0, 0x80, b"123456").1, Status(0x6a80));
    assert_eq!(card.send(instruction::VERIFY, 0, 0x80, &[]).1, Status(0x63c3));
    assert_eq!(verify(&mut card, "654321"), Status(0x63c2));
    let mut change = |old: &str, new: &str| {
        card.send(instruction::CHANGE_REFERENCE_DATA, 0, 0x80, &[padded(old), padded(new)].concat()).1
    };
    assert_eq!(change("123456", "12345"), Status(0x6a80));
    assert_eq!(change("654321", "777777"), Status(0x63c2));
    assert_eq!(change("654321", "777777"), Status(0x63c1));
    assert_eq!(change("654321", "777777"), Status(0x63c0));
    assert_eq!(change("123456", "777777"), Status(0x6983));
    assert_eq!(card.send(instruction::VERIFY, 0, 0x80, &[]).1, Status(0x6983));
    let unblock = [padded("12345678"), padded("777777")].concat();
    assert_eq!(card.send(instruction::RESET_RETRY_COUNTER, 0, 0x80, &unblock).1, Status::OK);
    assert_eq!(verify(&mut card, "777777"), Status::OK);
}

#[test]
fn keys_are_used_by_their_policies() {
    let mut card = selected(Profile::YubiKey543);
    let digest = [3; 32];
    let key = |pin_policy, touch_policy| {
        let key = PrivateKey::generate(Algorithm::P256);
        KeySlot { key, pin_policy, touch_policy, origin: Origin::Generated }
    };
    card.put_key(0x9a, key(PinPolicy::Never, TouchPolicy::Always));
    card.put_key(0x9c, key(PinPolicy::Always, TouchPolicy::Never));
    card.put_key(0x9d, key(PinPolicy::Once, TouchPolicy::Never));
    let sign = |card: &mut Card, slot: u8| respond(card, slot, Algorithm::P256, &digest).1;
    assert_eq!(sign(&mut card, 0x9a), NOT_PERMITTED, "nobody touches");
    card.touch().answer(true);
    assert_eq!(sign(&mut card, 0x9a), Status::OK);
    assert_eq!(sign(&mut card, 0x9c), NOT_PERMITTED, "no PIN");
    assert_eq!(sign(&mut card, 0x9d), NOT_PERMITTED, "no PIN");
    verify(&mut card, "123456");
    assert_eq!(sign(&mut card, 0x9d), Status::OK);
    assert_eq!(sign(&mut card, 0x9d), Status::OK);
    assert_eq!(sign(&mut card, 0x9c), NOT_PERMITTED, "the PIN was used");
    verify(&mut card, "123456");
    assert_eq!(sign(&mut card, 0x9c), Status::OK);
    assert_eq!(sign(&mut card, 0x9c), NOT_PERMITTED, "the PIN was used");
    assert_eq!(sign(&mut card, 0x82), Status(0x6a88), "an empty slot");
    assert_eq!(respond(&mut card, 0x9d, Algorithm::P384, &digest).1, Status(0x6a86), "another algorithm");
    assert_eq!(respond(&mut card, 0x9d, Algorithm::P256, &[3; 48]).1, Status(0x6a80), "a long digest");
    assert_eq!(card.transcript().key_uses(), 4);
    assert_eq!(card.transcript().touches(), 2);
}

#[test]
fn printed_information_needs_the_pin_and_objects_have_limits() {
    let mut card = selected(Profile::YubiKey543);
    card.put_object(tag::PRINTED, b"a secret");
    assert_eq!(get(&mut card, tag::PRINTED).1, NOT_PERMITTED);
    verify(&mut card, "123456");
    assert_eq!(get(&mut card, tag::PRINTED).0, element(0x53, b"a secret"));
    card.send(instruction::VERIFY, 0xff, 0x80, &[]);
    assert_eq!(get(&mut card, tag::PRINTED).1, NOT_PERMITTED);
    prove_management(&mut card, &factory_key(Profile::YubiKey543));
    let large = vec![7; 3000];
    assert_eq!(put(&mut card, 0x5f_ff10, &large), Status::OK);
    assert_eq!(get(&mut card, 0x5f_ff10).0, element(0x53, &large));
    assert_eq!(put(&mut card, 0x5f_ff11, &vec![7; 3062]), Status(0x6a84));
    assert_eq!(put(&mut card, 0x5f_ff10, &[]), Status::OK);
    assert_eq!(get(&mut card, 0x5f_ff10).1, Status(0x6a82), "an empty content deletes");
    assert_eq!(
        card.send(instruction::GET_DATA, 0x3f, 0x00, &super::host::object_request(tag::CHUID)).1,
        Status(0x6a86)
    );
}
