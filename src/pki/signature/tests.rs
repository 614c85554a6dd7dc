//! Tests with signatures by OpenSSL, and with those that are not accepted here.

use super::*;
use crate::pki::Certificate;
use crate::pki::test_support::{SoftwareKey, TestFiles, openssl};
use crate::token::KeyAlgorithm;
use signature::Signer;
use spki::DynSignatureAlgorithmIdentifier;

/// A self-signed certificate made by OpenSSL with these options.
fn self_signed(key: &SoftwareKey, options: &[&str]) -> Certificate {
    let files = TestFiles::new();
    let key = files.put_key("key.pem", key);
    let mut arguments = vec!["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"];
    arguments.extend(options);
    Certificate::read_all(&openssl(&arguments, &[])).unwrap().remove(0)
}

#[test]
fn openssl_signatures_verify() {
    let (rsa, p256, p384) = (SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384());
    let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20"];
    for (key, options) in [
        (&rsa, &["-sha256"][..]),
        (&rsa, &["-sha384"]),
        (&rsa, &["-sha512"]),
        (&rsa, &[&["-sha256"], &pss[..2]].concat()),
        (&rsa, &[&["-sha384"], &pss[..2]].concat()),
        (&rsa, &[&["-sha512"], &pss[..]].concat()),
        (&p256, &["-sha256"]),
        (&p256, &["-sha512"]),
        (&p384, &["-sha384"]),
        (&p384, &["-sha256"]),
    ] {
        let certificate = self_signed(key, options);
        assert_holds(&certificate, &options);
    }
}

