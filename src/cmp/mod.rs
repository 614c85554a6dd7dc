//! CMP (RFC 9810, in the profile of RFC 9483) and CRMF (RFC 4211): encoding, decoding and
//! protection.
//!
//! Each file holds one family of messages. [`PkiMessage`] is a received message and keeps its
//! bytes, so that a MAC or a signature is verified over those and never over a re-encoding.
//! [`Draft`] is a message to be sent. Both sides of an enrollment use this module:
//!
//! | client | authority |
//! |---|---|
//! | [`PkiHeader::request`], [`EnrollmentRequestBuilder`], [`general_request`] | [`PkiMessage::references`], [`verify_mac`], [`CertReqMsg::possession`], [`CertRequest::transport_key`], [`CertReqMsg::utf8_pairs`] |
//! | [`Draft::protect_with_mac`] | [`draft_reply`], [`Draft::protect_with_mac`] in kind |
//! | [`check_reply`], [`EncryptedValue::to_delivery`] | [`EncryptedValue::from_delivery`] |
//! | [`confirm`], [`reject`] | [`CertStatus::verdict_on`] |
//!
//! **Invariants:** This module performs no I/O, reads no clock and decides nothing about people:
//! the authority decides whether a request is *granted*. It never verifies a re-encoding, never
//! compares a MAC in variable time, and never takes an amount of work from the network without a
//! limit.

// der_derive's `Choice` writes one pattern per tag. Only a few of these values exist at a time, for
// the duration of a message, so that boxing the larger variants would save nothing.
#![allow(clippy::unnested_or_patterns, clippy::large_enum_variant)]

mod certificate;
mod certificate_request;
mod certificate_response;
mod confirmation;
mod delivery;
mod error;
mod general;
mod header;
mod key_recovery;
mod message;
pub mod oid;
mod possession;
mod protection;
mod reply;
mod request;
mod status;
#[cfg(test)]
mod tests;
mod utf8_pairs;
mod with_der;

pub use certificate::CertificateDer;
pub use certificate_request::{
    AttributeTypeAndValue, CertReqMessages, CertReqMsg, CertRequest, CertTemplate, OptionalValidity,
};
pub use certificate_response::{CertOrEncCert, CertRepMessage, CertResponse, CertifiedKeyPair};
pub use confirmation::{CertConfirmContent, CertStatus, ConfirmationVerdict, certificate_hash};
pub use delivery::{EncryptedKey, EncryptedValue, TransportPublicKey};
pub use error::{CmpError, ProtectionError};
pub use general::{ErrorMsgContent, GeneralInfo, GeneralInfoExt, InfoTypeAndValue};
pub use header::{PkiHeader, Pvno};
pub use key_recovery::KeyRecRepContent;
pub use message::{Draft, MAX_MESSAGE_BYTES, PkiBody, PkiMessage};
pub use possession::{
    PkMacValue, PopoAuthInfo, PopoPrivKey, PopoSigningKey, PopoSigningKeyInput, Possession, ProofOfPossession,
};
#[cfg(test)]
pub(crate) use protection::ROUNDS;
pub use protection::{
    MacProtection, cost_of_verifying, protect_with_mac, protect_with_signature, verify_mac, verify_mac_by_any,
    verify_signature,
};
pub use reply::{CheckedReply, ReplyRefusal, check_reply, draft_reply};
pub use request::{EnrollmentError, EnrollmentRequestBuilder, confirm, general_request, reject};
pub use status::{PkiFailureInfo, PkiFreeText, PkiStatus, PkiStatusInfo};
pub use utf8_pairs::Utf8Pairs;
pub use with_der::WithDer;
