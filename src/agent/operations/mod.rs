//! Operations of tokenkeep's own commands, which run in the agent because it owns the tokens.
//!
//! A command and the agent exchange frames of [`crate::ipc`] on the API socket. The command sends
//! the operation and its files; while it runs here, the agent asks the command back for PINs and
//! for the network: the command is the operation's
//! [`UserPrompter`](crate::keyset::UserPrompter) and [`Transport`](crate::transport::Transport). If
//! a command reports that it cannot ask anybody, the agent's prompter asks for the PIN of a
//! signature or a decryption. A command that hangs up has cancelled: no further question is asked,
//! and an enrollment stays where the same letter resumes it.
//!
//! This must never answer for a person, never send anything to the network itself, and never put a
//! secret into JSON.

mod client;
mod client_error;
mod protocol;
mod remote_command;
mod server;

pub use client::{AgentClient, OperationConnection, OutcomeWithSecret};
pub use client_error::ClientError;
pub use server::serve;
