//! Faults that keep the service from starting. A fault of a single request is reported in its
//! response.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::authority::AuthorityError;

/// A fault that keeps the service from running. Every message begins with "cannot".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The authority cannot be opened.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Another program uses the address.
    #[error(
        "cannot listen on {address}: another program already listens there; stop it, or choose another {listener} \
         address in {}", file.display()
    )]
    AddressInUse {
        /// `http` or `https`.
        listener: &'static str,
        address: SocketAddr,
        file: PathBuf,
    },
    /// The address cannot be bound for another reason.
    #[error("cannot listen on {address}: {source}; choose another {listener} address in {}", file.display())]
    Listen {
        /// `http` or `https`.
        listener: &'static str,
        address: SocketAddr,
        file: PathBuf,
        source: io::Error,
    },
    /// The key on the token cannot be used for TLS.
    #[error(
        "cannot start the HTTPS listener: {0}; check that the configuration names the token of \
         `tokenkeep authority init`"
    )]
    Tls(String),
    /// The control socket cannot be created or used.
    #[error("cannot use the control socket {}: {reason}", path.display())]
    Control {
        path: PathBuf,
        /// The cause and the next step.
        reason: String,
    },
    /// The running service could not verify the statement as an administrator's, and did nothing.
    #[error("cannot answer the statement: {0}; nothing was done, and there is no signed response")]
    Unverified(String),
    /// Threads, sockets or signals are not available.
    #[error("cannot serve: {0}; check this user's limits on threads and open files (`ulimit -a`), and restart it")]
    Runtime(io::Error),
    /// The thread that opened the authority panicked.
    #[error("cannot serve: {0}; please report this bug")]
    Panicked(#[from] tokio::task::JoinError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_next_step() {
        for error in [
            ServiceError::Tls("the key is of another kind".into()),
            ServiceError::Runtime(io::ErrorKind::OutOfMemory.into()),
        ] {
            let text = error.to_string();
            let (what, next) = text.split_once("; ").unwrap_or((&text, ""));
            assert!(what.starts_with("cannot ") && next.len() > 20, "{text}");
        }
    }
}
