//! Attestation: certificates for generated keys, signed by the card's own key, whose certificate is
//! issued by a root of these tests.

use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use const_oid::ObjectIdentifier;
use der::asn1::OctetString;
use der::{Decode, Encode};
use signature::{Keypair, Signer};
use spki::{
    DynSignatureAlgorithmIdentifier, EncodePublicKey, SignatureBitStringEncoding, SubjectPublicKeyInfoOwned,
    SubjectPublicKeyInfoRef,
};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::{Certificate, TbsCertificate};
use x509_cert::ext::{Extension, ToExtension, pkix::BasicConstraints};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Validity;

use super::apdu::{Command, Status};
use super::applet::PivApplet;
use super::keys::{ATTESTATION_SLOT, Origin};
use super::objects::tag::ATTESTATION_CERTIFICATE;
use super::private_key::{Algorithm, PrivateKey, random};
use super::tlv::{element, elements, find};

/// Extensions of an attestation (Yubico, "PIV attestation").
const FIRMWARE: &str = "1.3.6.1.4.1.41482.3.3";
const SERIAL_NUMBER: &str = "1.3.6.1.4.1.41482.3.7";
const POLICIES: &str = "1.3.6.1.4.1.41482.3.8";
const FORM_FACTOR: &str = "1.3.6.1.4.1.41482.3.9";
/// A USB-A key without NFC.
pub(super) const USB_A: u8 = 1;

const ROOT_NAME: &str = "CN=Virtual PIV Root CA";
const CARD_NAME: &str = "CN=Virtual PIV Attestation";
const VALIDITY: Duration = Duration::from_hours(30 * 24);

/// The root of the attestation of all cards of this process, in PEM.
pub fn attestation_root() -> String {
    pem(&root().1)
}

/// A certificate in PEM.
pub fn pem(certificate: &[u8]) -> String {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, certificate).unwrap()
}

/// A certificate for the key with this common name, signed by the key itself.
pub fn self_signed(key: &PrivateKey, common_name: &str) -> Vec<u8> {
    let name = format!("CN={common_name}");
    issue(&name, &name, &key.public_key_der(), Vec::new(), key)
}

fn root() -> &'static (PrivateKey, Vec<u8>) {
    static ROOT: OnceLock<(PrivateKey, Vec<u8>)> = OnceLock::new();
    ROOT.get_or_init(|| {
        let key = PrivateKey::generate(Algorithm::P256);
        let certificate = issue(ROOT_NAME, ROOT_NAME, &key.public_key_der(), vec![authority(None)], &key);
        (key, certificate)
    })
}

/// The certificate of a card's attestation key, issued by the root.
pub(super) fn card_certificate(key: &PrivateKey, version: [u8; 3]) -> Vec<u8> {
    let extensions = vec![authority(Some(0)), extension(FIRMWARE, &version)];
    issue(CARD_NAME, ROOT_NAME, &key.public_key_der(), extensions, &root().0)
}

/// Basic constraints of an authority, with the maximum number of authorities below it.
fn authority(path_length: Option<u8>) -> Extension {
    let constraints = BasicConstraints { ca: true, path_len_constraint: path_length };
    (&constraints).to_extension(&Name::default(), &[]).unwrap()
}

fn extension(oid: &str, value: &[u8]) -> Extension {
    let extn_value = OctetString::new(value).unwrap();
    Extension { extn_id: ObjectIdentifier::new_unwrap(oid), critical: false, extn_value }
}

/// Names and extensions exactly as given.
struct AsGiven {
    subject: Name,
    issuer: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for AsGiven {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

/// A certificate signed with SHA-256, or with the hash of the curve.
fn issue(subject: &str, issuer: &str, public_key: &[u8], extensions: Vec<Extension>, signer: &PrivateKey) -> Vec<u8> {
    let name = |text: &str| Name::from_str(text).unwrap();
    let profile = AsGiven { subject: name(subject), issuer: name(issuer), extensions };
    match signer {
        PrivateKey::Rsa(key) => {
            let signer = rsa::pkcs1v15::SigningKey::<sha2::Sha256>::new((**key).clone());
            sign::<_, rsa::pkcs1v15::Signature>(profile, public_key, &signer)
        }
        PrivateKey::P256(key) => {
            sign::<_, p256::ecdsa::DerSignature>(profile, public_key, &p256::ecdsa::SigningKey::from(key))
        }
        PrivateKey::P384(key) => {
            sign::<_, p384::ecdsa::DerSignature>(profile, public_key, &p384::ecdsa::SigningKey::from(key))
        }
        PrivateKey::Ed25519(_) => panic!("certificates signed with Ed25519 are not needed"),
    }
}

fn sign<S, T>(profile: AsGiven, public_key: &[u8], signer: &S) -> Vec<u8>
where
    S: Signer<T> + Keypair + DynSignatureAlgorithmIdentifier,
    S::VerifyingKey: EncodePublicKey,
    T: SignatureBitStringEncoding,
{
    let serial = SerialNumber::new(&[&[0x40], &random::<15>()[..]].concat()).unwrap();
    let validity = Validity::from_now(VALIDITY).unwrap();
    let public_key = SubjectPublicKeyInfoOwned::from_der(public_key).unwrap();
    let builder = CertificateBuilder::new(profile, serial, validity, public_key).unwrap();
    builder.build::<S, T>(signer).unwrap().to_der().unwrap()
}

impl PivApplet {
    /// ATTEST (Yubico, "Create attestation statement"): the slot in P1. Keys that were imported
    /// are refused. The status of the refusal is not published.
    pub(super) fn attest(&self, command: &Command) -> Result<Vec<u8>, Status> {
        if command.p2 != 0 || command.p1 == ATTESTATION_SLOT {
            return Err(Status::WRONG_PARAMETERS);
        }
        let slot = self.keys.get(&command.p1).ok_or(Status::NO_SUCH_KEY)?;
        if slot.origin != Origin::Generated {
            return Err(Status::WRONG_DATA);
        }
        let signer = &self.keys.get(&ATTESTATION_SLOT).ok_or(Status::NO_SUCH_KEY)?.key;
        let issuer = self.attestation_issuer().ok_or(Status::WRONG_DATA)?;
        let [first, rest @ ..] = self.serial.to_be_bytes();
        // An INTEGER must not look negative.
        let sign: &[u8] = if first & 0x80 == 0 { &[] } else { &[0] };
        let serial = element(0x02, &[sign, &[first], &rest].concat());
        let extensions = vec![
            extension(FIRMWARE, &self.profile.version().unwrap()),
            extension(SERIAL_NUMBER, &serial),
            extension(POLICIES, &[slot.pin_policy as u8, slot.touch_policy as u8]),
            extension(FORM_FACTOR, &[USB_A]),
        ];
        let subject = format!("CN=YubiKey PIV Attestation {:02x}", command.p1);
        Ok(issue(&subject, &issuer, &slot.key.public_key_der(), extensions, signer))
    }

    /// The subject in the attestation certificate, which may have been replaced.
    fn attestation_issuer(&self) -> Option<String> {
        let object = elements(self.objects.get(ATTESTATION_CERTIFICATE)?).ok()?;
        let certificate = find(&elements(&find(&object, 0x53)?).ok()?, 0x70)?;
        Some(Certificate::from_der(&certificate).ok()?.tbs_certificate().subject().to_string())
    }
}
