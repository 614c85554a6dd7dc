//! Certification path validation: whether a certificate chains to a trust anchor (RFC 5280 §6, for
//! the small hierarchies that mail and this program use).

use std::collections::HashSet;

use const_oid::db::{rfc5280, rfc5912};
use der::asn1::ObjectIdentifier;
use jiff::Timestamp;

use super::name_constraints::{NameConstraintViolation, NameConstraints};
use super::oid::ID_KP_CMC_CA;
use super::{Certificate, DistinguishedName, GeneralName, Host, PkiError, TooMuchWork, WorkLeft};

/// The maximum length of a path, both ends included. A longer one is an attack, not a hierarchy.
const MAX_PATH_LENGTH: usize = 8;

/// The reason for a certificate without basicConstraints, which may be a person's or an old root's.
const SAYS_NO_AUTHORITY: &str = "it is not marked as the certificate of an authority (it has no basicConstraints, like \
                                 every certificate of version 1)";

/// The purpose of a certificate. It determines the required key usage and extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePurpose<'a> {
    /// Signing mail and other content: digitalSignature or nonRepudiation, emailProtection.
    Signing,
    /// Encryption to its owner: keyEncipherment or keyAgreement, emailProtection.
    Encryption,
    /// A CMP response of the authority: digitalSignature, id-kp-cmcCA *present* (RFC 9810 §8.6).
    CmpResponse,
    /// A TLS server with this name: digitalSignature, serverAuth, the host among the alternative
    /// names.
    TlsServer(&'a Host),
}

/// The reason why a certificate is not trusted. A value to display, not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// No path leads from the certificate to a trusted one.
    #[error("its issuer {issuer} is not one of the trusted authorities")]
    UnknownIssuer {
        /// The issuer that was not found.
        issuer: DistinguishedName,
    },
    /// A certificate on the path has expired.
    #[error("the certificate of {subject} expired on {not_after}")]
    Expired {
        /// The subject of that certificate.
        subject: DistinguishedName,
        /// The last second of its validity.
        not_after: Timestamp,
    },
    /// A certificate on the path is not valid yet.
    #[error(
        "the certificate of {subject} is not valid before {not_before:.0}, and by this machine's clock, which may be \
         wrong, it is {at:.0}"
    )]
    NotYetValid {
        /// The subject of that certificate.
        subject: DistinguishedName,
        /// The first second of its validity.
        not_before: Timestamp,
        /// The time of the check.
        at: Timestamp,
    },
    /// The signature on a certificate is not its issuer's.
    #[error("the signature on the certificate of {subject} is invalid")]
    WrongSignature {
        /// The subject of that certificate.
        subject: DistinguishedName,
    },
    /// A certificate's signature, or its issuer's constraints, cannot be checked.
    #[error("the certificate of {subject} cannot be checked: {reason}")]
    Unchecked {
        /// The subject of that certificate.
        subject: DistinguishedName,
        reason: String,
    },
    /// An issuer on the path is not an authority, or its constraints forbid this certificate.
    #[error("{issuer} may not issue this certificate: {reason}")]
    NotAuthority {
        issuer: DistinguishedName,
        /// The rule that forbids it.
        reason: &'static str,
    },
    /// A certificate on the path has another purpose.
    #[error("the certificate of {subject} is not for this use: {reason}")]
    WrongPurpose {
        /// The subject of that certificate.
        subject: DistinguishedName,
        /// The missing usage or name.
        reason: String,
    },
    /// A certificate has a critical extension that this program does not support.
    #[error("the certificate of {subject} has an unsupported critical extension {extension}")]
    CriticalExtension {
        /// The subject of that certificate.
        subject: DistinguishedName,
        /// The extension's object identifier.
        extension: String,
    },
    /// A certificate is unusable, e.g. because of an invalid extension.
    #[error("the certificate of {subject} cannot be used: {reason}")]
    Unusable {
        /// The subject of that certificate.
        subject: DistinguishedName,
        reason: String,
    },
}

