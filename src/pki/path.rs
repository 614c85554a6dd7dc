//! Whether a certificate is to be believed: the way from it to a trust anchor (RFC 5280 §6, for the small hierarchies
//! that mail and this program use).

use jiff::Timestamp;

use super::{Certificate, DistinguishedName, Host};

/// What a certificate is to be used for; decides which key usage and extended key usage it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Signing mail and other content: digitalSignature or nonRepudiation, emailProtection.
    Signing,
    /// Being encrypted to: keyEncipherment or keyAgreement, emailProtection.
    Encryption,
    /// A CMP response of the authority: digitalSignature, id-kp-cmcCA *present* (RFC 9810 §8.6).
    CmpResponse,
    /// A TLS server of this name: digitalSignature, serverAuth, the host among the alternative names.
    TlsServer(&'a Host),
}

/// Why a certificate is not believed. A value to show, not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// There is no certificate of its issuer among the trusted ones, nor a way to one.
    #[error("its issuer {issuer} is not one of the trusted authorities")]
    UnknownIssuer {
        /// The issuer that could not be found.
        issuer: DistinguishedName,
    },
    /// A certificate on the way (or the one itself) is over.
    #[error("the certificate of {subject} expired on {not_after}")]
    Expired {
        /// Whose certificate.
        subject: DistinguishedName,
        /// Its last second.
        not_after: Timestamp,
    },
    /// A certificate on the way (or the one itself) is not valid yet.
    #[error("the certificate of {subject} is not valid before {not_before}")]
    NotYetValid {
        /// Whose certificate.
        subject: DistinguishedName,
        /// Its first second.
        not_before: Timestamp,
    },
    /// A certificate's signature is not its issuer's.
    #[error("the signature on the certificate of {subject} is wrong")]
    WrongSignature {
        /// Whose certificate.
        subject: DistinguishedName,
    },
    /// An issuer on the way is not an authority, or not allowed so long a way.
    #[error("{issuer} may not issue this certificate: {reason}")]
    NotAuthority {
        /// The issuer.
        issuer: DistinguishedName,
        /// Which rule forbids it.
        reason: &'static str,
    },
    /// The certificate is for something else.
    #[error("the certificate of {subject} is not for this use: {reason}")]
    WrongPurpose {
        /// Whose certificate.
        subject: DistinguishedName,
        /// What is missing.
        reason: String,
    },
    /// It has an extension that must be understood and is not.
    #[error("the certificate of {subject} has a critical extension {extension} that is not understood")]
    CriticalExtension {
        /// Whose certificate.
        subject: DistinguishedName,
        /// The extension's object identifier.
        extension: String,
    },
    /// It cannot be used at all: an algorithm, an encoding.
    #[error("the certificate of {subject} cannot be used: {reason}")]
    Unusable {
        /// Whose certificate.
        subject: DistinguishedName,
        /// Why.
        reason: String,
    },
}

/// Looks for a way from `leaf` through `intermediates` (untrusted, in any order) to one of `anchors`, all valid `at`
/// that time, and checks that `leaf` is for `purpose`. Answers the way, from the leaf to the anchor.
///
/// An anchor is believed because it is given; its own signature is not checked, its validity and that it is an
/// authority's is. Without anchors nothing is believed.
pub fn verify(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    purpose: Purpose<'_>,
    at: Timestamp,
) -> Result<Vec<Certificate>, PathProblem> {
    let _ = (leaf, intermediates, anchors, purpose, at);
    todo!()
}
