//! The SSH agent protocol endpoint: draft-miller-ssh-agent as OpenSSH's clients use it, on the
//! agent's socket `ssh.sock`.
//!
//! A client lists keys, requests signatures, logs in to a token (`ssh-add -s`), logs off (`-d`,
//! `-D`, `-e`), locks and unlocks. [`SshRequest`] is the set of messages, [`SignedData`] the data
//! that may be signed: an SSH login that names the signing key, or an SSHSIG blob. OpenSSH's
//! clients announce the SSH sessions behind a connection (`session-bind@openssh.com`); a login on
//! such a connection is signed only for the session announced last.
//!
//! This endpoint must never sign bytes that it has not parsed completely as one of these two, never
//! sign with SHA-1, never accept a private key, never let a client behind a forwarded connection
//! log in, log off, lock or unlock, and never accept a constraint that it cannot enforce. So it
//! refuses `ssh-add -c` for a keyset at level Low. The keystore decides everything else about
//! levels and PINs.

mod bindings;
mod connection;
mod error;
mod error_log;
mod framing;
mod key_blob;
mod provider;
mod request;
mod session_bind;
mod signature_kind;
mod signed_data;
mod smartcard;
mod ssh_key;
mod sshsig;
#[cfg(test)]
mod tests;
mod user_auth;
mod wire;

pub use error::SshError;
pub use key_blob::public_key_line;
pub use request::{BindRequest, PassPhrase, SignRequest, SshRequest};
pub use signed_data::SignedData;
pub use smartcard::{Constraints, SmartcardRequest};
pub use sshsig::SshSig;
pub use user_auth::UserAuth;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::{AgentError, ClientConnection, Keystore, PeerProcess, Requester, SigningIdentity};
use connection::SshConnection;

/// Serves a client until it disconnects; blocks meanwhile.
pub fn serve(stream: UnixStream, peer: PeerProcess, keystore: &Keystore) {
    let stream = Arc::new(stream);
    let requester = Requester { peer, client: ClientConnection::of(&stream) };
    if let Err(error) = SshConnection::new(keystore, requester).serve(&stream) {
        tracing::debug!(peer.pid, %error, "an SSH client's connection ended");
    }
    error_log::log_suppressed();
    // Close the connection before the caller releases its slot: the client may wait for the end.
    drop(stream);
}
