//! Which tokens and keysets are there: modules → tokens → public indexes, without any PIN.

use crate::token::{KeyId, KeysetName, Module, SecurityLevel, StoredCertificate, TokenInfo};

use super::{AuthorityAddress, KeysetError};

/// The PKCS#11 modules to look through.
#[derive(Clone, Debug)]
pub struct Tokens {
    modules: Vec<Module>,
}

/// How far a keyset is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Enrolled; usable.
    Enrolled,
    /// Its first enrollment is not finished; the same letter finishes it.
    Pending {
        /// the reference of the letter it was begun with
        reference: String,
    },
    /// Enrolled and usable; a re-enrollment is not finished.
    ReenrollmentPending {
        /// the reference of the letter it was begun with
        reference: String,
    },
}

/// A keyset as its token's public index has it. Anybody who can write to the token may have changed it: good for
/// choosing a token, and believed no further.
#[derive(Clone, Debug)]
pub struct FoundKeyset {
    /// its name
    pub name: KeysetName,
    /// its level
    pub level: SecurityLevel,
    /// where its authority is
    pub authority: AuthorityAddress,
    /// how far it is
    pub standing: Standing,
    /// the token it is on
    pub token: TokenInfo,
    /// `CKA_ID` of its signing key
    pub signing: Option<KeyId>,
    /// `CKA_ID`s of its encryption keys, the current one first
    pub encryption: Vec<KeyId>,
    /// its certificates, the authority's CA certificate among them
    pub certificates: Vec<StoredCertificate>,
}

/// A token that could not be looked at, and why.
#[derive(Debug)]
pub struct TokenTrouble {
    /// the token, or the module if it is that
    pub place: String,
    /// why
    pub error: KeysetError,
}

impl Tokens {
    /// Looks through these modules. Each must have at least been loaded.
    pub fn new(modules: Vec<Module>) -> Self {
        Self { modules }
    }

    /// The modules.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// All initialized tokens that are present, in the modules' order.
    pub fn list(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        todo!()
    }

    /// All keysets on all tokens, and what could not be looked at. A token in use by another program is trouble, not an error.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), KeysetError> {
        todo!()
    }
}
