//! Public keys in SSH's encoding: RFC 4253 §6.6 (RSA), RFC 5656 §3.1 (elliptic curves), RFC 8709
//! (Ed25519, host keys only), and OpenSSH's certificates of them (PROTOCOL.certkeys).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use const_oid::db::rfc5912;
use der::Decode;
use spki::{EncodePublicKey, SubjectPublicKeyInfoRef};

use super::SshError;
use super::signature_kind::is_valid_signature;
use super::ssh_key::{CERTIFICATE_SUFFIX, SshKey};
use super::wire::{Reader, Writer};
use crate::pki::public_key::PublicKey;

/// The certificate part of a key blob. The agent does not trust its content; it passes the
/// certificate on.
#[derive(Clone, Copy, Debug)]
pub(super) struct SshCertificate<'a> {
    /// a user certificate, not a host certificate
    pub(super) is_users: bool,
    signed: &'a [u8],
    authority: &'a [u8],
    signature: &'a [u8],
}

/// A completely parsed key blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyBlob<'a> {
    pub(super) key: SshKey<'a>,
    pub(super) certificate: Option<SshCertificate<'a>>,
}

impl<'a> KeyBlob<'a> {
    /// Parses a blob; rejects other key types and trailing bytes.
    pub(super) fn read(blob: &'a [u8]) -> Result<Self, SshError> {
        let mut reader = Reader::new(blob);
        let name = reader.text().ok_or(SshError::Malformed("a public key"))?;
        let plain = name.strip_suffix(CERTIFICATE_SUFFIX);
        let read = match plain.unwrap_or(name) {
            "ssh-rsa" => read_rsa,
            "ecdsa-sha2-nistp256" => read_p256,
            "ecdsa-sha2-nistp384" => read_p384,
            "ssh-ed25519" => read_ed25519,
            _ => return Err(SshError::Key("unsupported key type; RSA, P-256 and P-384 are supported")),
        };
        let mut parts = || {
            let (key, certificate) = if plain.is_some() {
                reader.string()?; // nonce
                let key = read(&mut reader)?;
                (key, Some(SshCertificate::read(blob, &mut reader)?))
            } else {
                (read(&mut reader)?, None)
            };
            reader.end()?;
            Some(Self { key, certificate })
        };
        parts().ok_or(SshError::Malformed("a public key"))
    }

    /// The `SubjectPublicKeyInfo` in DER, as in certificates and on tokens.
    pub(super) fn to_spki_der(self) -> Result<Vec<u8>, SshError> {
        let document = match self.key.to_public_key()? {
            PublicKey::Rsa(key) => key.to_public_key_der(),
            PublicKey::P256(key) => key.to_public_key_der(),
            PublicKey::P384(key) => key.to_public_key_der(),
        };
        Ok(document.map_err(|_| SshError::Key("it cannot be encoded as a SubjectPublicKeyInfo"))?.into_vec())
    }
}

fn read_rsa<'a>(reader: &mut Reader<'a>) -> Option<SshKey<'a>> {
    let exponent = reader.positive_mpint()?;
    Some(SshKey::Rsa { exponent, modulus: reader.positive_mpint()? })
}

fn read_p256<'a>(reader: &mut Reader<'a>) -> Option<SshKey<'a>> {
    read_point(reader, b"nistp256", 65).map(SshKey::P256)
}

fn read_p384<'a>(reader: &mut Reader<'a>) -> Option<SshKey<'a>> {
    read_point(reader, b"nistp384", 97).map(SshKey::P384)
}

fn read_point<'a>(reader: &mut Reader<'a>, curve: &[u8], length: usize) -> Option<&'a [u8]> {
    let named = reader.string()? == curve;
    let point = reader.string()?;
    (named && point.len() == length && point.first() == Some(&4)).then_some(point)
}

fn read_ed25519<'a>(reader: &mut Reader<'a>) -> Option<SshKey<'a>> {
    reader.string().filter(|key| key.len() == 32).map(SshKey::Ed25519)
}

impl<'a> SshCertificate<'a> {
    /// Parses the fields after the key.
    fn read(blob: &'a [u8], reader: &mut Reader<'a>) -> Option<Self> {
        reader.uint64()?; // serial number
        let is_users = match reader.uint32()? {
            1 => true,
            2 => false,
            _ => return None,
        };
        reader.text()?; // key id
        reader.string()?; // principals
        reader.uint64()?; // valid after
        reader.uint64()?; // valid before
        reader.string()?; // critical options
        reader.string()?; // extensions
        reader.string()?; // reserved
        let authority = reader.string()?;
        let signed = blob.get(..blob.len().checked_sub(reader.remaining())?)?;
        Some(Self { is_users, signed, authority, signature: reader.string()? })
    }

    /// Verifies the signature of the authority that the certificate names. An unsigned certificate
    /// could end in arbitrary bytes, such as another protocol's message.
    pub(super) fn is_signed(&self) -> bool {
        KeyBlob::read(self.authority).is_ok_and(|authority| {
            authority.certificate.is_none() && is_valid_signature(authority.key, self.signed, self.signature)
        })
    }
}

/// The key's line for OpenSSH's `authorized_keys` and `allowed_signers`, from its DER
/// `SubjectPublicKeyInfo`; `None` for a key type that SSH does not have.
pub fn public_key_line(spki_der: &[u8], comment: &str) -> Option<String> {
    let mut blob = Vec::new();
    write_blob(spki_der, &mut Writer::new(&mut blob))?;
    let kind = KeyBlob::read(&blob).ok()?.key.name();
    Some(format!("{kind} {} {comment}", STANDARD.encode(&blob)).trim_end().to_owned())
}

