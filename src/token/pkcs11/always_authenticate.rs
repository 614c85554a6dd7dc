//! Enforces the PIN for each use of a key of level High: by the token if it can
//! (`CKA_ALWAYS_AUTHENTICATE`), else by tokenkeep alone.

use cryptoki::error::Result as CkResult;
use cryptoki::object::Attribute;
use cryptoki::session::Session;

use super::key_attributes::destroy_both_halves;
use super::return_values;
use super::templates;
use crate::token::{KeyDescription, KeyId, SecurityLevel, TokenInfo};

/// Makes a permanent private key from this template. At level High the token enforces the PIN for
/// each use; if the module refuses the attribute, only tokenkeep does.
pub(super) fn with_always_authenticate<T>(
    session: &Session,
    id: &KeyId,
    template: &[Attribute],
    make_key: impl Fn(&[Attribute]) -> CkResult<T>,
) -> CkResult<T> {
    let refused = match make_key(template) {
        Err(error) if return_values::is_template_error(&error) => error,
        made => return made,
    };
    let Some(without) = templates::without_pin_each_use(template) else { return Err(refused) };
    destroy_both_halves(session, id)?;
    make_key(&without)
}

/// Logs a warning if the token should enforce the PIN for each use of this key and does not. Some
/// modules accept the attribute and ignore it, others refuse it.
pub(super) fn log_pin_enforcement(token: &TokenInfo, key: &KeyDescription, level: Option<SecurityLevel>) {
    if level == Some(SecurityLevel::High) && !key.requires_pin_each_use() {
        let (token, key) = (token.name(), key.label());
        tracing::warn!(%token, key, "the token does not enforce the PIN for each use of this key; tokenkeep does");
    }
}
