//! Uses a private key: sign, decrypt, agree. A key that requires the PIN for each use gets it once,
//! between the init call and the operation. A wrong PIN ends the operation.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType};
use zeroize::Zeroizing;

use super::key_handles::ObjectClassKey;
use super::key_lookup::KeyLookup;
use super::log_in::context_specific;
use super::mechanisms::{key_transport, oaep_padding};
use super::return_values;
use super::templates;
use super::token::Pkcs11Token;
use crate::token::authorization::KeyAuthorization;
use crate::token::oaep::OaepPadding;
use crate::token::public_key::ecdsa_signature;
use crate::token::signature::SignatureInput;
use crate::token::{
    KeyAlgorithm, KeyDescription, KeyTransport, OaepHash, Pin, Signature, SignatureHash, SubjectPublicKey, TokenError,
};

/// The uses of a token's private keys.
pub(in crate::token) struct KeyOperations<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> KeyOperations<'a> {
    pub(in crate::token) fn of(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Signs. The hash is computed here, so that one mechanism works on every token and card.
    pub(in crate::token) fn sign(
        &self,
        key: &KeyDescription,
        hash: SignatureHash,
        message: &[u8],
        authorization: KeyAuthorization<'_>,
    ) -> Result<Signature, TokenError> {
        let operation = "sign";
        let (mechanism, input) = self.signing_input(operation, key.algorithm(), hash, message)?;
        let pin = self.pin_for(operation, key, authorization)?;
        let bytes = KeyLookup::on(self.token).use_key_under(
            authorization,
            operation,
            ObjectClassKey::Private,
            key.id(),
            |session, handle| {
                session.sign_init(&mechanism, handle)?;
                context_specific(session, pin)?;
                self.token.raw().sign(session, input.as_bytes())
            },
        )?;
        if key.algorithm().is_elliptic_curve() { ecdsa_signature(&bytes) } else { Ok(Signature::from_bytes(bytes)) }
    }

    /// The mechanism and its input. [`TokenError::Unsupported`] if the curve of the key requires
    /// another hash.
    pub(super) fn signing_input(
        &self,
        operation: &'static str,
        algorithm: KeyAlgorithm,
        hash: SignatureHash,
        message: &[u8],
    ) -> Result<(Mechanism<'static>, SignatureInput), TokenError> {
        if !hash.fits(algorithm) {
            let what = format!("{hash} in signatures with {algorithm} keys");
            return Err(TokenError::Unsupported { operation, token: self.token.info().name(), what });
        }
        let mechanism = if algorithm.is_elliptic_curve() { Mechanism::Ecdsa } else { Mechanism::RsaPkcs };
        Ok((mechanism, SignatureInput::of(algorithm, hash, message)))
    }

    /// The PIN for the token's context-specific login. A key of level High is refused during an
    /// active session, which has no PIN, even if the token does not require one: the login for a
    /// single operation then takes its place.
    fn pin_for<'p>(
        &self,
        operation: &'static str,
        key: &KeyDescription,
        authorization: KeyAuthorization<'p>,
    ) -> Result<Option<&'p Pin>, TokenError> {
        match authorization {
            KeyAuthorization::ActiveSession(_) if key.requires_pin_per_use() => {
                Err(TokenError::PinEachUse { operation, token: self.token.info().name() })
            }
            _ => Ok(authorization.pin().filter(|_| key.requires_pin_each_use())),
        }
    }

    /// Decrypts with an RSA key.
    pub(in crate::token) fn decrypt(
        &self,
        key: &KeyDescription,
        transport: &KeyTransport,
        ciphertext: &[u8],
        authorization: KeyAuthorization<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let operation = "decrypt";
        if key.algorithm().is_elliptic_curve() {
            let what = "decryption with an elliptic-curve key".to_owned();
            return Err(TokenError::Unsupported { operation, token: self.token.info().name(), what });
        }
        let in_software = self.oaep_in_software(transport)?;
        let mechanism = if in_software.is_some() { Mechanism::RsaX509 } else { key_transport(transport) };
        let is_unusual = matches!(transport, KeyTransport::OaepWith { .. });
        let pin = self.pin_for(operation, key, authorization)?;
        let decrypted = KeyLookup::on(self.token).use_key_under(
            authorization,
            operation,
            ObjectClassKey::Private,
            key.id(),
            |session, handle| {
                match session.decrypt_init(&mechanism, handle) {
                    Err(error) if is_unusual && return_values::is_parameter_error(&error) => return Ok(None),
                    begun => begun?,
                }
                context_specific(session, pin)?;
                match self.token.raw().decrypt(session, ciphertext) {
                    Err(error) if return_values::is_ciphertext_error(&error) => Ok(Some(None)),
                    decrypted => decrypted.map(|decrypted| Some(Some(decrypted))),
                }
            },
        )?;
        let Some(decrypted) = decrypted else {
            let what = "RSA-OAEP with a label or with a different mask hash".to_owned();
            return Err(TokenError::Unsupported { operation, token: self.token.info().name(), what });
        };
        let opened = match (decrypted, in_software) {
            (Some(block), Some(padding)) => padding.remove(&block, ciphertext.len()),
            (decrypted, _) => decrypted,
        };
        opened.ok_or_else(|| TokenError::BadData {
            operation,
            token: self.token.info().name(),
            reason: "it does not open with this key".to_owned(),
        })
    }

    /// The RSA-OAEP padding if the token cannot remove it: SoftHSM supports only SHA-1, and no
    /// label. The padded content is a content-encryption key, which this process receives in any
    /// case.
    fn oaep_in_software<'t>(&self, transport: &'t KeyTransport) -> Result<Option<OaepPadding<'t>>, TokenError> {
        let unusual = oaep_padding(transport).filter(|_| *transport != KeyTransport::Oaep(OaepHash::Sha1));
        let Some(padding) = unusual else { return Ok(None) };
        Ok((self.token.capabilities()?.oaep_for_unwrapping() == Some(OaepHash::Sha1)).then_some(padding))
    }

    /// Derives a shared secret with the owner of another key on the same curve (ECDH). No token
    /// requires a PIN here (`C_DeriveKey` has no init call): only the login protects it.
    pub(in crate::token) fn agree(
        &self,
        key: &KeyDescription,
        peer_spki_der: &[u8],
        authorization: KeyAuthorization<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let operation = "agree on a key";
        let token = self.token.info().name();
        let peer = SubjectPublicKey::from_der(peer_spki_der)?;
        let (Some(point), Some(length)) = (peer.point(), key.algorithm().field_bytes()) else {
            let what = "key agreement with RSA".to_owned();
            return Err(TokenError::Unsupported { operation, token, what });
        };
        if peer.algorithm() != key.algorithm() {
            let reason = format!("the peer's key is on {}, this key on {}", peer.algorithm(), key.algorithm());
            return Err(TokenError::BadData { operation, token, reason });
        }
        self.pin_for(operation, key, authorization)?;
        let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
        let template = templates::agreed_secret(length);
        let secret = KeyLookup::on(self.token).use_key_under(
            authorization,
            operation,
            ObjectClassKey::Private,
            key.id(),
            |session, handle| {
                let secret = session.derive_key(&mechanism, handle, &template)?;
                let read = session.get_attributes(secret, &[AttributeType::Value]);
                session.destroy_object(secret)?;
                Ok(read?.into_iter().find_map(|attribute| match attribute {
                    Attribute::Value(value) => Some(Zeroizing::new(value)),
                    _ => None,
                }))
            },
        )?;
        secret.filter(|secret| secret.len() == length).ok_or_else(|| TokenError::Fault {
            operation,
            token,
            code: "a secret that cannot be read or has the wrong length".to_owned(),
        })
    }
}
