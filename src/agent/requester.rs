//! The program that asked for a use of a key, as a prompt shows it.

use super::{ClientConnection, PeerProcess};

/// The program at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Requester {
    pub peer: PeerProcess,
    /// the connection for the answer; when it closes, prompts are withdrawn
    pub client: ClientConnection,
}
