//! Content keys encrypted with RSA (RFC 5652 §6.2.1; RFC 3560 for OAEP).

use const_oid::db::rfc5912;
use der::Decode;
use der::asn1::{ObjectIdentifier, OctetString};
use getrandom::SysRng;
use rsa::RsaPublicKey;
use rsa::traits::PaddingScheme;
use spki::AlgorithmIdentifierOwned;

use super::{CertificateId, ENCRYPTED as WHAT, oid};
use crate::pki::oid::described;
use crate::pki::tlv::{Elements, INTEGER, NULL, OCTET_STRING, SEQUENCE, context_constructed, element};
use crate::pki::{Certificate, PkiError};
use crate::token::{KeyTransport, OaepHash};

/// The scheme that encrypts the content key, or the name of the unsupported feature.
pub(super) fn scheme(algorithm: &AlgorithmIdentifierOwned) -> Result<KeyTransport, String> {
    match algorithm.oid {
        rfc5912::RSA_ENCRYPTION => Ok(KeyTransport::Pkcs1v15),
        rfc5912::ID_RSAES_OAEP => oaep(algorithm),
        ID_RSA_KEM | ID_KEM_RSA => Err(format!("RSA-KEM ({})", algorithm.oid)),
        oid => Err(format!("the key transport {}", described(oid))),
    }
}

/// `id-rsa-kem` (RFC 5990); the next line has the mechanism's own identifier.
const ID_RSA_KEM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.14");
const ID_KEM_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.0.18033.2.2.4");

/// Parses RSAES-OAEP-params (RFC 4055 §4.1). Absent, empty or NULL parameters mean SHA-1 without a
/// label.
fn oaep(algorithm: &AlgorithmIdentifierOwned) -> Result<KeyTransport, String> {
    let parameters = algorithm.parameters.as_ref().filter(|parameters| !parameters.is_null());
    let Some(parameters) = parameters else { return Ok(KeyTransport::Oaep(OaepHash::Sha1)) };
    let unreadable = |()| "RSAES-OAEP with unreadable parameters".to_owned();
    let [hash, mask, source] = oaep_fields(parameters.value()).map_err(unreadable)?;
    let hash = hash.map_or(Ok(OaepHash::Sha1), |hash| hash_of(&hash))?;
    let mask_hash = match mask {
        None | Some(AlgorithmIdentifierOwned { oid: rfc5912::ID_MGF_1, parameters: None }) => OaepHash::Sha1,
        Some(mask) if mask.oid != rfc5912::ID_MGF_1 => {
            return Err(format!("RSAES-OAEP with the mask generation {}", described(mask.oid)));
        }
        Some(mask) => {
            let hash = mask.parameters.and_then(|hash| hash.decode_as::<AlgorithmIdentifierOwned>().ok());
            hash_of(&hash.ok_or_else(|| unreadable(()))?)?
        }
    };
    let label = match source {
        None | Some(AlgorithmIdentifierOwned { oid: rfc5912::ID_P_SPECIFIED, parameters: None }) => Vec::new(),
        Some(source) if source.oid != rfc5912::ID_P_SPECIFIED => {
            return Err(format!("RSAES-OAEP with a label from {}", described(source.oid)));
        }
        Some(source) => {
            let label = source.parameters.and_then(|label| label.decode_as::<OctetString>().ok());
            label.ok_or_else(|| unreadable(()))?.into_bytes().into()
        }
    };
    if label.is_empty() && hash == mask_hash {
        return Ok(KeyTransport::Oaep(hash));
    }
    Ok(KeyTransport::OaepWith { hash, mask_hash, label })
}

/// Parses the optional fields: the hash, the mask generation function and the source of the label.
fn oaep_fields(parameters: &[u8]) -> Result<[Option<AlgorithmIdentifierOwned>; 3], ()> {
    let mut fields = Elements::of(parameters, WHAT);
    let mut all = [None, None, None];
    for (number, field) in (0..).zip(&mut all) {
        if let Some(explicit) = fields.optional(context_constructed(number)).map_err(|_| ())? {
            *field = Some(AlgorithmIdentifierOwned::from_der(explicit.value).map_err(|_| ())?);
        }
    }
    if fields.is_empty() { Ok(all) } else { Err(()) }
}

fn hash_of(algorithm: &AlgorithmIdentifierOwned) -> Result<OaepHash, String> {
    match algorithm.oid {
        rfc5912::ID_SHA_1 => Ok(OaepHash::Sha1),
        rfc5912::ID_SHA_256 => Ok(OaepHash::Sha256),
        rfc5912::ID_SHA_384 => Ok(OaepHash::Sha384),
        rfc5912::ID_SHA_512 => Ok(OaepHash::Sha512),
        oid => Err(format!("RSAES-OAEP with the hash {}", described(oid))),
    }
}

