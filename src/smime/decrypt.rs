//! Decrypting in two steps: to whom is it encrypted, and then one operation of one private key.

use std::fmt;

use zeroize::Zeroizing;

use super::{Message, SmimeError};
use crate::pki::{Certificate, DistinguishedName, SerialNumber};
use crate::token::KeyTransport;

/// An encrypted message, read but not opened.
#[derive(Clone, Debug)]
pub struct EncryptedMessage {
    recipients: Vec<Recipient>,
}

/// How a message names one of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientId {
    /// By its certificate's issuer and serial number.
    IssuerAndSerial {
        /// The certificate's issuer.
        issuer: DistinguishedName,
        /// The certificate's serial number.
        serial: SerialNumber,
    },
    /// By its certificate's subjectKeyIdentifier.
    KeyIdentifier(Vec<u8>),
    /// Not by a certificate (a password, a key both have): nothing for a keyset.
    Other,
}

/// What the recipient's private key has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientKind {
    /// Decrypt the content key, by RSA.
    KeyTransport(KeyTransport),
    /// Agree on a key, by ECDH.
    KeyAgreement,
    /// Something that this program does not do; says what.
    Unsupported(String),
}

/// One recipient. Its place in [`EncryptedMessage::recipients`] is what [`EncryptedMessage::open`] takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub id: RecipientId,
    /// How.
    pub kind: RecipientKind,
}

impl Recipient {
    /// Whether this is the owner of `certificate`.
    pub fn is(&self, certificate: &Certificate) -> bool {
        match &self.id {
            RecipientId::IssuerAndSerial { issuer, serial } => {
                *issuer == certificate.issuer() && *serial == certificate.serial()
            }
            RecipientId::KeyIdentifier(identifier) => {
                certificate.subject_key_identifier().is_some_and(|own| own == *identifier)
            }
            RecipientId::Other => false,
        }
    }
}

/// What is asked of the private key, exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOperation<'a> {
    /// Decrypt this, answer the content key as it comes out.
    Decrypt {
        /// By this scheme.
        transport: KeyTransport,
        /// The encrypted content key, as long as the modulus in a well-made message.
        ciphertext: &'a [u8],
    },
    /// ECDH with this public key, answer the shared secret Z (the x coordinate, as long as the field).
    Agree {
        /// DER SubjectPublicKeyInfo of the ephemeral key, on the recipient's curve in a well-made message.
        peer_public_key: &'a [u8],
    },
}

/// What came of it. Everything else (no token, a wrong PIN, a cancelled prompt) is the closure's error, and comes
/// through [`OpenError::Key`] as it is.
pub enum KeyResult {
    /// The key did its work.
    Secret(Zeroizing<Vec<u8>>),
    /// The token refuses the *ciphertext* or the peer's key (bad padding, wrong length, not on the curve): decryption
    /// goes on with a random key, and nobody learns that.
    Failed,
}

impl fmt::Debug for KeyResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyResult([redacted])")
    }
}

/// Why a message was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The private key could not be used; the closure's own error.
    #[error(transparent)]
    Key(E),
    /// The message.
    #[error(transparent)]
    Message(#[from] SmimeError),
}

/// A decrypted message.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The whole plaintext.
    pub content: Zeroizing<Vec<u8>>,
    /// Whether the encryption itself vouches that nobody changed the content (AES-GCM). If not, only a signature
    /// inside can, and until then the content is *not integrity-protected* and must be shown as such.
    pub authenticated: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened([redacted])")
    }
}

impl EncryptedMessage {
    /// Reads an enveloped or authenticated-enveloped message; asks nothing of any key.
    pub fn parse(message: &Message) -> Result<Self, SmimeError> {
        let _ = message;
        todo!()
    }

    /// To whom it is encrypted, in the message's order.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Opens it as the recipient of that place: `operate` is called exactly once, unless the place does not exist or
    /// its kind is unsupported. Whatever is wrong with key, content key or content gives [`SmimeError::Undecryptable`].
    pub fn open<E>(
        &self,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
    ) -> Result<Opened, OpenError<E>> {
        let _ = (recipient, operate);
        todo!()
    }
}
