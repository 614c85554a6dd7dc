//! Installs a verified reply on the token. Every private key is unwrapped and tested against its
//! certificate before anything is confirmed.

use sha2::{Digest, Sha256};

use crate::cmp::{CertStatus, EnrollmentRequestBuilder, MacProtection, PkiMessage, confirm};
use crate::crash_point;
use crate::letter::Letter;
use crate::pki::Certificate;
use crate::smime::{self, Cipher, EncryptedMessage, KeyOperation, KeyResult, Message};
use crate::token::{KeyAlgorithm, KeyId, TokenError, TokenErrorKind, TokenKey, TransportKeyPair};

use super::super::index::{Base64, EnrollmentStage, Hex, KeysetKeyIds};
use super::super::{KeysetError, Step, UserPrompter};
use super::ExchangeError;
use super::reply::{Delivered, VerifiedReply};
use super::session::EnrollmentSession;

pub(super) const OPERATION: &str = "install the reply";

/// Installs the reply and stores the confirmation. An unusable reply is rejected; a token error is
/// a fault, and the same letter continues.
pub(super) fn install(
    session: &mut EnrollmentSession,
    letter: &Letter,
    request: &[u8],
    reply: &VerifiedReply,
    person: &mut dyn UserPrompter,
    now: jiff::Timestamp,
) -> Result<(), ExchangeError> {
    let pending = session.pending()?.clone();
    let transport = session.token_enrollment.find_transport_key(&pending.transport.key_id())?;
    let transport =
        transport.ok_or(TokenError::KeyAbsent { operation: OPERATION, token: session.token().info().name() })?;
    let new: Vec<Hex> = reply
        .encryption
        .iter()
        .map(|delivered| key_id(&[&pending.transaction_id.0, delivered.certificate.as_der()]))
        .collect();
    let older = session.index.keyset.keys.as_ref().map(|keys| keys.encryption.clone()).unwrap_or_default();
    let keys = KeysetKeyIds {
        signing: pending.signing.clone(),
        encryption: new.iter().cloned().chain(older).collect(),
        authority: key_id(&[reply.authority.as_der()]),
    };
    let made = new.iter().cloned().chain([keys.authority.clone()]).collect::<Vec<_>>();
    let request = Base64(request.to_vec());
    session.record_stage(EnrollmentStage::Installing {
        request: request.clone(),
        keys: keys.clone(),
        made: made.clone(),
    })?;
    crash_point::reached("keyset.installing");

    for (number, (delivered, id)) in reply.encryption.iter().zip(&new).enumerate() {
        person.progress(Step::InstallingKey { number: number + 1, of: new.len() });
        install_key(session, &transport, delivered, &id.key_id(), reply)?;
        crash_point::reached("keyset.key_installed");
    }
    let name = session.index.keyset.name.clone();
    session.token_enrollment.put_certificate(
        &pending.signing.key_id(),
        &format!("{name} signing"),
        reply.signing.as_der(),
    )?;
    crash_point::reached("keyset.certificate_installed");
    let authority = keys.authority.key_id();
    if !session.has_certificate(&authority)? {
        session.token_enrollment.put_certificate(
            &authority,
            &reply.authority.display_name(),
            reply.authority.as_der(),
        )?;
    }

    let confirmation = confirmation(&request.0, reply, letter, now)?;
    session.record_stage(EnrollmentStage::Installed { request, keys, made, confirmation: Base64(confirmation) })?;
    crash_point::reached("keyset.installed");
    Ok(())
}

