//! Signs, verifies, encrypts and decrypts messages: CMS (RFC 5652) and S/MIME (RFC 8551).
//!
//! Reading has several steps, so that no one is asked for a PIN too early. [`Message::read`]
//! recognizes the form (DER, PEM or S/MIME). [`verify()`] returns the signers and whether they are
//! trusted. [`EncryptedMessage`] returns the recipients, and then needs *one* operation of *one*
//! private key. The caller provides signatures and this operation, as a signer and a closure.
//!
//! Contents of any length are signed and decrypted in constant memory: [`ContentDigest`],
//! [`sign_digest`] and [`ContentSignature`] read a content twice, [`MessageFile`] and
//! [`EncryptedFile`] a message three times. The functions for messages in memory call the same
//! code.
//!
//! **Invariants:** Neither error, content nor effort reveals why a decryption failed; a random
//! content key replaces one that cannot be decrypted. No plaintext is returned or written before
//! all of it is verified. A content type with which administrators sign commands is never signed.

mod content_cipher;
#[cfg(test)]
mod corpus_tests;
mod decrypt;
mod encrypt;
mod entity;
mod envelope;
mod error;
mod header;
mod message;
mod multipart;
mod sender;
mod sign;
mod source;
mod transfer_encoding;
mod verify;

pub use crate::pki::cms::{
    CertificateId, ContentDigest, ContentSignature, KeyOperation, KeyResult, PreparedSignature, Recipient,
    RecipientKind, SigningCertificate,
};
pub use content_cipher::Cipher;
pub use decrypt::{DecryptedFile, DecryptedMessage, EncryptedContentKey, EncryptedFile, EncryptedMessage};
pub use encrypt::encrypt;
pub use entity::{from_entity, to_canonical_lines, to_entity};
pub use error::{DecryptError, SmimeError};
pub use header::{AddressError, Header};
pub use message::{Message, MessageFile, MessageFormat, MessageKind, to_encryptable};
pub use sender::{SenderProblem, SenderReport, ShownField, judge_sender, shown_fields};
pub use sign::{Placement, SigningOptions, prepare, sign, sign_digest};
pub use verify::{SignatureVerdict, SignerReport, VerifiedMessage, verify};
