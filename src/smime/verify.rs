//! Determines who signed a message, and whether the signers are trusted.

use jiff::Timestamp;

use super::entity::to_canonical_lines;
use super::{Message, MessageKind, SmimeError};
use crate::pki::cms::{SignatureCheck, SignedMessage, best_of};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, CertificatePurpose, PathProblem, WorkLeft, path};

/// A verified message: its content, and a report on each signature.
#[derive(Clone, Debug)]
pub struct VerifiedMessage {
    /// The signed bytes, verbatim. Trust them only if [`VerifiedMessage::is_good`].
    pub content: Vec<u8>,
    /// The content type that the signers signed.
    pub content_type: ContentType,
    /// One report for each signer; at least one.
    pub signers: Vec<SignerReport>,
}

impl VerifiedMessage {
    /// Whether every signature is valid and every signer is trusted. Everything else is "not
    /// verified".
    pub fn is_good(&self) -> bool {
        !self.signers.is_empty() && self.signers.iter().all(|signer| signer.verdict == SignatureVerdict::Good)
    }

    /// The first of the signers with the worst verdict.
    pub fn worst(&self) -> Option<&SignerReport> {
        self.signers.iter().rev().max_by_key(|signer| signer.verdict.severity())
    }

    /// The worst of the signers' verdicts, as in [`SignatureVerdict::word`].
    pub fn word(&self) -> &'static str {
        self.worst().map_or("unchecked", |signer| signer.verdict.word())
    }
}

/// The report on one signer.
#[derive(Clone, Debug)]
pub struct SignerReport {
    /// The name in the certificate or, without a certificate, the signer identifier in the message.
    /// Trust it only if the verdict is good.
    pub name: String,
    /// The e-mail addresses in the certificate. Trust them only if the verdict is good.
    pub emails: Vec<String>,
    /// The signer's certificate.
    pub certificate: Option<Certificate>,
    /// The signing time that the signer claims.
    pub signing_time: Option<Timestamp>,
    /// The verdict on the signature.
    pub verdict: SignatureVerdict,
}

/// The verdict on a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// The signature is valid, and the signer's certificate chains to a trusted authority.
    Good,
    /// The signature does not match content and certificate: one of them was changed.
    SignatureWrong { reason: String },
    /// The signature cannot be checked; it may be valid or invalid.
    Unchecked {
        /// The reason: an algorithm, a key or a certificate that is not supported.
        reason: String,
    },
    /// The signature cannot be checked because the signer's certificate is missing.
    NoCertificate,
    /// The signature is valid, but no trusted authority issued the signer's certificate.
    UnknownIssuer(PathProblem),
    /// The signature is valid, but a certificate has expired or is not valid yet.
    Expired {
        /// The certificate, and the time since which it has been invalid.
        problem: PathProblem,
        /// Whether all certificates were valid at the time that the signer *claims*.
        good_at_signing_time: bool,
    },
    /// The signature is valid, but the certificate is malformed or has another purpose.
    NotTrusted(PathProblem),
}

impl SignatureVerdict {
    /// The verdict in one word, for programs: `good`, `wrong`, `unchecked`, `unknown`, `expired` or
    /// `untrusted`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::SignatureWrong { .. } => "wrong",
            Self::Unchecked { .. } | Self::NoCertificate => "unchecked",
            Self::UnknownIssuer(_) => "unknown",
            Self::Expired { .. } => "expired",
            Self::NotTrusted(_) => "untrusted",
        }
    }

    /// The severity; greater is worse.
    fn severity(&self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Expired { .. } => 1,
            Self::UnknownIssuer(_) => 2,
            Self::NoCertificate => 3,
            Self::Unchecked { .. } => 4,
            Self::NotTrusted(_) => 5,
            Self::SignatureWrong { .. } => 6,
        }
    }
}

/// Verifies a signed message. `detached` is the content of a detached signature; a
/// `multipart/signed` has its own. `known` are certificates in which to find signers, besides the
/// message's own. `anchors` are the trusted authorities.
///
/// Certificates are checked at `now`. The signing time is only a claim, and serves only as the hint
/// in [`SignatureVerdict::Expired`].
pub fn verify(
    message: &Message,
    detached: Option<&[u8]>,
    known: &[Certificate],
    anchors: &[Certificate],
    now: Timestamp,
) -> Result<VerifiedMessage, SmimeError> {
    verify_within(message, detached, known, anchors, now, &WorkLeft::for_message())
}

