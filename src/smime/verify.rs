//! Who signed a message, and whether they are to be believed.

use jiff::Timestamp;

use super::{Message, SmimeError};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, PathProblem};

/// A verified message: its content, and what each signature amounts to.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The signed bytes, verbatim. To be believed only as far as [`Verified::is_good`].
    pub content: Vec<u8>,
    /// The type that the signers signed it as.
    pub content_type: ContentType,
    /// One report a signer, at least one.
    pub signers: Vec<SignerReport>,
}

impl Verified {
    /// Whether every signature is right and every signer is believed. Everything else is "not verified".
    pub fn is_good(&self) -> bool {
        !self.signers.is_empty() && self.signers.iter().all(|signer| signer.verdict == Verdict::Good)
    }
}

/// One signer.
#[derive(Clone, Debug)]
pub struct SignerReport {
    /// The name in the certificate (or, without one, how the message names the signer). Not to be believed unless the verdict is good.
    pub name: String,
    /// The e-mail addresses in the certificate. Not to be believed unless the verdict is good.
    pub emails: Vec<String>,
    /// The signer's certificate.
    pub certificate: Option<Certificate>,
    /// The time that the signer claims.
    pub signing_time: Option<Timestamp>,
    /// What it amounts to.
    pub verdict: Verdict,
}

/// What a signature amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The signature is right, and the signer's certificate leads to a trusted authority.
    Good,
    /// The signature does not fit content and certificate: somebody changed something.
    SignatureWrong {
        /// What does not fit.
        reason: String,
    },
    /// The signature is right or wrong: there is no certificate to tell.
    NoCertificate,
    /// The signature is right, but no trusted authority answers for the signer.
    ChainUnknown(PathProblem),
    /// The signature is right, but a certificate is over, or not valid yet.
    Expired {
        /// Which certificate, since when.
        problem: PathProblem,
        /// Whether all was valid at the time that the signer *claims* to have signed at.
        good_at_signing_time: bool,
    },
    /// The signature is right, but the certificate is not for this, or broken.
    NotTrusted(PathProblem),
}

/// Verifies a signed message. `detached` is the content of a detached signature (a `multipart/signed` brings its own);
/// `known` are certificates to find signers among, besides the message's own; `anchors` the trusted authorities.
///
/// Judged at `now`: the signing time is only a claim, and is used for nothing but [`Verdict::Expired`]'s hint.
pub fn verify(
    message: &Message,
    detached: Option<&[u8]>,
    known: &[Certificate],
    anchors: &[Certificate],
    now: Timestamp,
) -> Result<Verified, SmimeError> {
    let _ = (message, detached, known, anchors, now);
    todo!()
}
