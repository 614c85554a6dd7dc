//! Public keys in their PKCS#11 form and as `SubjectPublicKeyInfo` (RFC 5280 §4.1).

use const_oid::db::rfc5912;
use cryptoki::object::Attribute;
use der::asn1::{Any, BitString, OctetStringRef, UintRef};
use der::{Decode, Document, Encode, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};

use super::{KeyAlgorithm, RsaSize, Signature, TokenError};

/// A public key of a supported algorithm, as `SubjectPublicKeyInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPublicKey {
    algorithm: KeyAlgorithm,
    der: Vec<u8>,
}

/// `RSAPublicKey` (RFC 8017 A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// `Ecdsa-Sig-Value` (RFC 3279 §2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl KeyAlgorithm {
    /// The algorithm of a DER `SubjectPublicKeyInfo`; `None` for an unsupported one.
    pub fn of_public_key(spki_der: &[u8]) -> Option<Self> {
        SubjectPublicKey::from_der(spki_der).ok().map(|key| key.algorithm())
    }
}

impl SubjectPublicKey {
    /// Reads a DER `SubjectPublicKeyInfo`. [`TokenError::Encoding`] if it is malformed or its
    /// algorithm is not supported.
    pub fn from_der(spki_der: &[u8]) -> Result<Self, TokenError> {
        let spki = SubjectPublicKeyInfoRef::from_der(spki_der).map_err(encoding)?;
        let unknown =
            || TokenError::Encoding("the public key is neither RSA (2048, 3072, 4096), P-256 nor P-384".into());
        let bits = spki.subject_public_key.as_bytes().ok_or_else(unknown)?;
        let algorithm = if spki.algorithm.oid == rfc5912::RSA_ENCRYPTION {
            let key = RsaPublicKey::from_der(bits).map_err(encoding)?;
            rsa_size(key.modulus.as_bytes()).map(KeyAlgorithm::Rsa)
        } else if spki.algorithm.oid == rfc5912::ID_EC_PUBLIC_KEY {
            let curve = spki.algorithm.parameters_oid().map_err(encoding)?;
            KeyAlgorithm::ALL.into_iter().find(|known| known.curve() == Some(curve) && is_point(*known, bits))
        } else {
            None
        };
        Ok(Self { algorithm: algorithm.ok_or_else(unknown)?, der: spki_der.to_vec() })
    }

    /// An RSA key from its big-endian modulus and exponent; `None` if its size is not supported.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let modulus = UintRef::new(modulus).ok()?;
        let algorithm = KeyAlgorithm::Rsa(rsa_size(modulus.as_bytes())?);
        let key = RsaPublicKey { modulus, public_exponent: UintRef::new(exponent).ok()? }.to_der().ok()?;
        let identifier = AlgorithmIdentifierOwned { oid: rfc5912::RSA_ENCRYPTION, parameters: Some(Any::null()) };
        Self::assemble(algorithm, identifier, &key)
    }

    /// An elliptic-curve key from `CKA_EC_PARAMS` (a named curve) and `CKA_EC_POINT` (an
    /// uncompressed point in a DER OCTET STRING; some tokens omit the wrapping). `None` if the
    /// curve is not supported or the point is malformed.
    pub(super) fn elliptic_curve(parameters: &[u8], point: &[u8]) -> Option<Self> {
        let curve = der::asn1::ObjectIdentifier::from_der(parameters).ok()?;
        let algorithm = KeyAlgorithm::ALL.into_iter().find(|known| known.curve() == Some(curve))?;
        // A point without wrapping can look wrapped: both begin with 4.
        let wrapped = <&OctetStringRef>::from_der(point).ok().map(OctetStringRef::as_bytes);
        let point = wrapped.filter(|inner| is_point(algorithm, inner)).unwrap_or(point);
        if !is_point(algorithm, point) {
            return None;
        }
        let identifier =
            AlgorithmIdentifierOwned { oid: rfc5912::ID_EC_PUBLIC_KEY, parameters: Some(Any::from(&curve)) };
        Self::assemble(algorithm, identifier, point)
    }

    fn assemble(algorithm: KeyAlgorithm, identifier: AlgorithmIdentifierOwned, bits: &[u8]) -> Option<Self> {
        let subject_public_key = BitString::from_bytes(bits).ok()?;
        let der = SubjectPublicKeyInfoOwned { algorithm: identifier, subject_public_key }.to_der().ok()?;
        Some(Self { algorithm, der })
    }

    /// The algorithm of the key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// DER of the `SubjectPublicKeyInfo`.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The uncompressed point of an elliptic-curve key (04 ‖ X ‖ Y); `None` for RSA.
    pub(super) fn point(&self) -> Option<Vec<u8>> {
        if !self.algorithm.is_elliptic_curve() {
            return None;
        }
        let spki = SubjectPublicKeyInfoRef::from_der(&self.der).ok()?;
        spki.subject_public_key.as_bytes().map(<[u8]>::to_vec)
    }

    /// The attributes of a public key object that holds this key.
    pub(super) fn to_attributes(&self) -> Result<Vec<Attribute>, TokenError> {
        let spki = SubjectPublicKeyInfoRef::from_der(&self.der).map_err(encoding)?;
        let bits = spki.subject_public_key.raw_bytes();
        if let Some(curve) = self.algorithm.curve() {
            return Ok(vec![
                Attribute::KeyType(cryptoki::object::KeyType::EC),
                Attribute::EcParams(curve.to_der().map_err(encoding)?),
                Attribute::EcPoint(OctetStringRef::new(bits).and_then(|point| point.to_der()).map_err(encoding)?),
            ]);
        }
        let key = RsaPublicKey::from_der(bits).map_err(encoding)?;
        Ok(vec![
            Attribute::KeyType(cryptoki::object::KeyType::RSA),
            Attribute::Modulus(key.modulus.as_bytes().to_vec()),
            Attribute::PublicExponent(key.public_exponent.as_bytes().to_vec()),
        ])
    }
}

