//! The certificate that the signer names in the signed attributes signingCertificate (RFC 2634
//! §5.4) and signingCertificateV2 (RFC 5035 §3). A message without them may identify its signer by
//! a key identifier, or by an issuer name that two authorities share. Then another certificate for
//! the same key can be substituted.

use const_oid::db::rfc5912;
use sha1::{Digest, Sha1};

use super::check_failure::CheckFailure;
use super::read_algorithm;
use crate::pki::signature::Hash;
use crate::pki::tlv::{Elements, INTEGER, OCTET_STRING, SEQUENCE, context_constructed};
use crate::pki::{Certificate, DistinguishedName, PkiError, SerialNumber};

const WHAT: &str = "a signing certificate attribute";

/// The first `ESSCertID` or `ESSCertIDv2` of the attribute, which is that of the signer's own
/// certificate.
#[derive(Clone, Debug)]
pub(super) struct NamedCertificate {
    /// `None` means SHA-1, which identifies a certificate here but signs nothing. An error explains
    /// why the hash is not supported.
    hash: Result<Option<Hash>, String>,
    digest: Vec<u8>,
    /// The issuer's directoryNames, of which there may be none, and the serial number.
    issuer_serial: Option<(Vec<DistinguishedName>, SerialNumber)>,
}

impl NamedCertificate {
    /// Parses the attribute's values: exactly one, with at least one identifier.
    pub(super) fn from_values(values: Elements<'_>, is_version_2: bool) -> Result<Self, PkiError> {
        let mut attribute = Elements::of(values.only()?.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        let mut identifiers = attribute.required(SEQUENCE)?.inside(WHAT);
        let mut parts = identifiers.required(SEQUENCE)?.inside(WHAT);
        let hash = match parts.optional(SEQUENCE)? {
            Some(_) if !is_version_2 => return Err(PkiError::malformed(WHAT, "it names a hash")),
            Some(element) => match read_algorithm(element)?.oid {
                rfc5912::ID_SHA_1 => Ok(None),
                oid => Hash::from_oid(oid).map(Some).map_err(|error| error.to_string()),
            },
            None if is_version_2 => Ok(Some(Hash::Sha256)),
            None => Ok(None),
        };
        let digest = parts.required(OCTET_STRING)?.value.to_vec();
        let issuer_serial = match parts.optional(SEQUENCE)? {
            Some(element) => {
                let mut parts = element.inside(WHAT);
                let issuers = parts.required(SEQUENCE)?.inside(WHAT).all()?;
                let serial = SerialNumber::from_bytes(parts.required(INTEGER)?.value);
                parts.end()?;
                let names = issuers.iter().filter(|name| name.tag() == context_constructed(4));
                let names = names.map(|name| DistinguishedName::from_der(name.value)).collect::<Result<_, _>>()?;
                Some((names, serial))
            }
            None => None,
        };
        parts.end()?;
        Ok(Self { hash, digest, issuer_serial })
    }

    /// Checks that the signer named this certificate.
    pub(super) fn check(&self, certificate: &Certificate) -> Result<(), CheckFailure> {
        let digest = match &self.hash {
            Ok(Some(hash)) => hash.digest(certificate.as_der()),
            Ok(None) => Sha1::digest(certificate.as_der()).to_vec(),
            Err(reason) => {
                let reason = format!("it names its certificate by an unsupported hash: {reason}");
                return Err(CheckFailure::Unchecked(reason));
            }
        };
        let is_other = |(issuers, serial): &(Vec<DistinguishedName>, SerialNumber)| {
            *serial != certificate.serial() || !issuers.is_empty() && !issuers.contains(&certificate.issuer())
        };
        if digest != self.digest || self.issuer_serial.as_ref().is_some_and(is_other) {
            return Err(CheckFailure::wrong("the signer named another certificate (RFC 5035)"));
        }
        Ok(())
    }
}
