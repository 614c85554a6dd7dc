//! Acts that a command asks the agent to do: the same as the command would do itself, with the token's part done here.
//!
//! An [`ActRequest`] says what; [`perform`] does it with the acts of [`crate::keyset`]. What an act needs of a person or
//! of the network it asks of the command, over the connection that brought the request: the command is its
//! [`Person`](crate::keyset::Person) and its [`Carrier`](crate::carrier::Carrier), and [`Conversation`] is that wire. A
//! command that says that nobody can be asked there leaves the PIN for a signature or a decryption to the agent's prompter.
//! One that has gone away has cancelled: nothing that it would have been asked is tried, and an enrollment stays where the
//! same letter finds it.
//!
//! This must never answer for a person, never send anything itself, never show a secret in `Debug`, and never leave one
//! in a buffer that is not wiped.

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
