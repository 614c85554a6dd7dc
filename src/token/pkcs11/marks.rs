//! The mark of a token that is being made, until it is finished.

use cryptoki::error::Result as CkResult;
use cryptoki::session::Session;

use super::objects::{Objects, put_mark};
use super::token::Pkcs11Token;
use crate::token::TokenError;

/// `CKA_APPLICATION` of the public data object that marks an unfinished token. Its label is the
/// purpose of the token.
const PROVISIONING_MARK: &str = "tokenkeep token in the making";

/// Marks a token as being made for this purpose.
pub(super) fn put_provisioning_mark(session: &Session, purpose: &str) -> CkResult<()> {
    put_mark(session, PROVISIONING_MARK, purpose)
}

/// The marks of a token that is being made.
pub(in crate::token) struct TokenMarks<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> TokenMarks<'a> {
    pub(in crate::token) fn on(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Whether the token is being made for this purpose and holds no other visible object.
    pub(in crate::token) fn is_provisioned_for(&self, purpose: &str) -> Result<bool, TokenError> {
        let objects = Objects::on(self.token);
        let marks = objects.data_objects(PROVISIONING_MARK, false)?;
        let is_marked = marks.iter().any(|mark| mark.label == purpose);
        Ok(is_marked && objects.has_object_count(marks.len())?)
    }

    /// Removes the mark. The token must be unlocked.
    pub(in crate::token) fn finish(&self, purpose: &str) -> Result<(), TokenError> {
        Objects::on(self.token).delete_data(PROVISIONING_MARK, purpose, false).map(|_| ())
    }
}
