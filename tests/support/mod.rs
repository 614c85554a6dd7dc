//! What the promises' tests stand on: a machine of one's own with soft tokens, an authority, a person at a terminal,
//! somebody on the wire, and foreign programs as witnesses. No promise is tested here.
#![allow(dead_code)] // each test takes what it needs

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
