//! The AES key wrap of a token, for both sides of a delivery.

use super::token::Pkcs11Token;
use crate::token::{KeyWrap, TokenError};

/// The AES key wrap of this token, or an error if it can neither deliver nor receive keys.
pub(super) fn require_key_wrap(token: &Pkcs11Token, operation: &'static str) -> Result<KeyWrap, TokenError> {
    token.capabilities()?.key_wrap.ok_or_else(|| TokenError::Unsupported {
        operation,
        token: token.info().name(),
        what: "AES key wrap with padding (RFC 5649)".to_owned(),
    })
}

/// The mechanism to unwrap a blob that `wrapped_by` made. Each of the two opens the other's
/// blobs, and most tokens have only one.
pub(super) fn can_unwrap(token: &Pkcs11Token, wrapped_by: KeyWrap) -> KeyWrap {
    token.capabilities().ok().and_then(|capabilities| capabilities.key_wrap).unwrap_or(wrapped_by)
}

/// Modules return many different errors for a blob that does not open; all become the same
/// error.
pub(super) fn undeliverable(token: &Pkcs11Token, operation: &'static str, error: TokenError) -> TokenError {
    match error {
        TokenError::BadData { reason, .. } | TokenError::Fault { code: reason, .. } => {
            TokenError::BadDelivery { operation, token: token.info().name(), reason }
        }
        other => other,
    }
}
