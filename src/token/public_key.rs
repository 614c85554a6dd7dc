//! Public keys as they are on a token, and as the rest of the world writes them (`SubjectPublicKeyInfo`, RFC 5280 §4.1).

use der::Document;

use super::KeyAlgorithm;

/// A public key in the form in which certificates carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
}

impl PublicKey {
    /// DER of the `SubjectPublicKeyInfo`.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }
}

impl spki::EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.der.as_slice())?)
    }
}

/// The kind of key in a DER `SubjectPublicKeyInfo`, if it is one of ours.
pub(super) fn algorithm_of(spki_der: &[u8]) -> Option<KeyAlgorithm> {
    todo!()
}
