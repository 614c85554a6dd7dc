//! Module workers: one process for one PKCS#11 module (`isolate = true` in agent.toml).
//!
//! A module that crashes ends the process that loaded it. A module worker has one module and its
//! own keystore, but no endpoint. Clients only see the main worker: it lists the inventory of the
//! module workers ([`ModuleWorker`]) with its own tokens, and forwards each use, login and
//! operation to the module worker that has the token ([`wire`]), with the client and its purpose.
//! The module worker asks for the PIN itself, through its own link to the supervisor.
//!
//! Main worker and module worker communicate over a socket pair that the supervisor creates, the
//! *fd channel*: the main worker sends one end of each new connection through it. The channel has
//! no name, so no other process can reach a module worker or claim to act for another client.
//!
//! This module must never let a request for one module wait for the worker of another, never retry
//! a PIN because a module worker exited, and never treat the exit of a module worker as a wrong
//! PIN.

mod client;
mod pins;
mod requests;
mod server;
mod wire;

pub use client::ModuleWorker;
pub use server::run;
pub(super) use wire::{Inventory, SessionChange, StateUpdate};

#[cfg(test)]
mod tests;
