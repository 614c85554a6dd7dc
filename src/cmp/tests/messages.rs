//! One message of each kind that this crate makes.

use std::convert::Infallible;

use der::{Any, Decode, Encode};
use x509_cert::name::Name;

use super::{REFERENCE, SECRET, assert_openssl, corpus, ecdsa_with_sha256, now, part};
use crate::cmp::*;
use crate::token::{Delivery, KeyWrap, OaepHash};

/// The header of a client's first message.
pub(super) fn header(pvno: Pvno) -> PkiHeader {
    PkiHeader::request(pvno, REFERENCE, None, now()).unwrap()
}

pub(super) fn authority() -> Name {
    "CN=Authority,O=Example".parse().unwrap()
}

pub(super) fn transport() -> TransportPublicKey {
    TransportPublicKey { public_key: part("transport_key.spki"), oaep: OaepHash::Sha256 }
}

pub(super) fn pairs() -> Utf8Pairs {
    Utf8Pairs::default().with(Utf8Pairs::KEYSET, "100% sure?").with(Utf8Pairs::LEVEL, "high")
}

/// A request for both keys; `sign` makes the signature of the proof of possession.
pub(super) fn both_keys(public_key: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> EnrollmentRequestBuilder {
    let request = EnrollmentRequestBuilder::new(header(Pvno::CMP2000), REFERENCE, &pairs()).unwrap();
    let sign = |bytes: &[u8]| Ok::<_, Infallible>(sign(bytes));
    let request = request.signing_key(public_key, ecdsa_with_sha256(), sign).unwrap();
    request.encryption_key(&transport()).unwrap()
}

pub(super) fn delivery() -> Delivery {
    Delivery { oaep: OaepHash::Sha256, encrypted_key: vec![7; 256], key_wrap: KeyWrap::Kwp, wrapped: vec![9; 1232] }
}

pub(super) fn encrypted_key() -> EncryptedKey {
    let rsa = part("transport_key.spki");
    let algorithm = spki::SubjectPublicKeyInfoOwned::from_der(&rsa).unwrap().algorithm;
    EncryptedValue::from_delivery(&delivery(), algorithm).unwrap().into()
}

pub(super) fn certificate() -> CertificateDer {
    CertificateDer::new(&part("certificate.der")).unwrap()
}

pub(super) fn read(bytes: &[u8]) -> PkiMessage {
    PkiMessage::from_der(bytes).unwrap()
}

/// An ip that grants both keys of [`both_keys`].
pub(super) fn ip() -> PkiBody {
    let signing = CertResponse::granted(0, CertifiedKeyPair::certificate(certificate()));
    let encryption = CertResponse::granted(1, CertifiedKeyPair::with_private_key(certificate(), encrypted_key()));
    PkiBody::Ip(CertRepMessage::new(vec![certificate()], vec![signing, encryption]))
}

/// The messages of each kind, with their names.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let (pbm, pbmac1) = (MacProtection::pbm().unwrap(), MacProtection::pbmac1().unwrap());
    let by_pbm = |draft: Draft| draft.protect_with_mac(SECRET, &pbm).unwrap();
    let by_pbmac1 = |draft: Draft| draft.protect_with_mac(SECRET, &pbmac1).unwrap();
    let request = || both_keys(&part("public_key.spki"), |_| vec![0x30, 0]);
    let answering = |request: &[u8], body| draft_reply(&read(request), &authority(), body, now()).unwrap();

    let kinds = [oid::IT_CA_CERTS, oid::IT_SIGN_KEY_PAIR_TYPES];
    let asking = by_pbm(general_request(header(Pvno::CMP2000), &kinds));
    let algorithms = [ecdsa_with_sha256()];
    let known = vec![
        InfoTypeAndValue::ca_certs(&[certificate()]).unwrap(),
        InfoTypeAndValue::sign_key_pair_types(&algorithms).unwrap(),
    ];
    let known = by_pbm(answering(&asking, PkiBody::Genp(known)));

    let ir = by_pbmac1(request().ir());
    let mut granted = answering(&ir, ip());
    let wait = InfoTypeAndValue::confirm_wait_time(now()).unwrap();
    granted.header.general_info = Some(vec![wait]);
    let ip = by_pbmac1(granted);
    let accepted = CertStatus::accept(0, &part("certificate.der")).unwrap();
    let why = PkiStatusInfo::rejection(PkiFailureInfo::INCORRECT_DATA, "the key does not fit its certificate");
    let refused = CertStatus::refuse(1, &part("certificate.der"), why.clone()).unwrap();
    let cert_conf = by_pbmac1(confirm(&read(&ir), &read(&ip), vec![accepted, refused], now()).unwrap());
    let pki_conf = by_pbmac1(answering(&cert_conf, PkiBody::pki_conf()));

    let krr = by_pbm(request().implicit_confirm().krr());
    let history = vec![CertifiedKeyPair::with_private_key(certificate(), encrypted_key()); 3];
    let content = KeyRecRepContent::granted(certificate(), vec![certificate()], history);
    let mut recovered = answering(&krr, PkiBody::Krp(content));
    recovered.header.general_info = Some(vec![InfoTypeAndValue::implicit_confirm()]);
    let krp = by_pbm(recovered);

    let rejection = by_pbm(reject(&read(&ir), Some(&read(&ip)), why, now()).unwrap());
    let unknown = PkiStatusInfo::rejection(PkiFailureInfo::BAD_MESSAGE_CHECK, "");
    let error = answering(&ir, PkiBody::Error(unknown.into())).unprotected().unwrap();
    let waiting = CertResponse::without_certificate(0, PkiStatusInfo::waiting("two more approvals"));
    let ip_waiting = by_pbm(answering(&ir, PkiBody::Ip(CertRepMessage::new(Vec::new(), vec![waiting]))));

    vec![
        ("genm", asking),
        ("genp", known),
        ("ir", ir),
        ("ip", ip),
        ("certconf", cert_conf),
        ("pkiconf", pki_conf),
        ("krr", krr),
        ("krp", krp),
        ("rejection", rejection),
        ("error", error),
        ("ip_waiting", ip_waiting),
        ("ip_enveloped", enveloped(&pbm)),
    ]
}

