//! The issuance policy: certificate profiles and allowed levels. It is data, read once at the
//! start.

use std::sync::Arc;

use super::token_keys::SERVICE_KEY_ALGORITHM;
use super::{AuthorityError, Configuration, ConfigurationError, EnrollmentConfiguration};
use crate::pki::Profile;
use crate::token::{KeyAlgorithm, SecurityLevel};

/// The certificate profiles.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// The profile of the CA certificate.
    pub(super) ca: Profile,
    /// The profile of the CMP response certificate.
    pub(super) response: Profile,
    /// The profile of the TLS server certificate.
    pub(super) tls: Profile,
    /// The profile of users' signing certificates.
    pub(super) signing: Arc<Profile>,
    /// The profile of users' encryption certificates.
    pub(super) encryption: Arc<Profile>,
}

impl Policy {
    /// Reads the profiles from the configured directory, or takes the built-in ones.
    pub(super) fn read(configuration: &EnrollmentConfiguration) -> Result<Self, AuthorityError> {
        let read = |name: &str| match &configuration.profiles {
            Some(directory) => Profile::read(&directory.join(format!("{name}.toml"))),
            None => Profile::shipped(name),
        };
        Ok(Self {
            ca: read("ca")?,
            response: read("cmp-response")?,
            tls: read("tls-server")?,
            signing: Arc::new(read("signing")?),
            encryption: Arc::new(read("encryption")?),
        })
    }

    /// Checks that the profiles allow the authority's own keys, so that `init` does not fail after
    /// token and keys are made.
    pub(super) fn check_own_keys(&self, configuration: &Configuration) -> Result<(), ConfigurationError> {
        let ca = configuration.ca.key;
        if !self.ca.keys().contains(&ca) {
            return Err(ConfigurationError {
                file: configuration.file.clone(),
                line: configuration.ca.line,
                reason: format!("the profile `ca` does not allow {ca} keys; use one of {}", kinds(&self.ca)),
            });
        }
        match [&self.response, &self.tls].into_iter().find(|profile| !profile.keys().contains(&SERVICE_KEY_ALGORITHM)) {
            None => Ok(()),
            Some(profile) => Err(ConfigurationError {
                file: configuration
                    .enrollment
                    .profiles
                    .clone()
                    .unwrap_or_default()
                    .join(format!("{}.toml", profile.name())),
                line: None,
                reason: format!("the authority's key for this profile is {SERVICE_KEY_ALGORITHM}; add that to `keys`"),
            }),
        }
    }

    /// Returns those of the given levels that both user profiles allow, strictest first, without
    /// duplicates.
    pub(super) fn allowed(&self, wanted: &[SecurityLevel]) -> Vec<SecurityLevel> {
        let allowed = |level: &SecurityLevel| {
            wanted.contains(level) && self.signing.levels().contains(level) && self.encryption.levels().contains(level)
        };
        let all = [SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low];
        all.into_iter().filter(allowed).collect()
    }
}

fn kinds(profile: &Profile) -> String {
    profile.keys().iter().map(KeyAlgorithm::to_string).collect::<Vec<_>>().join(", ")
}
