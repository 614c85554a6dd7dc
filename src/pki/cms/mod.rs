//! CMS structures (RFC 5652) that mail and statements share: signed content, and recipients of encrypted content.
//!
//! Written on `der` rather than on the `cms` crate's types, because what is verified must be the received bytes (signed
//! attributes, certificates), because content types under 2.25 do not fit into `const-oid`, and because other people's
//! mail comes in BER with certificates nobody can parse. This module must never say why a decryption failed.

pub mod signed_data;

pub use signed_data::{ContentToSign, SignatureCheck, SignedMessage, sign};
