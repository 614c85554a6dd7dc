//! What the card refuses to the programs of others, through a reader.

use super::{CardFixture, padded};
use crate::support::virtual_card::{Card, Profile, TRIES, instruction};

#[test]
fn wrong_pins_and_puks_count_down_until_the_reset() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    fixture.make_key("9a", "ECCP256", &[]);
    let verify = |pin: &str| fixture.piv_tool(&["-a", "verify-pin", "-P", pin]);
    let unblock = |puk: &str| fixture.piv_tool(&["-a", "unblock-pin", "-P", puk, "-N", "222222"]);
    let reset = || fixture.piv_tool(&["-a", "reset"]);
    for left in (0..TRIES).rev() {
        assert_ne!(reset().code(), 0, "a reset with {} tries of the PIN", left + 1);
        assert_ne!(verify("654321").code(), 0);
        assert_eq!(fixture.tries().0, left);
    }
    verify("123456").fails_with(1).says("locked");
    fixture.piv_tool(&["-a", "status"]).ok().says("PIN tries left: 0");
    unblock("12345678").ok();
    verify("222222").ok();
    for _ in 0..TRIES {
        assert_ne!(verify("654321").code(), 0);
    }
    for left in (0..TRIES).rev() {
        assert_ne!(reset().code(), 0, "a reset with {} tries of the PUK", left + 1);
        assert_ne!(unblock("87654321").code(), 0);
        assert_eq!(fixture.tries().1, left);
    }
    assert_ne!(unblock("12345678").code(), 0);
    assert!(fixture.card().key(0x9a).is_some());
    reset().ok();
    verify("123456").ok();
    assert!(fixture.card().key(0x9a).is_none());
}

#[test]
fn nothing_changes_without_the_management_key() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    let machine = &fixture.machine;
    machine
        .openssl(&[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-subj", "/CN=a", "-out", "a.pem",
        ])
        .ok();
    let wrong = format!("--key={}", "11".repeat(24));
    for command in [
        &["-a", "generate", "-s", "9a", "-A", "ECCP256", "-o", "public.pem"][..],
        &["-a", "import-key", "-s", "9a", "-i", "key.pem"],
        &["-a", "import-certificate", "-s", "9a", "-i", "a.pem"],
        &["-a", "set-mgm-key", "-n", "0a0b0c0d0e0f10111213141516171819202122232425262a"],
    ] {
        let output = fixture.piv_tool(&[&[&wrong[..]], command].concat());
        assert_ne!(output.code(), 0, "{output}");
    }
    fixture.piv_tool(&["-a", "set-chuid"]).ok();
    let card = fixture.card();
    assert!(card.key(0x9a).is_none() && card.certificate_pem(0x9a).is_none());
}

#[test]
fn a_key_with_pin_always_signs_once_for_each_pin() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    for (slot, policies, uses) in [("9c", &[][..], 1), ("9a", &["--pin-policy=always"], 1), ("82", &[], 2)] {
        fixture.make_key(slot, "ECCP256", policies);
        fixture.card().clear_transcript();
        let certificate = format!("{slot}.pem");
        let sign = ["-a", "test-signature", "-a", "test-signature", "-s", slot, "-i", &certificate];
        let output = fixture.piv_tool(&[&["-a", "verify-pin", "-P", "123456"], &sign[..]].concat());
        assert_eq!(output.code() == 0, uses == 2, "{output}");
        assert_eq!(fixture.key_uses(), uses);
    }
}

#[test]
fn a_key_without_a_touch_in_time_does_not_sign() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    for (slot, policy, requests) in [("9a", "always", 3), ("82", "cached", 2)] {
        fixture.make_key(slot, "ECCP256", &["--touch-policy", policy]);
        fixture.card().touch().expire();
        fixture.card().clear_transcript();
        let certificate = format!("{slot}.pem");
        let sign = || {
            let sign = ["-a", "verify-pin", "-P", "123456", "-a", "test-signature", "-s", slot, "-i", &certificate];
            fixture.piv_tool(&sign)
        };
        fixture.card().touch().answer(false);
        assert_ne!(sign().code(), 0);
        fixture.card().touch().answer(true);
        sign().ok();
        if policy == "always" {
            fixture.card().touch().answer(true);
        }
        sign().ok();
        assert_eq!(fixture.card().transcript().touches(), requests);
    }
}

#[test]
fn imported_keys_are_not_attested() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    let machine = &fixture.machine;
    machine.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]).ok();
    fixture.piv_tool(&["-a", "import-key", "-s", "9a", "-i", "key.pem"]).ok();
    assert_ne!(fixture.piv_tool(&["-a", "attest", "-s", "9a", "-o", "attestation.pem"]).code(), 0);
    assert_ne!(fixture.piv_tool(&["-a", "attest", "-s", "82", "-o", "attestation.pem"]).code(), 0, "an empty slot");
    fixture.make_key("9a", "ECCP256", &[]);
    fixture.piv_tool(&["-a", "attest", "-s", "9a", "-o", "attestation.pem"]).ok();
}

#[test]
fn a_reset_by_the_reader_ends_the_verification() {
    let Some(mut fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    let select = |card: &mut Card| card.send(instruction::SELECT, 4, 0, &[0xa0, 0, 0, 3, 8]).1.is_success();
    let is_verified = |card: &mut Card| card.send(instruction::VERIFY, 0, 0x80, &[]).1.is_success();
    {
        let mut card = fixture.card();
        assert!(select(&mut card) && !is_verified(&mut card));
        assert!(card.send(instruction::VERIFY, 0, 0x80, &padded("123456")).1.is_success());
        assert!(is_verified(&mut card));
    }
    fixture.reader.remove();
    let card = fixture.card.clone();
    fixture.reader.insert(&card);
    fixture.wait_for_card();
    let mut card = fixture.card();
    assert!(select(&mut card) && !is_verified(&mut card));
}
