//! `EncryptedKey` (RFC 4211 §6.4, RFC 9810 §5.2.2), and the delivery of a private key from token to
//! token: the wrapped key as `EncryptedValue`, and the transport key to which it is encrypted.
//!
//! `encSymmKey` is the AES-256 key under RSA-OAEP, `keyAlg` is id-RSAES-OAEP with its parameters,
//! `symmAlg` is id-aes256-wrap-pad (RFC 5649), `encValue` is the wrapped PrivateKeyInfo, and
//! `intendedAlg` is the algorithm of the key inside.

use cms::enveloped_data::EnvelopedData;
use der::asn1::{BitString, ObjectIdentifier, OctetString};
use der::{Any, Choice, Decode, Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::{CertRequest, CmpError, oid};
use crate::token::{Delivery, KeyWrap, OaepHash};

/// The transport public key that the user's token generated for one enrollment, and the OAEP hash
/// that this token supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportPublicKey {
    /// The `SubjectPublicKeyInfo` with rsaEncryption, in DER.
    pub public_key: Vec<u8>,
    /// The hash of OAEP and of its mask generation function.
    pub oaep: OaepHash,
}

impl TransportPublicKey {
    /// The value of protocolEncrKey: its algorithm is id-RSAES-OAEP with parameters.
    pub fn to_spki(&self) -> Result<SubjectPublicKeyInfoOwned, CmpError> {
        let own = SubjectPublicKeyInfoOwned::from_der(&self.public_key)?;
        if own.algorithm.oid != oid::RSA_ENCRYPTION {
            return Err(CmpError::Malformed("the transport key is not an RSA key"));
        }
        Ok(SubjectPublicKeyInfoOwned { algorithm: oaep_algorithm(self.oaep)?, ..own })
    }

    /// Parses the value that [`TransportPublicKey::to_spki`] makes.
    pub fn from_spki(key: SubjectPublicKeyInfoOwned) -> Result<Self, CmpError> {
        let oaep = oaep_hash(&key.algorithm)?;
        let algorithm = AlgorithmIdentifierOwned { oid: oid::RSA_ENCRYPTION, parameters: Some(Any::null()) };
        Ok(Self { public_key: SubjectPublicKeyInfoOwned { algorithm, ..key }.to_der()?, oaep })
    }
}

impl CertRequest {
    /// The transport key in protocolEncrKey; `None` if the control is missing.
    pub fn transport_key(&self) -> Result<Option<TransportPublicKey>, CmpError> {
        self.protocol_encr_key()?.map(TransportPublicKey::from_spki).transpose()
    }
}

impl EncryptedValue {
    /// Encodes a delivery. `intended_alg` is the algorithm of the key inside, as in its
    /// `SubjectPublicKeyInfo`. The value does not name the wrapping mechanism: both give the bytes
    /// of RFC 5649, and the receiving token unwraps with the one that it has.
    pub fn from_delivery(delivery: &Delivery, intended_alg: AlgorithmIdentifierOwned) -> Result<Self, CmpError> {
        Ok(Self {
            intended_alg: Some(intended_alg),
            symm_alg: Some(AlgorithmIdentifierOwned { oid: oid::AES256_WRAP_PAD, parameters: None }),
            enc_symm_key: Some(BitString::from_bytes(&delivery.encrypted_key)?),
            key_alg: Some(oaep_algorithm(delivery.oaep)?),
            value_hint: None,
            enc_value: BitString::from_bytes(&delivery.wrapped)?,
        })
    }

    /// Decodes a delivery. A missing part or any other algorithm is refused.
    pub fn to_delivery(&self) -> Result<Delivery, CmpError> {
        const PARTIAL: CmpError = CmpError::Malformed("the encrypted private key lacks a part");
        if self.symm_alg.as_ref().ok_or(PARTIAL)?.oid != oid::AES256_WRAP_PAD {
            return Err(CmpError::Malformed("the private key is not wrapped with id-aes256-wrap-pad"));
        }
        let encrypted_key = self.enc_symm_key.as_ref().and_then(BitString::as_bytes).ok_or(PARTIAL)?;
        let wrapped = self.enc_value.as_bytes().ok_or(PARTIAL)?;
        Ok(Delivery {
            oaep: oaep_hash(self.key_alg.as_ref().ok_or(PARTIAL)?)?,
            encrypted_key: encrypted_key.to_vec(),
            key_wrap: KeyWrap::Kwp,
            wrapped: wrapped.to_vec(),
        })
    }
}

