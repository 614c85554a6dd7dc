//! The environment of the integration tests: a test machine with soft tokens, an authority, a
//! person at a terminal, a network attacker, and other programs. It contains no tests.
#![allow(dead_code)] // each test binary uses a part of it

pub mod agent;
pub mod authority;
pub mod deployment;
pub mod der;
pub mod display;
pub mod envelopes;
pub mod event_stream;
pub mod faulty_module;
pub mod flood;
pub mod foreign_programs;
pub mod inventory;
pub mod kryoptic;
pub mod leftovers;
pub mod machine;
pub mod manual_pages;
pub mod other_program;
pub mod output;
pub mod pin_costs;
pub mod process_guard;
pub mod prompted_user;
pub mod prompting;
pub mod proxy;
pub mod raw_cmp;
pub mod reader;
pub mod schema;
pub mod search;
pub mod shared_authority;
pub mod ssh;
pub mod terminal;

#[path = "../virtual_card/mod.rs"]
pub mod virtual_card;
