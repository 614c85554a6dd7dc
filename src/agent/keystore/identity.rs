//! A signing key that can be offered, known without a PIN from its token's public index and its
//! certificate.

use std::sync::Arc;

use super::cached_signer::{CachedSigner, CachedSigners};
use crate::keyset::FoundKeyset;
use crate::pki::Certificate;
use crate::token::{KeyAlgorithm, StoredCertificate};

/// The signing key of an active keyset. Anybody can write these values to the token: they are good
/// for offering the key, and nothing else. A use checks the private index.
#[derive(Debug)]
pub struct SigningIdentity {
    pub keyset: FoundKeyset,
    /// the public key, DER of its `SubjectPublicKeyInfo`
    pub spki: Vec<u8>,
    pub algorithm: KeyAlgorithm,
    /// its owner: the certificate's first e-mail address, or its subject
    pub user: String,
    /// its certificate, DER
    pub certificate: Vec<u8>,
    pub(super) cached_signer: Arc<CachedSigner>,
}

impl SigningIdentity {
    /// The keyset's signing key; `None` if the keyset is not active, or its certificate is missing
    /// or unsupported.
    pub(super) fn of(keyset: &FoundKeyset, cached_signers: &CachedSigners) -> Option<Self> {
        let stored = signing_certificate(keyset)?;
        let certificate = Certificate::from_der(&stored.der).ok()?;
        let spki = certificate.public_key_der().ok()?;
        let algorithm = KeyAlgorithm::of_public_key(&spki)?;
        let user = certificate.emails().into_iter().next().unwrap_or_else(|| certificate.subject().to_string());
        let cached_signer = cached_signers.of_key(&spki);
        Some(Self { keyset: keyset.clone(), spki, algorithm, user, certificate: stored.der.clone(), cached_signer })
    }
}

fn signing_certificate(keyset: &FoundKeyset) -> Option<&StoredCertificate> {
    let id = keyset.signing.as_ref()?;
    keyset.certificates.iter().find(|certificate| certificate.id == *id)
}