/// Searches a path from `leaf` through `intermediates` (untrusted, in any order) to one of
/// `anchors`, with all certificates valid `at` that time, and checks that `leaf` is for `purpose`.
/// Returns the path from the leaf to the anchor.
///
/// An anchor is trusted because the caller passes it. Its signature is not checked; its validity
/// is, and that it is an authority's. A leaf that is itself an anchor is trusted as it is. Without
/// anchors, nothing is trusted.
///
/// Of several problems, the most serious is returned: a wrong signature or an unknown issuer before
/// a wrong purpose. Expired and not-yet-valid certificates are reported only if there is no other
/// problem.
pub fn verify(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    purpose: CertificatePurpose<'_>,
    at: Timestamp,
) -> Result<Vec<Certificate>, PathProblem> {
    verify_within(leaf, intermediates, anchors, purpose, at, &WorkLeft::for_search())
}

/// Searches a path within a work budget, which the certificates of one message share. If the budget
/// is exhausted, the result is [`PathProblem::Unchecked`].
pub fn verify_within(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    purpose: CertificatePurpose<'_>,
    at: Timestamp,
    work: &WorkLeft,
) -> Result<Vec<Certificate>, PathProblem> {
    let mut search = Search { intermediates, anchors, purpose, at, work, problem: None };
    check_extensions(leaf, false)?;
    let path = search.from(vec![leaf]);
    let Some(path) = path else {
        if work.is_over() {
            return Err(too_much_work(leaf));
        }
        return Err(search.problem.unwrap_or_else(|| PathProblem::UnknownIssuer { issuer: leaf.issuer() }));
    };
    check_purpose(leaf, purpose)?;
    check_purpose_of_issuers(&path, purpose)?;
    for certificate in &path {
        check_validity(certificate, at)?;
    }
    Ok(path.into_iter().cloned().collect())
}

/// The rank of a path that cannot be improved.
const BEST_RANK: (bool, bool) = (true, true);

struct Search<'a> {
    intermediates: &'a [Certificate],
    anchors: &'a [Certificate],
    purpose: CertificatePurpose<'a>,
    at: Timestamp,
    work: &'a WorkLeft,
    /// The last problem found, for the case that there is no path.
    problem: Option<PathProblem>,
}

impl<'a> Search<'a> {
    /// Searches the rest of a path that leads to the last certificate of `path`; `None` if the
    /// budget is exhausted. It prefers paths whose issuers are for the purpose and, among those,
    /// paths whose certificates are all valid.
    fn from(&mut self, path: Vec<&'a Certificate>) -> Option<Vec<&'a Certificate>> {
        let last = *path.last()?;
        if self.anchors.contains(last) {
            return Some(path);
        }
        if path.len() >= MAX_PATH_LENGTH {
            return None;
        }
        let is_issuer = |candidate: &&Certificate| candidate.subject() == last.issuer() && !path.contains(candidate);
        let mut candidates: Vec<&'a Certificate> =
            self.anchors.iter().filter(is_issuer).chain(self.intermediates.iter().filter(is_issuer)).collect();
        candidates.sort_by_key(|candidate| !candidate.is_valid_at(self.at));
        let mut found: Option<Vec<&'a Certificate>> = None;
        for issuer in candidates {
            match self.check_step(&path, last, issuer) {
                Ok(()) => {
                    let mut longer = path.clone();
                    longer.push(issuer);
                    if let Some(whole) = self.from(longer) {
                        let rank = self.rank(&whole);
                        if rank == BEST_RANK {
                            return Some(whole);
                        }
                        if found.as_ref().is_none_or(|found| self.rank(found) < rank) {
                            found = Some(whole);
                        }
                    }
                }
                // Another certificate with the same name must not replace a problem found earlier.
                Err(PathProblem::UnknownIssuer { .. }) if self.problem.is_some() => {}
                Err(problem) => self.problem = Some(problem),
            }
            if self.work.is_over() {
                return None;
            }
        }
        found
    }

    /// The rank of a path; greater is better: whether its issuers are for the purpose, and whether
    /// all certificates are valid.
    fn rank(&self, path: &[&Certificate]) -> (bool, bool) {
        let is_valid = path.iter().all(|certificate| certificate.is_valid_at(self.at));
        (check_purpose_of_issuers(path, self.purpose).is_ok(), is_valid)
    }

    /// Checks that `issuer` may have issued `last`, and did.
    fn check_step(
        &mut self,
        path: &[&Certificate],
        last: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), PathProblem> {
        let not_authority = |reason| PathProblem::NotAuthority { issuer: issuer.subject(), reason };
        if let (Some(wanted), Some(own)) = (last.authority_key_identifier(), issuer.subject_key_identifier())
            && wanted != own
        {
            // Another key with the same name: after a renewal, both certificates may be present.
            return Err(PathProblem::UnknownIssuer { issuer: last.issuer() });
        }
        check_extensions(issuer, true)?;
        let constraints = issuer.basic_constraints();
        let constraints = constraints.ok_or_else(|| not_authority(SAYS_NO_AUTHORITY))?;
        if !constraints.ca {
            return Err(not_authority("it is not the certificate of an authority"));
        }
        if issuer.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(not_authority("its key usage does not allow signing certificates"));
        }
        // RFC 5280 §4.2.1.9: self-issued certificates in between do not count.
        let between = path.iter().skip(1).filter(|certificate| certificate.subject() != certificate.issuer()).count();
        if constraints.path_len_constraint.is_some_and(|longest| between > usize::from(longest)) {
            return Err(not_authority("its path length constraint forbids authorities below it"));
        }
        self.work.take_signatures(1).map_err(|TooMuchWork| too_much_work(last))?;
        last.verify_signature(issuer).map_err(|error| match error {
            PkiError::WrongSignature(_) => PathProblem::WrongSignature { subject: last.subject() },
            PkiError::OtherKindOfKey => PathProblem::UnknownIssuer { issuer: last.issuer() },
            error => PathProblem::Unchecked { subject: last.subject(), reason: error.to_string() },
        })?;
        check_name_constraints(path, issuer, self.work)
    }
}

