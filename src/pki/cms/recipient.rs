//! Recipients of encrypted content (RFC 5652 §6.2), and the operation of their private key.

use std::fmt;

use zeroize::Zeroizing;

use super::key_agreement::{self, Agreement};
use super::key_transport;
use super::{CertificateId, ENCRYPTED as WHAT, read_algorithm};
use crate::pki::oid::described;
use crate::pki::public_key::PublicKey;
use crate::pki::tlv::{Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context_constructed, set_of};
use crate::pki::{Certificate, PkiError};
use crate::token::KeyTransport;

/// `id-ori-kem` (RFC 9629 §3), contents octets.
const ID_ORI_KEM: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x0d, 0x03];

/// The maximum number of recipients that are parsed.
const MAX_RECIPIENTS: usize = 10_000;

/// The operation that the recipient's private key must perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientKind {
    /// RSA decryption of the content key.
    KeyTransport(KeyTransport),
    /// ECDH.
    KeyAgreement,
    /// An unsupported scheme; the text names it.
    Unsupported(String),
}

/// One recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The certificate's identifier; `None` for passwords and shared keys.
    pub id: Option<CertificateId>,
    /// The operation of the private key.
    pub kind: RecipientKind,
}

impl Recipient {
    /// Whether this is the owner of `certificate`.
    pub fn is(&self, certificate: &Certificate) -> bool {
        self.id.as_ref().is_some_and(|id| id.names(certificate))
    }
}

/// An operation of the private key, which is requested exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOperation<'a> {
    /// Decrypt the content key and return it without further processing.
    Decrypt {
        /// The padding scheme.
        transport: KeyTransport,
        /// The encrypted content key. A well-formed message has the length of the modulus.
        ciphertext: &'a [u8],
    },
    /// Perform ECDH with this public key, and return the shared secret Z (the x coordinate, in the
    /// length of the field).
    Agree {
        /// The ephemeral key, as DER `SubjectPublicKeyInfo`. In a well-formed message it is on the
        /// recipient's curve.
        peer_public_key: &'a [u8],
    },
}

/// The result of the operation. Other failures (no token, a wrong PIN, a cancelled prompt) are
/// errors of the caller's closure, and are returned unchanged.
pub enum KeyResult {
    /// The decrypted content key or the shared secret.
    Secret(Zeroizing<Vec<u8>>),
    /// The token refuses the *ciphertext* or the peer's key (bad padding, wrong length, not on the
    /// curve). Decryption continues with a random key, and nothing reveals this.
    Failed,
}

impl fmt::Debug for KeyResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyResult([redacted])")
    }
}

/// A recipient and its encrypted content key.
#[derive(Clone, Debug)]
pub(crate) struct RecipientInfo {
    pub(crate) recipient: Recipient,
    encrypted_key: EncryptedKey,
}

#[derive(Clone, Debug)]
enum EncryptedKey {
    Transported(KeyTransport, Vec<u8>),
    Agreed(Agreement),
    Unsupported,
    /// A recipient that cannot be parsed; the text is the reason.
    Unreadable(String),
}

impl RecipientInfo {
    /// Parses all recipients of a `RecipientInfos`, in their order. A key agreement may contain
    /// several.
    pub(crate) fn read_all(recipient_infos: Element<'_>) -> Result<Vec<Self>, PkiError> {
        let mut all = Vec::new();
        let mut elements = recipient_infos.inside(WHAT);
        // One element at a time: a list of all could be much larger than the message.
        while !elements.is_empty() && all.len() <= MAX_RECIPIENTS {
            let element = elements.any()?;
            let unreadable = |error: PkiError| Self::unreadable(&error);
            match element.tag() {
                SEQUENCE => all.push(Self::of_key_transport(element).unwrap_or_else(unreadable)),
                tag if tag == context_constructed(1) => match key_agreement::read(element) {
                    Ok(recipients) => all.extend(recipients.into_iter().map(Self::of_key_agreement)),
                    Err(error) => all.push(unreadable(error)),
                },
                tag if tag == context_constructed(4) => {
                    all.push(Self::of_other_kind(element).unwrap_or_else(unreadable));
                }
                tag if tag == context_constructed(2) => {
                    all.push(Self::unsupported(None, "a key that both sides share"));
                }
                tag if tag == context_constructed(3) => all.push(Self::unsupported(None, "a password")),
                _ => all.push(Self::unsupported(None, "an unknown kind of recipient")),
            }
        }
        if all.is_empty() || all.len() > MAX_RECIPIENTS {
            return Err(PkiError::malformed(WHAT, format!("it has {} recipients", all.len())));
        }
        Ok(all)
    }

    /// The encrypted content key as received.
    pub(crate) fn encrypted_key(&self) -> &[u8] {
        match &self.encrypted_key {
            EncryptedKey::Transported(_, bytes) => bytes,
            EncryptedKey::Agreed(agreement) => agreement.wrapped_key(),
            EncryptedKey::Unsupported | EncryptedKey::Unreadable(_) => &[],
        }
    }

