//! Tests of the limits on MAC parameters, and of PBMAC1 against OpenSSL.

use std::process::Command;

use der::asn1::OctetString;
use der::{Any, Decode, Encode};
use spki::AlgorithmIdentifierOwned;

use super::hmac::hmac;
use super::pbm::PbmParameters;
use crate::cmp::*;

const SECRET: &[u8] = b"a secret";

fn draft() -> Draft {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    general_request(PkiHeader::request(Pvno::CMP2000, "E1", None, now).unwrap(), &[oid::IT_CA_CERTS])
}

fn algorithm(oid: der::asn1::ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: None }
}

/// Verifies a message that names these parameters and has a false MAC.
fn claiming(oid: der::asn1::ObjectIdentifier, parameters: Option<Any>) -> Result<MacProtection, ProtectionError> {
    let mut draft = draft();
    draft.header.protection_alg = Some(AlgorithmIdentifierOwned { oid, parameters });
    let bytes = draft.seal(|_| Ok(Some(vec![0; 32]))).unwrap();
    verify_mac(&PkiMessage::from_der(&bytes).unwrap(), SECRET)
}

fn pbm(salt: &[u8], owf: &AlgorithmIdentifierOwned, count: u64, mac: &AlgorithmIdentifierOwned) -> Any {
    let parts = [
        OctetString::new(salt).unwrap().to_der().unwrap(),
        owf.to_der().unwrap(),
        count.to_der().unwrap(),
        mac.to_der().unwrap(),
    ];
    Any::new(der::Tag::Sequence, parts.concat()).unwrap()
}

fn pbmac1(salt: &[u8], count: u64, length: Option<u16>, prf: Option<der::asn1::ObjectIdentifier>) -> Any {
    let mut derivation = [OctetString::new(salt).unwrap().to_der().unwrap(), count.to_der().unwrap()].concat();
    derivation.extend(length.iter().flat_map(|length| length.to_der().unwrap()));
    derivation.extend(prf.iter().flat_map(|prf| algorithm(*prf).to_der().unwrap()));
    let derivation = Some(Any::new(der::Tag::Sequence, derivation).unwrap());
    let function = AlgorithmIdentifierOwned { oid: oid::PBKDF2, parameters: derivation };
    let parts = [function.to_der().unwrap(), algorithm(oid::HMAC_SHA256).to_der().unwrap()];
    Any::new(der::Tag::Sequence, parts.concat()).unwrap()
}

#[test]
fn a_mac_verifies_with_its_secret_only() {
    for how in [MacProtection::pbm().unwrap(), MacProtection::pbmac1().unwrap()] {
        let bytes = draft().protect_with_mac(SECRET, &how).unwrap();
        let message = PkiMessage::from_der(&bytes).unwrap();
        let read = verify_mac(&message, SECRET).unwrap();
        assert_eq!(verify_mac(&message, b"another"), Err(ProtectionError::Mismatch));
        let again = PkiMessage::from_der(&draft().protect_with_mac(SECRET, &read).unwrap()).unwrap();
        assert!(verify_mac(&again, SECRET).is_ok());
        assert_ne!(again.header().protection_alg, message.header().protection_alg, "a different salt");
    }
}

#[test]
fn too_much_work_is_refused_before_it_is_done() {
    let begun = std::time::Instant::now();
    let (sha256, hmac) = (algorithm(oid::SHA256), algorithm(oid::HMAC_SHA256));
    for count in [100_001, u64::from(u32::MAX), u64::MAX] {
        let refused = claiming(oid::PASSWORD_BASED_MAC, Some(pbm(&[1; 16], &sha256, count, &hmac)));
        assert_eq!(refused, Err(ProtectionError::TooManyIterations { requested: count, allowed: 100_000 }));
    }
    for count in [262_145, u64::MAX] {
        let refused = claiming(oid::PBMAC1, Some(pbmac1(&[1; 16], count, Some(32), Some(oid::HMAC_SHA512))));
        assert_eq!(refused, Err(ProtectionError::TooManyIterations { requested: count, allowed: 262_144 }));
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(1));
}

