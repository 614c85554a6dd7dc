//! Annexes: workers of their own for single modules (`isolate = true` in agent.toml).
//!
//! A module that crashes takes its process with it. An annex is a process with one module and a keystore of its own; it has
//! no door. The worker stays the only one that clients meet: it lists what the annexes have told ([`Annex`]) among its own
//! tokens, and hands each use, log-in and act over to the annex that has the token ([`wire`]), with who asks and for
//! what. The PIN is asked for by the annex itself, through its own link to the broker.
//!
//! Worker and annex reach each other over a *corridor*, a socket pair that the broker has made for the two and through which
//! the worker sends one end of each new connection. It has no name, so that no other process can speak to an annex, or
//! claim to ask for somebody else.
//!
//! This must never wait for an annex where another module is meant, never try a PIN again because an annex has ended, and
//! never take the end of an annex for a wrong PIN.

mod door;
mod near;
mod pins;
mod wire;

pub use door::run;
pub use near::Annex;
pub(super) use wire::{LogInChange, News, Seen};

#[cfg(test)]
mod tests;