    /// An unreadable recipient must not hide the others.
    fn unreadable(error: &PkiError) -> Self {
        let kind = RecipientKind::Unsupported(format!("a recipient that cannot be read: {error}"));
        Self { recipient: Recipient { id: None, kind }, encrypted_key: EncryptedKey::Unreadable(error.to_string()) }
    }

    /// The reason why it cannot be parsed; `None` if it can.
    pub(crate) fn unreadable_reason(&self) -> Option<&str> {
        match &self.encrypted_key {
            EncryptedKey::Unreadable(reason) => Some(reason),
            _ => None,
        }
    }

    fn unsupported(id: Option<CertificateId>, reason: impl Into<String>) -> Self {
        let recipient = Recipient { id, kind: RecipientKind::Unsupported(reason.into()) };
        Self { recipient, encrypted_key: EncryptedKey::Unsupported }
    }

    fn of_key_agreement((id, agreement): key_agreement::AgreeingRecipient) -> Self {
        match agreement {
            Ok(agreement) => Self {
                recipient: Recipient { id, kind: RecipientKind::KeyAgreement },
                encrypted_key: EncryptedKey::Agreed(agreement),
            },
            Err(reason) => Self::unsupported(id, reason),
        }
    }

    /// Parses `OtherRecipientInfo`. Only one of its kinds names its recipient: `KEMRecipientInfo`
    /// (RFC 9629 §3).
    fn of_other_kind(element: Element<'_>) -> Result<Self, PkiError> {
        let mut parts = element.inside(WHAT);
        let kind = parts.required(OBJECT_IDENTIFIER)?.value;
        if kind != ID_ORI_KEM {
            return Ok(Self::unsupported(None, "an unknown kind of recipient"));
        }
        let mut parts = parts.required(SEQUENCE)?.inside(WHAT);
        parts.required(INTEGER)?;
        let id = CertificateId::from_element(parts.any()?, WHAT)?;
        let encapsulation = read_algorithm(parts.required(SEQUENCE)?)?.oid;
        Ok(Self::unsupported(Some(id), format!("the key encapsulation {}", described(encapsulation))))
    }

    /// Parses `KeyTransRecipientInfo` (RFC 5652 §6.2.1).
    fn of_key_transport(element: Element<'_>) -> Result<Self, PkiError> {
        let mut parts = element.inside(WHAT);
        parts.required(INTEGER)?;
        let id = CertificateId::from_element(parts.any()?, WHAT)?;
        let algorithm = read_algorithm(parts.required(SEQUENCE)?)?;
        let ciphertext = parts.required(OCTET_STRING)?.value.to_vec();
        parts.end()?;
        Ok(match key_transport::scheme(&algorithm) {
            Ok(transport) => Self {
                recipient: Recipient { id: Some(id), kind: RecipientKind::KeyTransport(transport.clone()) },
                encrypted_key: EncryptedKey::Transported(transport, ciphertext),
            },
            Err(reason) => Self::unsupported(Some(id), reason),
        })
    }

    /// Decrypts the content key; `None` if that fails or the key does not have `length` octets,
    /// without a reason. It calls `operate` once, unless the recipient's kind is unsupported.
    pub(crate) fn content_key<E>(
        &self,
        length: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, E> {
        let key = match &self.encrypted_key {
            EncryptedKey::Transported(transport, ciphertext) => {
                match operate(KeyOperation::Decrypt { transport: transport.clone(), ciphertext })? {
                    KeyResult::Secret(key) => Some(key),
                    KeyResult::Failed => None,
                }
            }
            EncryptedKey::Agreed(agreement) => {
                match operate(KeyOperation::Agree { peer_public_key: &agreement.peer_public_key })? {
                    KeyResult::Secret(shared_secret) => agreement.unwrap(&shared_secret),
                    KeyResult::Failed => None,
                }
            }
            EncryptedKey::Unsupported | EncryptedKey::Unreadable(_) => None,
        };
        Ok(key.filter(|key| key.len() == length))
    }
}

/// Makes the DER `RecipientInfos` for these certificates. Also returns whether all are of the
/// oldest kind (RSA, by issuer and serial number): then the message's version is 0 (RFC 5652 §6.1).
pub(crate) fn encrypt_to(
    certificates: &[Certificate],
    transport: &KeyTransport,
    content_key: &[u8],
) -> Result<(Vec<u8>, bool), PkiError> {
    let (mut infos, mut all_oldest) = (Vec::new(), true);
    for certificate in certificates {
        infos.push(match certificate.public_key()? {
            PublicKey::Rsa(key) => key_transport::encrypt(certificate, &key, transport, content_key)?,
            PublicKey::P256(key) => {
                all_oldest = false;
                key_agreement::encrypt_p256(certificate, &key, content_key)?
            }
            PublicKey::P384(key) => {
                all_oldest = false;
                key_agreement::encrypt_p384(certificate, &key, content_key)?
            }
        });
    }
    Ok((set_of(SET, infos), all_oldest))
}