#[test]
fn the_cost_of_a_mac_is_known_before_verification() {
    let cost = |algorithm: AlgorithmIdentifierOwned| {
        let mut draft = draft();
        draft.header.protection_alg = Some(algorithm);
        cost_of_verifying(&draft.seal(|_| Ok(Some(vec![0; 32]))).unwrap())
    };
    let of = |oid, parameters| cost(AlgorithmIdentifierOwned { oid, parameters: Some(parameters) });
    let by_pbm = |count| pbm(&[1; 16], &algorithm(oid::SHA256), count, &algorithm(oid::HMAC_SHA256));
    // Up to 10,000 rounds, all four spellings of the secret are tried.
    assert_eq!(of(oid::PASSWORD_BASED_MAC, by_pbm(500)), 2_000);
    assert_eq!(of(oid::PASSWORD_BASED_MAC, by_pbm(10_000)), 40_000);
    assert_eq!(of(oid::PASSWORD_BASED_MAC, by_pbm(10_001)), 10_001);
    assert_eq!(of(oid::PASSWORD_BASED_MAC, by_pbm(100_001)), 0, "refused");
    assert_eq!(of(oid::PBMAC1, pbmac1(&[1; 16], 262_144, Some(32), Some(oid::HMAC_SHA256))), 262_144);
    assert_eq!(of(oid::PBMAC1, pbmac1(&[1; 16], 262_144, Some(64), Some(oid::HMAC_SHA512))), 524_288);
    assert_eq!(of(oid::PBMAC1, pbmac1(&[1; 16], 1_000, None, None)), 2_000, "SHA-1 runs twice for 32 bytes");
    assert_eq!(cost_of_verifying(b"not a message"), 0);
}

#[test]
fn other_spellings_are_tried_only_where_that_is_cheap() {
    let verified = |parameters: Any| {
        let how = PbmParameters::read(&parameters).unwrap();
        let mut draft = draft();
        let algorithm = AlgorithmIdentifierOwned { oid: oid::PASSWORD_BASED_MAC, parameters: Some(parameters) };
        draft.header.protection_alg = Some(algorithm);
        let bytes = draft.seal(|part| Ok(Some(how.mac(SECRET, part)?))).unwrap();
        verify_mac_by_any(&PkiMessage::from_der(&bytes).unwrap(), &[b"another", SECRET]).map(|(_, at)| at)
    };
    let by_pbm = |count| pbm(&[1; 16], &algorithm(oid::SHA256), count, &algorithm(oid::HMAC_SHA256));
    assert_eq!(verified(by_pbm(500)), Ok(1));
    assert_eq!(verified(by_pbm(10_000)), Ok(1));
    assert_eq!(verified(by_pbm(10_001)), Err(ProtectionError::Mismatch));
    let by_pbmac1 = draft().protect_with_mac(SECRET, &MacProtection::pbmac1().unwrap()).unwrap();
    let by_pbmac1 = PkiMessage::from_der(&by_pbmac1).unwrap();
    assert!(verify_mac_by_any(&by_pbmac1, &[b"another", SECRET]).is_err());
}

#[test]
fn pbmac1_of_newer_clients_is_verified() {
    let openssl_3_6 = pbmac1(&[1; 16], 262_144, Some(64), Some(oid::HMAC_SHA512));
    assert_eq!(claiming(oid::PBMAC1, Some(openssl_3_6)), Err(ProtectionError::Mismatch));
    let defaults = pbmac1(&[1; 16], 1000, None, None);
    assert_eq!(claiming(oid::PBMAC1, Some(defaults)), Err(ProtectionError::Mismatch));
}

