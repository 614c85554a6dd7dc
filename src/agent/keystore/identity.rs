//! A signing key that can be offered: known from its token's public index and its certificate, without any PIN.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::keyset::FoundKeyset;
use crate::pki::Certificate;
use crate::token::{FastSigner, KeyAlgorithm, StoredCertificate};

/// The signing key of a keyset that stands. What it says comes from what anybody can write to the token: good for
/// offering it, and believed no further. When it is used the private index is asked.
#[derive(Debug)]
pub struct Identity {
    /// the keyset
    pub keyset: FoundKeyset,
    /// the public key, DER of its `SubjectPublicKeyInfo`
    pub spki: Vec<u8>,
    /// its kind
    pub algorithm: KeyAlgorithm,
    /// whose it is: the certificate's first e-mail address, else its subject
    pub user: String,
    /// its certificate, DER
    pub certificate: Vec<u8>,
    pub(super) ready: Arc<Ready>,
}

/// What a key at level Low needs to sign under the log-in that stands; empty when none does. One for each public key, as
/// long as the key is there or anybody holds its identity.
#[derive(Debug, Default)]
pub(super) struct Ready {
    signer: RwLock<Option<Arc<FastSigner>>>,
    used: AtomicBool,
}

impl Ready {
    pub fn signer(&self) -> Option<Arc<FastSigner>> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, signer: Option<FastSigner>) {
        // What is replaced is dropped outside the lock: it may talk to its module.
        let new = signer.map(Arc::new);
        let old = std::mem::replace(&mut *self.signer.write().unwrap_or_else(PoisonError::into_inner), new);
        drop(old);
    }

    pub fn note_use(&self) {
        // Mostly it is set already; a store would take the cache line from the other threads each time.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

impl Identity {
    /// The keyset's signing key; `None` when it does not stand, or its certificate is gone or none that we know.
    pub(super) fn of(keyset: &FoundKeyset, ready: impl FnOnce(&[u8]) -> Arc<Ready>) -> Option<Self> {
        let stored = signing_certificate(keyset)?;
        let certificate = Certificate::from_der(&stored.der).ok()?;
        let spki = certificate.public_key_der().ok()?;
        let algorithm = KeyAlgorithm::of_public_key(&spki)?;
        let user = certificate.emails().into_iter().next().unwrap_or_else(|| certificate.subject().to_string());
        let ready = ready(&spki);
        Some(Self { keyset: keyset.clone(), spki, algorithm, user, certificate: stored.der.clone(), ready })
    }
}

fn signing_certificate(keyset: &FoundKeyset) -> Option<&StoredCertificate> {
    let id = keyset.signing.as_ref()?;
    keyset.certificates.iter().find(|certificate| certificate.id == *id)
}