/// Appends the key of a DER `SubjectPublicKeyInfo` as a blob; writes nothing and returns `None` for
/// an unsupported key type.
pub(super) fn write_blob(spki_der: &[u8], writer: &mut Writer<'_>) -> Option<()> {
    let spki = SubjectPublicKeyInfoRef::from_der(spki_der).ok()?;
    let bits = spki.subject_public_key.as_bytes()?;
    if spki.algorithm.oid == rfc5912::RSA_ENCRYPTION {
        let key = rsa::pkcs1::RsaPublicKeyRef::from_der(bits).ok()?;
        SshKey::Rsa { exponent: key.public_exponent.as_bytes(), modulus: key.modulus.as_bytes() }.write(writer);
        return Some(());
    }
    if spki.algorithm.oid != rfc5912::ID_EC_PUBLIC_KEY {
        return None;
    }
    match spki.algorithm.parameters_oid().ok()? {
        rfc5912::SECP_256_R_1 if bits.len() == 65 => SshKey::P256(bits).write(writer),
        rfc5912::SECP_384_R_1 if bits.len() == 97 => SshKey::P384(bits).write(writer),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::ssh::tests::{KeyFile, blob_of};
    use crate::pki::test_support::SoftwareKey;
    use proptest::prelude::*;

    #[test]
    fn x509_keys_round_trip() {
        for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
            let blob = blob_of(&key.public_key_der());
            let read = KeyBlob::read(&blob).unwrap();
            assert!(read.certificate.is_none());
            assert_eq!(read.to_spki_der().unwrap(), key.public_key_der());
        }
    }

    #[test]
    fn ssh_keygen_writes_the_same_blobs() {
        for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
            let file = KeyFile::of(&key);
            assert_eq!(file.blob(), blob_of(&key.public_key_der()));
        }
    }

    #[test]
    fn a_certificate_of_a_key_has_that_key() {
        for key in [SoftwareKey::rsa(), SoftwareKey::p256(), SoftwareKey::p384()] {
            let file = KeyFile::of(&key);
            for (is_users, options) in [(true, &[][..]), (false, &["-h"])] {
                let blob = file.certificate(options);
                let read = KeyBlob::read(&blob).unwrap();
                let certificate = read.certificate.unwrap();
                assert!(certificate.is_users == is_users && certificate.is_signed());
                assert_eq!(read.to_spki_der().unwrap(), key.public_key_der());
                assert_eq!(read.key, KeyBlob::read(&file.blob()).unwrap().key);
            }
        }
    }

    #[test]
    fn certificates_verify_only_with_their_authoritys_key() {
        let key = SoftwareKey::p256();
        for authority in [&["ed25519"][..], &["rsa", "-b", "2048"], &["ecdsa", "-b", "256"], &["ecdsa", "-b", "384"]] {
            let file = KeyFile::of(&key).with_authority(authority);
            let blob = file.certificate(&[]);
            assert!(KeyBlob::read(&blob).unwrap().certificate.unwrap().is_signed(), "{authority:?}");
            for at in [60, 120, blob.len() - 1] {
                let mut changed = blob.clone();
                changed[at] ^= 1;
                let signed = KeyBlob::read(&changed).is_ok_and(|read| read.certificate.unwrap().is_signed());
                assert!(!signed, "{authority:?} {at}");
            }
        }
        // P-521 signatures are not supported.
        let blob = KeyFile::of(&key).with_authority(&["ecdsa", "-b", "521"]).certificate(&[]);
        assert!(!KeyBlob::read(&blob).unwrap().certificate.unwrap().is_signed());
    }

    #[test]
    fn other_kinds_trailing_bytes_and_invalid_points_are_refused() {
        let blob = blob_of(&SoftwareKey::p256().public_key_der());
        assert!(KeyBlob::read(&[&blob[..], &[0]].concat()).is_err());
        assert!(KeyBlob::read(&blob[..blob.len() - 1]).is_err());
        let mut bent = blob.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert!(KeyBlob::read(&bent).unwrap().to_spki_der().is_err());
        let mut other_curve = blob.clone();
        other_curve[30] = b'3'; // the curve name no longer matches the key type
        assert!(KeyBlob::read(&other_curve).is_err());
        let mut security_key = Vec::new();
        Writer::new(&mut security_key).string(b"sk-ssh-ed25519@openssh.com");
        assert!(matches!(KeyBlob::read(&security_key), Err(SshError::Key(_))));
        let mut ed25519 = Vec::new();
        SshKey::Ed25519(&[7; 32]).write(&mut Writer::new(&mut ed25519));
        assert!(KeyBlob::read(&ed25519).unwrap().to_spki_der().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = KeyBlob::read(&bytes).map(KeyBlob::to_spki_der);
            let name = b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com";
            let _ = KeyBlob::read(&[&name[..], &bytes].concat()).map(|read| read.certificate.unwrap().is_signed());
        }

        #[test]
        fn a_truncated_certificate_is_refused(cut in 0..900_usize) {
            static CERTIFICATE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let certificate = CERTIFICATE.get_or_init(|| KeyFile::of(&SoftwareKey::p256()).certificate(&[]));
            prop_assume!(cut < certificate.len());
            prop_assert!(KeyBlob::read(&certificate[..cut]).is_err());
        }
    }
}
