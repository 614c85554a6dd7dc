//! PKCS#11 modules of Yubico and OpenSC use the keys of the card; `ssh-keygen` reads them.

use std::path::Path;

use super::CardFixture;
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::reader::{opensc, ykcs11};
use crate::support::virtual_card::{Algorithm, Card, Profile, key_history, tag};

const LOGIN: [&str; 3] = ["--login", "--pin", "123456"];

/// A YubiKey with keys in four slots.
fn card_with_keys() -> Card {
    let mut card = Card::new(Profile::YubiKey543);
    card.put_key_with_certificate(0x9a, Algorithm::P256, "Authentication");
    card.put_key_with_certificate(0x9c, Algorithm::P384, "Signature");
    card.put_key_with_certificate(0x9d, Algorithm::Rsa2048, "Management");
    card.put_key_with_certificate(0x82, Algorithm::Rsa2048, "Retired");
    card.put_object(tag::KEY_HISTORY, &key_history(1));
    card
}

fn tool(machine: &Machine, module: &Path, arguments: &[&str]) -> Output {
    let module = module.display().to_string();
    machine.run("pkcs11-tool", &[&["--module", &module], arguments].concat(), b"")
}

/// Writes the public keys of the card's certificates for openssl.
fn write_public_keys(fixture: &CardFixture) {
    for slot in ["9a", "9c", "9d"] {
        let number = u8::from_str_radix(slot, 16).unwrap();
        let pem = fixture.card().certificate_pem(number).unwrap();
        fixture.machine.write(&format!("{slot}.pem"), pem);
        let public = format!("{slot}-public.pem");
        let extract = ["x509", "-in", &format!("{slot}.pem"), "-pubkey", "-noout", "-out", &public];
        fixture.machine.openssl(&extract).ok();
    }
}

/// Signs a digest with the key, and verifies the signature with openssl.
fn assert_signs(fixture: &CardFixture, module: &Path, id: &str, slot: &str, length: usize) {
    let machine = &fixture.machine;
    machine.write("digest", vec![7; length]);
    let sign =
        ["--sign", "-m", "ECDSA", "--signature-format", "openssl", "--id", id, "-i", "digest", "-o", "signature"];
    tool(machine, module, &[&LOGIN[..], &sign].concat()).ok();
    let key = format!("{slot}-public.pem");
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", &key, "-in", "digest", "-sigfile", "signature"];
    machine.openssl(&verify).ok();
}

/// Decrypts with the RSA key what openssl has encrypted.
fn assert_decrypts(fixture: &CardFixture, module: &Path, id: &str) {
    let machine = &fixture.machine;
    machine.write("plain", "a content key");
    let encrypt = ["pkeyutl", "-encrypt", "-pubin", "-inkey", "9d-public.pem", "-in", "plain", "-out", "encrypted"];
    machine.openssl(&encrypt).ok();
    let decrypt = ["--decrypt", "-m", "RSA-PKCS", "--id", id, "-i", "encrypted", "-o", "decrypted"];
    tool(machine, module, &[&LOGIN[..], &decrypt].concat()).ok();
    assert_eq!(machine.read_text("decrypted"), "a content key");
}

#[test]
fn ykcs11_signs_and_decrypts_and_ssh_keygen_reads_its_keys() {
    let Some(module) = ykcs11() else { return };
    let Some(fixture) = CardFixture::with(card_with_keys(), &["pkcs11-tool", "ssh-keygen"]) else { return };
    let machine = &fixture.machine;
    write_public_keys(&fixture);
    let objects = tool(machine, &module, &["-O"]).ok();
    objects.says("X.509 Certificate for PIV Authentication").says("X.509 Certificate for Retired Key 1");
    assert_signs(&fixture, &module, "01", "9a", 32);
    assert_signs(&fixture, &module, "02", "9c", 48);
    assert_decrypts(&fixture, &module, "03");
    let path = module.display().to_string();
    let keys = machine.run("ssh-keygen", &["-D", &path], b"").ok();
    keys.says("ecdsa-sha2-nistp256").says("ecdsa-sha2-nistp384").says("ssh-rsa");
    assert_eq!(fixture.key_uses(), 3);

    // A wrong PIN signs nothing and costs a try.
    let sign = ["--login", "--pin", "654321", "--sign", "-m", "ECDSA", "--id", "01", "-i", "digest", "-o", "signature"];
    assert_ne!(tool(machine, &module, &sign).code(), 0);
    assert_eq!((fixture.tries().0, fixture.key_uses()), (2, 3));
}

#[test]
fn opensc_signs_decrypts_and_lists_retired_keys() {
    let Some(fixture) = CardFixture::with(card_with_keys(), &["pkcs11-tool"]) else { return };
    let (machine, module) = (&fixture.machine, opensc());
    write_public_keys(&fixture);
    let objects = tool(machine, &module, &[&LOGIN[..], &["-O"]].concat()).ok();
    objects.says("PIV AUTH key").says("SIGN key").says("KEY MAN key").says("Retired KEY MAN 1");
    assert_signs(&fixture, &module, "01", "9a", 32);
    assert_signs(&fixture, &module, "02", "9c", 48);
    assert_decrypts(&fixture, &module, "03");

    // Without its key history a card has no retired keys.
    fixture.card().put_object(tag::KEY_HISTORY, &[]);
    tool(machine, &module, &[&LOGIN[..], &["-O"]].concat()).ok().does_not_say("Retired KEY MAN 1");
}

#[test]
fn opensc_derives_the_secret_that_openssl_derives() {
    let mut card = Card::new(Profile::YubiKey543);
    card.put_key_with_certificate(0x9d, Algorithm::P256, "Management");
    let Some(fixture) = CardFixture::with(card, &["pkcs11-tool"]) else { return };
    let machine = &fixture.machine;
    machine.write("card.pem", fixture.card().certificate_pem(0x9d).unwrap());
    machine.openssl(&["x509", "-in", "card.pem", "-pubkey", "-noout", "-out", "card-public.pem"]).ok();
    let curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-out", "peer.pem"];
    machine.openssl(&[&["genpkey", "-quiet", "-algorithm", "EC"], &curve[..]].concat()).ok();
    machine.openssl(&["pkey", "-in", "peer.pem", "-pubout", "-outform", "DER", "-out", "peer.der"]).ok();
    let agree = ["pkeyutl", "-derive", "-inkey", "peer.pem", "-peerkey", "card-public.pem", "-out", "expected"];
    machine.openssl(&agree).ok();
    for (module, id) in [Some(opensc()), ykcs11()].into_iter().flatten().zip(["03", "03"]) {
        let derive = ["--derive", "-m", "ECDH1-DERIVE", "--id", id, "-i", "peer.der", "-o", "secret"];
        tool(machine, &module, &[&LOGIN[..], &derive].concat()).ok();
        assert_eq!(machine.read("secret"), machine.read("expected"), "{}", module.display());
    }
}