fn install_key(
    session: &EnrollmentSession,
    transport: &TransportKeyPair,
    delivered: &Delivered,
    id: &KeyId,
    reply: &VerifiedReply,
) -> Result<(), ExchangeError> {
    let bad = |reason: String| ExchangeError::bad(reason, Some(reply.message.clone()));
    let public_key = delivered.certificate.public_key_der().map_err(|error| bad(error.to_string()))?;
    let algorithm = KeyAlgorithm::of_public_key(&public_key)
        .ok_or_else(|| bad("it contains an encryption key of an unsupported type".to_owned()))?;
    let record = &session.index.keyset;
    let label = format!("{} encryption", record.name);
    let key = session
        .token_enrollment
        .install_private_key(transport, &delivered.delivery, &label, id, algorithm, &public_key, record.level)
        .map_err(|error| classify_token_error(error, reply))?;
    if !verify_key_pair(session, &key, &delivered.certificate).map_err(|error| classify_token_error(error, reply))? {
        return Err(bad("it contains a key that does not match its certificate".to_owned()));
    }
    session.token_enrollment.put_certificate(id, &label, delivered.certificate.as_der())?;
    Ok(())
}

/// Tests the key on the token: decrypts a random message encrypted to the certificate.
fn verify_key_pair(session: &EnrollmentSession, key: &TokenKey, certificate: &Certificate) -> Result<bool, TokenError> {
    let mut content = [0; 32];
    getrandom::fill(&mut content).map_err(|error| TokenError::NoRandom(error.to_string()))?;
    let Ok(message) = smime::encrypt(&content, std::slice::from_ref(certificate), Cipher::Aes256Cbc)
        .and_then(|cms| Message::read(&cms))
        .and_then(|message| EncryptedMessage::parse(&message))
    else {
        return Ok(false);
    };
    let opened = message.open(0, |operation| {
        let secret = match operation {
            KeyOperation::Decrypt { transport, ciphertext } => {
                session.token_enrollment.decrypt(key, &transport, ciphertext)
            }
            KeyOperation::Agree { peer_public_key } => session.token_enrollment.agree(key, peer_public_key),
        };
        match secret {
            Ok(secret) => Ok(KeyResult::Secret(secret)),
            Err(TokenError::BadData { .. }) => Ok(KeyResult::Failed),
            Err(error) => Err(error),
        }
    });
    match opened {
        Ok(opened) => Ok(opened.content.as_slice() == content.as_slice()),
        Err(smime::DecryptError::Key(error)) => Err(error),
        Err(smime::DecryptError::Message(_)) => Ok(false),
    }
}

/// Classifies a token error: if the token refuses the delivered key, the reply is at fault, not the
/// token.
fn classify_token_error(error: TokenError, reply: &VerifiedReply) -> ExchangeError {
    match error.kind() {
        TokenErrorKind::Refused => ExchangeError::bad(error.to_string(), Some(reply.message.clone())),
        _ => error.into(),
    }
}

fn confirmation(
    request: &[u8],
    reply: &VerifiedReply,
    letter: &Letter,
    now: jiff::Timestamp,
) -> Result<Vec<u8>, KeysetError> {
    let fault = |error: crate::cmp::CmpError| KeysetError::Message {
        operation: "confirm the reply",
        reason: error.to_string(),
    };
    let mut statuses =
        vec![CertStatus::accept(EnrollmentRequestBuilder::SIGNING, reply.signing.as_der()).map_err(fault)?];
    for delivered in &reply.encryption {
        if let Some(id) = delivered.answers {
            statuses.push(CertStatus::accept(id, delivered.certificate.as_der()).map_err(fault)?);
        }
    }
    confirm(&PkiMessage::from_der(request).map_err(fault)?, &reply.message, statuses, now)
        .and_then(|draft| draft.protect_with_mac(letter.temporary_key.cmp_secret(), &MacProtection::pbm()?))
        .map_err(fault)
}

/// A deterministic `CKA_ID` of 20 bytes, so that a retry finds what the first attempt created. It
/// depends on the transaction, because two keysets on one token may contain the same encryption
/// key.
fn key_id(parts: &[&[u8]]) -> Hex {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    Hex(digest.finalize().iter().copied().take(KeyId::RANDOM_LENGTH).collect())
}
