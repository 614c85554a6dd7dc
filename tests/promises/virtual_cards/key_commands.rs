//! Keys are described, used, imported, moved and deleted as the published commands say.

use super::host::{content, factory_key, generate, prove_management, respond, selected, verify};
use super::padded;
use crate::support::machine::Machine;
use crate::support::virtual_card::{Algorithm, Origin, PinPolicy, Profile, Status, element, instruction};

#[test]
fn metadata_describe_keys_and_secrets() {
    let mut card = selected(Profile::YubiKey571);
    card.put_key_with_certificate(0x9c, Algorithm::P256, "a");
    let mut metadata = |slot: u8| {
        let (response, status) = card.send(instruction::GET_METADATA, 0, slot, &[]);
        assert_eq!(status, Status::OK);
        hex::encode(response)
    };
    assert_eq!(metadata(0x80), "0101ff05010106020303");
    assert_eq!(metadata(0x9b), "01010a02020001050101");
    assert!(metadata(0x9c).starts_with("010111020203010301010443864104"));
    assert!(metadata(0xf9).starts_with("010107"));
    verify(&mut card, "999999");
    card.send(instruction::CHANGE_REFERENCE_DATA, 0, 0x81, &[padded("12345678"), padded("87654321")].concat());
    assert_eq!(hex::encode(card.send(instruction::GET_METADATA, 0, 0x80, &[]).0), "0101ff05010106020302");
    assert_eq!(hex::encode(card.send(instruction::GET_METADATA, 0, 0x81, &[]).0), "0101ff05010006020303");
    assert_eq!(card.send(instruction::GET_METADATA, 0, 0x9a, &[]).1, Status(0x6a88), "an empty slot");
}

#[test]
fn a_yubikey_5_7_has_larger_rsa_keys_and_ed25519() {
    let machine = Machine::new();
    let mut card = selected(Profile::YubiKey571);
    prove_management(&mut card, &factory_key(Profile::YubiKey571));
    verify(&mut card, "123456");
    for (algorithm, length) in [(Algorithm::Rsa3072, 384), (Algorithm::Rsa4096, 512)] {
        assert!(generate(&mut card, 0x9a, algorithm).1.is_success());
        machine.write("public.der", card.key(0x9a).unwrap().key.public_key_der());
        let number = [&[0][..], &vec![0x5a; length - 1]].concat();
        let (response, status) = respond(&mut card, 0x9a, algorithm, &number);
        assert_eq!(status, Status::OK);
        machine.write("signature", content(&response, 0x82));
        // With the public key the result becomes the number again.
        let recover = ["pkeyutl", "-verifyrecover", "-pubin", "-inkey", "public.der", "-keyform", "DER"];
        let padding = ["-pkeyopt", "rsa_padding_mode:none", "-in", "signature", "-out", "number"];
        machine.openssl(&[&recover[..], &padding].concat()).ok();
        assert_eq!(machine.read("number"), number);
        assert_eq!(respond(&mut card, 0x9a, algorithm, &[1; 256]).1, Status(0x6a80), "a wrong length");
    }
    let (public, _) = generate(&mut card, 0x9a, Algorithm::Ed25519);
    assert_eq!(public[..5], [0x7f, 0x49, 0x22, 0x86, 0x20]);
    machine.write("public.der", card.key(0x9a).unwrap().key.public_key_der());
    machine.write("message", "a message of any length".repeat(20));
    let (response, _) = respond(&mut card, 0x9a, Algorithm::Ed25519, &machine.read("message"));
    machine.write("signature", content(&response, 0x82));
    let verify = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public.der", "-keyform", "DER"];
    machine.openssl(&[&verify[..], &["-in", "message", "-sigfile", "signature"]].concat()).ok();
    machine.write("message", "another message");
    assert_eq!(machine.openssl(&[&verify[..], &["-in", "message", "-sigfile", "signature"]].concat()).code(), 1);
}

#[test]
fn keys_are_moved_and_deleted() {
    let mut card = selected(Profile::YubiKey571);
    card.put_key_with_certificate(0x9d, Algorithm::P256, "a");
    prove_management(&mut card, &factory_key(Profile::YubiKey571));
    let public = card.key(0x9d).unwrap().key.public_key_der();
    let mut move_key = |target: u8, source: u8| card.send(instruction::MOVE_KEY, target, source, &[]).1;
    assert_eq!(move_key(0x82, 0x9d), Status::OK);
    assert_eq!(move_key(0x82, 0x9d), Status(0x6a88), "the slot is empty");
    assert_eq!(move_key(0x9a, 0xf9), Status(0x6a86), "the attestation key stays");
    assert_eq!(card.key(0x82).unwrap().key.public_key_der(), public);
    assert!(card.certificate_pem(0x9d).is_some() && card.certificate_pem(0x82).is_none());
    assert_eq!(card.send(instruction::MOVE_KEY, 0xff, 0x82, &[]).1, Status::OK);
    assert!(card.key(0x82).is_none());
}

#[test]
fn an_imported_rsa_key_must_have_consistent_parts() {
    let machine = Machine::new();
    let generate = ["genrsa", "-traditional", "-out", "key.pem", "2048"];
    machine.openssl(&generate).ok();
    let text = machine.openssl(&["rsa", "-in", "key.pem", "-text", "-noout"]).ok().out();
    let number = |name: &str| {
        let rest = text.split_once(&format!("{name}:\n")).unwrap().1;
        let lines = rest.lines().take_while(|line| line.starts_with(' '));
        let digits: String = lines.flat_map(str::chars).filter(char::is_ascii_hexdigit).collect();
        let bytes = hex::decode(digits).unwrap();
        let mut fixed = vec![0; 128 - bytes.len().min(128)];
        fixed.extend(&bytes[bytes.len().saturating_sub(128)..]);
        fixed
    };
    let parts = ["prime1", "prime2", "exponent1", "exponent2", "coefficient"].map(number);
    let mut card = selected(Profile::YubiKey543);
    prove_management(&mut card, &factory_key(Profile::YubiKey543));
    let mut import = |order: [usize; 5]| {
        let parts = (1..).zip(order).map(|(tag, index)| element(tag, &parts[index]));
        card.send(instruction::IMPORT_KEY, 0x07, 0x82, &parts.collect::<Vec<_>>().concat()).1
    };
    for wrong in [[0, 1, 3, 2, 4], [0, 1, 2, 2, 4], [0, 1, 2, 3, 0], [0, 0, 2, 3, 4]] {
        assert_eq!(import(wrong), Status(0x6a80), "{wrong:?}");
    }
    assert_eq!(import([0, 1, 2, 3, 4]), Status::OK);
    let key = card.key(0x82).unwrap();
    assert_eq!((key.origin, key.pin_policy), (Origin::Imported, PinPolicy::Once));
    machine.openssl(&["rsa", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "public.der"]).ok();
    assert_eq!(machine.read("public.der"), key.key.public_key_der());
}
