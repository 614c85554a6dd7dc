//! `/v1/sign`: content in, a signed CMS message out. This is the API's hot path.

use std::sync::Arc;

use serde::Serialize;

use super::ApiSession;
use super::bodies::{self, choice};
use super::error::ApiError;
use super::http::ApiResponse;
use crate::agent::{Keystore, SignData, SigningIdentity};
use crate::keyset::{KeysetError, Purpose, TokenReference, refuse_expired};
use crate::pki::Certificate;
use crate::smime::{self, ContentDigest, SigningCertificate, SmimeError};
use crate::token::{KeysetName, SignatureHash};

/// The data that all signatures of one key share; kept for the next signature on this connection.
pub struct Signatory {
    keyset: Option<KeysetName>,
    token: Option<String>,
    identity: Arc<SigningIdentity>,
    certificate: Certificate,
    signing: SigningCertificate,
    /// true once a signature of this key was verified with this certificate
    proven: bool,
}

impl Signatory {
    fn find(keystore: &Keystore, request: &bodies::Sign) -> Result<Self, ApiError> {
        let choice = choice(request.keyset.as_ref(), request.token.as_deref())?;
        let found = keystore.choose(&choice)?;
        let Some(identity) = keystore.identity_of(&found) else {
            let described = format!("{:?} on {}", found.name.as_str(), found.token.name());
            let reason = if found.is_usable() {
                "its signing certificate is missing from the token or cannot be read"
            } else {
                "its enrollment is not finished; run the `enroll` command with its letter again"
            };
            return Err(KeysetError::Refused(format!("cannot use the keyset {described}: {reason}")).into());
        };
        let chain = found.authority_certificate().and_then(|der| Certificate::from_der(der).ok());
        let certificate = Certificate::from_der(&identity.certificate).map_err(unsigned)?;
        Ok(Self {
            keyset: request.keyset.clone(),
            token: request.token.clone(),
            signing: SigningCertificate::new(&certificate, chain.as_slice()).map_err(unsigned)?,
            identity,
            certificate,
            proven: false,
        })
    }

    /// Returns true if the request selects this key and the key is unchanged.
    fn is_for(&self, keystore: &Keystore, request: &bodies::Sign) -> bool {
        self.keyset == request.keyset
            && self.token == request.token
            && keystore.find(&self.identity.spki).is_some_and(|current| Arc::ptr_eq(&current, &self.identity))
    }
}

impl ApiSession<'_> {
    /// Signs as the keyset's level requires: at level High, or without a session, the agent's
    /// prompter asks for the PIN.
    pub fn sign(&mut self, request: &bodies::Sign) -> Result<ApiResponse, ApiError> {
        let kept = self.signatory.take().filter(|signatory| signatory.is_for(self.keystore, request));
        let mut signatory = match kept {
            Some(signatory) => signatory,
            None => Signatory::find(self.keystore, request)?,
        };
        let now = self.keystore.now();
        if !signatory.certificate.is_valid_at(now) {
            refuse_expired(&signatory.identity.keyset, now)?;
        }
        let content = request.content.as_slice();
        let digest = ContentDigest::of(content, signatory.signing.hash());
        let prepared = smime::prepare(&digest, &signatory.signing, now).map_err(unsigned)?;
        let hash = SignatureHash::usual_for(signatory.identity.algorithm);
        let key_use = SignData {
            identity: &signatory.identity,
            hash,
            data: prepared.signed_attributes(),
            purpose: &Purpose::of_digest(digest.sha256(), content),
        };
        let signature = self.keystore.use_key(key_use, &self.requester)?;
        // Verify once for each key and connection that the key matches the certificate and that the
        // token signs correctly.
        if !signatory.proven {
            prepared.check(signature.as_bytes()).map_err(unsigned)?;
        }
        let signed = prepared.finish(signature.as_bytes());
        let cms = if request.detached { signed.detached() } else { signed.attached(content).map_err(unsigned)? };
        let keyset = &signatory.identity.keyset;
        let by = SignedBy { keyset: keyset.name.as_str(), token: TokenReference::of(&keyset.token) };
        let answer = ApiResponse::json_and_bytes(&by, "cms", &cms);
        signatory.proven = true;
        self.signatory = Some(signatory);
        answer
    }
}

#[derive(Serialize)]
struct SignedBy<'a> {
    keyset: &'a str,
    token: TokenReference<'a>,
}

fn unsigned(error: impl Into<SmimeError>) -> ApiError {
    let error: SmimeError = error.into();
    KeysetError::Message { operation: "sign", reason: error.to_string() }.into()
}
