//! The fields of a certificate, parsed more leniently than DER allows: all kinds of programs make
//! certificates, and the signature covers the bytes as they are.

use std::ops::Range;

use jiff::Timestamp;

use super::WHAT;
use crate::pki::tlv::{
    BIT_STRING, BOOLEAN, Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, context,
    context_constructed,
};
use crate::pki::{DistinguishedName, PkiError, SerialNumber, time};

/// The fields of a certificate.
#[derive(Clone)]
pub(super) struct Fields {
    /// The position of the `TBSCertificate`.
    pub(super) tbs: Range<usize>,
    pub(super) serial: SerialNumber,
    pub(super) issuer: DistinguishedName,
    pub(super) subject: DistinguishedName,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The position of the `SubjectPublicKeyInfo`.
    pub(super) public_key: Range<usize>,
    pub(super) extensions: Vec<Extension>,
    /// The position of the signature's `AlgorithmIdentifier`.
    pub(super) signature_algorithm: Range<usize>,
    /// The position of the contents octets of the signature's bit string.
    pub(super) signature: Range<usize>,
}

/// One extension (RFC 5280 §4.1).
#[derive(Clone)]
pub(in crate::pki) struct Extension {
    /// The contents octets of the object identifier.
    pub(in crate::pki) id: Vec<u8>,
    pub(in crate::pki) critical: bool,
    /// The contents of the octet string, with BOOLEANs converted to DER.
    pub(in crate::pki) value: Vec<u8>,
}

impl Fields {
    pub(super) fn read(der: &[u8]) -> Result<Self, PkiError> {
        let mut outer = Elements::of(der, WHAT);
        let mut parts = outer.required(SEQUENCE)?.inside(WHAT);
        outer.end()?;
        let tbs = parts.required(SEQUENCE)?;
        let algorithm = parts.required(SEQUENCE)?;
        let signature = parts.required(BIT_STRING)?;
        parts.end()?;

        let mut fields = tbs.inside(WHAT);
        let Head { serial, algorithm: inner_algorithm, issuer } = Head::read(&mut fields)?;
        if algorithm.whole != inner_algorithm.whole {
            return Err(PkiError::malformed(WHAT, "it names two different signature algorithms (RFC 5280 §4.1.1.2)"));
        }
        let mut validity = fields.required(SEQUENCE)?.inside(WHAT);
        let not_before = moment("notBefore", validity.any()?)?;
        let not_after = moment("notAfter", validity.any()?)?;
        validity.end()?;
        let subject = name("subject", fields.required(SEQUENCE)?)?;
        let public_key = fields.required(SEQUENCE)?;
        for number in [1, 2] {
            // issuerUniqueID, subjectUniqueID
            if fields.optional(context(number))?.is_none() {
                fields.optional(context_constructed(number))?;
            }
        }
        let mut extensions = Vec::new();
        if let Some(explicit) = fields.optional(context_constructed(3))? {
            let mut explicit = explicit.inside(WHAT);
            for extension in explicit.required(SEQUENCE)?.inside(WHAT).all()? {
                extensions.push(Extension::read(extension)?);
            }
            explicit.end()?;
        }
        fields.end()?;
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().saturating_sub(der.as_ptr().addr());
            start..start + part.len()
        };
        Ok(Self {
            tbs: place(tbs.whole),
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            public_key: place(public_key.whole),
            extensions,
            signature_algorithm: place(algorithm.whole),
            signature: place(signature.value),
        })
    }
}

/// The first fields, up to the issuer.
struct Head<'a> {
    serial: SerialNumber,
    algorithm: Element<'a>,
    issuer: DistinguishedName,
}

impl<'a> Head<'a> {
    fn read(fields: &mut Elements<'a>) -> Result<Self, PkiError> {
        fields.optional(context_constructed(0))?; // version
        let serial = SerialNumber::from_bytes(fields.required(INTEGER)?.value);
        let algorithm = fields.required(SEQUENCE)?;
        let issuer = name("issuer", fields.required(SEQUENCE)?)?;
        Ok(Self { serial, algorithm, issuer })
    }
}

/// The issuer and serial number of a certificate that cannot be parsed as a whole.
pub(super) fn issuer_and_serial(der: &[u8]) -> Option<(DistinguishedName, SerialNumber)> {
    let mut parts = Elements::of(der, WHAT).required(SEQUENCE).ok()?.inside(WHAT);
    let head = Head::read(&mut parts.required(SEQUENCE).ok()?.inside(WHAT)).ok()?;
    Some((head.issuer, head.serial))
}

fn name(which: &str, element: Element<'_>) -> Result<DistinguishedName, PkiError> {
    DistinguishedName::from_der(element.whole)
        .map_err(|error| PkiError::malformed(WHAT, format!("its {which} cannot be read: {}", error.reason())))
}

fn moment(which: &str, element: Element<'_>) -> Result<Timestamp, PkiError> {
    time::read(element).map_err(|reason| PkiError::malformed(WHAT, format!("its {which} cannot be read: {reason}")))
}

impl Extension {
    fn read(extension: Element<'_>) -> Result<Self, PkiError> {
        let mut parts = Elements::of(extension.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        let id = parts.required(OBJECT_IDENTIFIER)?.value.to_vec();
        // In BER, every octet except zero means true.
        let critical = parts.optional(BOOLEAN)?.is_some_and(|critical| critical.value != [0]);
        let mut value = parts.required(OCTET_STRING)?.value.to_vec();
        parts.end()?;
        write_booleans_as_der(&mut value, 0);
        Ok(Self { id, critical, value })
    }
}

/// Converts BOOLEANs to DER in place; no length changes.
fn write_booleans_as_der(mut bytes: &mut [u8], depth: usize) {
    while depth < 8 && !bytes.is_empty() {
        let Some((header, Some(length))) = crate::pki::tlv::header(bytes) else { return };
        let tag = bytes.first().copied().unwrap_or_default();
        let Some((element, rest)) = header.checked_add(length).and_then(|end| bytes.split_at_mut_checked(end)) else {
            return;
        };
        let value = element.get_mut(header..).unwrap_or_default();
        match (tag, value) {
            (BOOLEAN, [octet]) if *octet != 0 => *octet = 0xff,
            (tag, value) if tag & 0x20 != 0 => write_booleans_as_der(value, depth + 1),
            _ => {}
        }
        bytes = rest;
    }
}
