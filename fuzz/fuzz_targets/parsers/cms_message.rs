//! A signed or encrypted message from anyone, in DER, BER, PEM or S/MIME. Parsing never panics, no
//! signer is trusted without an anchor, and nothing is decrypted without using the key.
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::LazyLock;

use tokenkeep::pki::{Certificate, same_address};
use tokenkeep::smime::{
    EncryptedFile, EncryptedMessage, KeyOperation, KeyResult, Message, MessageFile, from_entity, judge_sender,
    shown_fields, to_entity, verify,
};

static AUTHORITY: LazyLock<Certificate> = LazyLock::new(|| {
    let pem = include_bytes!("../../../tests/corpus/cms/keys/authority.pem");
    Certificate::read_all(pem).expect("a certificate").remove(0)
});

pub fn run(data: &[u8]) {
    let _ = from_entity(data);
    assert_eq!(from_entity(&to_entity(data)).as_deref(), Some(data));
    let file = MessageFile::open(PieceReader(Cursor::new(data)));
    let Ok(message) = Message::read(data) else {
        // The structure may be damaged after its beginning.
        assert!(file.and_then(EncryptedFile::parse).is_err());
        return;
    };
    let file = file.expect("a message that can be loaded is recognized");
    assert_eq!((file.about().format, file.about().kind), (message.format, message.kind));
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
    let in_file = EncryptedFile::parse(file);
    if let Ok(encrypted) = EncryptedMessage::parse(&message) {
        let mut in_file = in_file.expect("the same message");
        assert_eq!(in_file.recipients(), encrypted.recipients());
        for place in 0..encrypted.recipients().len().min(4) {
            let secret = |operation: KeyOperation<'_>| match operation {
                KeyOperation::Decrypt { ciphertext, .. } => ciphertext.iter().copied().take(32).collect::<Vec<u8>>(),
                KeyOperation::Agree { peer_public_key } => peer_public_key.iter().copied().take(32).collect(),
            };
            let opened = encrypted.open(place, |operation| Ok::<_, ()>(KeyResult::Secret(secret(operation).into())));
            let mut written = Vec::new();
            let result = in_file
                .open(place, |operation| Ok::<_, ()>(KeyResult::Secret(secret(operation).into())), &mut written);
            assert_eq!(result.is_ok(), opened.is_ok());
            assert_eq!(written, opened.map_or_else(|_| Vec::new(), |opened| opened.content.to_vec()));
        }
    } else {
        assert!(in_file.is_err());
    }
}

/// An input that returns at most seven octets at a time.
struct PieceReader<'a>(Cursor<&'a [u8]>);

impl Read for PieceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

impl Seek for PieceReader<'_> {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(position)
    }
}
