//! Tokens, keys and objects. All private keys are on tokens.
//!
//! Higher layers see keys, certificates, data objects, PINs and operations. They see no mechanism,
//! no `CKA_` attribute and no PKCS#11 session. This layer probes the differences between modules,
//! and puts restrictions that a token does not enforce into the key's template.
//!
//! This layer must never let a private key leave a token in clear, never try a PIN that was not
//! given for this very operation, never try a wrong PIN twice, and never log one. It knows nothing
//! of the contents of certificates, of CMP, or of the requester.
//!
//! Entry points: a [`TokenSource`] lists tokens and opens them. The user's side gets a [`Token`],
//! moves a typed [`Pin`] into [`Token::unlock`], and gets a [`PinSession`], valid for *one*
//! operation. The authority's side gets an [`AuthorityToken`] and stays logged in. Both own the
//! token until they drop it.
//!
//! [`Token`] is an enum of the kinds of tokens, so far one: a token behind a PKCS#11 module
//! (`pkcs11`). Each group of its operations is a type of its own.

mod algorithm;
mod authority_token;
mod authorization;
mod capabilities;
pub mod check;
mod delivery;
mod enrollment;
mod error;
mod fast_signer;
mod key_description;
mod key_id;
mod keyset_name;
mod module_storage;
mod oaep;
mod objects;
mod owner_lock;
mod pin;
mod pin_lease;
mod pin_queue;
mod pin_session;
mod pkcs11;
mod private_file;
mod public_key;
mod signature;
mod softhsm;
mod source;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
mod token_id;
mod token_info;
mod uri;
mod user_token;
mod wrong_pins;

pub use algorithm::{KeyAlgorithm, RsaSize, SecurityLevel, UnknownName};
pub use authority_token::{AuthorityKey, AuthorityToken};
pub use capabilities::{Capabilities, KeyArrival};
pub use delivery::{Delivery, KeyTransport, KeyWrap, OaepHash, WrappedKey};
pub use enrollment::{EnrollmentSigner, TokenEnrollment, TransportKeyPair};
pub use error::{TokenError, TokenErrorKind, TokenName};
pub use fast_signer::FastSigner;
pub use key_description::{KeyDescription, PublicKeyObject};
pub use key_id::KeyId;
pub use keyset_name::{KeysetName, KeysetNameError};
pub use module_storage::{kryoptic_databases, lack_of_room, unreadable_tokens};
pub use objects::{AUTHORITY_MARK, DataObject, StoredCertificate};
pub use owner_lock::TokenOwner;
pub use pin::{Pin, PinError, PinRule, PinState, PinStates, WhichPin};
pub use pin_lease::PinLease;
pub use pin_session::{OneSignature, PinSession};
pub use pkcs11::{CallCounts, DeliverableKey, SecretKey, answer_check, count_calls_in, take_check_request};
pub use private_file::{
    PrivateDirectoryError, check_private_directory, lock_directory, make_private_directory, untrusted_file_reason,
};
pub use public_key::SubjectPublicKey;
pub use signature::{Signature, SignatureHash};
pub use softhsm::{SoftHsmConfiguration, SoftHsmProblem, UnreadableTokenDirectory, softhsm_token_directory};
pub use source::TokenSource;
pub use token_id::{NonUtf8Name, TokenId};
pub use token_info::{SlotCount, TokenFlags, TokenInfo, UnreadTokens};
pub use uri::{TokenUri, TokenUriError};
pub use user_token::{Token, TokenKey};
pub use wrong_pins::forget_wrong_pins_in_a_row;
