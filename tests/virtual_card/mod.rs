//! A smart card in software, for tests: a YubiKey with its PIV applet, or a PIV card of another
//! maker.
//!
//! It answers command APDUs, directly ([`Card::send`]) or in a virtual reader
//! (`tests/support/reader.rs`). Sources: NIST SP 800-73-4 part 2 for the commands of PIV, and for
//! those of YubiKeys the pages "PIV commands" and "APDU" of the manual of Yubico's .NET SDK, which
//! comments cite by their titles.
//!
//! The card keeps its keys, objects and tries in memory. A reset or the loss of power ends what the
//! host has proved. The test plans touches and faults, and reads the transcript.

#![allow(unused_imports)] // each test uses a part of it

mod apdu;
mod applet;
mod attestation;
mod card;
mod faults;
mod keys;
mod management_key;
mod objects;
mod pin;
mod private_key;
mod profile;
mod tlv;
mod touch;
mod transcript;
mod yubikey_applets;

pub use apdu::{Status, instruction};
pub use attestation::{attestation_root, pem, self_signed};
pub use card::{Card, Transmission};
pub use faults::{Effect, Faults, Trigger};
pub use keys::{KeySlot, Origin, PinPolicy, TouchPolicy};
pub use management_key::{FACTORY_MANAGEMENT_KEY, ManagementKey};
pub use objects::{certificate_content, certificate_tag, key_history, tag};
pub use pin::{FACTORY_PIN, FACTORY_PUK, TRIES};
pub use private_key::{Algorithm, PrivateKey};
pub use profile::{ManagementAlgorithm, Profile};
pub use tlv::{element, elements, find, plain_elements};
pub use touch::Touch;
pub use transcript::{Entry, Transcript};
