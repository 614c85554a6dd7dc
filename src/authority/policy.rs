//! What the authority issues: its profiles, and the levels it allows. Data, read once at the start.

use std::sync::Arc;

use super::token_keys::SERVICE_KEYS;
use super::{AuthorityError, Configuration, ConfigurationError, EnrollmentConfiguration};
use crate::pki::Profile;
use crate::token::{KeyAlgorithm, SecurityLevel};

/// The certificate profiles.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// The CA's own certificate.
    pub(super) ca: Profile,
    /// The CMP response key's.
    pub(super) response: Profile,
    /// The TLS server's.
    pub(super) tls: Profile,
    /// Users' signing keys.
    pub(super) signing: Arc<Profile>,
    /// Users' encryption keys.
    pub(super) encryption: Arc<Profile>,
}

impl Policy {
    /// Reads the profiles that the configuration names, or takes the ones this program was built with.
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

    /// Refuses what `init` would find out only when token and keys are made: keys of the authority's own that their
    /// profiles do not take.
    pub(super) fn check_own_keys(&self, configuration: &Configuration) -> Result<(), ConfigurationError> {
        let ca = configuration.ca.key;
        if !self.ca.keys().contains(&ca) {
            return Err(ConfigurationError {
                file: configuration.file.clone(),
                line: configuration.ca.line,
                reason: format!("the profile `ca` takes no CA key of the kind {ca}; take one of {}", kinds(&self.ca)),
            });
        }
        match [&self.response, &self.tls].into_iter().find(|profile| !profile.keys().contains(&SERVICE_KEYS)) {
            None => Ok(()),
            Some(profile) => Err(ConfigurationError {
                file: configuration
                    .enrollment
                    .profiles
                    .clone()
                    .unwrap_or_default()
                    .join(format!("{}.toml", profile.name())),
                line: None,
                reason: format!("the authority's key for it is {SERVICE_KEYS}, which `keys` must contain"),
            }),
        }
    }

    /// Of these levels, those that both kinds of keys may have; the strictest first, each once.
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
