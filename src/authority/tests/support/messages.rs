//! Enrollment messages, built and parsed like a client does.

use super::*;

/// Whether the key on the token agrees on the same secret as its public key does in software.
pub(super) fn fits(enrollment: &TokenEnrollment, key: &TokenKey, public_key: &[u8]) -> bool {
    use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
    let public = p256::PublicKey::from_public_key_der(public_key).unwrap();
    let peer = p256::SecretKey::from_slice(&[7; 32]).unwrap();
    let expected = p256::ecdh::diffie_hellman(peer.to_nonzero_scalar(), public.as_affine());
    let peer = peer.public_key().to_public_key_der().unwrap();
    enrollment.agree(key, peer.as_bytes()).unwrap().as_slice() == expected.raw_secret_bytes().as_slice()
}

pub fn protect(draft: Draft, secret: &TemporaryKey) -> Vec<u8> {
    draft.protect_with_mac(secret.cmp_secret(), &MacProtection::pbm().unwrap()).unwrap()
}

pub fn read(message: &[u8]) -> PkiMessage {
    PkiMessage::from_der(message).unwrap()
}

pub fn proven(request: &[u8], reply: &[u8], secret: &TemporaryKey) -> PkiMessage {
    match check_reply(&read(request), reply, secret.cmp_secret()).unwrap() {
        CheckedReply::Authenticated(message) => message,
        CheckedReply::UnauthenticatedError(error) => panic!("an unproven error: {}", error.status),
    }
}

/// Returns the reasons and the text of a refusal with valid protection.
pub fn refusal(request: &[u8], reply: &[u8], secret: &TemporaryKey) -> (PkiFailureInfo, String) {
    match proven(request, reply, secret).body() {
        PkiBody::Error(error) => (error.status.reasons(), error.status.to_string()),
        other => panic!("not a refusal: {}", other.name()),
    }
}

/// Returns the signing certificate in an `ip` or `krp`, and the encryption certificates with their
/// deliveries.
pub fn parts(reply: &PkiMessage) -> (Certificate, Vec<(Certificate, crate::token::Delivery)>) {
    let certificate = |der: &cmp::CertificateDer| Certificate::from_der(&der.to_vec().unwrap()).unwrap();
    let pair = |pair: &cmp::CertifiedKeyPair| {
        (certificate(pair.plain_certificate().unwrap()), pair.private_key.as_ref().unwrap().to_delivery().unwrap())
    };
    match reply.body() {
        PkiBody::Ip(ip) => {
            let of = |id| ip.response_to(id).and_then(|response| response.certified_key_pair.as_ref());
            let signing = of(EnrollmentRequestBuilder::SIGNING).unwrap().plain_certificate().unwrap();
            (certificate(signing), of(EnrollmentRequestBuilder::ENCRYPTION).map(pair).into_iter().collect())
        }
        PkiBody::Krp(krp) => {
            let history = krp.key_pair_hist.iter().flatten().map(pair).collect();
            (certificate(krp.new_sig_cert.as_ref().unwrap()), history)
        }
        PkiBody::Error(error) => panic!("refused: {}", error.status),
        other => panic!("not a reply: {}", other.name()),
    }
}

/// The certificates that a `certConf` must name.
pub(super) fn confirmable(reply: &PkiMessage) -> Vec<(i64, Vec<u8>)> {
    match reply.body() {
        PkiBody::Ip(ip) => ip
            .response
            .iter()
            .map(|response| {
                let pair = response.certified_key_pair.as_ref().unwrap();
                (response.cert_req_id, pair.plain_certificate().unwrap().to_vec().unwrap())
            })
            .collect(),
        _ => vec![(EnrollmentRequestBuilder::SIGNING, parts(reply).0.as_der().to_vec())],
    }
}

/// Builds a `genm` that asks for these kinds of information.
pub fn question(letter: &Letter, kinds: &[ObjectIdentifier], at: Timestamp) -> Vec<u8> {
    protect(cmp::general_request(TestClient::header(letter, at), kinds), &letter.temporary_key)
}
