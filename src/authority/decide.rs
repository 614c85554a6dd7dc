//! Step 3, decision: checks the request against the policy. The result is one permit per
//! certificate, good once.

use std::sync::Arc;

use super::policy::Policy;
use super::rejection::Rejection;
use super::temporary_key::levels_of;
use super::verify::{EncryptionKey, VerifiedRequest};
use crate::cmp::PkiFailureInfo;
use crate::pki::{DistinguishedName, EmailAddress, Profile};
use crate::store::{CertificateKind, TemporaryKeyPurpose, UserRecord};
use crate::token::{KeyAlgorithm, KeysetName, SecurityLevel};

/// Permission to issue one certificate for one key. Issuing consumes it.
///
/// ```
/// # use tokenkeep::authority::decide::IssuancePermit;
/// fn pass_on(permit: IssuancePermit) -> IssuancePermit {
///     permit
/// }
/// ```
///
/// A permit cannot be copied:
///
/// ```compile_fail
/// # use tokenkeep::authority::decide::IssuancePermit;
/// fn two(permit: IssuancePermit) -> (IssuancePermit, IssuancePermit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
pub struct IssuancePermit {
    holder: CertificateSubject,
    profile: Arc<Profile>,
    kind: CertificateKind,
    public_key: Vec<u8>,
}

/// Permission to make one encryption key and issue its certificate.
#[derive(Debug)]
pub struct EncryptionPermit {
    holder: CertificateSubject,
    profile: Arc<Profile>,
}

/// The subject of the certificate, from the authority's record and never from the request.
#[derive(Debug, Clone)]
pub(super) struct CertificateSubject {
    pub(super) user_id: String,
    pub(super) subject: DistinguishedName,
    pub(super) email: EmailAddress,
    pub(super) transaction_id: Vec<u8>,
    pub(super) keyset: Option<KeysetName>,
    pub(super) level: SecurityLevel,
}

/// The permits that a request gets, with the request's data that the reply needs.
#[derive(Debug)]
pub struct IssuanceDecision {
    /// The purpose: enroll or recover.
    pub(super) purpose: TemporaryKeyPurpose,
    /// The permit for the user's signing key.
    pub(super) signing: IssuancePermit,
    /// The certReqId of the signing key's request.
    pub(super) signing_id: i64,
    /// The permit for an encryption key, if the request asks for encryption keys.
    pub(super) encryption: Option<EncryptionPermit>,
    /// The transport key for the delivery of encryption keys, with its certReqId.
    pub(super) delivery: Option<EncryptionKey>,
    /// Whether the client asks for implicit confirmation.
    pub(super) implicit_confirm: bool,
}

/// Decides by letter, profile and the user's record. Consumes the request, so that it is decided
/// once.
pub(super) fn decide(
    request: VerifiedRequest,
    user: &UserRecord,
    policy: &Policy,
) -> Result<IssuanceDecision, Rejection> {
    let (request, content) = request.into_parts();
    let letter = request.letter();
    if letter.purpose != content.purpose {
        return Err(wrong_message(letter.purpose));
    }
    // The keys of a request without a level (from any other CMP client) have an unknown level, and
    // count as low. A letter that allows only a higher level does not change that: the records
    // would claim an unproven level.
    let level = content.level.unwrap_or(SecurityLevel::Low);
    if !policy.allowed(&levels_of(letter)).contains(&level) {
        let allowed: Vec<_> = policy.allowed(&levels_of(letter)).iter().map(ToString::to_string).collect();
        let allowed = allowed.join(", ");
        let text = match content.level {
            Some(_) => format!("the level {level} is not allowed by this letter; allowed: {allowed}"),
            None => format!(
                "a request without a level counts as {level}, which this letter does not allow (it allows {allowed}); \
                 for a client without levels the administrator makes the letter with `--levels {level}`"
            ),
        };
        return Err(Rejection::new(PkiFailureInfo::UNACCEPTED_POLICY, text));
    }
    let algorithm = content.signing.algorithm;
    if !policy.signing.keys().contains(&algorithm) {
        return Err(unwanted_key(algorithm, &policy.signing));
    }
    let holder = CertificateSubject {
        user_id: user.id.clone(),
        subject: DistinguishedName::of(&user.name).map_err(|error| unusable_record(&error))?,
        email: user.email.parse().map_err(|error| unusable_record(&error))?,
        transaction_id: request.transaction_id().to_vec(),
        keyset: content.keyset,
        level,
    };
    Ok(IssuanceDecision {
        purpose: content.purpose,
        signing: IssuancePermit {
            holder: holder.clone(),
            profile: Arc::clone(&policy.signing),
            kind: CertificateKind::Signing,
            public_key: content.signing.public_key,
        },
        signing_id: content.signing.cert_req_id,
        encryption: content
            .encryption
            .as_ref()
            .map(|_| EncryptionPermit { holder, profile: Arc::clone(&policy.encryption) }),
        delivery: content.encryption,
        implicit_confirm: content.implicit_confirm,
    })
}

/// Refuses an `ir` with a recovery letter, or a `krr` with an enrollment letter. The letter stays
/// unused.
pub(super) fn wrong_message(letter: TemporaryKeyPurpose) -> Rejection {
    let text = match letter {
        TemporaryKeyPurpose::Enroll => {
            "this letter permits enrollment (ir); recovery (krr) requires a reference that begins with R"
        }
        TemporaryKeyPurpose::Recover => {
            "this letter permits recovery (krr); enrollment (ir) requires a reference that begins with E"
        }
    };
    Rejection::new(PkiFailureInfo::BAD_REQUEST, text)
}

impl IssuancePermit {
    pub(super) fn holder(&self) -> &CertificateSubject {
        &self.holder
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(super) fn kind(&self) -> CertificateKind {
        self.kind
    }

    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

impl EncryptionPermit {
    /// The algorithm of the key to make.
    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        self.profile.default_key()
    }

    /// Turns the permit into one for the certificate of the new key (DER `SubjectPublicKeyInfo`).
    pub fn for_key(self, public_key: Vec<u8>) -> IssuancePermit {
        IssuancePermit { holder: self.holder, profile: self.profile, kind: CertificateKind::Encryption, public_key }
    }
}

fn unwanted_key(algorithm: KeyAlgorithm, profile: &Profile) -> Rejection {
    let wanted: Vec<_> = profile.keys().iter().map(ToString::to_string).collect();
    let text = format!("{algorithm} signing keys are not allowed; use one of {}", wanted.join(", "));
    Rejection::new(PkiFailureInfo::BAD_ALG, text)
}

fn unusable_record(error: &crate::pki::PkiError) -> Rejection {
    let text =
        format!("the authority's record of you cannot be used in a certificate ({error}); ask your administrator");
    Rejection::new(PkiFailureInfo::BAD_CERT_TEMPLATE, text)
}