impl spki::EncodePublicKey for SubjectPublicKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.der.as_slice())?)
    }
}

/// Converts a PKCS#11 ECDSA signature (r ‖ s, each as long as the curve's order) into the X.509
/// form.
pub(super) fn ecdsa_signature(raw: &[u8]) -> Result<Signature, TokenError> {
    let malformed = || TokenError::Encoding("the token returned an ECDSA signature of odd length".to_owned());
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return Err(malformed());
    }
    let (r, s) = raw.split_at_checked(raw.len() / 2).ok_or_else(malformed)?;
    let signature = EcdsaSignature { r: UintRef::new(r).map_err(encoding)?, s: UintRef::new(s).map_err(encoding)? };
    Ok(Signature::from_bytes(signature.to_der().map_err(encoding)?))
}

fn rsa_size(modulus: &[u8]) -> Option<RsaSize> {
    // The modulus has no leading zero here, and every supported size has its highest bit set.
    [RsaSize::Bits2048, RsaSize::Bits3072, RsaSize::Bits4096].into_iter().find(|size| {
        modulus.len() * 8 == usize::from(size.bits()) && modulus.first().is_some_and(|first| first & 0x80 != 0)
    })
}

fn is_point(algorithm: KeyAlgorithm, bits: &[u8]) -> bool {
    bits.first() == Some(&0x04) && algorithm.field_bytes().is_some_and(|length| bits.len() == 1 + 2 * length)
}

fn encoding(error: impl std::fmt::Display) -> TokenError {
    TokenError::Encoding(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::run;

    /// A public key made by OpenSSL, as DER `SubjectPublicKeyInfo`.
    fn made_by_openssl(options: &[&str]) -> Vec<u8> {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
        let (private, public) = (path("private"), path("public"));
        run("openssl", &[&["genpkey", "-out", &private][..], options].concat());
        run("openssl", &["pkey", "-in", &private, "-pubout", "-outform", "DER", "-out", &public]);
        std::fs::read(public).unwrap()
    }

    fn curve(name: &str) -> Vec<u8> {
        made_by_openssl(&["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{name}")])
    }

    fn rsa(bits: u16) -> Vec<u8> {
        made_by_openssl(&["-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
    }

    /// Converts the key to the attributes of a token object and back.
    fn by_way_of_a_token(key: &SubjectPublicKey) -> SubjectPublicKey {
        let (mut modulus, mut exponent, mut parameters, mut point) = (vec![], vec![], vec![], vec![]);
        for attribute in key.to_attributes().unwrap() {
            match attribute {
                Attribute::Modulus(value) => modulus = value,
                Attribute::PublicExponent(value) => exponent = value,
                Attribute::EcParams(value) => parameters = value,
                Attribute::EcPoint(value) => point = value,
                _ => {}
            }
        }
        SubjectPublicKey::rsa(&modulus, &exponent)
            .or_else(|| SubjectPublicKey::elliptic_curve(&parameters, &point))
            .unwrap()
    }

    #[test]
    fn openssls_keys_are_read_and_written_byte_for_byte() {
        for (der, algorithm) in [
            (curve("P-256"), KeyAlgorithm::P256),
            (curve("P-384"), KeyAlgorithm::P384),
            (rsa(2048), KeyAlgorithm::Rsa(RsaSize::Bits2048)),
        ] {
            let key = SubjectPublicKey::from_der(&der).unwrap();
            assert_eq!((key.algorithm(), key.as_der()), (algorithm, der.as_slice()));
            assert_eq!(by_way_of_a_token(&key), key);
            assert_eq!(KeyAlgorithm::of_public_key(&der), Some(algorithm));
        }
    }

    #[test]
    fn other_kinds_and_damaged_ones_are_refused() {
        for der in [curve("P-521"), rsa(1024), made_by_openssl(&["-algorithm", "ED25519"]), vec![], vec![0x30, 0]] {
            assert!(matches!(SubjectPublicKey::from_der(&der), Err(TokenError::Encoding(_))));
        }
        let mut der = curve("P-256");
        der.pop();
        assert!(SubjectPublicKey::from_der(&der).is_err());
        assert!(SubjectPublicKey::elliptic_curve(&[6, 1], &[4; 65]).is_none());
    }

    #[test]
    fn a_point_without_its_octet_string_is_read_too() {
        let key = SubjectPublicKey::from_der(&curve("P-256")).unwrap();
        let parameters = key.algorithm().curve().unwrap().to_der().unwrap();
        assert_eq!(SubjectPublicKey::elliptic_curve(&parameters, &key.point().unwrap()), Some(key));
        // One in 256 keys has a point that decodes as an OCTET STRING of 63 bytes.
        let looks_wrapped = [&[4, 63][..], &[1; 63]].concat();
        let key = SubjectPublicKey::elliptic_curve(&parameters, &looks_wrapped).unwrap();
        assert_eq!(key.point(), Some(looks_wrapped));
    }

    #[test]
    fn a_signature_becomes_two_positive_integers() {
        let raw = [&[0xff; 32][..], &[0; 31], &[1]].concat();
        let signature = ecdsa_signature(&raw).unwrap();
        assert_eq!(signature.as_bytes(), [&[0x30, 38, 2, 33, 0][..], &[0xff; 32], &[2, 1, 1]].concat());
        ecdsa_signature(&[]).unwrap_err();
        ecdsa_signature(&[1; 63]).unwrap_err();
    }
}