impl EncryptedKey {
    /// The delivery inside an `EncryptedValue`. EnvelopedData is refused, because tokens cannot
    /// unwrap it.
    pub fn to_delivery(&self) -> Result<Delivery, CmpError> {
        match self {
            Self::EncryptedValue(value) => value.to_delivery(),
            Self::EnvelopedData(_) => {
                Err(CmpError::Malformed("the private key is in EnvelopedData, not in EncryptedValue"))
            }
        }
    }
}

/// RSAES-OAEP-params (RFC 8017 §A.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct OaepParameters {
    #[asn1(context_specific = "0", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", optional = "true")]
    label: Option<Any>,
}

/// id-RSAES-OAEP with this hash in both places. The DEFAULT (SHA-1) is omitted, as DER requires.
fn oaep_algorithm(hash: OaepHash) -> Result<AlgorithmIdentifierOwned, CmpError> {
    let parameters = match hash_oid(hash) {
        None => OaepParameters { hash: None, mask: None, label: None },
        Some(hash) => {
            let hash = AlgorithmIdentifierOwned { oid: hash, parameters: Some(Any::null()) };
            let mask = AlgorithmIdentifierOwned { oid: oid::MGF1, parameters: Some(Any::encode_from(&hash)?) };
            OaepParameters { hash: Some(hash), mask: Some(mask), label: None }
        }
    };
    Ok(AlgorithmIdentifierOwned { oid: oid::RSAES_OAEP, parameters: Some(Any::encode_from(&parameters)?) })
}

/// The hash of id-RSAES-OAEP. Two different hashes, a label, an unknown hash and any other
/// algorithm are refused.
fn oaep_hash(algorithm: &AlgorithmIdentifierOwned) -> Result<OaepHash, CmpError> {
    const UNFIT: CmpError = CmpError::Malformed("the transport algorithm is not id-RSAES-OAEP with one supported hash");
    let parameters = algorithm.parameters.as_ref().filter(|_| algorithm.oid == oid::RSAES_OAEP).ok_or(UNFIT)?;
    let parameters: OaepParameters = parameters.decode_as()?;
    let mask = match &parameters.mask {
        None => None,
        Some(mask) if mask.oid == oid::MGF1 => {
            let inner: AlgorithmIdentifierOwned = mask.parameters.as_ref().ok_or(UNFIT)?.decode_as()?;
            Some(inner.oid)
        }
        Some(_) => return Err(UNFIT),
    };
    let own = parameters.hash.map_or(oid::SHA1, |hash| hash.oid);
    if parameters.label.is_some() || own != mask.unwrap_or(oid::SHA1) {
        return Err(UNFIT);
    }
    match own {
        oid::SHA1 => Ok(OaepHash::Sha1),
        oid::SHA256 => Ok(OaepHash::Sha256),
        oid::SHA384 => Ok(OaepHash::Sha384),
        oid::SHA512 => Ok(OaepHash::Sha512),
        _ => Err(UNFIT),
    }
}

/// The object identifier of the hash; `None` for SHA-1, the DEFAULT.
fn hash_oid(hash: OaepHash) -> Option<ObjectIdentifier> {
    match hash {
        OaepHash::Sha1 => None,
        OaepHash::Sha256 => Some(oid::SHA256),
        OaepHash::Sha384 => Some(oid::SHA384),
        OaepHash::Sha512 => Some(oid::SHA512),
    }
}

/// `EncryptedKey` (RFC 4211 §6.4). The tags are IMPLICIT, as in RFC 4211's ASN.1 module.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum EncryptedKey {
    /// The older form, used in pvno 2.
    EncryptedValue(EncryptedValue),
    /// The form used in pvno 3.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    EnvelopedData(Box<EnvelopedData>),
}

impl From<EncryptedValue> for EncryptedKey {
    fn from(value: EncryptedValue) -> Self {
        Self::EncryptedValue(value)
    }
}

