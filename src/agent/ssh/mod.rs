//! The SSH agent protocol's door: draft-miller-ssh-agent as OpenSSH's clients speak it, on the agent's first socket.
//!
//! A client lists keys, has them sign, logs in to a token (`ssh-add -s`), logs off (`-D`, `-e`), locks and unlocks.
//! [`Request`] is what it may say, [`SignedData`] what it may have signed: a log-in over SSH that names the very key, or
//! an SSHSIG blob; the connection's bindings hold it to the session that its client has told of.
//!
//! This door must never sign bytes that it has not read to their end as one of these two, never sign with SHA-1, never
//! take a private key, never let somebody behind a forwarded connection log in, lock or unlock, and never let a request
//! that it cannot keep (a constraint) pass as kept. It decides nothing about levels and PINs: the keystore does.

mod bindings;
mod card;
mod connection;
mod framing;
mod key_blob;
mod keys;
mod keystore;
mod refusal;
mod refusal_log;
mod request;
mod session_bind;
mod signature_kind;
mod signed_data;
mod sshsig;
#[cfg(test)]
mod tests;
mod user_auth;
mod verification;
mod wire;

pub use card::{Card, Constraints};
pub use key_blob::public_key_line;
pub use refusal::Refusal;
pub use request::{BindRequest, PassPhrase, Request, SignRequest};
pub use signed_data::SignedData;
pub use sshsig::SshSig;
pub use user_auth::UserAuth;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::{AgentError, ClientConnection, Identity, Keystore, Peer, Purpose, Usage};
use connection::Connection;

/// Serves a client until it goes. It blocks; the connection ends with it.
pub fn serve(stream: UnixStream, peer: Peer, keystore: &Keystore) {
    let stream = Arc::new(stream);
    if let Err(error) = Connection::new(keystore, peer, ClientConnection::of(&stream)).serve(&stream) {
        tracing::debug!(peer.pid, %error, "an SSH client's connection ended");
    }
    refusal_log::sum_up();
    // Dropped here, not by the caller: a client that waits for its end must not wait for more.
    drop(stream);
}
