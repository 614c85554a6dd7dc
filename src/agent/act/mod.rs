//! Operations that a command requests from the agent. They do the same as the command alone, but
//! the token's part runs here.
//!
//! An [`ActRequest`] describes the operation; [`perform`] runs it with the functions of
//! [`crate::keyset`]. The operation sends questions to a person and requests to the network back to
//! the command over the same connection: the command is its [`Person`](crate::keyset::Person) and
//! [`Carrier`](crate::carrier::Carrier), and [`Conversation`] is the wire between them. If a
//! command reports that it cannot ask anybody, the agent's prompter asks for the PIN of a signature
//! or a decryption. A command that disconnects has cancelled: no further question is asked, and an
//! enrollment stays where the same letter resumes it.
//!
//! This must never answer for a person, never send anything to the network itself, never show a
//! secret in `Debug`, and never leave a secret in a buffer that is not wiped.

mod answer;
mod bytes;
mod conversation;
mod line;
mod no_carrier;
mod perform;
mod request;

pub use answer::{ActAnswer, EnrolledKeyset, FoundKeysets, FoundPins, KeysetOnWire, PinsOnWire, TroubleOnWire};
pub use bytes::Bytes;
pub use conversation::{Conversation, RemoteCarrier, RemotePerson};
pub use line::{Asked, Errand, Line, Reply, ReplyTo};
pub use no_carrier::NoCarrier;
pub use perform::perform;
pub use request::{ActRequest, Choice, Enroll, NewTokenIn, OnlineOrFile, Order, text_of};