/// A self-signed certificate with a key that OpenSSL generates.
fn self_signed_by(algorithm: &[&str], options: &[&str]) -> Certificate {
    let files = TestFiles::new();
    let key = files.put("key.pem", &openssl(&[&["genpkey"], algorithm].concat(), &[]));
    let arguments = [&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=Foreign"], options].concat();
    Certificate::read_all(&openssl(&arguments, &[])).unwrap().remove(0)
}

/// Asserts that the signature is valid, and invalid over other bytes.
fn assert_holds(certificate: &Certificate, what: &dyn std::fmt::Debug) {
    certificate.verify_signature(certificate).unwrap_or_else(|error| panic!("{what:?}: {error}"));
    let mut der = certificate.as_der().to_vec();
    let at = der.windows(7).position(|window| window == b"Foreign").unwrap();
    der[at] = b'f';
    let error = Certificate::from_der(&der).unwrap().verify_signature(certificate).unwrap_err();
    assert!(matches!(error, PkiError::WrongSignature(_)), "{what:?}: {error}");
}

#[test]
fn other_peoples_kinds_of_keys_are_verified() {
    let pss = ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"];
    let bound = ["-pkeyopt", "rsa_pss_keygen_md:sha256", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha256"];
    let bound = [&pss[..], &bound, &["-pkeyopt", "rsa_pss_keygen_saltlen:32"]].concat();
    for (algorithm, options) in [
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"][..], &["-sha256"][..]),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], &["-sha384"]),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], &["-sha512"]),
        (&["-algorithm", "ED25519"], &[]),
        (&pss, &["-sha512"]),
        (&bound, &["-sha256"]),
        (&bound, &["-sha256", "-sigopt", "rsa_pss_saltlen:40"]),
    ] {
        assert_holds(&self_signed_by(algorithm, options), &(algorithm, options));
    }
}

#[test]
fn any_salt_and_any_mask_of_rsassa_pss_is_verified() {
    let (rsa, long) = (SoftwareKey::rsa(), SoftwareKey::new_rsa(4096));
    // A modulus whose encoded message is one octet shorter than the modulus.
    let odd = SoftwareKey::new_rsa(2049);
    for (key, hash, mask, salt) in [
        (&rsa, "sha256", "sha256", "0"),
        (&rsa, "sha256", "sha1", "20"),
        (&rsa, "sha384", "sha224", "48"),
        (&rsa, "sha256", "sha512", "222"),
        (&odd, "sha512", "sha256", "64"),
        (&odd, "sha256", "sha256", "222"),
        (&long, "sha256", "sha256", "255"),
        (&long, "sha256", "sha384", "256"),
        (&long, "sha256", "sha256", "478"),
    ] {
        let [hash_option, mask_option, salt_option] =
            [format!("-{hash}"), format!("rsa_mgf1_md:{mask}"), format!("rsa_pss_saltlen:{salt}")];
        let options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", &mask_option, "-sigopt", &salt_option];
        assert_holds(&self_signed(key, &[&[&*hash_option], &options[..]].concat()), &(hash, mask, salt));
    }
}

#[test]
fn uncheckable_signatures_are_not_called_wrong() {
    let curve = |name: &'static str| vec!["-algorithm", "EC", "-pkeyopt", name];
    for (algorithm, options, reason) in [
        (vec!["-algorithm", "RSA"], &["-sha1"][..], "SHA-1: it is no longer safe"),
        (vec!["-algorithm", "RSA"], &["-md5"], "MD5: it is no longer safe"),
        (vec!["-algorithm", "RSA"], &["-sha1", "-sigopt", "rsa_padding_mode:pss"], "SHA-1: it is no longer safe"),
        (curve("ec_paramgen_curve:P-256"), &["-sha1"], "SHA-1: it is no longer safe"),
        (vec!["-algorithm", "RSA"], &["-sha224"], "1.2.840.113549.1.1.14"),
        (vec!["-algorithm", "RSA"], &["-sha3-256"], "2.16.840.1.101.3.4.3.14"),
        (vec!["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], &[], "1024 bits"),
        (curve("ec_paramgen_curve:brainpoolP256r1"), &[], "brainpoolP256r1"),
        (curve("ec_paramgen_curve:secp256k1"), &[], "1.3.132.0.10"),
        (vec!["-algorithm", "ED448"], &[], "id-Ed448"),
    ] {
        let certificate = self_signed_by(&algorithm, options);
        let error = certificate.verify_signature(&certificate).unwrap_err();
        assert!(!matches!(error, PkiError::WrongSignature(_)), "{algorithm:?} {options:?}");
        assert!(error.to_string().contains(reason), "{algorithm:?} {options:?}: {error}");
    }
}

#[test]
fn a_bound_key_and_another_kind_of_key_are_not_asked() {
    let bound = ["-pkeyopt", "rsa_pss_keygen_md:sha512", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha512"];
    let bound = [&["-algorithm", "RSA-PSS"][..], &bound, &["-pkeyopt", "rsa_pss_keygen_saltlen:64"]].concat();
    let bound = self_signed_by(&bound, &["-sha512"]);
    let rsa = self_signed(&SoftwareKey::rsa(), &["-sha256", "-sigopt", "rsa_padding_mode:pss"]);
    let ecdsa = self_signed(&SoftwareKey::p256(), &["-sha256"]);
    for (signed, key) in [(&rsa, &bound), (&ecdsa, &bound), (&ecdsa, &rsa), (&rsa, &ecdsa)] {
        let error = signed.verify_signature(key).unwrap_err();
        assert!(matches!(error, PkiError::Unsupported { .. } | PkiError::OtherKindOfKey), "{error}");
    }
}

#[test]
fn only_the_right_key_over_the_right_bytes_proves_possession() {
    for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
        let public_key = key.public_key_der();
        let algorithm = key.signature_algorithm_identifier().unwrap();
        let signature = key.try_sign(b"request").unwrap();
        let check = |public_key: &[u8], algorithm: &AlgorithmIdentifierOwned, bytes: &[u8], signature: &[u8]| {
            verify_possession(public_key, algorithm, bytes, signature).is_ok()
        };
        assert!(check(&public_key, &algorithm, b"request", signature.as_bytes()));
        assert!(!check(&public_key, &algorithm, b"Request", signature.as_bytes()));
        assert!(!check(&public_key, &algorithm, b"request", &signature.as_bytes()[1..]));
        assert!(!check(&public_key, &algorithm, b"request", b""));
        for other in [SoftwareKey::new_rsa(2048), SoftwareKey::p256(), SoftwareKey::p384()] {
            assert!(!check(&other.public_key_der(), &algorithm, b"request", signature.as_bytes()));
        }
        for other in KeyAlgorithm::ALL.map(KeyAlgorithm::signature_algorithm) {
            if other != algorithm {
                assert!(!check(&public_key, &other, b"request", signature.as_bytes()));
            }
        }
    }
}