/// Checks name constraints (RFC 5280 §4.2.1.10), whether the extension is critical or not. They
/// apply to all certificates below, except self-issued ones in between.
fn check_name_constraints(path: &[&Certificate], issuer: &Certificate, work: &WorkLeft) -> Result<(), PathProblem> {
    let Some(value) = issuer.extension_value(rfc5280::ID_CE_NAME_CONSTRAINTS) else { return Ok(()) };
    let constraints = NameConstraints::read(value, work)
        .map_err(|reason| PathProblem::Unchecked { subject: issuer.subject(), reason })?;
    for (place, certificate) in path.iter().enumerate() {
        if place > 0 && certificate.subject() == certificate.issuer() {
            continue;
        }
        constraints.check(certificate, work).map_err(|breach| match breach {
            NameConstraintViolation::Forbidden => PathProblem::NotAuthority {
                issuer: issuer.subject(),
                reason: "its name constraints forbid a name in this or a further certificate",
            },
            NameConstraintViolation::Unchecked(reason) => {
                PathProblem::Unchecked { subject: certificate.subject(), reason }
            }
        })?;
    }
    Ok(())
}

fn too_much_work(certificate: &Certificate) -> PathProblem {
    PathProblem::Unchecked { subject: certificate.subject(), reason: TooMuchWork.to_string() }
}

fn unusable(certificate: &Certificate, reason: &str) -> PathProblem {
    PathProblem::Unusable { subject: certificate.subject(), reason: reason.to_owned() }
}

/// Checks the extensions (RFC 5280 §4.2): none is repeated, and every critical one is supported.
fn check_extensions(certificate: &Certificate, is_issuer: bool) -> Result<(), PathProblem> {
    // Policies are ignored: no policy is required here. An extension that requires one is not
    // supported.
    const UNDERSTOOD: [ObjectIdentifier; 5] = [
        rfc5280::ID_CE_BASIC_CONSTRAINTS,
        rfc5280::ID_CE_KEY_USAGE,
        rfc5280::ID_CE_EXT_KEY_USAGE,
        rfc5280::ID_CE_SUBJECT_ALT_NAME,
        rfc5280::ID_CE_CERTIFICATE_POLICIES,
    ];
    let mut seen = HashSet::new();
    for extension in certificate.extensions() {
        let is = |id: &ObjectIdentifier| extension.id == id.as_bytes();
        if !seen.insert(&extension.id) {
            return Err(unusable(certificate, "it has a repeated extension"));
        }
        let is_understood = UNDERSTOOD.iter().any(is) || is_issuer && is(&rfc5280::ID_CE_NAME_CONSTRAINTS);
        if extension.critical && !is_understood {
            let name = ObjectIdentifier::from_bytes(&extension.id).map(|id| id.to_string());
            return Err(PathProblem::CriticalExtension {
                subject: certificate.subject(),
                extension: name.unwrap_or_else(|_| hex::encode(&extension.id)),
            });
        }
        let is_unreadable = is(&rfc5280::ID_CE_BASIC_CONSTRAINTS) && certificate.basic_constraints().is_none()
            || is(&rfc5280::ID_CE_KEY_USAGE) && certificate.key_usage().is_none()
            || is(&rfc5280::ID_CE_EXT_KEY_USAGE) && certificate.extended_key_usage().is_none();
        if is_unreadable {
            return Err(unusable(certificate, "one of its extensions cannot be read"));
        }
    }
    Ok(())
}

