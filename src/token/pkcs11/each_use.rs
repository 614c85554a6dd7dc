//! Who asks for the PIN at each use of a key that is made at level High: the token where it can, else we alone.

use cryptoki::error::Result as CkResult;
use cryptoki::object::Attribute;
use cryptoki::session::Session;

use super::answers;
use super::keys::{TokenKey, destroy_both_halves};
use super::templates;
use crate::token::{KeyId, SecurityLevel};

/// Makes a private key that stays, of this template: at level High one for which the token itself asks for the PIN at
/// each use, or, where the module does not take that, one for which only we do.
pub(super) fn asking_where_it_can<T>(
    session: &Session,
    id: &KeyId,
    template: &[Attribute],
    make_key: impl Fn(&[Attribute]) -> CkResult<T>,
) -> CkResult<T> {
    let refused = match make_key(template) {
        Err(error) if answers::refuses_an_attribute(&error) => error,
        made => return made,
    };
    let Some(without) = templates::without_pin_each_use(template) else { return Err(refused) };
    destroy_both_halves(session, id)?;
    make_key(&without)
}

impl TokenKey {
    /// Says so where a key was to be guarded by the token at each use and is not: some modules take the attribute and forget
    /// it, others refuse it.
    pub(super) fn say_who_asks(&self, level: Option<SecurityLevel>) {
        if level == Some(SecurityLevel::High) && !self.requires_pin_each_use() {
            let (token, key) = (self.token().info().name(), self.label());
            tracing::warn!(%token, key, "the token itself does not ask for the PIN at each use of this key: tokenkeep does");
        }
    }
}
