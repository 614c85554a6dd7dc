//! What a user does with keysets: find, enroll, sign, decrypt, administer, export, delete, and
//! change PINs.
//!
//! On the user's side a keyset is stored on its token and nowhere else: keys, certificates and two
//! data objects. The public index is readable without a PIN and only helps to choose the token;
//! after login, only the private index is trusted. A [`UserPrompter`] gives the PINs, after all
//! checks that this machine can make without one.
//!
//! This module must never:
//! - try a wrong PIN twice, or keep one after the operation for which it was typed;
//! - create anything on a token before the authority has accepted the letter;
//! - leave a partial keyset that the same letter can neither finish nor remove;
//! - depend on the authority other than through its messages.

mod cached_tokens;
mod checkpoint;
mod choose;
mod command_response;
mod decryption;
mod enroll;
mod erase;
mod error;
mod find;
mod found_keyset;
mod holder;
mod index;
mod no_pin;
mod operation;
mod operation_observer;
pub mod ops;
mod purpose;
mod recipient;
mod removal;
mod show;
mod signed_command;
mod signing;
mod subject;
mod summary;
mod token_access;
mod trust;
mod unlock;
mod unreadable_token;
mod unusable_sources;
mod user_prompter;
mod wrong_pin_limit;

pub use checkpoint::{CommandResult, LogMismatch, LogMismatchKind, LogPolicy, OpenedResponse};
pub use choose::{KeysetChoice, KeysetRef, TokenSelector};
pub use decryption::{Decrypted, DecryptedBy, decrypt_in_memory, open_recipient};
pub use enroll::{EnrollOptions, Enrolled, Enrollment, NewToken, NotEnrolled, NotEnrolledReason, enroll};
pub use erase::Erasure;
pub use error::{ErrorKind, KeysetError};
pub use find::Tokens;
pub use found_keyset::{FoundKeyset, KeysetStatus};
pub use holder::{KeysetHolder, newest_of_one_person};
pub use index::AuthorityAddress;
pub use no_pin::NoPin;
pub use operation::{
    Attachments, ContentFile, ContentWatch, Inventory, Operation, OperationContext, OperationName, Outcome, Refusal,
    TokenSearch,
};
pub use operation_observer::{Notice, OperationObserver, Step};
pub use purpose::Purpose;
pub use removal::Deleted;
pub use show::{CertificateSummary, CertificateUse, KeysetDetails, show};
pub use signing::{SigningUse, UNLESS_THE_CLOCK_IS_WRONG, refuse_expired, use_signing_key};
pub use subject::Subject;
pub use summary::{KeysetSummary, TokenReference, TokenSummary};
pub use trust::{Trust, trust};
pub use unlock::log_in;
pub use unreadable_token::UnreadableToken;
pub use unusable_sources::UnusableSources;
pub use user_prompter::{Prompt, PromptReply, PromptedKeyset, UserPrompter};

/// The crash points between two steps of an operation with lasting effects; tests kill the program
/// at each (see [`crate::crash_point`]). Order: a successful enrollment, a rolled-back one, a
/// deletion, an administrator's command.
pub const CRASH_POINTS: &[&str] = &[
    "keyset.token_made",
    "keyset.announced",
    "keyset.begun",
    "keyset.signing_key_made",
    "keyset.transport_key_made",
    "keyset.request_written",
    "keyset.reply_here",
    "keyset.installing",
    "keyset.key_installed",
    "keyset.certificate_installed",
    "keyset.installed",
    "keyset.confirmation_answered",
    "keyset.confirmed",
    "keyset.transport_key_destroyed",
    "keyset.old_signing_key_destroyed",
    "keyset.so_pin_changed",
    "keyset.index_written",
    "keyset.abandoned",
    "keyset.rejection_sent",
    "keyset.removed",
    "keyset.deleted_key",
    "keyset.deleted_objects",
    "keyset.statement_answered",
];

#[cfg(test)]
pub(crate) mod tests;
