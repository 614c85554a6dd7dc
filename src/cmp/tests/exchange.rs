//! Tests of both sides together, and of every reply that the client must refuse.

use super::messages::{authority, both_keys, certificate, delivery, header, ip, pairs, read, transport};
use super::{Key, REFERENCE, SECRET, now, part};
use crate::cmp::*;

fn mac() -> MacProtection {
    MacProtection::pbmac1().unwrap()
}

fn ir(key: &Key) -> PkiMessage {
    read(&both_keys(&key.public_key(), |bytes| key.sign(bytes)).ir().protect_with_mac(SECRET, &mac()).unwrap())
}

#[test]
fn the_authority_reads_what_the_client_wrote() {
    let key = Key::new();
    let request = ir(&key);
    assert_eq!(request.references(), [REFERENCE]);
    assert!(verify_mac(&request, SECRET).is_ok());
    assert_eq!(request.header().pvno, Pvno::CMP2000);
    assert_eq!(request.header().transaction().map(<[u8]>::len), Some(16));
    let PkiBody::Ir(requests) = request.body() else { panic!("an ir") };
    let [signing, encryption] = &requests[..] else { panic!("two requests") };
    assert_eq!((signing.cert_req.cert_req_id, encryption.cert_req.cert_req_id), (0, 1));
    assert_eq!(signing.utf8_pairs().unwrap(), pairs());
    assert_eq!(signing.cert_req.transport_key().unwrap(), None);
    assert_eq!(encryption.cert_req.transport_key().unwrap(), Some(transport()));
    assert!(encryption.possession().is_err());

    let possession = signing.possession().unwrap();
    assert_eq!(possession.public_key, key.public_key());
    assert!(key.verifies(&possession.signed, &possession.signature));
    assert!(!key.verifies(encryption.cert_req.der(), &possession.signature));
}

#[test]
fn the_client_reads_what_the_authority_answers_in_kind() {
    let request = ir(&Key::new());
    let how = verify_mac(&request, SECRET).unwrap();
    let reply = draft_reply(&request, &authority(), ip(), now()).unwrap().protect_with_mac(SECRET, &how).unwrap();
    let Ok(CheckedReply::Authenticated(reply)) = check_reply(&request, &reply, SECRET) else {
        panic!("not authenticated")
    };
    let PkiBody::Ip(granted) = reply.body() else { panic!("an ip") };
    let encryption = granted.response_to(1).unwrap().certified_key_pair.as_ref().unwrap();
    assert_eq!(encryption.plain_certificate(), Some(&certificate()));
    assert_eq!(encryption.private_key.as_ref().unwrap().to_delivery().unwrap(), delivery());
    let algorithm = |message: &PkiMessage| message.header().protection_alg.as_ref().unwrap().oid;
    assert_eq!(algorithm(&reply), algorithm(&request));
    assert_ne!(reply.header().protection_alg, request.header().protection_alg, "the salt is fresh");
    assert_ne!(reply.header().nonce(), request.header().nonce());

    let statuses = vec![CertStatus::accept(0, &part("certificate.der")).unwrap()];
    let confirmation = confirm(&request, &reply, statuses, now()).unwrap().protect_with_mac(SECRET, &how).unwrap();
    let confirmation = read(&confirmation);
    assert_eq!(confirmation.header().transaction(), request.header().transaction());
    assert_eq!(confirmation.header().recip_nonce, reply.header().sender_nonce);
    assert_eq!(confirmation.references(), [REFERENCE]);
    let PkiBody::CertConf(statuses) = confirmation.body() else { panic!("a certConf") };
    let verdict = |der: &[u8]| statuses[0].verdict_on(der, confirmation.header().pvno).unwrap();
    assert_eq!(verdict(&part("certificate.der")), ConfirmationVerdict::Accepted);
    assert_eq!(verdict(&Key::new().certificate()), ConfirmationVerdict::WrongCertificate);
}