fn verify_within(
    message: &Message,
    detached: Option<&[u8]>,
    known: &[Certificate],
    anchors: &[Certificate],
    now: Timestamp,
    work: &WorkLeft,
) -> Result<VerifiedMessage, SmimeError> {
    if message.kind != MessageKind::Signed {
        return Err(SmimeError::WrongKind { operation: "verify", found: "encrypted, not signed" });
    }
    let signed = SignedMessage::parse(&message.cms)?;
    let detached = match (message.detached_content.as_deref(), detached) {
        (Some(own), Some(given)) if own != given && own != to_canonical_lines(given) => {
            return Err(SmimeError::Unreadable("its content differs from the given file".into()));
        }
        (own, given) => own.or(given),
    };
    let content = signed.content().or(detached).ok_or(SmimeError::NoContent)?;
    let intermediates: Vec<Certificate> = known.iter().chain(signed.certificates()).cloned().collect();
    let trust = Trust { intermediates: &intermediates, anchors, now, work };
    let signers = signed.verify_with_each(detached, known, work)?.into_iter();
    let signers = signers.filter_map(|checks| best_report(checks, &trust));
    Ok(VerifiedMessage {
        signers: signers.collect(),
        content: content.to_vec(),
        content_type: signed.content_type().clone(),
    })
}

/// The inputs of path validation.
struct Trust<'a> {
    intermediates: &'a [Certificate],
    anchors: &'a [Certificate],
    now: Timestamp,
    work: &'a WorkLeft,
}

/// The best report on one signer with several certificates: a renewed one for the same key, or
/// those of two authorities. The first trusted certificate wins, otherwise the one with the least
/// severe verdict. If the signature is valid with none, an invalid signature has priority over one
/// that cannot be checked.
fn best_report(checks: impl Iterator<Item = SignatureCheck>, trust: &Trust<'_>) -> Option<SignerReport> {
    let ranked = checks.map(|check| {
        let of_no_right_one = match &check {
            SignatureCheck::Good { .. } => None,
            SignatureCheck::Wrong { .. } => Some(6),
            SignatureCheck::Unchecked { .. } | SignatureCheck::NoCertificate { .. } => Some(7),
        };
        let report = report(check, trust);
        (of_no_right_one.unwrap_or_else(|| report.verdict.severity()), report)
    });
    best_of(ranked)
}

fn report(check: SignatureCheck, trust: &Trust<'_>) -> SignerReport {
    let (certificate, signing_time, verdict) = match check {
        SignatureCheck::NoCertificate { signer } => {
            let (emails, verdict) = (Vec::new(), SignatureVerdict::NoCertificate);
            return SignerReport { name: signer.to_string(), emails, certificate: None, signing_time: None, verdict };
        }
        SignatureCheck::Unchecked { signer, certificate: None, reason } => {
            let (emails, verdict) = (Vec::new(), SignatureVerdict::Unchecked { reason });
            return SignerReport { name: signer.to_string(), emails, certificate: None, signing_time: None, verdict };
        }
        SignatureCheck::Unchecked { certificate: Some(certificate), reason, .. } => {
            (certificate, None, SignatureVerdict::Unchecked { reason })
        }
        SignatureCheck::Wrong { certificate, reason } => {
            (certificate, None, SignatureVerdict::SignatureWrong { reason })
        }
        SignatureCheck::Good { certificate, signing_time } => {
            let verdict = judge(&certificate, signing_time, trust);
            (certificate, signing_time, verdict)
        }
    };
    SignerReport {
        name: certificate.display_name(),
        emails: certificate.emails(),
        certificate: Some(certificate),
        signing_time,
        verdict,
    }
}

/// Determines whether the signer of a valid signature is trusted.
fn judge(certificate: &Certificate, signing_time: Option<Timestamp>, trust: &Trust<'_>) -> SignatureVerdict {
    let Trust { intermediates, anchors, now, work } = *trust;
    let at = |time| path::verify_within(certificate, intermediates, anchors, CertificatePurpose::Signing, time, work);
    let Err(problem) = at(now) else { return SignatureVerdict::Good };
    match problem {
        PathProblem::Expired { .. } | PathProblem::NotYetValid { .. } => {
            let good_at_signing_time = signing_time.is_some_and(|time| time <= now && at(time).is_ok());
            SignatureVerdict::Expired { problem, good_at_signing_time }
        }
        PathProblem::UnknownIssuer { .. } | PathProblem::WrongSignature { .. } => {
            SignatureVerdict::UnknownIssuer(problem)
        }
        PathProblem::Unchecked { .. } => SignatureVerdict::Unchecked { reason: problem.to_string() },
        _ => SignatureVerdict::NotTrusted(problem),
    }
}

#[cfg(test)]
mod tests;