fn check_validity(certificate: &Certificate, at: Timestamp) -> Result<(), PathProblem> {
    let subject = certificate.subject();
    if at < certificate.not_before() {
        Err(PathProblem::NotYetValid { subject, not_before: certificate.not_before(), at })
    } else if !certificate.is_valid_at(at) {
        Err(PathProblem::Expired { subject, not_after: certificate.not_after() })
    } else {
        Ok(())
    }
}

/// The extended key usage for a purpose, with its name for people.
fn extended_usage(purpose: CertificatePurpose<'_>) -> (ObjectIdentifier, &'static str) {
    match purpose {
        CertificatePurpose::Signing | CertificatePurpose::Encryption => {
            (rfc5280::ID_KP_EMAIL_PROTECTION, "emailProtection")
        }
        CertificatePurpose::CmpResponse => (ID_KP_CMC_CA, "cmcCA"),
        CertificatePurpose::TlsServer(_) => (rfc5280::ID_KP_SERVER_AUTH, "serverAuth"),
    }
}

fn check_purpose(leaf: &Certificate, purpose: CertificatePurpose<'_>) -> Result<(), PathProblem> {
    let wrong = |reason: String| Err(PathProblem::WrongPurpose { subject: leaf.subject(), reason });
    let usage_fits = match purpose {
        CertificatePurpose::Signing => leaf.can_sign(),
        CertificatePurpose::Encryption => leaf.can_encrypt(),
        CertificatePurpose::CmpResponse | CertificatePurpose::TlsServer(_) => {
            leaf.key_usage().is_none_or(|usage| usage.digital_signature())
        }
    };
    if !usage_fits {
        return wrong("its key usage does not allow it".into());
    }
    let (needed, name) = extended_usage(purpose);
    let extended_fits = match leaf.extended_key_usage() {
        Some(usages) => usages.contains(&needed) || (purpose != CertificatePurpose::CmpResponse && any_usage(&usages)),
        None => purpose != CertificatePurpose::CmpResponse,
    };
    if !extended_fits {
        return wrong(format!("the extended key usage {name} is missing"));
    }
    match purpose {
        CertificatePurpose::TlsServer(host) if !names_host(leaf, host) => {
            wrong(format!("it is not for the host {host}"))
        }
        _ => Ok(()),
    }
}

fn check_purpose_of_issuers(path: &[&Certificate], purpose: CertificatePurpose<'_>) -> Result<(), PathProblem> {
    path.iter().skip(1).try_for_each(|issuer| check_purpose_of_issuer(issuer, purpose))
}

/// Checks the extended key usage of an authority. An authority without one may issue for every
/// purpose.
fn check_purpose_of_issuer(issuer: &Certificate, purpose: CertificatePurpose<'_>) -> Result<(), PathProblem> {
    let (needed, name) = extended_usage(purpose);
    match issuer.extended_key_usage() {
        Some(usages) if !usages.contains(&needed) && !any_usage(&usages) => Err(PathProblem::WrongPurpose {
            subject: issuer.subject(),
            reason: format!("the extended key usage {name} is missing"),
        }),
        _ => Ok(()),
    }
}

fn any_usage(usages: &[ObjectIdentifier]) -> bool {
    usages.contains(&rfc5912::ANY_EXTENDED_KEY_USAGE)
}

fn names_host(leaf: &Certificate, host: &Host) -> bool {
    leaf.alternative_names().iter().any(|name| match (name, host) {
        (GeneralName::Dns(name), Host::Dns(wanted)) => name.eq_ignore_ascii_case(wanted),
        (GeneralName::Ip(octets), Host::Ip(std::net::IpAddr::V4(wanted))) => *octets == wanted.octets(),
        (GeneralName::Ip(octets), Host::Ip(std::net::IpAddr::V6(wanted))) => *octets == wanted.octets(),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
