//! Why the service does not start. What goes wrong with one request is answered there, and no error of the service.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::authority::AuthorityError;

/// A fault that keeps the service from running. Every message completes "cannot …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The authority cannot be opened.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Another program has the address.
    #[error(
        "cannot listen on {address}: another program listens there already; stop it, or choose another {door} address \
         in {}", file.display()
    )]
    AddressInUse {
        /// `http` or `https`.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// The configuration file.
        file: PathBuf,
    },
    /// The address cannot be had for another reason.
    #[error("cannot listen on {address}: {source}; choose another {door} address in {}", file.display())]
    Listen {
        /// `http` or `https`.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// The configuration file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key on the token cannot be used for TLS.
    #[error(
        "cannot open the https door: {0}; check that the configuration names the token that `tokenkeep authority init` made"
    )]
    Tls(String),
    /// The control socket cannot be made, or not be spoken to.
    #[error("cannot use the control socket {}: {reason}", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// What is in the way, and what to do.
        reason: String,
    },
    /// The running service does not take the statement for an administrator's, and did nothing.
    #[error("cannot answer the statement: {0}; nothing was done, and there is no signed response")]
    Unverified(String),
    /// Threads, sockets, signals.
    #[error("cannot serve: {0}; check this user's limits on threads and open files (`ulimit -a`), and start it again")]
    Runtime(io::Error),
    /// The thread that opened the authority broke off.
    #[error("cannot serve: {0}; this is a fault of the program: please report it")]
    BrokeOff(#[from] tokio::task::JoinError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_the_next_step() {
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
