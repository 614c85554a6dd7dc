//! Messages between this program's own processes on one machine: frames over a Unix socket, with
//! calls and replies in both directions, and files that travel as descriptors.
//!
//! The agent's supervisor and its worker speak it, a command and the agent, and a command and the
//! running authority; commands call over a private socket, which only one user can reach. Both ends
//! are one build: each frame names it, so that a process of another build is told to restart, and
//! the form of the messages may change with any commit. Other people's programs never use it. A
//! frame begins with a byte that begins no HTTP request, so that both can share the agent's API
//! socket.
//!
//! This must never put a secret into JSON, never keep a secret in a buffer that is not wiped, and
//! never read a length without a limit.

mod exchange;
mod frame;
mod peer;
mod private_socket;

pub use exchange::{Exchange, IpcMessage, ReplyWithPayload};
pub use frame::{Frame, IpcError, announce_build, is_frame_next, receive, send};
pub use peer::PeerProcess;
pub use private_socket::{PrivateSocket, SocketFile, SocketPathError, SocketState, connect};
