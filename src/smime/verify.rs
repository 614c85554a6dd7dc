//! Who signed a message, and whether they are to be believed.

use jiff::Timestamp;

use super::entity::to_canonical_lines;
use super::{Kind, Message, SmimeError};
use crate::pki::cms::{SignatureCheck, SignedMessage, best_of};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, PathProblem, Purpose, WorkLeft, path};

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

    /// The first signer with the worst of the verdicts.
    pub fn worst(&self) -> Option<&SignerReport> {
        self.signers.iter().rev().max_by_key(|signer| signer.verdict.severity())
    }

    /// The worst of the signers' verdicts, as [`Verdict::word`].
    pub fn word(&self) -> &'static str {
        self.worst().map_or("unchecked", |signer| signer.verdict.word())
    }
}

/// One signer.
#[derive(Clone, Debug)]
pub struct SignerReport {
    /// The name in the certificate (or, without one, how the message names the signer). Not to be
    /// believed unless the verdict is good.
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
    /// The signature cannot be checked here: right or wrong, nobody can tell.
    Unchecked {
        /// Why not: an algorithm, a key, a certificate that cannot be read.
        reason: String,
    },
    /// The signature cannot be checked either: there is no certificate to tell.
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

impl Verdict {
    /// One word for programs: `good`, `wrong`, `unchecked`, `unknown`, `expired`, `untrusted`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::SignatureWrong { .. } => "wrong",
            Self::Unchecked { .. } | Self::NoCertificate => "unchecked",
            Self::ChainUnknown(_) => "unknown",
            Self::Expired { .. } => "expired",
            Self::NotTrusted(_) => "untrusted",
        }
    }

    /// Greater is worse.
    fn severity(&self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Expired { .. } => 1,
            Self::ChainUnknown(_) => 2,
            Self::NoCertificate => 3,
            Self::Unchecked { .. } => 4,
            Self::NotTrusted(_) => 5,
            Self::SignatureWrong { .. } => 6,
        }
    }
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
    verify_within(message, detached, known, anchors, now, &WorkLeft::for_message())
}

fn verify_within(
    message: &Message,
    detached: Option<&[u8]>,
    known: &[Certificate],
    anchors: &[Certificate],
    now: Timestamp,
    work: &WorkLeft,
) -> Result<Verified, SmimeError> {
    if message.kind != Kind::Signed {
        return Err(SmimeError::WrongKind { act: "verify", found: "encrypted, not signed" });
    }
    let signed = SignedMessage::parse(&message.cms)?;
    let detached = match (message.detached_content.as_deref(), detached) {
        (Some(own), Some(given)) if own != given && own != to_canonical_lines(given) => {
            return Err(SmimeError::Unreadable("it has another content inside than the one given".into()));
        }
        (own, given) => own.or(given),
    };
    let content = signed.content().or(detached).ok_or(SmimeError::NoContent)?;
    let intermediates: Vec<Certificate> = known.iter().chain(signed.certificates()).cloned().collect();
    let trust = Trust { intermediates: &intermediates, anchors, now, work };
    let signers = signed.verify_with_each(detached, known, work)?.into_iter();
    let signers = signers.filter_map(|checks| best_report(checks, &trust));
    Ok(Verified { signers: signers.collect(), content: content.to_vec(), content_type: signed.content_type().clone() })
}

/// What certificates are judged by.
struct Trust<'a> {
    intermediates: &'a [Certificate],
    anchors: &'a [Certificate],
    now: Timestamp,
    work: &'a WorkLeft,
}

/// Of several certificates for one signer (a renewed one for the same key, those of two
/// authorities) the first that is believed, else the one that is believed most. A signature that is
/// right for none is told by what is wrong, before what cannot be checked.
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
            let (emails, verdict) = (Vec::new(), Verdict::NoCertificate);
            return SignerReport { name: signer.to_string(), emails, certificate: None, signing_time: None, verdict };
        }
        SignatureCheck::Unchecked { signer, certificate: None, reason } => {
            let (emails, verdict) = (Vec::new(), Verdict::Unchecked { reason });
            return SignerReport { name: signer.to_string(), emails, certificate: None, signing_time: None, verdict };
        }
        SignatureCheck::Unchecked { certificate: Some(certificate), reason, .. } => {
            (certificate, None, Verdict::Unchecked { reason })
        }
        SignatureCheck::Wrong { certificate, reason } => (certificate, None, Verdict::SignatureWrong { reason }),
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

/// Whether a right signature's signer is believed.
fn judge(certificate: &Certificate, signing_time: Option<Timestamp>, trust: &Trust<'_>) -> Verdict {
    let Trust { intermediates, anchors, now, work } = *trust;
    let at = |time| path::verify_within(certificate, intermediates, anchors, Purpose::Signing, time, work);
    let Err(problem) = at(now) else { return Verdict::Good };
    match problem {
        PathProblem::Expired { .. } | PathProblem::NotYetValid { .. } => {
            let good_at_signing_time = signing_time.is_some_and(|time| time <= now && at(time).is_ok());
            Verdict::Expired { problem, good_at_signing_time }
        }
        PathProblem::UnknownIssuer { .. } | PathProblem::WrongSignature { .. } => Verdict::ChainUnknown(problem),
        PathProblem::Unchecked { .. } => Verdict::Unchecked { reason: problem.to_string() },
        _ => Verdict::NotTrusted(problem),
    }
}

#[cfg(test)]
mod tests;
