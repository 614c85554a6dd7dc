//! PKCS#11 modules, tokens, keys and objects. All secrets of tokenkeep are on tokens.
//!
//! Higher layers see keys, certificates, data objects, PINs and operations. They see no mechanism,
//! no `CKA_` attribute and no PKCS#11 session. This layer probes the differences between modules,
//! and puts restrictions that a token does not enforce into the key's template.
//!
//! This layer must never let a private key leave a token in clear, never try a PIN that nobody
//! typed for this very operation, never try a PIN twice, and never log one. It knows nothing of the
//! contents of certificates, of CMP, or of the requester.
//!
//! Entry points: [`Module::load`] → [`Module::tokens`] → [`Module::open`] gives a [`Token`], which
//! this process then owns. The user's side moves a typed [`Pin`] into [`Token::unlock`] and gets a
//! [`PinSession`], valid for *one* operation. The authority's side calls [`Token::log_in`] and
//! stays logged in.

mod algorithm;
pub mod check;
mod delivery;
mod enrollment;
mod error;
mod key_id;
mod keyset_name;
mod module_storage;
mod oaep;
mod owner_lock;
mod pin;
mod pin_session;
mod pkcs11;
mod private_file;
mod public_key;
mod signature;
mod softhsm;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
mod token_id;
mod uri;
mod wrong_pins;

pub use algorithm::{KeyAlgorithm, RsaSize, SecurityLevel, UnknownName};
pub use delivery::{Delivery, KeyTransport, KeyWrapMechanism, OaepHash, WrappedKey};
pub use enrollment::{EnrollmentSigner, TokenEnrollment, TransportKeyPair};
pub use error::{TokenError, TokenErrorKind, TokenName};
pub use key_id::KeyId;
pub use keyset_name::{KeysetName, KeysetNameError};
pub use module_storage::{kryoptic_databases, lack_of_room, unreadable_tokens};
pub use owner_lock::TokenOwner;
pub use pin::{Pin, PinError, PinRule, PinState, PinStates, WhichPin};
pub use pin_session::{OneSignature, PinSession};
pub use pkcs11::{
    AUTHORITY_MARK, CallCounts, DataObject, DeliverableKey, FastSigner, Module, NonUtf8Name, PinLease, PublicKeyObject,
    SecretKey, SlotCount, StoredCertificate, Token, TokenFlags, TokenInfo, TokenKey, count_calls_in,
};
pub use private_file::{lock_directory, untrusted_file_reason};
pub use public_key::SubjectPublicKey;
pub use signature::{Signature, SignatureHash};
pub use softhsm::{SoftHsmConfiguration, SoftHsmProblem, UnreadableTokenDirectory, softhsm_token_directory};
pub use token_id::TokenId;
pub use uri::{TokenUri, TokenUriError};
pub use wrong_pins::forget_wrong_pins_in_a_row;
