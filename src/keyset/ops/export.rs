//! Exports a keyset's certificates, for a web form, a mail program or a code host. It needs no PIN.

use serde::{Deserialize, Serialize};

use crate::keyset::{
    CertificateUse, ErrorKind, FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome,
    Refusal, show,
};
use crate::token::StoredCertificate;

/// Exports certificates of a keyset, in the order signing, encryption, older encryption (newest
/// first), authority.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportKeyset {
    pub keyset: KeysetChoice,
    pub certificates: ExportedCertificates,
    /// add the authority's certificate
    pub chain: bool,
}

/// The certificates to export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportedCertificates {
    Signing,
    /// of the current encryption key
    Encryption,
    /// of the older encryption keys
    History,
    Authority,
    All,
}

/// An exported certificate, and what its key is for.
pub type CertificateExport = (CertificateUse, StoredCertificate);

impl Operation for ExportKeyset {
    const NAME: &'static str = "export the keyset";
    type Target = FoundKeyset;
    type Output = Vec<CertificateExport>;

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(
        self,
        keyset: FoundKeyset,
        _cx: &mut OperationContext<'_>,
    ) -> Result<Outcome<Vec<CertificateExport>>, KeysetError> {
        let certificates = show(&keyset)?.certificates.into_iter();
        let exported: Vec<CertificateExport> = certificates
            .filter(|certificate| self.includes(certificate.certificate_use))
            .filter_map(|certificate| {
                Some((certificate.certificate_use, keyset.certificate_of(&certificate.id)?.clone()))
            })
            .collect();
        // A chain alone is not what was asked for.
        let is_wanted = |(certificate_use, _): &CertificateExport| self.certificates.include(*certificate_use);
        if !exported.iter().any(is_wanted) {
            let what = self.certificates.described();
            let message = format!("cannot export {what} of the keyset {}: it has none", keyset.described());
            return Ok(Outcome::Refused(Refusal { kind: ErrorKind::Refused, message }));
        }
        Ok(Outcome::Done(exported))
    }
}

impl ExportKeyset {
    fn includes(&self, certificate_use: CertificateUse) -> bool {
        self.certificates.include(certificate_use) || (self.chain && certificate_use == CertificateUse::Authority)
    }
}

impl ExportedCertificates {
    fn include(self, certificate_use: CertificateUse) -> bool {
        self == Self::All
            || match certificate_use {
                CertificateUse::Signing => self == Self::Signing,
                CertificateUse::Encryption => self == Self::Encryption,
                CertificateUse::OlderEncryption => self == Self::History,
                CertificateUse::Authority => self == Self::Authority,
            }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Signing => "the signing certificate",
            Self::Encryption => "the encryption certificate",
            Self::History => "the older encryption certificates",
            Self::Authority => "the authority's certificate",
            Self::All => "the certificates",
        }
    }
}
