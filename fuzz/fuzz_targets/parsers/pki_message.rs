//! A PKIMessage from anyone. Parsing never panics, and a parsed message can be encoded and parsed
//! again. The target also verifies the MAC, whose parameters come from the network, and extracts
//! everything that the authority uses from a request.
use der::{Decode, Encode};
use tokenkeep::cmp::{GeneralInfoExt, PkiBody, PkiHeader, PkiMessage, verify_mac};

pub fn run(data: &[u8]) {
    let Ok(message) = PkiMessage::from_der(data) else { return };
    let header = message.header().to_der().expect("a parsed header can be encoded");
    assert_eq!(PkiHeader::from_der(&header).as_ref(), Ok(message.header()));
    let body = message.body().to_der().expect("a parsed body can be encoded");
    assert_eq!(PkiBody::from_der(&body).as_ref(), Ok(message.body()));
    assert!(verify_mac(&message, b"a secret that no input knows").is_err());
    for reference in message.references() {
        assert!(!reference.is_empty());
    }
    let general_info = message.header().general_info.as_deref().unwrap_or_default();
    let _ = (general_info.has_implicit_confirm(), general_info.confirm_wait_time());
    match message.body() {
        PkiBody::Ir(requests) | PkiBody::Cr(requests) | PkiBody::Kur(requests) | PkiBody::Krr(requests) => {
            for request in requests {
                if let Ok(pairs) = request.utf8_pairs() {
                    assert_eq!(pairs.to_string().parse().ok(), Some(pairs));
                }
                let _ = (request.possession(), request.cert_req.transport_key());
            }
        }
        PkiBody::Ip(reply) | PkiBody::Cp(reply) | PkiBody::Kup(reply) => {
            for key_pair in reply.response.iter().filter_map(|response| response.certified_key_pair.as_ref()) {
                let _ = key_pair.private_key.as_ref().map(|key| key.to_delivery());
                let _ = key_pair.plain_certificate().map(|certificate| certificate.parse());
            }
        }
        PkiBody::Genm(info) | PkiBody::Genp(info) => {
            let _ = (info.ca_certs(), info.sign_key_pair_types());
        }
        _ => {}
    }
}
