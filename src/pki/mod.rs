//! Certificates, names and signatures: the X.509 standards as values.
//!
//! The authority builds its certificates here ([`tbs`]), the user's side validates those that it
//! receives ([`path`]), and both use the CMS structures that mail and statements share ([`cms`]).
//! Except for reading a profile file, this module opens nothing: the caller provides inputs and
//! outputs. It asks no person, reads no clock (times are parameters) and never sees a private key:
//! the caller provides a [`::signature::Signer`].
//!
//! **Invariants:** The bytes to be verified are never re-encoded: a [`Certificate`] keeps those
//! that were received. A certificate's own claims grant no right: [`path::verify`] decides what it
//! may do.

pub mod certificate;
pub mod certificate_file;
pub mod cms;
mod directory_string;
mod domain;
pub mod email;
pub mod error;
pub mod fingerprint;
pub mod general_name;
pub mod host;
pub mod name;
mod name_constraints;
pub mod oid;
pub mod path;
pub mod profile;
pub mod public_key;
pub mod serial;
pub mod signature;
pub mod tbs;
#[cfg(test)]
pub(crate) mod test_support;
pub mod time;
pub(crate) mod tlv;
pub mod work_left;

pub use certificate::Certificate;
pub use email::{EmailAddress, same_address};
pub use error::PkiError;
pub use fingerprint::Fingerprint;
pub use general_name::GeneralName;
pub use host::Host;
pub use name::DistinguishedName;
pub use path::{CertificatePurpose, PathProblem};
pub use profile::Profile;
pub use serial::SerialNumber;
pub use tbs::{Issuer, NewCertificate, sign_tbs};
pub use work_left::{TooMuchWork, WorkLeft};
