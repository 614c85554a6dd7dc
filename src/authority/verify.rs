//! Step 2, verification: checks that the message is complete, and that its sender holds the private
//! key to be certified.

use super::authenticate::AuthenticatedRequest;
use super::rejection::Rejection;
use crate::cmp::{CertReqMsg, GeneralInfoExt as _, PkiBody, PkiFailureInfo, Pvno, TransportPublicKey, Utf8Pairs};
use crate::pki::signature::verify_possession;
use crate::store::TemporaryKeyPurpose;
use crate::token::{KeyAlgorithm, KeysetName, SecurityLevel};

/// A complete `ir` or `krr` with a valid proof of possession. Its private fields let only
/// [`verify`] make one.
#[derive(Debug)]
pub struct VerifiedRequest {
    request: AuthenticatedRequest,
    content: RequestContent,
}

/// What a verified request asks for.
#[derive(Debug)]
pub(super) struct RequestContent {
    pub(super) purpose: TemporaryKeyPurpose,
    pub(super) signing: SigningKey,
    pub(super) encryption: Option<EncryptionKey>,
    pub(super) keyset: Option<KeysetName>,
    pub(super) level: Option<SecurityLevel>,
    pub(super) implicit_confirm: bool,
}

/// A signing key to be certified, with proven possession.
#[derive(Debug)]
pub(super) struct SigningKey {
    pub(super) cert_req_id: i64,
    pub(super) public_key: Vec<u8>,
    pub(super) algorithm: KeyAlgorithm,
}

/// The request for encryption keys, to be delivered to this transport key.
#[derive(Debug)]
pub(super) struct EncryptionKey {
    pub(super) cert_req_id: i64,
    pub(super) transport: TransportPublicKey,
}

/// Parses an `ir` or `krr` and verifies its proof of possession.
///
/// ```
/// # use tokenkeep::authority::{Rejection, authenticate::AuthenticatedRequest, verify::{VerifiedRequest, verify}};
/// fn once(request: AuthenticatedRequest) -> Result<VerifiedRequest, Rejection> {
///     verify(request)
/// }
/// ```
///
/// Verification consumes the request, and an unauthenticated message cannot be verified:
///
/// ```compile_fail
/// # use tokenkeep::authority::{Rejection, authenticate::AuthenticatedRequest, verify::{VerifiedRequest, verify}};
/// fn twice(request: AuthenticatedRequest) -> Result<VerifiedRequest, Rejection> {
///     verify(request)?;
///     verify(request)
/// }
/// ```
///
/// ```compile_fail
/// # use tokenkeep::authority::{Rejection, authenticate::EnrollmentRequest, verify::{VerifiedRequest, verify}};
/// fn unauthenticated(request: EnrollmentRequest) -> Result<VerifiedRequest, Rejection> {
///     verify(request)
/// }
/// ```
pub fn verify(request: AuthenticatedRequest) -> Result<VerifiedRequest, Rejection> {
    let (purpose, messages) = match request.message().body() {
        PkiBody::Ir(messages) => (TemporaryKeyPurpose::Enroll, messages),
        PkiBody::Krr(messages) => (TemporaryKeyPurpose::Recover, messages),
        other => return Err(bad_request(format!("{} is not a certificate request", other.name()))),
    };
    let (signing_message, encryption_message) = split_requests(messages)?;
    let signing = signing_key(signing_message)?;
    let encryption =
        encryption_message.map(|message| encryption_key(message, request.message().header().pvno)).transpose()?;
    if purpose == TemporaryKeyPurpose::Recover && encryption.is_none() {
        return Err(bad_request("a krr requires a second request that names the transport key (protocolEncrKey)"));
    }
    let pairs = signing_message.utf8_pairs().map_err(|error| bad_data(error.to_string()))?;
    let keyset = pairs.value(Utf8Pairs::KEYSET).map(str::parse).transpose();
    let keyset = keyset.map_err(|_| bad_data("the keyset name in regInfo must have 1 to 32 printable bytes"))?;
    let level = pairs.value(Utf8Pairs::LEVEL).map(str::parse).transpose();
    let level = level.map_err(|_| bad_data("the level in regInfo must be high, medium or low"))?;
    let general_info = request.message().header().general_info.as_deref().unwrap_or_default();
    let implicit_confirm = general_info.has_implicit_confirm();
    let content = RequestContent { purpose, signing, encryption, keyset, level, implicit_confirm };
    Ok(VerifiedRequest { request, content })
}

