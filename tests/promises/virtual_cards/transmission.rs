//! Selection, chains, long responses, faults and the transcript.

use std::time::Duration;

use super::host::{get, prove_management, put, respond, selected, verify};
use super::padded;
use crate::support::virtual_card::{
    Algorithm, Card, Effect, FACTORY_MANAGEMENT_KEY, ManagementAlgorithm, ManagementKey, Profile, Status, Transmission,
    Trigger, element, instruction, tag,
};

#[test]
fn the_applet_is_selected_by_name_and_answers_only_then() {
    let name = [0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];
    for length in [5, 9, 11] {
        let mut card = Card::new(Profile::YubiKey543);
        assert_eq!(card.send(instruction::GET_VERSION, 0, 0, &[]).1, Status(0x6d00));
        let (response, status) = card.send(instruction::SELECT, 4, 0, &name[..length]);
        assert_eq!((hex::encode(response), status.0), ("61114f0600001000010079074f05a000000308".to_owned(), 0x9000));
        assert_eq!(card.send(instruction::GET_VERSION, 0, 0, &[]).0, [5, 4, 3]);
        card.reset();
        assert_eq!(card.send(instruction::GET_VERSION, 0, 0, &[]).1, Status(0x6d00));
    }
    let mut card = selected(Profile::Plain);
    for unknown in [&[0xa0, 0, 0, 3][..], &[0xa0, 0, 0, 3, 9], &[0xa0, 0, 0, 5, 0x27, 0x20, 1, 1]] {
        assert_eq!(card.send(instruction::SELECT, 4, 0, unknown).1, Status(0x6a82));
    }
    assert!(get(&mut card, tag::DISCOVERY).1.is_success(), "a failed SELECT deselects nothing");
}

#[test]
fn long_data_travel_in_chains_and_in_extended_length() {
    let mut card = selected(Profile::YubiKey543);
    card.put_object(0x5f_ff10, &[7; 600]);
    let expected = element(0x53, &[7; 600]);
    assert_eq!(get(&mut card, 0x5f_ff10).0, expected);
    let bytes = |transmission| match transmission {
        Transmission::Response { bytes, .. } => bytes,
        Transmission::Pulled => panic!("nobody pulls the card"),
    };
    let short = bytes(card.transmit(&[0, 0xcb, 0x3f, 0xff, 5, 0x5c, 3, 0x5f, 0xff, 0x10, 0]));
    assert_eq!((short.len(), &short[256..]), (258, &[0x61, 0x00][..]));
    let rest = bytes(card.transmit(&[0, 0xc0, 0, 0, 0]));
    assert_eq!(rest[256..], [0x61, 0x5c]);
    // Another command ends the response.
    card.send(instruction::GET_VERSION, 0, 0, &[]);
    assert_eq!(bytes(card.transmit(&[0, 0xc0, 0, 0, 0x5c])), [0x69, 0x85]);
    let extended = bytes(card.transmit(&[0, 0xcb, 0x3f, 0xff, 0, 0, 5, 0x5c, 3, 0x5f, 0xff, 0x10, 0, 0]));
    assert_eq!(extended, [&expected[..], &[0x90, 0x00]].concat());
    for wrong in [&[0, 0xcb, 0x3f][..], &[0, 0xcb, 0x3f, 0xff, 5, 0x5c], &[0, 0xcb, 0x3f, 0xff, 0, 0, 9, 1]] {
        assert_eq!(bytes(card.transmit(wrong)), [0x67, 0x00]);
    }
    assert_eq!(bytes(card.transmit(&[0x80, 0xfd, 0, 0])), [0x6e, 0x00]);
    // A chain that another command interrupts.
    assert_eq!(bytes(card.transmit(&[0x10, 0xdb, 0x3f, 0xff, 2, 0x5c, 3])), [0x90, 0x00]);
    assert_eq!(bytes(card.transmit(&[0, 0xfd, 0, 0])), [0x68, 0x83]);
    assert_eq!(bytes(card.transmit(&[0, 0xfd, 0, 0])), [5, 4, 3, 0x90, 0x00]);
}

