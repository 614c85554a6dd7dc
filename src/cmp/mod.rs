//! CMP (RFC 9810, the profile of RFC 9483) and CRMF (RFC 4211): bytes in, values out; values in, bytes out.
//!
//! One file a message family. [`PkiMessage`] is what was received and keeps the received bytes, so that a MAC or a
//! signature is always verified over those and never over a re-encoding; [`Draft`] is what will be sent. The two sides
//! of an enrollment meet here and nowhere else:
//!
//! | the client | the authority |
//! |---|---|
//! | [`PkiHeader::request`], [`EnrollmentRequest`], [`general_request`] | [`PkiMessage::references`], [`verify_mac`], [`CertReqMsg::possession`], [`CertRequest::transport_key`], [`CertReqMsg::utf8_pairs`] |
//! | [`Draft::protect_with_mac`] | [`answer`], [`Draft::protect_with_mac`] in kind |
//! | [`check_reply`], [`EncryptedValue::to_delivery`] | [`EncryptedValue::from_delivery`] |
//! | [`confirm`], [`reject`] | [`CertStatus::verdict_on`] |
//!
//! This room must never do I/O, look at a clock, or decide anything about people: whether a request is *granted* is the
//! authority's matter. It must never verify what it has re-encoded, compare a MAC in variable time, or take a number
//! from the network as an amount of work without a bound.

// der_derive's `Choice` writes one pattern a tag; and a message has a handful of these values for a moment, so that what
// boxing the larger variants would save is nothing.
#![allow(clippy::unnested_or_patterns, clippy::large_enum_variant)]

mod answer;
mod certificate;
mod certificate_request;
mod certificate_response;
mod confirmation;
mod controls;
mod delivery;
mod encrypted_key;
mod error;
mod general;
mod header;
mod kept;
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

pub use answer::answer;
pub use certificate::CertificateDer;
pub use certificate_request::{CertReqMessages, CertReqMsg, CertRequest, CertTemplate, OptionalValidity};
pub use certificate_response::{CertOrEncCert, CertRepMessage, CertResponse, CertifiedKeyPair};
pub use confirmation::{CertConfirmContent, CertStatus, Verdict, certificate_hash};
pub use controls::AttributeTypeAndValue;
pub use delivery::TransportKey;
pub use encrypted_key::{EncryptedKey, EncryptedValue};
pub use error::{CmpError, ProtectionError};
pub use general::{ErrorMsgContent, GeneralInfo, GeneralInfoExt, InfoTypeAndValue};
pub use header::{PkiHeader, Pvno};
pub use kept::Kept;
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
pub use reply::{Reply, ReplyRefusal, check_reply};
pub use request::{EnrollmentError, EnrollmentRequest, confirm, general_request, reject};
pub use status::{PkiFailureInfo, PkiFreeText, PkiStatus, PkiStatusInfo};
pub use utf8_pairs::Utf8Pairs;
