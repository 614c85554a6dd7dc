//! Operations that a command requests from the agent. They do the same as the command alone, but
//! the token's part runs here.
//!
//! An [`OperationRequest`] describes the operation; [`run`] runs it with the functions of
//! [`crate::keyset`]. The operation sends questions to a person and requests to the network back to
//! the command over the same connection: the command is its
//! [`UserPrompter`](crate::keyset::UserPrompter) and [`Transport`](crate::transport::Transport),
//! and [`OperationSession`] is the wire between them. If a command reports that it cannot ask
//! anybody, the agent's prompter asks for the PIN of a signature or a decryption. A command that
//! disconnects has cancelled: no further question is asked, and an enrollment stays where the same
//! letter resumes it.
//!
//! This must never answer for a person, never send anything to the network itself, never show a
//! secret in `Debug`, and never leave a secret in a buffer that is not wiped.

mod bytes;
mod event;
mod output;
mod request;
mod run;
mod session;

pub use bytes::Bytes;
pub use event::{ClientQuestion, ClientReply, NetworkRequest, OperationEvent, ReplyValue};
pub use output::{
    EnrolledKeyset, FoundKeysets, FoundPins, OperationOutput, WireKeyset, WirePinStatus, WireUnreadableToken,
};
pub use request::{
    NewTokenTarget, OperationRequest, WireAdminOperation, WireEnrollRequest, WireKeysetChoice, WireStatementChannel,
    selector_text,
};
pub use run::{NoTransport, run};
pub use session::{ClientPrompter, ClientTransport, OperationSession};
