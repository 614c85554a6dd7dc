//! The third door: does the policy say yes? What comes out is a permit for each certificate, good once.

use std::sync::Arc;

use super::policy::Policy;
use super::rejection::Rejection;
use super::temporary_key::levels_of;
use super::verify::{EncryptionKey, VerifiedRequest};
use crate::cmp::PkiFailureInfo;
use crate::pki::{DistinguishedName, EmailAddress, Profile};
use crate::store::{CertificateKind, Purpose, UserRecord};
use crate::token::{KeyAlgorithm, KeysetName, SecurityLevel};

/// Permission to issue one certificate for one key. Consumed by issuing.
///
/// ```
/// # use tokenkeep::authority::decide::IssuancePermit;
/// fn pass_on(permit: IssuancePermit) -> IssuancePermit {
///     permit
/// }
/// ```
///
/// There are never two of it:
///
/// ```compile_fail
/// # use tokenkeep::authority::decide::IssuancePermit;
/// fn two(permit: IssuancePermit) -> (IssuancePermit, IssuancePermit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
pub struct IssuancePermit {
    holder: Holder,
    profile: Arc<Profile>,
    kind: CertificateKind,
    public_key: Vec<u8>,
}

/// Permission to make one encryption key and to issue its certificate.
#[derive(Debug)]
pub struct EncryptionPermit {
    holder: Holder,
    profile: Arc<Profile>,
}

/// Who the certificate is for, from the authority's record and never from the request.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) user_id: String,
    pub(super) subject: DistinguishedName,
    pub(super) email: EmailAddress,
    pub(super) transaction_id: Vec<u8>,
    pub(super) keyset: Option<KeysetName>,
    pub(super) level: SecurityLevel,
}

/// What a request is granted.
#[derive(Debug)]
pub struct Granted {
    /// Enroll or recover.
    pub(super) purpose: Purpose,
    /// For the user's signing key.
    pub(super) signing: IssuancePermit,
    /// certReqId of the signing key's request.
    pub(super) signing_id: i64,
    /// For an encryption key, if one is wanted or may be needed.
    pub(super) encryption: Option<EncryptionPermit>,
    /// Where encryption keys go.
    pub(super) delivery: Option<EncryptionKey>,
    /// Whether the client wants no confirmation of its own.
    pub(super) implicit_confirm: bool,
}

/// Decides by letter, profile and record.
#[allow(clippy::needless_pass_by_value)] // what was decided about is not decided about again
pub(super) fn decide(request: VerifiedRequest, user: &UserRecord, policy: &Policy) -> Result<Granted, Rejection> {
    let letter = request.request().letter();
    if letter.purpose != request.purpose() {
        return Err(wrong_message(letter.purpose));
    }
    // A client that does not speak of levels (any CMP client) has keys of which nothing is known. A letter that allows
    // one level only does not make them keys of that level: the records would say what nobody has said.
    let level = request.level().unwrap_or(SecurityLevel::Low);
    if !policy.allowed(&levels_of(letter)).contains(&level) {
        let allowed: Vec<_> = policy.allowed(&levels_of(letter)).iter().map(ToString::to_string).collect();
        let allowed = allowed.join(", ");
        let text = match request.level() {
            Some(_) => format!("the level {level} is not allowed by this letter; allowed: {allowed}"),
            None => format!(
                "a request that says no level counts as {level}, which this letter does not allow (but {allowed}); for a \
                 client that knows no levels the administrator makes the letter with `--levels {level}`"
            ),
        };
        return Err(Rejection::new(PkiFailureInfo::UNACCEPTED_POLICY, text));
    }
    let algorithm = request.signing().algorithm;
    if !policy.signing.keys().contains(&algorithm) {
        return Err(unwanted_key(algorithm, &policy.signing));
    }
    let holder = Holder {
        user_id: user.id.clone(),
        subject: DistinguishedName::of(&user.name).map_err(|error| unusable_record(&error))?,
        email: user.email.parse().map_err(|error| unusable_record(&error))?,
        transaction_id: request.request().transaction_id().to_vec(),
        keyset: request.keyset().cloned(),
        level,
    };
    Ok(Granted {
        purpose: request.purpose(),
        signing: IssuancePermit {
            holder: holder.clone(),
            profile: Arc::clone(&policy.signing),
            kind: CertificateKind::Signing,
            public_key: request.signing().public_key.clone(),
        },
        signing_id: request.signing().cert_req_id,
        encryption: request.encryption().map(|_| EncryptionPermit { holder, profile: Arc::clone(&policy.encryption) }),
        delivery: request.encryption().cloned(),
        implicit_confirm: request.implicit_confirm(),
    })
}

/// An `ir` with a recovery's letter, or a `krr` with an enrollment's: refused, and nothing is used up.
pub(super) fn wrong_message(letter: Purpose) -> Rejection {
    let text = match letter {
        Purpose::Enroll => {
            "this letter is for enrolling (ir); a recovery (krr) needs a letter whose reference begins with R"
        }
        Purpose::Recover => {
            "this letter is for a recovery (krr); enrolling (ir) needs a letter whose reference begins with E"
        }
    };
    Rejection::new(PkiFailureInfo::BAD_REQUEST, text)
}

impl IssuancePermit {
    pub(super) fn holder(&self) -> &Holder {
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
    /// The kind of key to make.
    pub(super) fn algorithm(&self) -> KeyAlgorithm {
        self.profile.default_key()
    }

    /// The permit for the certificate of the key that was made (its DER `SubjectPublicKeyInfo`).
    pub fn for_key(self, public_key: Vec<u8>) -> IssuancePermit {
        IssuancePermit { holder: self.holder, profile: self.profile, kind: CertificateKind::Encryption, public_key }
    }
}

fn unwanted_key(algorithm: KeyAlgorithm, profile: &Profile) -> Rejection {
    let wanted: Vec<_> = profile.keys().iter().map(ToString::to_string).collect();
    let text =
        format!("signing keys of the kind {algorithm} are not certified here; take one of {}", wanted.join(", "));
    Rejection::new(PkiFailureInfo::BAD_ALG, text)
}

fn unusable_record(error: &crate::pki::PkiError) -> Rejection {
    let text = format!("the authority's record of you cannot go into a certificate ({error}); ask your administrator");
    Rejection::new(PkiFailureInfo::BAD_CERT_TEMPLATE, text)
}
