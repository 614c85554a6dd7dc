//! Certificates and signed messages that ordinary programs do not make, for tests: handmade DER,
//! signed with P-256.

use const_oid::ObjectIdentifier;
use const_oid::db::{rfc3280, rfc4519, rfc5280, rfc5911, rfc5912};
use signature::Signer;

use super::SoftwareKey;
use crate::pki::tlv::{
    BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context, context_constructed, element,
};

pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const NUMERIC: u8 = 0x12;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const TELETEX: u8 = 0x14;
pub(crate) const IA5: u8 = 0x16;
pub(crate) const UTC: u8 = 0x17;
pub(crate) const VISIBLE: u8 = 0x1a;
pub(crate) const UNIVERSAL: u8 = 0x1c;
pub(crate) const BMP: u8 = 0x1e;
pub(crate) const CN: ObjectIdentifier = rfc4519::CN;
pub(crate) const O: ObjectIdentifier = rfc4519::O;
pub(crate) const EMAIL: ObjectIdentifier = rfc3280::EMAIL_ADDRESS;

pub(crate) fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, &[oid.as_bytes()])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

/// A `Name` of RDNs. Each has attributes of a type, a string tag and octets, in this order.
pub(crate) fn name_of_parts(parts: &[&[(ObjectIdentifier, u8, &[u8])]]) -> Vec<u8> {
    let attribute =
        |(kind, tag, value): &(ObjectIdentifier, u8, &[u8])| sequence(&[&oid(*kind), &element(*tag, &[value])]);
    let part = |attributes: &&[(ObjectIdentifier, u8, &[u8])]| {
        element(SET, &[&attributes.iter().map(attribute).collect::<Vec<_>>().concat()])
    };
    sequence(&[&parts.iter().map(part).collect::<Vec<_>>().concat()])
}

/// A `Name` whose RDNs have one attribute each.
pub(crate) fn name(attributes: &[(ObjectIdentifier, u8, &[u8])]) -> Vec<u8> {
    let parts: Vec<_> = attributes.iter().map(std::slice::from_ref).collect();
    name_of_parts(&parts)
}

/// An extension. `critical` is the encoded BOOLEAN, or empty.
pub(crate) fn extension(id: ObjectIdentifier, critical: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(id), critical, &element(OCTET_STRING, &[value])])
}

/// A subjectAltName of these elements.
pub(crate) fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    extension(rfc5280::ID_CE_SUBJECT_ALT_NAME, &[], &sequence(&[&names.concat()]))
}

/// An `rfc822Name`.
pub(crate) fn email(address: &[u8]) -> Vec<u8> {
    element(context(1), &[address])
}

