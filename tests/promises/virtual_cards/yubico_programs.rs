//! Yubico's programs, `yubico-piv-tool` and `ykman`, manage the card.

use super::{CardFixture, factory_key};
use crate::support::virtual_card::{
    Card, ManagementAlgorithm, Origin, PinPolicy, Profile, TouchPolicy, attestation_root, instruction,
};

#[test]
fn yubico_piv_tool_uses_keys_of_all_kinds() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    let machine = &fixture.machine;
    let serial = fixture.card().serial().to_string();
    fixture.piv_tool(&["-a", "set-chuid", "-a", "set-ccc"]).ok();
    let status = fixture.piv_tool(&["-a", "status"]).ok();
    status.says("Version: 5.4.3").says(&format!("Serial Number: {serial}")).says("PIN tries left: 3");
    fixture.make_key("9c", "ECCP256", &["--pin-policy=always"]);
    fixture.make_key("9a", "ECCP384", &[]);
    fixture.make_key("9d", "RSA2048", &["--pin-policy=once"]);
    for slot in ["9c", "9a", "9d"] {
        let verify = ["-a", "verify-pin", "-P", "123456"];
        let certificate = format!("{slot}.pem");
        let sign = ["-a", "test-signature", "-s", slot, "-i", &certificate];
        fixture.piv_tool(&[&verify[..], &sign].concat()).ok().says("Successful");
        fixture.piv_tool(&["-a", "read-certificate", "-s", slot, "-o", "read.pem"]).ok();
        assert_eq!(machine.read_text("read.pem"), machine.read_text(&certificate));
    }
    let decipher = ["-a", "verify-pin", "-P", "123456", "-a", "test-decipher", "-i"];
    fixture.piv_tool(&[&decipher[..], &["9d.pem", "-s", "9d"]].concat()).ok().says("Successful");
    fixture.piv_tool(&[&decipher[..], &["9a.pem", "-s", "9a"]].concat()).ok().says("Successful");
    fixture.piv_tool(&["-a", "status"]).ok().says("Algorithm: ECCP256").says("Algorithm: RSA2048").says("CN=Key 9a");

    // Keys that openssl made.
    machine.openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-out", "rsa.pem"]).ok();
    let curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-out", "p256.pem"];
    machine.openssl(&[&["genpkey", "-quiet", "-algorithm", "EC"], &curve[..]].concat()).ok();
    for (slot, key) in [("82", "rsa.pem"), ("83", "p256.pem")] {
        fixture.piv_tool(&["-a", "import-key", "-s", slot, "-i", key]).ok();
        machine.openssl(&["req", "-x509", "-key", key, "-subj", "/CN=imported", "-out", "imported.pem"]).ok();
        let sign = ["-a", "verify-pin", "-P", "123456", "-a", "test-signature", "-s", slot, "-i", "imported.pem"];
        fixture.piv_tool(&sign).ok().says("Successful");
    }
    let card = fixture.card();
    assert_eq!(card.key(0x83).unwrap().origin, Origin::Imported);
    assert_eq!(card.key(0x9c).unwrap().pin_policy, PinPolicy::Always);
    assert_eq!(card.key(0x82).unwrap().touch_policy, TouchPolicy::Never);
}

#[test]
fn openssl_verifies_an_attestation_up_to_the_root() {
    for profile in [Profile::YubiKey543, Profile::YubiKey435] {
        let Some(fixture) = CardFixture::with(Card::new(profile), &[]) else { return };
        let machine = &fixture.machine;
        let generate = ["-a", "generate", "-s", "9a", "-A", "ECCP256", "--pin-policy=always", "--touch-policy=cached"];
        fixture.piv_tool(&[&generate[..], &["-o", "public.pem"]].concat()).ok();
        fixture.piv_tool(&["-a", "attest", "-s", "9a", "-o", "attestation.pem"]).ok();
        fixture.piv_tool(&["-a", "read-certificate", "-s", "f9", "-o", "f9.pem"]).ok();
        machine.write("root.pem", attestation_root());
        let verify = ["verify", "-CAfile", "root.pem", "-untrusted", "f9.pem", "attestation.pem"];
        machine.openssl(&verify).ok().says("attestation.pem: OK");
        machine.openssl(&["verify", "-CAfile", "root.pem", "attestation.pem"]).fails_with(2);
        machine.openssl(&["x509", "-in", "attestation.pem", "-pubkey", "-noout", "-out", "attested.pem"]).ok();
        assert_eq!(machine.read_text("attested.pem"), machine.read_text("public.pem"));
        let text = machine.openssl(&["asn1parse", "-in", "attestation.pem"]).ok();
        let version = hex::encode_upper(profile.version().unwrap());
        let text = text.says("1.3.6.1.4.1.41482.3.3").says(&format!("[HEX DUMP]:{version}"));
        text.says("1.3.6.1.4.1.41482.3.8").says("[HEX DUMP]:0303").says("1.3.6.1.4.1.41482.3.9");
        let serial = hex::encode_upper([&[2, 4], &fixture.card().serial().to_be_bytes()[..]].concat());
        machine.openssl(&["asn1parse", "-in", "attestation.pem"]).ok().says("3.7").says(&serial);
    }
}

