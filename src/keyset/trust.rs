//! Whom to trust and whom to ask without a PIN: the authorities of all keysets found.

use super::{AuthorityAddress, KeysetError, Tokens};

/// The authorities of all keysets found.
#[derive(Clone, Debug)]
pub struct Trust {
    authorities: Vec<(AuthorityAddress, Vec<u8>)>,
}

/// Gathers the authorities of all keysets found, each once.
pub fn trust(tokens: &Tokens) -> Result<Trust, KeysetError> {
    todo!()
}

impl Trust {
    /// The CA certificates, DER: trust anchors for `verify`. None when there is no keyset.
    pub fn anchors(&self) -> Vec<Vec<u8>> {
        todo!()
    }

    /// The one authority to ask for certificates, with its CA certificate's SHA-256; `url` is `--authority`. Several
    /// and no `url`: refused with the list.
    pub fn authority(&self, url: Option<&str>) -> Result<(AuthorityAddress, [u8; 32]), KeysetError> {
        todo!()
    }
}
