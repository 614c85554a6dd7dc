//! The environment of the integration tests: a test machine with soft tokens, an authority, a
//! person at a terminal, a network attacker, and other programs. It contains no tests.
#![allow(dead_code)] // each test binary uses a part of it

pub mod agent;
pub mod asked;
pub mod authority;
pub mod card;
pub mod der;
pub mod display;
pub mod envelopes;
pub mod faulty;
pub mod flood;
pub mod following;
pub mod intruder;
pub mod inventory;
pub mod kryoptic;
pub mod leftovers;
pub mod machine;
pub mod office;
pub mod output;
pub mod pin_costs;
pub mod prompting;
pub mod proxy;
pub mod reader;
pub mod schema;
pub mod search;
pub mod ssh;
pub mod story;
pub mod terminal;
pub mod wire;
pub mod witness;
