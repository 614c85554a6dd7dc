//! Generates the two keys of an enrollment on the token, builds the request and stores its exact
//! bytes.

use jiff::Timestamp;

use crate::cmp::{
    CmpError, EnrollmentError, EnrollmentRequestBuilder, MacProtection, PkiHeader, Pvno, TransportPublicKey, Utf8Pairs,
};
use crate::crash_point;
use crate::letter::{Letter, LetterPurpose};
use crate::token::KeyId;

use super::super::KeysetError;
use super::super::index::{Base64, EnrollmentStage, Hex, Pending};
use super::letter_check::CheckedLetter;
use super::session::EnrollmentSession;

/// A request that is stored on the token. Exactly these bytes are sent until a response arrives.
pub(super) struct StoredRequest {
    pub message: Vec<u8>,
}

/// Generates the keys and builds the request. Takes a checked letter, because nothing may be
/// created before the check.
pub(super) fn make(
    session: &mut EnrollmentSession,
    checked: &CheckedLetter,
    letter: &Letter,
    new_token: bool,
    now: Timestamp,
) -> Result<StoredRequest, KeysetError> {
    let header =
        PkiHeader::request(Pvno::CMP2000, letter.reference.as_str(), None, now).map_err(|error| fault(&error))?;
    let transaction_id = Hex(header.transaction().unwrap_or_default().to_vec());
    let (signing, transport) = (KeyId::random()?, KeyId::random()?);
    session.begin(Pending {
        transaction_id,
        reference: letter.reference.as_str().to_owned(),
        new_token,
        signing: Hex::from(&signing),
        signing_algorithm: checked.signing_algorithm(),
        transport: Hex::from(&transport),
        stage: EnrollmentStage::Making,
    })?;
    crash_point::reached("keyset.begun");

    let record = &session.index.keyset;
    let (name, level) = (record.name.as_str(), record.level);
    let signing_key = session.token_enrollment.generate_signing_key(
        &format!("{name} signing"),
        &signing,
        checked.signing_algorithm(),
        level,
    )?;
    crash_point::reached("keyset.signing_key_made");
    let transport_key = session.token_enrollment.generate_transport_key(&format!("{name} transport"), &transport)?;
    crash_point::reached("keyset.transport_key_made");

    let pairs = Utf8Pairs::default().with(Utf8Pairs::KEYSET, name).with(Utf8Pairs::LEVEL, &level.to_string());
    let algorithm = checked.signing_algorithm().signature_algorithm();
    let request = EnrollmentRequestBuilder::new(header, letter.reference.as_str(), &pairs)
        .map_err(|error| fault(&error))?
        .signing_key(signing_key.public_key_der(), algorithm, |bytes| {
            session.token_enrollment.sign(&signing_key, bytes).map(|signature| signature.as_bytes().to_vec())
        })
        .map_err(|error| match error {
            EnrollmentError::Signing(error) => KeysetError::Token(error),
            EnrollmentError::Message(error) => fault(&error),
        })?
        .encryption_key(&TransportPublicKey {
            public_key: transport_key.public_key_der().to_vec(),
            oaep: transport_key.oaep(),
        })
        .map_err(|error| fault(&error))?;
    let draft = match letter.purpose() {
        LetterPurpose::Enroll => request.ir(),
        LetterPurpose::Recover => request.krr(),
    };
    let protection = MacProtection::pbm().map_err(|error| fault(&error))?;
    let message =
        draft.protect_with_mac(letter.temporary_key.cmp_secret(), &protection).map_err(|error| fault(&error))?;
    session.record_stage(EnrollmentStage::Requested { request: Base64(message.clone()) })?;
    crash_point::reached("keyset.request_written");
    Ok(StoredRequest { message })
}

fn fault(error: &CmpError) -> KeysetError {
    KeysetError::Message { operation: "create the enrollment request", reason: error.to_string() }
}
