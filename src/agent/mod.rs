//! The user's keystore service: one process owns the tokens and serves ssh, git, mail programs,
//! scripts and tokenkeep's own commands.
//!
//! There are two endpoints: the SSH agent protocol ([`ssh`]) and an HTTP API ([`api`]), each on a
//! Unix socket that only processes of the same user may use. On the API's socket tokenkeep's own
//! commands run their operations ([`operations`]). There are two processes. The
//! *supervisor* holds the sockets, identifies the clients and starts the programs that prompt a
//! person. Its *worker* can neither read other processes nor start programs; it loads the PKCS#11
//! modules, accepts connections and serves each in a thread. Both endpoints use the keystore:
//! keysets, their security levels, and sessions.
//!
//! This module must never sign bytes without knowing what they are (an ordinary agent signs any
//! bytes, even the signed attributes of a CMS message), never keep a PIN beyond the one use it was
//! typed for, never apply the answer for one use to another, never report a removed token
//! as a wrong PIN, and never open an authority's token.

pub mod api;
mod client_connection;
mod error;
mod keystore;
mod link;
pub mod operations;
mod process_error;
mod prompt_answer;
mod prompt_text;
mod question;
mod requester;
mod sandbox;
mod sockets;
mod spin_reader;
pub mod ssh;
mod supervisor;
mod wiped_buffer;
mod worker;

pub use client_connection::ClientConnection;
pub use error::AgentError;
pub use keystore::{
    AgentStatus, Clock, DecryptMessage, Event, EventReceiver, Keystore, LogOffReason, OpenContentKey, Settings,
    SignData, SigningIdentity, SystemClock, TokenState, TokenWatcher,
};
pub use link::Link;
pub use process_error::AgentProcessError;
pub use question::Question;
pub use requester::Requester;
pub use sandbox::{SandboxConfig, enter as enter_sandbox};
pub use sockets::{Endpoint, SocketDirectory, SocketProblem};
pub use supervisor::{PromptConfig, StartupReport, SupervisorConfig, run as run_supervisor};
pub use worker::run as run_worker;

use crate::ipc::PeerProcess;
