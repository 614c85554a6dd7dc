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
//! this process then owns. The user's side moves a typed [`Pin`] into [`Token::unlock`] and gets an
//! [`Unlock`], valid for *one* operation. The authority's side calls [`Token::log_in`] and stays
//! logged in.

mod algorithm;
mod ceremony;
pub mod check;
mod delivery;
mod error;
mod key_id;
mod keyset_name;
mod oaep;
mod owner_lock;
mod pin;
mod pkcs11;
mod private_file;
mod public_key;
mod signature;
mod softhsm;
mod stores;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
mod unlock;
mod uri;
mod wrong_pins;

pub use algorithm::{KeyAlgorithm, RsaSize, SecurityLevel, UnknownName};
pub use ceremony::{Ceremony, CeremonySigner, TransportKey};
pub use delivery::{Delivery, KeyTransport, KeyWrapMechanism, OaepHash, Wrapped};
pub use error::{TokenError, TokenErrorKind, TokenName};
pub use key_id::KeyId;
pub use keyset_name::{KeysetName, KeysetNameError};
pub use owner_lock::Owner;
pub use pin::{Pin, PinError, PinRule, PinState, PinStates, WhichPin};
pub use pkcs11::{
    AUTHORITY_MARK, DataObject, DeliverableKey, FastSigner, Module, NotText, PublicKeyObject, SecretKey, SlotCount,
    StoredCertificate, Token, TokenFlags, TokenInfo, TokenKey, Turn,
};
pub use private_file::{lock_directory, written_by_others};
pub use public_key::PublicKey;
pub use signature::{Signature, SignatureHash};
pub use softhsm::{SoftHsmConfiguration, SoftHsmProblem, UnreadableToken, softhsm_token_directory};
pub use stores::{kryoptic_databases, lack_of_room, unreadable_tokens};
pub use unlock::{OneSignature, Unlock};
pub use uri::{TokenUri, TokenUriError};
pub use wrong_pins::forget_wrong_pins_in_a_row;
