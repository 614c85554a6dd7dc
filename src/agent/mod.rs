//! The user's keystore service: one process owns the tokens and serves ssh, git, mail programs,
//! scripts and tokenkeep's own commands.
//!
//! There are two endpoints: the SSH agent protocol ([`ssh`]) and an HTTP API ([`api`]), each on a
//! Unix socket that only processes of the same user may use. There are two processes. The
//! *supervisor* holds the sockets, identifies the clients and starts the programs that prompt a
//! person. Its *worker* can neither read other processes nor start programs; it loads the PKCS#11
//! modules, accepts connections and serves each in a thread. A module may have a worker of its own
//! ([`annex`]) behind the main one. Both endpoints use the keystore: keysets, their security
//! levels, and sessions.
//!
//! This module must never sign bytes without knowing what they are (an ordinary agent signs any
//! bytes, a set of CMS attributes among them), never keep a PIN beyond the one use it was typed
//! for, never let one use pass for another, never take a token that was removed for a wrong PIN,
//! and never open an authority's token.

pub mod act;
mod annex;
pub mod api;
mod asks;
mod attention;
mod broker;
pub mod client;
mod client_connection;
mod error;
mod frame;
mod handed;
mod keystore;
mod link;
mod mapped_code;
mod peer;
mod sandbox;
mod scheduling;
mod sockets;
pub mod ssh;
mod usage;
mod wiped;
mod wording;
mod worker;

pub use annex::{Annex, run as run_annex};
pub use asks::{Asks, Question};
pub use broker::{AnnexSetup, BrokerError, Open, Prompting, Setup, run as run_broker};
pub use client_connection::ClientConnection;
pub use error::AgentError;
pub use keystore::{
    AskedPerson, Clock, Event, EventReceiver, Identity, Keystore, LogOff, Settings, SystemClock, TokenState, Watching,
};
pub use link::Link;
pub use mapped_code::MappedCode;
pub use peer::Peer;
pub use sandbox::{Shelter, enter as enter_sandbox};
pub use sockets::{Directory, Door, State, Trouble};
pub use usage::{Purpose, Subject, Usage};
pub use worker::{run as run_worker, schedule_as_batch};
