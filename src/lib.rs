//! tokenkeep: a keystore service whose private keys live on hardware tokens, and the authority that enrolls people into it.
//!
//! The crate is a house of six floors. Arrows go down only, and rooms on one floor do not import each other
//! (`tests/architecture.rs` reads every `use` line and fails on one that goes up or sideways):
//!
//! | floor | rooms |
//! |---|---|
//! | 5 | [`cli`]: one file a verb; the only room that prints |
//! | 4 | [`service`]: the authority's doors · [`agent`]: the user's keystore service |
//! | 3 | [`authority`]: what the authority does · [`keyset`]: what the user does |
//! | 2 | [`cmp`] · [`smime`] · [`statement`] · [`letter`] · [`carrier`] · [`store`] |
//! | 1 | [`pki`] · [`prompter`] |
//! | 0 | [`token`] · [`crash_point`] · [`characters`] |
//!
//! The authority's wing and the user's wing never meet but in a message. `docs/ARCHITECTURE.md` tells why.

pub mod agent;
pub mod authority;
pub mod carrier;
pub mod characters;
pub mod cli;
pub mod cmp;
pub mod crash_point;
pub mod keyset;
pub mod letter;
pub mod pki;
pub mod prompter;
pub mod service;
pub mod smime;
pub mod statement;
pub mod store;
pub mod token;
