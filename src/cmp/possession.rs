//! `ProofOfPossession` (RFC 4211 §4): that the requester has the private key.

use cms::enveloped_data::EnvelopedData;
use der::asn1::{BitString, Null};
use der::{Choice, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::ext::pkix::name::GeneralName;

/// `ProofOfPossession`.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum ProofOfPossession {
    /// "The RA has verified it": only an RA may say so.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    RaVerified(Null),
    /// By a signature, for a signing key.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Signature(PopoSigningKey),
    /// For a key that decrypts.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    KeyEncipherment(PopoPrivKey),
    /// For a key that agrees.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", constructed = "true")]
    KeyAgreement(PopoPrivKey),
}

/// `POPOSigningKey`.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct PopoSigningKey {
    /// What was signed, where that is not the `CertRequest` itself.
    #[asn1(context_specific = "0", optional = "true")]
    pub poposk_input: Option<PopoSigningKeyInput>,
    /// How it was signed.
    pub algorithm: AlgorithmIdentifierOwned,
    /// The signature.
    pub signature: BitString,
}

/// `POPOSigningKeyInput`: what is signed when the template lacks the subject or the public key.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PopoSigningKeyInput {
    /// Who signs.
    pub auth_info: PopoAuthInfo,
    /// The public key, from the template.
    pub public_key: SubjectPublicKeyInfoOwned,
}

/// The CHOICE in `POPOSigningKeyInput`.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum PopoAuthInfo {
    /// An identity that was authenticated otherwise.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", constructed = "true")]
    Sender(GeneralName),
    /// A MAC over the public key.
    PublicKeyMac(PkMacValue),
}

/// `PKMACValue`.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PkMacValue {
    /// The MAC's algorithm.
    pub algorithm: AlgorithmIdentifierOwned,
    /// The MAC over the `SubjectPublicKeyInfo`.
    pub value: BitString,
}

/// `POPOPrivKey`.
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum PopoPrivKey {
    /// The private key itself, encrypted (deprecated).
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    ThisMessage(BitString),
    /// Proved later: 0 = by decrypting the certificate, 1 = by answering a challenge.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT")]
    SubsequentMessage(u32),
    /// A MAC under an agreed key (deprecated).
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    DhMac(BitString),
    /// A MAC under an agreed key.
    #[asn1(context_specific = "3", tag_mode = "IMPLICIT", constructed = "true")]
    AgreeMac(PkMacValue),
    /// The private key itself, encrypted.
    #[asn1(context_specific = "4", tag_mode = "IMPLICIT", constructed = "true")]
    EncryptedKey(Box<EnvelopedData>),
}

/// A proof of possession by signature, taken apart: `signature` by the key of `public_key` under `algorithm` has to
/// fit `signed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possession {
    /// The `SubjectPublicKeyInfo` in the template, DER.
    pub public_key: Vec<u8>,
    /// The signature's algorithm.
    pub algorithm: AlgorithmIdentifierOwned,
    /// What was signed: the `CertRequest`'s bytes as received, or `POPOSigningKeyInput`.
    pub signed: Vec<u8>,
    /// The signature, as in a BIT STRING: PKCS#1 bytes or a DER Ecdsa-Sig-Value.
    pub signature: Vec<u8>,
}
