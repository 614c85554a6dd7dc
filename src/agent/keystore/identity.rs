//! A signing key that can be offered, known without a PIN from its token's public index and its
//! certificate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::keyset::FoundKeyset;
use crate::pki::Certificate;
use crate::token::{FastSigner, KeyAlgorithm, StoredCertificate};

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

/// A level Low key's signer in the active session; empty without a session. One for each public key
/// while the key is present or its identity is held.
#[derive(Debug, Default)]
pub(super) struct CachedSigner {
    signer: RwLock<Option<Arc<FastSigner>>>,
    used: AtomicBool,
}

impl CachedSigner {
    pub fn signer(&self) -> Option<Arc<FastSigner>> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, signer: Option<FastSigner>) {
        // Drop the old signer outside the lock: it may call its module.
        let new = signer.map(Arc::new);
        let old = std::mem::replace(&mut *self.signer.write().unwrap_or_else(PoisonError::into_inner), new);
        drop(old);
    }

    pub fn note_use(&self) {
        // The flag is usually set; storing it each time would take the cache line from other
        // threads.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

impl SigningIdentity {
    /// The keyset's signing key; `None` if the keyset is not active, or its certificate is missing
    /// or unsupported.
    pub(super) fn of(keyset: &FoundKeyset, cached_signer: impl FnOnce(&[u8]) -> Arc<CachedSigner>) -> Option<Self> {
        let stored = signing_certificate(keyset)?;
        let certificate = Certificate::from_der(&stored.der).ok()?;
        let spki = certificate.public_key_der().ok()?;
        let algorithm = KeyAlgorithm::of_public_key(&spki)?;
        let user = certificate.emails().into_iter().next().unwrap_or_else(|| certificate.subject().to_string());
        let cached_signer = cached_signer(&spki);
        Some(Self { keyset: keyset.clone(), spki, algorithm, user, certificate: stored.der.clone(), cached_signer })
    }
}

fn signing_certificate(keyset: &FoundKeyset) -> Option<&StoredCertificate> {
    let id = keyset.signing.as_ref()?;
    keyset.certificates.iter().find(|certificate| certificate.id == *id)
}