#[test]
fn another_reply_is_refused() {
    let (request, other) = (ir(&Key::new()), ir(&Key::new()));
    let reply_to = |request: &PkiMessage| draft_reply(request, &authority(), ip(), now()).unwrap();
    let protect = |draft: Draft| draft.protect_with_mac(SECRET, &mac()).unwrap();
    let refusal = |reply: &[u8]| check_reply(&request, reply, SECRET).expect_err("refused");

    assert!(matches!(refusal(&protect(reply_to(&other))), ReplyRefusal::WrongTransaction));

    let mut replayed = reply_to(&request);
    replayed.header.recip_nonce = other.header().sender_nonce.clone();
    assert!(matches!(refusal(&protect(replayed)), ReplyRefusal::WrongMessage));
    let mut without = reply_to(&request);
    without.header.recip_nonce = None;
    assert!(matches!(refusal(&protect(without)), ReplyRefusal::WrongMessage));

    let mut newer = reply_to(&request);
    newer.header.pvno = Pvno::CMP2021;
    assert!(matches!(refusal(&protect(newer)), ReplyRefusal::WrongVersion(3)));

    let stranger = reply_to(&request).protect_with_mac(b"another secret", &mac()).unwrap();
    assert!(matches!(refusal(&stranger), ReplyRefusal::Unauthenticated(ProtectionError::Mismatch)));
    let bare = reply_to(&request).unprotected().unwrap();
    assert!(matches!(refusal(&bare), ReplyRefusal::Unauthenticated(ProtectionError::Missing)));

    let good = protect(reply_to(&request));
    assert!(matches!(refusal(&good[..good.len() - 1]), ReplyRefusal::Unreadable(_)));
    let mut tampered = good.clone();
    let wrapped = tampered.windows(8).position(|bytes| bytes == [9; 8]).unwrap();
    tampered[wrapped] ^= 1;
    assert!(matches!(refusal(&tampered), ReplyRefusal::Unauthenticated(ProtectionError::Mismatch)));
    assert!(check_reply(&request, &good, SECRET).is_ok());
}

#[test]
fn an_unprotected_error_differs_from_an_authenticated_one() {
    let request = ir(&Key::new());
    let why = PkiStatusInfo::rejection(PkiFailureInfo::NOT_AUTHORIZED, "this letter is used");
    let error = || draft_reply(&request, &authority(), PkiBody::Error(why.clone().into()), now()).unwrap();
    let bare = error().unprotected().unwrap();
    let bare = check_reply(&request, &bare, SECRET).unwrap();
    assert!(matches!(&bare, CheckedReply::UnauthenticatedError(error) if error.status == why));
    let proven = error().protect_with_mac(SECRET, &mac()).unwrap();
    let proven = check_reply(&request, &proven, SECRET).unwrap();
    assert!(matches!(&proven, CheckedReply::Authenticated(_)));
    assert_eq!(proven.granted().unwrap_err().to_string(), "this letter is used (notAuthorized)");
    // An error with an invalid MAC does not count as one without protection.
    let forged = error().protect_with_mac(b"guessed", &mac()).unwrap();
    assert!(matches!(check_reply(&request, &forged, SECRET), Err(ReplyRefusal::Unauthenticated(_))));
}

#[test]
fn an_unreadable_reply_can_be_rejected() {
    let request = ir(&Key::new());
    let why = PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "the reply was altered");
    let draft = reject(&request, None, why, now()).unwrap();
    let rejection = read(&draft.protect_with_mac(SECRET, &mac()).unwrap());
    assert!(verify_mac(&rejection, SECRET).is_ok());
    assert_eq!(rejection.header().transaction(), request.header().transaction());
    assert_eq!(rejection.header().recip_nonce, None);
    assert!(matches!(rejection.body(), PkiBody::Error(_)));
}

#[test]
fn hash_algorithms_in_confirmations_belong_to_version_3() {
    use der::asn1::OctetString;
    use sha2::Digest;
    let certificate = part("certificate.der");
    let sha512 = spki::AlgorithmIdentifierOwned { oid: oid::SHA512, parameters: None };
    let status = CertStatus {
        cert_hash: OctetString::new(sha2::Sha512::digest(&certificate).to_vec()).unwrap(),
        hash_alg: Some(sha512),
        ..CertStatus::accept(0, &certificate).unwrap()
    };
    assert_eq!(status.verdict_on(&certificate, Pvno::CMP2021).unwrap(), ConfirmationVerdict::Accepted);
    assert!(status.verdict_on(&certificate, Pvno::CMP2000).is_err());
    let unknown = spki::AlgorithmIdentifierOwned { oid: oid::SHA1, parameters: None };
    let status = CertStatus { hash_alg: Some(unknown), ..status };
    assert_eq!(status.verdict_on(&certificate, Pvno::CMP2021).unwrap(), ConfirmationVerdict::WrongCertificate);
}

#[test]
fn a_signature_protects_and_breaks() {
    let key = Key::new();
    let request = ir(&key);
    let certificate = CertificateDer::new(&key.certificate()).unwrap();
    let draft = draft_reply(&request, &authority(), ip(), now()).unwrap();
    let signed = read(&protect_with_signature::<_, crate::token::Signature>(draft, &key, certificate.clone()).unwrap());
    assert_eq!(signed.extra_certs(), [certificate]);
    let check = |key: &Key| verify_signature(&signed, |_, bytes, signature| key.verifies(bytes, signature));
    assert_eq!(check(&key), Ok(()));
    assert_eq!(check(&Key::new()), Err(ProtectionError::Mismatch));
    assert!(matches!(verify_mac(&signed, SECRET), Err(ProtectionError::WrongKind(_))));
    let bare = read(&general_request(header(Pvno::CMP2000), &[]).unprotected().unwrap());
    assert_eq!(verify_signature(&bare, |_, _, _| true), Err(ProtectionError::Missing));
}