/// An ip of pvno 3 whose private key is an EnvelopedData made by OpenSSL.
fn enveloped(pbm: &MacProtection) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (key, file) = (directory.path().join("k.pem"), directory.path().join("c.pem"));
    let (key, file) = (key.display().to_string(), file.display().to_string());
    let make =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=recipient", "-keyout", &key, "-out", &file];
    assert_openssl(&make, b"");
    let info = assert_openssl(&["cms", "-encrypt", "-binary", "-outform", "DER", "-aes256", &file], b"a private key");
    let info = cms::content_info::ContentInfo::from_der(&definite(&info)).unwrap();
    let data: cms::enveloped_data::EnvelopedData = info.content.decode_as().unwrap();
    let key_pair = CertifiedKeyPair::with_private_key(certificate(), EncryptedKey::EnvelopedData(Box::new(data)));
    let body = PkiBody::Ip(CertRepMessage::new(Vec::new(), vec![CertResponse::granted(0, key_pair)]));
    let genm = general_request(header(Pvno::CMP2021), &[]).protect_with_mac(SECRET, pbm).unwrap();
    draft_reply(&read(&genm), &authority(), body, now()).unwrap().protect_with_mac(SECRET, pbm).unwrap()
}

/// OpenSSL writes DER here unless it streams. Streaming fails this test with a message.
fn definite(bytes: &[u8]) -> Vec<u8> {
    Any::from_der(bytes).expect("DER of definite length").to_der().unwrap()
}

#[test]
fn openssl_reads_each_of_our_messages_to_its_end() {
    let write = std::env::var_os("WRITE_CORPUS").is_some();
    for (name, bytes) in messages() {
        if write {
            std::fs::write(corpus("own").join(name).with_extension("der"), &bytes).unwrap();
        }
        let text = assert_openssl(&["asn1parse", "-inform", "DER"], &bytes);
        assert!(!String::from_utf8_lossy(&text).contains("rror"), "{name}");
        let message = read(&bytes);
        assert_eq!(message.der(), bytes, "{name}");
        assert_eq!(name == "error", verify_mac(&message, SECRET).is_err(), "{name}");
    }
}