/// `EncryptedValue` (RFC 4211 §6.4, Appendix B).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct EncryptedValue {
    /// The algorithm for which the encrypted key is used.
    #[asn1(context_specific = "0", optional = "true")]
    pub intended_alg: Option<AlgorithmIdentifierOwned>,
    /// The algorithm that encrypts `enc_value`.
    #[asn1(context_specific = "1", optional = "true")]
    pub symm_alg: Option<AlgorithmIdentifierOwned>,
    /// The encrypted symmetric key.
    #[asn1(context_specific = "2", optional = "true")]
    pub enc_symm_key: Option<BitString>,
    /// The algorithm that encrypts `enc_symm_key`.
    #[asn1(context_specific = "3", optional = "true")]
    pub key_alg: Option<AlgorithmIdentifierOwned>,
    /// A description or identifier of the content. It may be meaningful only to the sender, who may
    /// examine the value again later.
    #[asn1(context_specific = "4", optional = "true")]
    pub value_hint: Option<OctetString>,
    /// The encrypted private key or certificate.
    pub enc_value: BitString,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: [OaepHash; 4] = [OaepHash::Sha1, OaepHash::Sha256, OaepHash::Sha384, OaepHash::Sha512];

    fn rsa() -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned { oid: oid::RSA_ENCRYPTION, parameters: Some(Any::null()) }
    }

    fn delivery(oaep: OaepHash) -> Delivery {
        let key_wrap = KeyWrap::Kwp;
        Delivery { oaep, encrypted_key: vec![1; 256], key_wrap, wrapped: vec![2; 1224] }
    }

    #[test]
    fn deliveries_survive_with_every_hash() {
        for oaep in HASHES {
            let value = EncryptedValue::from_delivery(&delivery(oaep), rsa()).unwrap();
            let read = EncryptedValue::from_der(&value.to_der().unwrap()).unwrap();
            assert_eq!(read.to_delivery().unwrap(), delivery(oaep));
            assert_eq!(read.intended_alg, Some(rsa()));
        }
    }

    #[test]
    fn the_default_hash_is_left_out() {
        // SEQUENCE { OID id-RSAES-OAEP, SEQUENCE {} }
        let der = oaep_algorithm(OaepHash::Sha1).unwrap().to_der().unwrap();
        assert_eq!(der, hex::decode("300d06092a864886f70d0101073000").unwrap());
    }

    #[test]
    fn values_that_lack_a_part_or_use_another_algorithm_are_refused() {
        let good = EncryptedValue::from_delivery(&delivery(OaepHash::Sha256), rsa()).unwrap();
        let bad: [fn(&mut EncryptedValue); 6] = [
            |value| value.symm_alg = None,
            |value| value.enc_symm_key = None,
            |value| value.key_alg = None,
            |value| value.key_alg = Some(rsa()),
            |value| value.symm_alg = Some(rsa()),
            |value| value.enc_value = BitString::new(3, vec![8]).unwrap(),
        ];
        for spoil in bad {
            let mut value = good.clone();
            spoil(&mut value);
            assert!(value.to_delivery().is_err());
        }
        assert!(good.to_delivery().is_ok());
    }

    #[test]
    fn mixed_hashes_and_labels_are_refused() {
        let sha256 = AlgorithmIdentifierOwned { oid: oid::SHA256, parameters: Some(Any::null()) };
        let sha1 = AlgorithmIdentifierOwned { oid: oid::SHA1, parameters: Some(Any::null()) };
        let mask = |hash: &AlgorithmIdentifierOwned| AlgorithmIdentifierOwned {
            oid: oid::MGF1,
            parameters: Some(Any::encode_from(hash).unwrap()),
        };
        let label = Some(Any::null());
        let algorithm = |hash: Option<_>, mask: Option<_>, label| AlgorithmIdentifierOwned {
            oid: oid::RSAES_OAEP,
            parameters: Some(Any::encode_from(&OaepParameters { hash, mask, label }).unwrap()),
        };
        let read = |algorithm: AlgorithmIdentifierOwned| oaep_hash(&algorithm).ok();
        assert_eq!(read(algorithm(Some(sha256.clone()), Some(mask(&sha256)), None)), Some(OaepHash::Sha256));
        assert_eq!(read(algorithm(Some(sha1.clone()), Some(mask(&sha1)), None)), Some(OaepHash::Sha1));
        assert_eq!(read(algorithm(Some(sha256.clone()), None, None)), None, "the mask's default is SHA-1");
        assert_eq!(read(algorithm(None, Some(mask(&sha256)), None)), None);
        assert_eq!(read(algorithm(None, Some(sha256), None)), None);
        assert_eq!(read(algorithm(None, None, label)), None);
        assert_eq!(read(rsa()), None);
    }
}
