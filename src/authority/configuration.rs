//! `authority.toml`: read once at the start. An invalid file is refused with its line and the
//! reason.

mod file;
mod networks;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use crate::token::{KeyAlgorithm, SecurityLevel, TokenError, TokenSource, untrusted_file_reason};

pub use self::networks::Networks;

/// The authority's configuration. Paths are absolute or relative to the working directory.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The file that this configuration was read from.
    pub file: PathBuf,
    /// The authority's name, in the CA certificate and in letters.
    pub name: String,
    /// The directory of the database.
    pub state: PathBuf,
    /// The authority's token.
    pub token: TokenConfiguration,
    /// The listeners and public addresses.
    pub listen: ListenConfiguration,
    /// The authority's own keys and certificates.
    pub ca: CaConfiguration,
    /// The rules for users' certificates and letters.
    pub enrollment: EnrollmentConfiguration,
}

/// The token that holds the authority's keys.
#[derive(Debug, Clone)]
pub struct TokenConfiguration {
    /// The PKCS#11 module; `None`: `SoftHSM` in its usual location.
    pub module: Option<PathBuf>,
    /// The token's label.
    pub label: String,
}

/// The addresses that the authority listens on, and the URLs under which clients reach it.
#[derive(Debug, Clone)]
pub struct ListenConfiguration {
    /// The HTTP listener: CMP, the CA certificate, the certificate search.
    pub http: SocketAddr,
    /// The HTTPS listener: statements and everything else.
    pub https: SocketAddr,
    /// The base URL that letters name; `None`: derived from `http`.
    pub public_url: Option<String>,
    /// The public URLs of HTTPS; `None`: derived from `https`.
    pub public_https_url: Option<String>,
    /// Whether anybody may search for certificates by e-mail address.
    pub certificate_search: bool,
    /// The proxies whose `Forwarded` header is trusted to name a request's source.
    pub proxies: Networks,
}

/// The authority's own keys.
#[derive(Debug, Clone)]
pub struct CaConfiguration {
    /// The algorithm of the CA signing key.
    pub key: KeyAlgorithm,
    /// The line of that setting in the file, for error messages.
    pub line: Option<usize>,
}

/// The rules for users' certificates and letters, and their time limits.
#[derive(Debug, Clone)]
pub struct EnrollmentConfiguration {
    /// The directory of the certificate profiles (`signing.toml`, `encryption.toml`, `ca.toml`,
    /// `cmp-response.toml`, `tls-server.toml`); `None`: the built-in profiles.
    pub profiles: Option<PathBuf>,
    /// The security levels that letters allow by default.
    pub levels: Vec<SecurityLevel>,
    /// The default validity of a letter.
    pub letter_valid_for: SignedDuration,
    /// The time limit for the confirmation of a reply.
    pub confirm_wait: SignedDuration,
}

/// The environment variables that the configuration depends on.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentPaths {
    /// `$STATE_DIRECTORY` (systemd).
    pub state_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

/// A refused configuration: file, line (if one line is at fault) and reason.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use the configuration {}{}: {reason}",
    file.display(),
    line.map(|line| format!(", line {line}")).unwrap_or_default()
)]
pub struct ConfigurationError {
    pub file: PathBuf,
    /// The line number, counted from 1.
    pub line: Option<usize>,
    /// The fault, and what to write instead.
    pub reason: String,
}

/// The usual locations of `SoftHSM`.
const SOFTHSM_PATHS: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

impl Configuration {
    /// The source of the authority's token: the configured PKCS#11 module, else `SoftHSM`; `None`
    /// if neither is there.
    pub(super) fn token_source(&self) -> Result<Option<TokenSource>, TokenError> {
        let usual = || SOFTHSM_PATHS.iter().map(Path::new).find(|path| path.exists()).map(Path::to_path_buf);
        self.token.module.clone().or_else(usual).map(|path| TokenSource::load(&path)).transpose()
    }

    /// Reads the file. Relative paths in it start at its directory. The default of `state` is
    /// `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/tokenkeep/authority`, else
    /// `~/.local/state/tokenkeep/authority`.
    pub fn load(file: &Path, environment: &EnvironmentPaths) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigurationError {
            file: file.to_path_buf(),
            line: None,
            reason: error.to_string(),
        })?;
        let configuration = file::parse(file, &text, environment)?;
        configuration.refuse_others_words()?;
        Ok(configuration)
    }

    /// Refuses a configuration, profile or state directory that other users can write to.
    fn refuse_others_words(&self) -> Result<(), ConfigurationError> {
        let mut paths = vec![self.file.clone()];
        if let Some(profiles) = &self.enrollment.profiles {
            paths.push(profiles.clone());
            // An unreadable directory is reported when its profiles are read.
            let files = std::fs::read_dir(profiles).into_iter().flatten().flatten().map(|entry| entry.path());
            paths.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
        }
        let database = self.database();
        paths.push(self.state.clone());
        paths.extend(["db", "db-wal", "db-shm"].map(|extension| database.with_extension(extension)));
        match paths.into_iter().find_map(|path| Some((untrusted_file_reason(&path)?, path))) {
            None => Ok(()),
            Some((reason, path)) => {
                let reason =
                    if path == self.file { reason } else { format!("{} is part of it, and {reason}", path.display()) };
                Err(ConfigurationError { file: self.file.clone(), line: None, reason })
            }
        }
    }

    /// The path of the control socket of a running `authority serve`.
    pub fn control_socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }

    /// The path of the database file.
    pub fn database(&self) -> PathBuf {
        self.state.join("authority.db")
    }
}