#[test]
fn yubico_piv_tool_changes_pin_puk_and_management_key() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    fixture.piv_tool(&["-a", "change-pin", "-P", "123456", "-N", "1234567"]).ok();
    fixture.piv_tool(&["-a", "change-puk", "-P", "12345678", "-N", "87654321"]).ok();
    fixture.piv_tool(&["-a", "verify-pin", "-P", "1234567"]).ok();
    fixture.piv_tool(&["-a", "unblock-pin", "-P", "87654321", "-N", "111111"]).ok();
    fixture.piv_tool(&["-a", "verify-pin", "-P", "111111"]).ok();
    let key = "0a0b0c0d0e0f10111213141516171819202122232425262a";
    fixture.piv_tool(&["-a", "set-mgm-key", "-n", key]).ok();
    let generate = ["-a", "generate", "-s", "9a", "-A", "ECCP256", "-o", "public.pem"];
    assert_ne!(fixture.piv_tool(&generate).code(), 0, "the old management key counts");
    let with_key = format!("--key={key}");
    fixture.piv_tool(&[&[&with_key[..]], &generate[..]].concat()).ok();
    // New numbers of tries restore the factory's PIN and PUK.
    let retries = ["-a", "verify-pin", "-P", "111111", "-a", "pin-retries", "--pin-retries=5", "--puk-retries=4"];
    fixture.piv_tool(&[&[&with_key[..]], &retries[..]].concat()).ok();
    fixture.piv_tool(&["-a", "verify-pin", "-P", "123456"]).ok();
    assert_eq!(fixture.tries(), (5, 4));
}

#[test]
fn ykman_manages_a_card_with_an_aes_management_key() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey571), &["ykman"]) else { return };
    let machine = &fixture.machine;
    let serial = fixture.card().serial().to_string();
    machine.run("ykman", &["list"], b"").ok().says("5.7.1").says(&format!("Serial: {serial}"));
    // The driver has two readers with almost the same name, so the card must be named.
    let device = ["--device", &serial];
    let ykman = |arguments: &[&str]| machine.run("ykman", &[&device[..], arguments].concat(), b"");
    ykman(&["piv", "info"]).ok().says("PIV version: 5.7.1").says("PIN tries remaining: 3/3").says("AES192");
    let (old, new) = (factory_key(), "ab".repeat(32));
    let change = ["piv", "access", "change-management-key", "-f", "-m", &old, "-n", &new, "-a", "AES256"];
    ykman(&change).ok();
    assert_eq!(fixture.card().management_algorithm(), ManagementAlgorithm::Aes256);
    let generate = ["piv", "keys", "generate", "-m", &new, "-a", "ECCP384", "9a", "public.pem"];
    ykman(&generate).ok();
    let certify = ["piv", "certificates", "generate", "-m", &new, "-P", "123456", "-s", "Key", "9a", "public.pem"];
    ykman(&certify).ok();
    ykman(&["piv", "certificates", "export", "9a", "9a.pem"]).ok();
    machine.openssl(&["verify", "-CAfile", "9a.pem", "9a.pem"]).ok();
    ykman(&["piv", "info"]).ok().says("Slot 9a:").says("ECCP384");
    assert_ne!(ykman(&["piv", "keys", "generate", "-m", &old, "9c", "public.pem"]).code(), 0);
    ykman(&["piv", "reset", "-f"]).ok();
    let card = fixture.card();
    assert!(card.key(0x9a).is_none() && card.key(0xf9).is_some());
    assert_eq!(card.transcript().count(instruction::RESET), 1);
}

#[test]
fn the_serial_number_of_a_yubikey_4_is_in_its_otp_applet() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey435), &[]) else { return };
    let serial = fixture.card().serial().to_string();
    fixture.piv_tool(&["-a", "status"]).ok().says("Version: 4.3.5").says(&format!("Serial Number: {serial}"));
    assert_eq!(fixture.card().transcript().count(instruction::GET_METADATA), 0);
}
