//! Asks the authority with a `genm` whether it accepts the letter, before anything is created. The
//! request does not use the letter up.

use der::asn1::ObjectIdentifier;
use jiff::Timestamp;

use crate::cmp::{
    CheckedReply, GeneralInfoExt, MacProtection, PkiBody, PkiFailureInfo, PkiHeader, PkiMessage, Pvno, check_reply,
    general_request, oid,
};
use crate::letter::Letter;
use crate::pki::Fingerprint;
use crate::token::{KeyAlgorithm, RsaSize};
use crate::transport::{Transport, TransportError};

use super::super::KeysetError;
use super::{EnrollError, NotEnrolledReason};

/// A letter that the authority accepts. Only [`check`] creates one.
pub(super) struct CheckedLetter {
    signing_algorithm: KeyAlgorithm,
}

impl CheckedLetter {
    /// The signing key algorithm that the authority requests.
    pub fn signing_algorithm(&self) -> KeyAlgorithm {
        self.signing_algorithm
    }
}

/// Sends the request. The response must carry a valid MAC and name the CA whose fingerprint is in
/// the letter.
pub(super) fn check(transport: &dyn Transport, letter: &Letter, now: Timestamp) -> Result<CheckedLetter, EnrollError> {
    let secret = letter.temporary_key.cmp_secret();
    let header = PkiHeader::request(Pvno::CMP2000, letter.reference.as_str(), None, now).map_err(fault)?;
    let question = general_request(header, &[oid::IT_CA_CERTS, oid::IT_SIGN_KEY_PAIR_TYPES, oid::IT_CERT_REQ_TEMPLATE])
        .protect_with_mac(secret, &MacProtection::pbm().map_err(fault)?)
        .map_err(fault)?;
    let answer = transport.cmp(&question).map_err(|error| match error {
        TransportError::Unreachable { .. } | TransportError::Busy { .. } => {
            NotEnrolledReason::Unreachable(error.into())
        }
        other => NotEnrolledReason::Refused(other.into()),
    })?;
    let question = PkiMessage::from_der(&question).map_err(fault)?;
    let message = match check_reply(&question, &answer, secret) {
        Ok(CheckedReply::Authenticated(message)) => message,
        // The authority sends this error for an unknown reference and for a wrong key alike; it has
        // changed nothing.
        Ok(CheckedReply::UnauthenticatedError(error))
            if error.status.reasons().contains(PkiFailureInfo::SYSTEM_FAILURE) =>
        {
            return Err(rejected(format!(
                "the authority cannot answer now ({}); run the same command again later",
                error.status
            )));
        }
        Ok(CheckedReply::UnauthenticatedError(error)) => {
            return Err(rejected(format!(
                "the authority does not know this letter ({}); compare reference, temporary key and \
                 address with the letter",
                error.status
            )));
        }
        Err(refusal) => return Err(rejected(format!("cannot verify the response to the letter check: {refusal}"))),
    };
    let answer = match message.body() {
        PkiBody::Genp(answer) => answer,
        PkiBody::Error(error) => {
            return Err(rejected(format!("the authority does not accept the letter: {}", error.status)));
        }
        other => {
            return Err(rejected(format!("unexpected response to the letter check: {}", other.name())));
        }
    };
    let authorities = answer.ca_certs().map_err(fault)?.unwrap_or_default();
    let known = Fingerprint::from_bytes(letter.ca_fingerprint);
    let names_it =
        authorities.iter().any(|certificate| certificate.to_vec().is_ok_and(|der| Fingerprint::of(&der) == known));
    if !names_it {
        return Err(rejected(
            "the fingerprint of the authority's certificate differs from the one in the letter; a different authority \
             may have issued the letter"
                .to_owned(),
        ));
    }
    let rsa_size = match answer.rsa_key_length().map_err(fault)? {
        None => RsaSize::Bits3072,
        Some(bits) => RsaSize::of_bits(bits).ok_or_else(|| {
            rejected(format!("the authority requests an RSA key of {bits} bits; 2048, 3072 and 4096 are supported"))
        })?,
    };
    let types = answer.sign_key_pair_types().map_err(fault)?.unwrap_or_default();
    let wanted = types.iter().find_map(|algorithm| key_algorithm(algorithm, rsa_size));
    let signing_algorithm = wanted.unwrap_or(KeyAlgorithm::P256);
    Ok(CheckedLetter { signing_algorithm })
}

/// Maps one entry of signKeyPairTypes to an algorithm. The entries name key or signature
/// algorithms; RFC 9810 §5.3.19.2 permits both. They cannot carry the size of an RSA key, which
/// certReqTemplate does.
fn key_algorithm(algorithm: &spki::AlgorithmIdentifierOwned, rsa_size: RsaSize) -> Option<KeyAlgorithm> {
    use const_oid::db::rfc5912;

    let of_curve = |curve: ObjectIdentifier| match curve {
        rfc5912::SECP_256_R_1 => Some(KeyAlgorithm::P256),
        rfc5912::SECP_384_R_1 => Some(KeyAlgorithm::P384),
        _ => None,
    };
    match algorithm.oid {
        rfc5912::ID_EC_PUBLIC_KEY => of_curve(algorithm.parameters.as_ref()?.decode_as().ok()?),
        rfc5912::ECDSA_WITH_SHA_256 => Some(KeyAlgorithm::P256),
        rfc5912::ECDSA_WITH_SHA_384 => Some(KeyAlgorithm::P384),
        rfc5912::RSA_ENCRYPTION | rfc5912::SHA_256_WITH_RSA_ENCRYPTION => Some(KeyAlgorithm::Rsa(rsa_size)),
        _ => None,
    }
}

fn rejected(reason: String) -> EnrollError {
    NotEnrolledReason::Rejected(reason).into()
}

fn fault(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "check the letter with the authority", reason: error.to_string() }
}
