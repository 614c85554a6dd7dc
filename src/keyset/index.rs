//! The two data objects of a keyset.

use serde::{Deserialize, Serialize};

/// Where a keyset's authority is, as the letter said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityAddress {
    /// the authority's name
    pub name: String,
    /// its `http` address: CMP, CA certificate, certificate search
    pub http: String,
    /// its `https` address: administration
    pub https: String,
}