/// Makes a `KeyTransRecipientInfo` for the owner of a certificate.
pub(super) fn encrypt(
    certificate: &Certificate,
    key: &RsaPublicKey,
    transport: &KeyTransport,
    content_key: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let encrypted = match transport {
        KeyTransport::Pkcs1v15 => rsa::Pkcs1v15Encrypt.encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha1) => rsa::Oaep::<sha1::Sha1>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha256) => rsa::Oaep::<sha2::Sha256>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha384) => rsa::Oaep::<sha2::Sha384>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::Oaep(OaepHash::Sha512) => rsa::Oaep::<sha2::Sha512>::new().encrypt(&mut SysRng, key, content_key),
        KeyTransport::OaepWith { .. } => {
            return Err(PkiError::unsupported("this form of RSAES-OAEP", "it is supported for decryption only"));
        }
    };
    let encrypted = encrypted.map_err(|error| PkiError::unsupported("an RSA public key", error.to_string()))?;
    Ok(element(
        SEQUENCE,
        &[
            &element(INTEGER, &[&[0]]),
            &CertificateId::of(certificate).to_der()?,
            &algorithm_identifier(transport),
            &element(OCTET_STRING, &[&encrypted]),
        ],
    ))
}

/// The `AlgorithmIdentifier`: `rsaEncryption`, or RSAES-OAEP with the same hash in both places.
fn algorithm_identifier(transport: &KeyTransport) -> Vec<u8> {
    let null = element(NULL, &[]);
    let hash = match transport {
        KeyTransport::Pkcs1v15 => return element(SEQUENCE, &[&oid(rfc5912::RSA_ENCRYPTION), &null]),
        // SHA-1 is the default (RFC 4055 §4.1), and DER omits defaults.
        KeyTransport::Oaep(OaepHash::Sha1) => {
            return element(SEQUENCE, &[&oid(rfc5912::ID_RSAES_OAEP), &element(SEQUENCE, &[])]);
        }
        KeyTransport::Oaep(OaepHash::Sha256) | KeyTransport::OaepWith { .. } => rfc5912::ID_SHA_256,
        KeyTransport::Oaep(OaepHash::Sha384) => rfc5912::ID_SHA_384,
        KeyTransport::Oaep(OaepHash::Sha512) => rfc5912::ID_SHA_512,
    };
    let hash = element(SEQUENCE, &[&oid(hash), &null]);
    let mask = element(SEQUENCE, &[&oid(rfc5912::ID_MGF_1), &hash]);
    let parameters =
        element(SEQUENCE, &[&element(context_constructed(0), &[&hash]), &element(context_constructed(1), &[&mask])]);
    element(SEQUENCE, &[&oid(rfc5912::ID_RSAES_OAEP), &parameters])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_and_null_oaep_parameters_are_the_defaults() {
        let algorithm = |name: ObjectIdentifier, parameters: &[u8]| element(SEQUENCE, &[&oid(name), parameters]);
        let null = element(NULL, &[]);
        let field = |number, value: &[u8]| element(context_constructed(number), &[value]);
        let hash = |parameters: &[u8]| field(0, &algorithm(rfc5912::ID_SHA_256, parameters));
        let mask =
            |parameters: &[u8]| field(1, &algorithm(rfc5912::ID_MGF_1, &algorithm(rfc5912::ID_SHA_256, parameters)));
        let label = |label: &[u8]| field(2, &algorithm(rfc5912::ID_P_SPECIFIED, &element(OCTET_STRING, &[label])));
        let fields = |fields: &[&[u8]]| element(SEQUENCE, fields);
        let sha256_sha1 =
            KeyTransport::OaepWith { hash: OaepHash::Sha256, mask_hash: OaepHash::Sha1, label: Vec::new() };
        let labelled =
            KeyTransport::OaepWith { hash: OaepHash::Sha256, mask_hash: OaepHash::Sha256, label: b"label".to_vec() };
        for (parameters, expected) in [
            (Vec::new(), KeyTransport::Oaep(OaepHash::Sha1)),
            (null.clone(), KeyTransport::Oaep(OaepHash::Sha1)),
            (fields(&[]), KeyTransport::Oaep(OaepHash::Sha1)),
            (fields(&[&hash(&null), &mask(&null)]), KeyTransport::Oaep(OaepHash::Sha256)),
            (fields(&[&hash(&[]), &mask(&[]), &label(b"")]), KeyTransport::Oaep(OaepHash::Sha256)),
            (fields(&[&hash(&[])]), sha256_sha1.clone()),
            (fields(&[&hash(&null), &field(1, &algorithm(rfc5912::ID_MGF_1, &[]))]), sha256_sha1),
            (fields(&[&hash(&null), &mask(&[]), &label(b"label")]), labelled),
        ] {
            let identifier =
                AlgorithmIdentifierOwned::from_der(&algorithm(rfc5912::ID_RSAES_OAEP, &parameters)).unwrap();
            assert_eq!(scheme(&identifier), Ok(expected), "{parameters:?}");
        }
        for (parameters, reason) in [
            (fields(&[&field(0, &algorithm(rfc5912::ID_MD_5, &null))]), "id-md5"),
            (fields(&[&field(1, &algorithm(rfc5912::ID_SHA_256, &null))]), "mask generation"),
            (fields(&[&field(3, &null)]), "unreadable"),
            (fields(&[&field(0, &null)]), "unreadable"),
        ] {
            let identifier =
                AlgorithmIdentifierOwned::from_der(&algorithm(rfc5912::ID_RSAES_OAEP, &parameters)).unwrap();
            let said = scheme(&identifier).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