impl VerifiedRequest {
    /// The authenticated message.
    pub fn request(&self) -> &AuthenticatedRequest {
        &self.request
    }

    /// The authenticated message, and what it asks for.
    pub(super) fn into_parts(self) -> (AuthenticatedRequest, RequestContent) {
        (self.request, self.content)
    }
}

/// Splits the message into one request for a signing key, and at most one for encryption keys. A
/// template without a public key asks for a key that the authority makes.
fn split_requests(messages: &[CertReqMsg]) -> Result<(&CertReqMsg, Option<&CertReqMsg>), Rejection> {
    let has_key = |message: &&CertReqMsg| {
        let key = message.cert_req.cert_template.public_key.as_ref();
        key.is_some_and(|key| !key.subject_public_key.raw_bytes().is_empty())
    };
    let signing: Vec<_> = messages.iter().filter(has_key).collect();
    let encryption: Vec<_> = messages.iter().filter(|message| !has_key(message)).collect();
    match (signing.as_slice(), encryption.as_slice()) {
        ([signing], []) => Ok((signing, None)),
        ([signing], [encryption]) if signing.cert_req.cert_req_id != encryption.cert_req.cert_req_id => {
            Ok((signing, Some(encryption)))
        }
        ([_], [_]) => Err(bad_data("both requests have the same certReqId")),
        _ => Err(bad_request(
            "the message must ask for one signing key and at most one encryption key (a template without a public \
             key: the authority makes it)",
        )),
    }
}

fn signing_key(message: &CertReqMsg) -> Result<SigningKey, Rejection> {
    let possession =
        message.possession().map_err(|error| Rejection::new(PkiFailureInfo::BAD_POP, error.to_string()))?;
    let algorithm = KeyAlgorithm::of_public_key(&possession.public_key).ok_or_else(|| {
        Rejection::new(
            PkiFailureInfo::BAD_ALG,
            "the signing key must be P-256, P-384 or RSA of 2048, 3072 or 4096 bits",
        )
    })?;
    verify_possession(&possession.public_key, &possession.algorithm, &possession.signed, &possession.signature)
        .map_err(|error| Rejection::new(PkiFailureInfo::BAD_POP, error.to_string()))?;
    Ok(SigningKey { cert_req_id: message.cert_req.cert_req_id, public_key: possession.public_key, algorithm })
}

fn encryption_key(message: &CertReqMsg, pvno: Pvno) -> Result<EncryptionKey, Rejection> {
    if pvno == Pvno::CMP2021 {
        return Err(bad_request(
            "keys made by the authority are delivered only in messages of pvno 2 (EncryptedValue to the key in \
             protocolEncrKey); EnvelopedData of pvno 3 is not supported yet",
        ));
    }
    let transport = message.cert_req.transport_key().map_err(|error| bad_data(error.to_string()))?;
    let transport = transport.ok_or_else(|| {
        bad_request("a key made by the authority requires the control protocolEncrKey: an RSA key on the user's token")
    })?;
    if !matches!(KeyAlgorithm::of_public_key(&transport.public_key), Some(KeyAlgorithm::Rsa(_))) {
        return Err(Rejection::new(
            PkiFailureInfo::BAD_ALG,
            "the transport key in protocolEncrKey must be RSA of 2048, 3072 or 4096 bits",
        ));
    }
    Ok(EncryptionKey { cert_req_id: message.cert_req.cert_req_id, transport })
}

fn bad_request(text: impl Into<String>) -> Rejection {
    Rejection::new(PkiFailureInfo::BAD_REQUEST, text)
}

fn bad_data(text: impl Into<String>) -> Rejection {
    Rejection::new(PkiFailureInfo::BAD_DATA_FORMAT, text)
}
