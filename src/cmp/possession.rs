//! `ProofOfPossession` (RFC 4211 §4): the proof that the requester has the private key.

use cms::enveloped_data::EnvelopedData;
use der::asn1::{BitString, Null};
use der::{Choice, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::ext::pkix::name::GeneralName;

/// `ProofOfPossession` (RFC 4211 §4).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum ProofOfPossession {
    /// The RA has verified the possession. Only an RA may claim this.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    RaVerified(Null),
    /// A signature, for a signing key.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Signature(PopoSigningKey),
    /// A proof for a decryption key.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    KeyEncipherment(PopoPrivKey),
    /// A proof for a key agreement key.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", constructed = "true")]
    KeyAgreement(PopoPrivKey),
}

/// `POPOSigningKey` (RFC 4211 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
#[asn1(tag_mode = "IMPLICIT")]
pub struct PopoSigningKey {
    /// The signed content, if it is not the `CertRequest`.
    #[asn1(context_specific = "0", optional = "true")]
    pub poposk_input: Option<PopoSigningKeyInput>,
    /// The signature algorithm.
    pub algorithm: AlgorithmIdentifierOwned,
    pub signature: BitString,
}

/// `POPOSigningKeyInput` (RFC 4211 §4.1): the signed content if the template lacks the subject or
/// the public key.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PopoSigningKeyInput {
    /// The signer.
    pub auth_info: PopoAuthInfo,
    /// The public key of the template.
    pub public_key: SubjectPublicKeyInfoOwned,
}

/// The CHOICE in `POPOSigningKeyInput` (RFC 4211 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum PopoAuthInfo {
    /// An identity that was authenticated by other means.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", constructed = "true")]
    Sender(GeneralName),
    /// A MAC over the public key.
    PublicKeyMac(PkMacValue),
}

/// `PKMACValue` (RFC 4211 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PkMacValue {
    /// The algorithm of the MAC.
    pub algorithm: AlgorithmIdentifierOwned,
    /// The MAC over the `SubjectPublicKeyInfo`.
    pub value: BitString,
}

/// `POPOPrivKey` (RFC 4211 §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub enum PopoPrivKey {
    /// The private key, encrypted (deprecated).
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    ThisMessage(BitString),
    /// A later proof: 0 = by decrypting the certificate, 1 = by answering a challenge.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT")]
    SubsequentMessage(u32),
    /// A MAC under an agreed key (deprecated).
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    DhMac(BitString),
    /// A MAC under an agreed key.
    #[asn1(context_specific = "3", tag_mode = "IMPLICIT", constructed = "true")]
    AgreeMac(PkMacValue),
    /// The private key, encrypted.
    #[asn1(context_specific = "4", tag_mode = "IMPLICIT", constructed = "true")]
    EncryptedKey(Box<EnvelopedData>),
}

/// The parts of a proof of possession by signature: the key in `public_key` must have made
/// `signature` over `signed` with `algorithm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possession {
    /// The `SubjectPublicKeyInfo` in the template, in DER.
    pub public_key: Vec<u8>,
    /// The signature algorithm.
    pub algorithm: AlgorithmIdentifierOwned,
    /// The signed content: the `CertRequest`'s bytes as received, or `POPOSigningKeyInput`.
    pub signed: Vec<u8>,
    /// The signature's bytes as in the BIT STRING: PKCS #1, or a DER Ecdsa-Sig-Value.
    pub signature: Vec<u8>,
}