#[test]
fn weak_and_malformed_parameters_are_refused() {
    let (sha256, hmac) = (algorithm(oid::SHA256), algorithm(oid::HMAC_SHA256));
    let weak = [
        (oid::PASSWORD_BASED_MAC, Some(pbm(&[1; 16], &sha256, 99, &hmac))),
        (oid::PASSWORD_BASED_MAC, Some(pbm(&[1; 7], &sha256, 500, &hmac))),
        (oid::PBMAC1, Some(pbmac1(&[1; 16], 1, Some(32), None))),
        (oid::PBMAC1, Some(pbmac1(&[], 1000, Some(32), None))),
        (oid::PBMAC1, Some(pbmac1(&[1; 16], 1000, Some(15), None))),
        (oid::PBMAC1, Some(pbmac1(&[1; 16], 1000, Some(u16::MAX), None))),
        // Four runs of all iterations, for a key that no HMAC needs.
        (oid::PBMAC1, Some(pbmac1(&[1; 16], 1000, Some(64), None))),
        (oid::PBMAC1, Some(pbmac1(&[1; 16], 1000, Some(128), Some(oid::HMAC_SHA512)))),
        (oid::PBMAC1, Some(Any::null())),
        (oid::PASSWORD_BASED_MAC, None),
    ];
    for (at, (oid, parameters)) in weak.into_iter().enumerate() {
        assert_eq!(claiming(oid, parameters), Err(ProtectionError::Malformed), "{at}");
    }
}

#[test]
fn unknown_algorithms_are_named() {
    let unknown = der::asn1::ObjectIdentifier::new_unwrap("1.2.3.4");
    let (sha256, hmac) = (algorithm(oid::SHA256), algorithm(oid::HMAC_SHA256));
    let unsupported = Err(ProtectionError::Unsupported(unknown));
    let digest = pbm(&[1; 16], &algorithm(unknown), 500, &hmac);
    assert_eq!(claiming(oid::PASSWORD_BASED_MAC, Some(digest)), unsupported);
    let mac = pbm(&[1; 16], &sha256, 500, &algorithm(unknown));
    assert_eq!(claiming(oid::PASSWORD_BASED_MAC, Some(mac)), unsupported);
    assert_eq!(claiming(oid::PBMAC1, Some(pbmac1(&[1; 16], 500, None, Some(unknown)))), unsupported);
    assert_eq!(claiming(unknown, None), Err(ProtectionError::WrongKind(unknown)));
    let bare = PkiMessage::from_der(&draft().unprotected().unwrap()).unwrap();
    assert_eq!(verify_mac(&bare, SECRET), Err(ProtectionError::Missing));
}

#[test]
fn openssl_computes_the_same_pbmac1() {
    let bytes = draft().protect_with_mac(SECRET, &MacProtection::pbmac1().unwrap()).unwrap();
    let message = PkiMessage::from_der(&bytes).unwrap();
    let parameters = message.header().protection_alg.as_ref().unwrap().parameters.clone().unwrap();
    let functions = Vec::<AlgorithmIdentifierOwned>::from_der(&parameters.to_der().unwrap()).unwrap();
    let derivation = functions[0].parameters.clone().unwrap();
    // SEQUENCE { OCTET STRING salt (16 bytes), INTEGER 10000, … }
    let salt = hex::encode(&derivation.value()[2..18]);
    let pass = format!("hexpass:{}", hex::encode(SECRET));
    let salt = format!("hexsalt:{salt}");
    let key = openssl(&[
        "kdf",
        "-keylen",
        "32",
        "-kdfopt",
        "digest:SHA256",
        "-kdfopt",
        &pass,
        "-kdfopt",
        &salt,
        "-kdfopt",
        "iter:10000",
        "PBKDF2",
    ]);
    let key = format!("hexkey:{}", key.trim().replace(':', ""));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), message.protected_part().unwrap()).unwrap();
    let part = file.path().display().to_string();
    let mac = openssl(&["mac", "-digest", "SHA256", "-macopt", &key, "-in", &part, "HMAC"]);
    assert_eq!(mac.trim().to_lowercase(), hex::encode(message.protection().unwrap()));
}

#[test]
fn hmacs_are_those_of_rfc_4231() {
    // RFC 4231 §4.3, test case 2.
    let known = [
        (oid::HMAC_SHA256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (oid::HMAC_SHA1_PKIX, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (oid::HMAC_SHA1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    ];
    for (oid, expected) in known {
        let mac = hmac(&algorithm(oid), b"Jefe", b"what do ya want for nothing?").unwrap();
        assert_eq!(hex::encode(mac), expected);
    }
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
