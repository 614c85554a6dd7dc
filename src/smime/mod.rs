//! Signing, verifying, encrypting and decrypting messages: CMS (RFC 5652) and S/MIME (RFC 8551), bytes in, values out.
//!
//! Reading goes in steps, so that nobody is asked for a PIN too early: [`Message::read`] finds out what came (DER, PEM or
//! S/MIME), [`verify()`] says who signed and whether they are believed, [`EncryptedMessage`] says to whom it is encrypted and
//! then asks for *one* operation of *one* private key. Signing and that operation are somebody else's: a signer, a closure.
//!
//! This room must never tell, by error, content or effort, why a decryption failed (a content key that cannot be had is
//! replaced by a random one); never give out plaintext before all of it is decrypted; and never sign a content type that
//! speaks for an administrator.

mod content_cipher;
#[cfg(test)]
mod corpus;
mod decrypt;
mod encrypt;
mod entity;
mod error;
mod header;
mod message;
mod sender;
mod sign;
mod verify;

pub use crate::pki::cms::{
    CertificateId, KeyOperation, KeyResult, PreparedSignature, Recipient, RecipientKind, SigningCertificate,
};
pub use decrypt::{EncryptedKey, EncryptedMessage, OpenError, Opened};
pub use encrypt::{Cipher, encrypt};
pub use entity::{from_entity, to_canonical_lines, to_entity};
pub use error::SmimeError;
pub use header::{AddressError, Header};
pub use message::{Format, Kind, Message, to_encryptable};
pub use sender::{SenderProblem, SenderReport, ShownField, judge_sender, shown_fields};
pub use sign::{Placement, Signing, prepare, sign};
pub use verify::{SignerReport, Verdict, Verified, verify};
