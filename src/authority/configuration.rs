//! `authority.toml`: read once at the start; a bad file is refused with its line and the reason.

mod file;
mod networks;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use crate::token::{KeyAlgorithm, SecurityLevel, written_by_others};

pub use self::networks::Networks;

/// What a running authority is told from outside. Every path is absolute or relative to the working directory.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The file that all of this was read from.
    pub file: PathBuf,
    /// The authority's name: in the CA certificate and in letters.
    pub name: String,
    /// The directory of the database.
    pub state: PathBuf,
    /// The authority's token.
    pub token: TokenConfiguration,
    /// The doors.
    pub listen: ListenConfiguration,
    /// The authority's own keys and certificates.
    pub ca: CaConfiguration,
    /// What users may get.
    pub enrollment: EnrollmentConfiguration,
}

/// Which token holds the authority's keys.
#[derive(Debug, Clone)]
pub struct TokenConfiguration {
    /// The PKCS#11 module; `None`: where `SoftHSM` is usually installed.
    pub module: Option<PathBuf>,
    /// The token's label.
    pub label: String,
}

/// Where the authority listens, and how the world reaches it.
#[derive(Debug, Clone)]
pub struct ListenConfiguration {
    /// CMP, the CA certificate, the search.
    pub http: SocketAddr,
    /// Statements, and all the rest.
    pub https: SocketAddr,
    /// The base URL that goes into letters; `None`: made of `http`.
    pub public_url: Option<String>,
    /// The same for HTTPS.
    pub public_https_url: Option<String>,
    /// Is the search for certificates by e-mail address offered?
    pub certificate_search: bool,
    /// The proxies whose word on where a request comes from (`Forwarded`) is believed.
    pub proxies: Networks,
}

/// The authority's own keys.
#[derive(Debug, Clone)]
pub struct CaConfiguration {
    /// The CA signing key's kind.
    pub key: KeyAlgorithm,
    /// The line where that stands, for complaints.
    pub line: Option<usize>,
}

/// What users may get, and how long they may take.
#[derive(Debug, Clone)]
pub struct EnrollmentConfiguration {
    /// The directory of the certificate profiles (`signing.toml`, `encryption.toml`, `ca.toml`, `cmp-response.toml`,
    /// `tls-server.toml`); `None`: the ones that this program was built with.
    pub profiles: Option<PathBuf>,
    /// Security levels that letters allow unless the statement says otherwise.
    pub levels: Vec<SecurityLevel>,
    /// How long a letter is good unless the statement says otherwise.
    pub letter_valid_for: SignedDuration,
    /// How long a reply may wait for its confirmation.
    pub confirm_wait: SignedDuration,
}

/// What the configuration needs to know of the process's environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `$STATE_DIRECTORY` (systemd).
    pub state_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

/// Why a configuration, or what belongs to it, is refused: file, line (if it is one line's fault) and reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the configuration {}{}: {reason}", file.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ConfigurationError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl Configuration {
    /// Reads the file. Paths in it are relative to its directory. Where `state` is left out, the environment decides:
    /// `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/tokenkeep/authority`, else `~/.local/state/tokenkeep/authority`.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigurationError {
            file: file.to_path_buf(),
            line: None,
            reason: error.to_string(),
        })?;
        let configuration = file::parse(file, &text, environment)?;
        configuration.refuse_others_words()?;
        Ok(configuration)
    }

    /// What others can write is not the authority's word: its configuration, its profiles, its state.
    fn refuse_others_words(&self) -> Result<(), ConfigurationError> {
        let mut paths = vec![self.file.clone()];
        if let Some(profiles) = &self.enrollment.profiles {
            paths.push(profiles.clone());
            // A directory that cannot be read is told where its profiles are.
            let files = std::fs::read_dir(profiles).into_iter().flatten().flatten().map(|entry| entry.path());
            paths.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")));
        }
        let database = self.database();
        paths.push(self.state.clone());
        paths.extend(["db", "db-wal", "db-shm"].map(|extension| database.with_extension(extension)));
        match paths.into_iter().find_map(|path| Some((written_by_others(&path)?, path))) {
            None => Ok(()),
            Some((reason, path)) => {
                let reason =
                    if path == self.file { reason } else { format!("{} belongs to it, and {reason}", path.display()) };
                Err(ConfigurationError { file: self.file.clone(), line: None, reason })
            }
        }
    }

    /// The control socket of a running `serve`.
    pub fn control_socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.state.join("authority.db")
    }
}
