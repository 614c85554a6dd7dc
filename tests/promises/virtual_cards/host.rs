//! The side of the host: commands sent to the card directly, without a reader.

use super::padded;
use crate::support::virtual_card::{
    Algorithm, Card, FACTORY_MANAGEMENT_KEY, ManagementAlgorithm, ManagementKey, Profile, Status, element, elements,
    find, instruction, plain_elements,
};

pub(super) const PROFILES: [Profile; 4] =
    [Profile::YubiKey435, Profile::YubiKey543, Profile::YubiKey571, Profile::Plain];
pub(super) const NOT_PERMITTED: Status = Status(0x6982);

/// A card with its PIV applet selected.
pub(super) fn selected(profile: Profile) -> Card {
    let mut card = Card::new(profile);
    assert!(card.send(instruction::SELECT, 4, 0, &[0xa0, 0, 0, 3, 8]).1.is_success());
    card
}

pub(super) fn factory_key(profile: Profile) -> ManagementKey {
    let algorithm =
        if profile == Profile::YubiKey571 { ManagementAlgorithm::Aes192 } else { ManagementAlgorithm::TripleDes };
    ManagementKey::new(algorithm, &FACTORY_MANAGEMENT_KEY)
}

/// The content of the only element in 7C.
pub(super) fn content(response: &[u8], tag: u8) -> Vec<u8> {
    let template = find(&elements(response).unwrap(), 0x7c).unwrap();
    find(&plain_elements(&template).unwrap(), tag).unwrap()
}

pub(super) fn authenticate(card: &mut Card, algorithm: u8, parts: &[Vec<u8>]) -> (Vec<u8>, Status) {
    card.send(instruction::GENERAL_AUTHENTICATE, algorithm, 0x9b, &element(0x7c, &parts.concat()))
}

/// Authenticates with the management key; the card does not prove that it knows the key.
pub(super) fn prove_management(card: &mut Card, key: &ManagementKey) -> Status {
    let algorithm = key.algorithm as u8;
    let (response, status) = authenticate(card, algorithm, &[element(0x81, &[])]);
    if !status.is_success() {
        return status;
    }
    let encrypted = key.encrypt(&content(&response, 0x81));
    authenticate(card, algorithm, &[element(0x82, &encrypted)]).1
}

pub(super) fn verify(card: &mut Card, pin: &str) -> Status {
    card.send(instruction::VERIFY, 0, 0x80, &padded(pin)).1
}

pub(super) fn generate(card: &mut Card, slot: u8, algorithm: Algorithm) -> (Vec<u8>, Status) {
    card.send(instruction::GENERATE, 0, slot, &element(0xac, &element(0x80, &[algorithm as u8])))
}

/// A signature or decryption with a key.
pub(super) fn respond(card: &mut Card, slot: u8, algorithm: Algorithm, challenge: &[u8]) -> (Vec<u8>, Status) {
    let template = element(0x7c, &[element(0x82, &[]), element(0x81, challenge)].concat());
    card.send(instruction::GENERAL_AUTHENTICATE, algorithm as u8, slot, &template)
}

pub(super) fn object_request(tag: u32) -> Vec<u8> {
    let bytes: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    element(0x5c, &bytes)
}

pub(super) fn put(card: &mut Card, tag: u32, content: &[u8]) -> Status {
    card.send(instruction::PUT_DATA, 0x3f, 0xff, &[object_request(tag), element(0x53, content)].concat()).1
}

pub(super) fn get(card: &mut Card, tag: u32) -> (Vec<u8>, Status) {
    card.send(instruction::GET_DATA, 0x3f, 0xff, &object_request(tag))
}
