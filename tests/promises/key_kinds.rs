//! CA, signing and encryption keys are of the kind that configuration and profiles set, and all
//! kinds work together.

use crate::support::deployment::Deployment;
use crate::support::machine::TokenKind;

const TEXT: &str = "a message\n";

/// All operations of a user with these kinds of keys, verified by OpenSSL where possible.
fn check_all_operations(ca: &str, signing: &str, encryption: &str) {
    let deployment = Deployment::begin_with_ca_and_keys(TokenKind::SoftHsm, ca, signing, encryption);
    deployment.enroll_user();
    let machine = &deployment.machine;
    let shown = deployment.tokenkeep(&["keyset", "show", "default", "--json"]).ok().json();
    let of_use = |wanted: &str| {
        let mut certificates = shown["certificates"].as_array().unwrap().iter();
        let certificate = certificates.find(|one| one["use"] == wanted).unwrap();
        (certificate["algorithm"].as_str().unwrap().to_owned(), certificate["id"].as_str().unwrap().to_owned())
    };
    for (purpose, kind) in [("signing", signing), ("encryption", encryption), ("authority", ca)] {
        let (algorithm, id) = of_use(purpose);
        assert_eq!(algorithm, kind, "{purpose}");
        let der = format!("{purpose}.der");
        machine.pkcs11_tool("default", None, &["--read-object", "--type", "cert", "--id", &id, "-o", &der]).ok();
        machine.openssl(&["x509", "-inform", "DER", "-in", &der, "-out", &format!("{purpose}.pem")]).ok();
    }
    for purpose in ["signing", "encryption"] {
        machine.openssl(&["verify", "-x509_strict", "-CAfile", "authority.pem", &format!("{purpose}.pem")]).ok();
    }

    machine.write("message.txt", TEXT);
    let pin = ["--keyset", "default", "--pin-source", "file:pin1"];
    deployment.tokenkeep(&[&["sign", "message.txt", "--format", "der", "--out", "signed"], &pin[..]].concat()).ok();
    let verify = ["cms", "-verify", "-binary", "-inform", "DER", "-in", "signed", "-CAfile", "authority.pem"];
    assert_eq!(machine.openssl(&verify).ok().out(), TEXT);
    let encrypt = ["cms", "-encrypt", "-binary", "-aes256", "-in", "message.txt", "-outform", "DER", "-out", "secret"];
    machine.openssl(&[&encrypt[..], &["-recip", "encryption.pem"]].concat()).ok();
    assert_eq!(deployment.tokenkeep(&[&["decrypt", "secret", "--out", "-"], &pin[..]].concat()).ok().out(), TEXT);
}

#[test]
fn an_rsa_ca_certifies_rsa_4096_and_p384_keys() {
    check_all_operations("rsa-3072", "rsa-4096", "p384");
}

#[test]
fn a_p384_ca_certifies_p384_and_rsa_2048_keys() {
    check_all_operations("p384", "p384", "rsa-2048");
}

#[test]
fn rsa_2048_signing_keys_are_made_where_only_they_are_certified() {
    check_all_operations("p256", "rsa-2048", "p256");
}
