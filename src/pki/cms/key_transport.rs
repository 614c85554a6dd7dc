//! Content keys encrypted to RSA keys (RFC 5652 §6.2.1, RFC 3560 for OAEP).

use const_oid::db::rfc5912;
use der::asn1::OctetString;
use getrandom::SysRng;
use rsa::RsaPublicKey;
use rsa::traits::PaddingScheme;
use spki::AlgorithmIdentifierOwned;

use super::tlv::{INTEGER, NULL, OCTET_STRING, SEQUENCE, context_constructed, element};
use super::{CertificateId, oid};
use crate::pki::{Certificate, PkiError};
use crate::token::{KeyTransport, OaepHash};

/// How the content key is encrypted, or what about it is not supported.
pub(super) fn scheme(algorithm: &AlgorithmIdentifierOwned) -> Result<KeyTransport, String> {
    match algorithm.oid {
        rfc5912::RSA_ENCRYPTION => Ok(KeyTransport::Pkcs1v15),
        rfc5912::ID_RSAES_OAEP => oaep(algorithm),
        oid => Err(format!("the key transport {oid}")),
    }
}

/// RSAES-OAEP-params (RFC 4055 §4.1); absent and empty ones stand for SHA-1. A label is not supported: tokens differ.
fn oaep(algorithm: &AlgorithmIdentifierOwned) -> Result<KeyTransport, String> {
    let Some(parameters) = &algorithm.parameters else { return Ok(KeyTransport::Oaep(OaepHash::Sha1)) };
    let parameters = parameters
        .decode_as::<rsa::pkcs1::RsaOaepParamsOwned>()
        .map_err(|_| "RSAES-OAEP with unreadable parameters".to_owned())?;
    let hash = match parameters.hash.oid {
        rfc5912::ID_SHA_1 => OaepHash::Sha1,
        rfc5912::ID_SHA_256 => OaepHash::Sha256,
        rfc5912::ID_SHA_384 => OaepHash::Sha384,
        rfc5912::ID_SHA_512 => OaepHash::Sha512,
        oid => return Err(format!("RSAES-OAEP with the hash {oid}")),
    };
    if parameters.mask_gen.parameters.as_ref().map(|mask| mask.oid) != Some(parameters.hash.oid) {
        return Err("RSAES-OAEP with two different hashes".into());
    }
    let label = parameters.p_source.parameters.as_ref().map(der::Any::decode_as::<OctetString>);
    match label {
        None => Ok(KeyTransport::Oaep(hash)),
        Some(Ok(label)) if label.as_bytes().is_empty() => Ok(KeyTransport::Oaep(hash)),
        Some(_) => Err("RSAES-OAEP with a label".into()),
    }
}

/// `KeyTransRecipientInfo` for a certificate's owner.
pub(super) fn encrypt(
    certificate: &Certificate,
    key: &RsaPublicKey,
    transport: KeyTransport,
    content_key: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let encrypted = match transport {
        KeyTransport::Pkcs1v15 => rsa::Pkcs1v15Encrypt.encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha1) => rsa::Oaep::<sha1::Sha1>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha256) => rsa::Oaep::<sha2::Sha256>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha384) => rsa::Oaep::<sha2::Sha384>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha512) => rsa::Oaep::<sha2::Sha512>::new().encrypt(&mut SysRng, key, content_key),
    };
    let encrypted = encrypted.map_err(|error| PkiError::unsupported("an RSA public key", error.to_string()))?;
    Ok(element(
        SEQUENCE,
        &[
            &element(INTEGER, &[&[0]]),
            &CertificateId::of(certificate).to_der()?,
            &algorithm(transport),
            &element(OCTET_STRING, &[&encrypted]),
        ],
    ))
}

/// The `AlgorithmIdentifier`: `rsaEncryption`, or RSAES-OAEP with the hash said twice.
fn algorithm(transport: KeyTransport) -> Vec<u8> {
    let null = element(NULL, &[]);
    let hash = match transport {
        KeyTransport::Pkcs1v15 => return element(SEQUENCE, &[&oid(rfc5912::RSA_ENCRYPTION), &null]),
        // RFC 4055 §4.1: SHA-1 is the default, and DER leaves defaults out.
        KeyTransport::Oaep(OaepHash::Sha1) => {
            return element(SEQUENCE, &[&oid(rfc5912::ID_RSAES_OAEP), &element(SEQUENCE, &[])]);
        }
        KeyTransport::Oaep(OaepHash::Sha256) => rfc5912::ID_SHA_256,
        KeyTransport::Oaep(OaepHash::Sha384) => rfc5912::ID_SHA_384,
        KeyTransport::Oaep(OaepHash::Sha512) => rfc5912::ID_SHA_512,
    };
    let hash = element(SEQUENCE, &[&oid(hash), &null]);
    let mask = element(SEQUENCE, &[&oid(rfc5912::ID_MGF_1), &hash]);
    let parameters =
        element(SEQUENCE, &[&element(context_constructed(0), &[&hash]), &element(context_constructed(1), &[&mask])]);
    element(SEQUENCE, &[&oid(rfc5912::ID_RSAES_OAEP), &parameters])
}
