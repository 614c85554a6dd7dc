//! Certificate profiles: what kinds of certificates there are, as data in `hsm-config/profiles/*.toml`.

use std::path::Path;

use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::KeyUsage;

use super::PkiError;
use crate::token::{KeyAlgorithm, SecurityLevel};

/// Which alternative names a certificate of a profile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlternativeName {
    /// Exactly one e-mail address.
    Email,
    /// One or more DNS names or IP addresses.
    Host,
    /// None: the subject is the name.
    None,
}

/// A kind of certificate. The five shipped ones are named `ca`, `signing`, `encryption`, `cmp-response`, `tls-server`.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
}

impl Profile {
    /// Reads a profile's TOML. `file` names it in errors and, without its extension, is the profile's name.
    pub fn parse(text: &str, file: &Path) -> Result<Self, PkiError> {
        let _ = (text, file);
        todo!()
    }

    /// Reads a profile from its file.
    pub fn read(file: &Path) -> Result<Self, PkiError> {
        let _ = file;
        todo!()
    }

    /// The shipped profile of this name (`ca`, `signing`, `encryption`, `cmp-response`, `tls-server`), as it was when
    /// this program was built: for a configuration that names none.
    pub fn shipped(name: &str) -> Result<Self, PkiError> {
        let _ = name;
        todo!()
    }

    /// Its name: the file's, without the extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its certificates are valid.
    pub fn validity(&self) -> jiff::SignedDuration {
        todo!()
    }

    /// How long before the present they begin, for clocks that are behind.
    pub fn backdate(&self) -> jiff::SignedDuration {
        todo!()
    }

    /// The kinds of keys it takes; the first is the default for a new key.
    pub fn keys(&self) -> &[KeyAlgorithm] {
        todo!()
    }

    /// The kind of a new key.
    pub fn default_key(&self) -> KeyAlgorithm {
        todo!()
    }

    /// The security levels that a user may choose among; empty for the authority's own certificates.
    pub fn levels(&self) -> &[SecurityLevel] {
        todo!()
    }

    /// The key usage for a kind of key.
    pub fn key_usage(&self, key: KeyAlgorithm) -> KeyUsage {
        let _ = key;
        todo!()
    }

    /// The extended key usages, in the file's order.
    pub fn extended_key_usage(&self) -> &[ObjectIdentifier] {
        todo!()
    }

    /// Which alternative names its certificates have.
    pub fn alternative_name(&self) -> AlternativeName {
        todo!()
    }

    /// Whether its certificates are authorities', and if so the path length constraint.
    pub fn authority(&self) -> Option<Authority> {
        todo!()
    }
}

/// What makes a certificate an authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    /// How many authorities may follow below it (RFC 5280 §4.2.1.9); 0: it issues to people and machines only.
    pub path_length: u8,
}