#[test]
fn the_transcript_shows_commands_without_secrets() {
    let mut card = selected(Profile::YubiKey543);
    card.put_object(tag::PRINTED, b"management key");
    verify(&mut card, "123457");
    verify(&mut card, "123456");
    get(&mut card, tag::PRINTED);
    let key = ManagementKey::new(ManagementAlgorithm::TripleDes, &FACTORY_MANAGEMENT_KEY);
    prove_management(&mut card, &key);
    card.send(instruction::IMPORT_KEY, 0x11, 0x9a, &[element(6, &[0x77; 32]), element(0xab, &[2])].concat());
    put(&mut card, 0x5f_ff10, &[7; 300]);
    respond(&mut card, 0x9a, Algorithm::P256, &[0x66; 32]);
    card.faults().plan(Trigger::Instruction(instruction::GET_VERSION, 1), Effect::PullBefore);
    assert_eq!(card.transmit(&[0, 0xfd, 0, 0]), Transmission::Pulled);
    assert_eq!(
        card.transcript().to_string(),
        "SELECT 04 00 a000000308 [5] → [19] 9000\n\
         VERIFY 00 80 [8] → 63c2\n\
         VERIFY 00 80 [8] → 9000\n\
         GET DATA 3f ff 5fc109 [5] → [16] 9000\n\
         GENERAL AUTHENTICATE 03 9b [4] → [12] 9000\n\
         GENERAL AUTHENTICATE 03 9b [12] → 9000\n\
         IMPORT KEY 11 9a [37] → 9000\n\
         PUT DATA 3f ff 5fff10 [255] … → 9000\n\
         PUT DATA 3f ff [54] → 9000\n\
         GENERAL AUTHENTICATE 11 9a [38] not touched → 6982\n\
         GET VERSION 00 00 → pulled\n"
    );
    let data: String = card.transcript().entries().iter().map(|entry| entry.with_data() + "\n").collect();
    for secret in [&b"12345"[..], b"management", &[0x77; 8], &[0x66; 8]] {
        assert!(!data.contains(&hex::encode(secret)), "{data}");
    }
    assert!(data.contains("| a000000308 | 61114f06"), "{data}");
    assert_eq!((card.transcript().verifications(), card.transcript().count(instruction::SELECT)), (2, 1));
    card.clear_transcript();
    assert_eq!(card.transcript().entries().len(), 0);
}

#[test]
fn faults_happen_once_at_their_command() {
    let mut card = selected(Profile::YubiKey543);
    let version = [0, instruction::GET_VERSION, 0, 0];
    let bytes = |bytes: &[u8]| Transmission::Response { bytes: bytes.to_vec(), delay: Duration::ZERO };
    let right = || bytes(&[5, 4, 3, 0x90, 0x00]);
    card.faults().plan(Trigger::Command(2), Effect::Status(Status(0x6f00)));
    card.faults().plan(Trigger::Instruction(instruction::GET_VERSION, 4), Effect::PullAfter);
    assert_eq!(card.transmit(&version), right());
    assert_eq!(card.transmit(&version), bytes(&[0x6f, 0x00]));
    assert_eq!(card.transmit(&version), right());
    assert_eq!(card.transmit(&version), Transmission::Pulled);
    assert!(card.faults().is_empty());
    assert_eq!(card.transmit(&version), bytes(&[0x6d, 0x00]), "no applet is selected after the power");
    card.send(instruction::SELECT, 4, 0, &[0xa0, 0, 0, 3, 8]);
    let delay = Duration::from_mins(1);
    card.faults().plan(Trigger::Command(1), Effect::Delay(delay));
    let Transmission::Response { delay: found, .. } = card.transmit(&version) else { panic!("it was pulled") };
    assert_eq!(found, delay);
    // A pull after a wrong PIN costs the try.
    card.faults().plan(Trigger::Command(1), Effect::PullAfter);
    let wrong = [&[0, instruction::VERIFY, 0, 0x80, 8][..], &padded("654321")].concat();
    assert_eq!(card.transmit(&wrong), Transmission::Pulled);
    assert_eq!(card.pin_tries(), 2);
}
