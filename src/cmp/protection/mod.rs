//! `PKIProtection` (RFC 9810 §5.1.3): authenticates the sender over the message's bytes as
//! received.

mod mac;
mod pbm;
mod pbmac1;
mod signature;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use mac::ROUNDS;
pub use mac::{MacProtection, cost_of_verifying, protect_with_mac, verify_mac, verify_mac_by_any};
pub use signature::{protect_with_signature, verify_signature};