/// The fields of a certificate.
pub(crate) struct OddCertificate {
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// The contents octets.
    pub(crate) serial: Vec<u8>,
    /// A whole element, like the next one.
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl OddCertificate {
    /// An ordinary certificate of a person, for mail.
    pub(crate) fn person(issuer: &[u8], subject: &[u8]) -> Self {
        let usage = extension(rfc5280::ID_CE_KEY_USAGE, &[1, 1, 0xff], &element(BIT_STRING, &[&[7, 0x80]]));
        Self {
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            serial: vec![77],
            not_before: element(UTC, &[b"200101000000Z"]),
            not_after: element(UTC, &[b"490101000000Z"]),
            extensions: vec![usage, alternative_names(&[email(b"alice@example.org")])],
        }
    }

    /// An authority's certificate, with further extensions.
    pub(crate) fn authority(issuer: &[u8], subject: &[u8], extensions: &[Vec<u8>]) -> Self {
        let is_ca = sequence(&[&element(1, &[&[0xff]])]);
        let mut all = vec![extension(rfc5280::ID_CE_BASIC_CONSTRAINTS, &[1, 1, 0xff], &is_ca)];
        all.extend_from_slice(extensions);
        Self { serial: vec![1], extensions: all, ..Self::person(issuer, subject) }
    }

    pub(crate) fn sign(&self, owner: &SoftwareKey, issuer: &SoftwareKey) -> Vec<u8> {
        let algorithm = sequence(&[&oid(rfc5912::ECDSA_WITH_SHA_256)]);
        let extensions = element(context_constructed(3), &[&sequence(&[&self.extensions.concat()])]);
        let tbs = sequence(&[
            &element(context_constructed(0), &[&element(INTEGER, &[&[2]])]),
            &element(INTEGER, &[&self.serial]),
            &algorithm,
            &self.issuer,
            &sequence(&[&self.not_before, &self.not_after]),
            &self.subject,
            &owner.public_key_der(),
            &extensions,
        ]);
        let signature = issuer.sign(&tbs);
        sequence(&[&tbs, &algorithm, &element(BIT_STRING, &[&[0], signature.as_bytes()])])
    }
}

/// The fields of a signer.
pub(crate) struct OddSigner<'a> {
    pub(crate) key: &'a SoftwareKey,
    /// `SignerIdentifier`, in DER.
    pub(crate) id: Vec<u8>,
    /// The signed attributes after content type and digest; each is a whole element.
    pub(crate) attributes: Vec<Vec<u8>>,
    /// Converts the attributes in DER order to the signed bytes; the next one, to the element [0]
    /// in the message.
    pub(crate) signed: fn(&[Vec<u8>]) -> Vec<u8>,
    pub(crate) written: fn(&[Vec<u8>]) -> Vec<u8>,
}

pub(crate) fn issuer_and_serial(issuer: &[u8], serial: &[u8]) -> Vec<u8> {
    sequence(&[issuer, &element(INTEGER, &[serial])])
}

pub(crate) fn attribute(kind: ObjectIdentifier, values: &[&[u8]]) -> Vec<u8> {
    sequence(&[&oid(kind), &element(SET, values)])
}

impl<'a> OddSigner<'a> {
    /// An ordinary signer.
    pub(crate) fn new(key: &'a SoftwareKey, issuer: &[u8], serial: &[u8]) -> Self {
        Self {
            key,
            id: issuer_and_serial(issuer, serial),
            attributes: Vec::new(),
            signed: |attributes| element(SET, &[&attributes.concat()]),
            written: |attributes| element(context_constructed(0), &[&attributes.concat()]),
        }
    }

    /// A `ContentInfo` with this content and these certificates.
    pub(crate) fn message(&self, content: &[u8], certificates: &[&[u8]]) -> Vec<u8> {
        let digest_algorithm = sequence(&[&oid(rfc5912::ID_SHA_256)]);
        let digest = crate::pki::signature::Hash::Sha256.digest(content);
        let mut attributes = vec![
            attribute(rfc5911::ID_CONTENT_TYPE, &[&oid(rfc5911::ID_DATA)]),
            attribute(rfc5911::ID_MESSAGE_DIGEST, &[&element(OCTET_STRING, &[&digest])]),
        ];
        attributes.extend_from_slice(&self.attributes);
        attributes.sort();
        let signature = self.key.sign(&(self.signed)(&attributes));
        let signer_info = sequence(&[
            &element(INTEGER, &[&[1]]),
            &self.id,
            &digest_algorithm,
            &(self.written)(&attributes),
            &sequence(&[&oid(rfc5912::ECDSA_WITH_SHA_256)]),
            &element(OCTET_STRING, &[signature.as_bytes()]),
        ]);
        let data = element(context_constructed(0), &[&element(OCTET_STRING, &[content])]);
        let signed_data = sequence(&[
            &element(INTEGER, &[&[1]]),
            &element(SET, &[&digest_algorithm]),
            &sequence(&[&oid(rfc5911::ID_DATA), &data]),
            &element(context_constructed(0), certificates),
            &element(SET, &[&signer_info]),
        ]);
        crate::pki::cms::content_info(rfc5911::ID_SIGNED_DATA, &signed_data)
    }
}
