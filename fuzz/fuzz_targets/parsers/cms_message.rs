//! A signed or encrypted message from anyone, in DER, BER, PEM or S/MIME. Parsing never panics, no
//! signer is trusted without an anchor, and nothing is decrypted without using the key.
use std::sync::LazyLock;

use tokenkeep::pki::{Certificate, same_address};
use tokenkeep::smime::{
    EncryptedMessage, KeyOperation, KeyResult, Message, from_entity, judge_sender, shown_fields, to_entity, verify,
};

static AUTHORITY: LazyLock<Certificate> = LazyLock::new(|| {
    let pem = include_bytes!("../../../tests/corpus/cms/keys/authority.pem");
    Certificate::read_all(pem).expect("a certificate").remove(0)
});

pub fn run(data: &[u8]) {
    let _ = from_entity(data);
    assert_eq!(from_entity(&to_entity(data)).as_deref(), Some(data));
    let Ok(message) = Message::read(data) else { return };
    if let Ok(verified) = verify(&message, Some(b"content"), &[], &[], AUTHORITY.not_before()) {
        assert!(!verified.is_good());
        let headers: Vec<_> = message.headers().collect();
        let sender = judge_sender(&headers, &message, &verified);
        // A sender without a problem is a signer.
        if let Some(sender) = sender.filter(|sender| sender.problem.is_none()) {
            let address = sender.address.expect("an address");
            let is_signer = |email: &String| same_address(email, &address);
            assert!(verified.signers.iter().flat_map(|signer| &signer.emails).any(is_signer));
        }
        let _ = shown_fields(&headers, Some((&message, &verified)));
    }
    if let Ok(encrypted) = EncryptedMessage::parse(&message) {
        for place in 0..encrypted.recipients().len().min(4) {
            let secret = |operation: KeyOperation<'_>| match operation {
                KeyOperation::Decrypt { ciphertext, .. } => ciphertext.iter().copied().take(32).collect::<Vec<u8>>(),
                KeyOperation::Agree { peer_public_key } => peer_public_key.iter().copied().take(32).collect(),
            };
            let _ = encrypted.open(place, |operation| Ok::<_, ()>(KeyResult::Secret(secret(operation).into())));
        }
    }
}
