//! tokenkeep: a keystore service whose private keys live on hardware tokens, and the authority that
//! enrolls people into it.
//!
//! **This crate is not meant to be used as a library.** It is a program. The library target exists
//! so that the program, the tests, the benchmarks and the fuzz targets share one build. Any commit
//! may change or remove any item, `pub` or not; the version number describes the program only. The
//! crate is not published (`publish = false`). Other programs use the command line (`--json`,
//! `docs/JSON.md`), the agent's API (`docs/agent-api.openapi.json`), the SSH agent protocol, or
//! CMP.
//!
//! The crate has six layers. Imports go down only, and the modules of one layer do not import each
//! other (`tests/architecture.rs` reads every path and fails on one that goes up or sideways):
//!
//! | layer | modules |
//! |---|---|
//! | 5 | [`cli`]: one file per command; the only module that prints |
//! | 4 | [`service`]: the authority's listeners · [`agent`]: the user's keystore service |
//! | 3 | [`authority`]: what the authority does · [`keyset`]: what the user does |
//! | 2 | [`cmp`] · [`smime`] · [`statement`] · [`letter`] · [`transport`] · [`store`] · [`ipc`] |
//! | 1 | [`pki`] · [`prompter`] |
//! | 0 | [`token`] · [`crash_point`] · [`characters`] · [`base64_bytes`] |
//!
//! The authority's side and the user's side exchange messages and never call each other.
//! `docs/ARCHITECTURE.md` is the map of the code, `docs/GLOSSARY.md` has the terms.

pub mod agent;
pub mod authority;
pub mod base64_bytes;
pub mod characters;
pub mod cli;
pub mod cmp;
pub mod crash_point;
pub mod ipc;
pub mod keyset;
pub mod letter;
pub mod pki;
pub mod prompter;
pub mod service;
pub mod smime;
pub mod statement;
pub mod store;
pub mod token;
pub mod transport;
