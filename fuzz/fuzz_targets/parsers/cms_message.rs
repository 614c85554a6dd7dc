//! A signed or encrypted message from anyone, in DER, BER, PEM or S/MIME: reading it never panics, nobody is believed
//! without an anchor, and nothing opens with a key that was not asked.
use std::sync::LazyLock;

use tokenkeep::pki::Certificate;
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
        let sender = judge_sender(&[&message.header], &message, &verified);
        // Who names a sender without a problem has named a signer.
        if let Some(sender) = sender.filter(|sender| sender.problem.is_none()) {
            let address = sender.address.expect("an address");
            // A domain has several spellings.
            let local = |email: &str| email.rsplit_once('@').map(|(local, _)| local.to_ascii_lowercase());
            let is_it = |email: &String| local(email) == local(&address);
            assert!(verified.signers.iter().flat_map(|signer| &signer.emails).any(is_it));
        }
        let _ = shown_fields(&[&message.header], Some((&message, &verified)));
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
