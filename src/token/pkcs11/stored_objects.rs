//! Checks in a new process that objects were stored: `SoftHSM` on a full disk shows new objects
//! only to the process that wrote them.

use super::token::Pkcs11Token;
use crate::token::check::{self, CheckOutcome, CheckQuestion, StoredObject, TokenCheckReport};
use crate::token::module_storage::ModuleStorage;
use crate::token::{Pin, TokenError};

/// The objects that this process has stored on a token.
pub(in crate::token) struct StoredObjects<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> StoredObjects<'a> {
    pub(in crate::token) fn on(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Checks in a new process that all `objects` are stored. `pin` is the PIN that this process is
    /// logged in with. A module with card readers is not checked: it stores on the card, and a
    /// second process would take the card away. If the process could not check, the result is the
    /// reason.
    ///
    /// # Errors
    /// [`TokenError::NotStored`] with the missing objects.
    pub(in crate::token) fn verify(
        &self,
        operation: &'static str,
        objects: Vec<StoredObject>,
        pin: Option<&Pin>,
    ) -> Result<Option<String>, TokenError> {
        let module = self.token.module();
        if module.has_readers()? {
            return Ok(None);
        }
        // No other thread may log in or out, or write, during the check.
        let _alone = self.token.exclusive();
        let token = self.token.info().id();
        let missing = match module.ask_afresh(CheckQuestion::Stored { token, objects }, pin) {
            Some(CheckOutcome::Answered(TokenCheckReport::Missing(missing))) => missing.join(", "),
            Some(CheckOutcome::Answered(TokenCheckReport::TokenFailed(reason))) => reason,
            Some(outcome @ CheckOutcome::Died(_)) => outcome.why_unknown(),
            Some(CheckOutcome::Answered(TokenCheckReport::Well {})) | None => return Ok(None),
            // The module was usable by itself before. The preceding login has shown that it is
            // usable beside this process, or it is SoftHSM. So the failure is new: a full disk, for
            // example.
            Some(CheckOutcome::Answered(TokenCheckReport::ModuleFailed(reason)))
                if check::has_been_well(module.path()) =>
            {
                reason
            }
            // Not an error: some modules cannot be loaded twice, or not in a sandbox.
            Some(outcome) => return Ok(Some(outcome.why_unknown())),
        };
        let condition =
            ModuleStorage::of(module.path()).describe_storage().unwrap_or_else(|| "the disk may be full".to_owned());
        Err(TokenError::NotStored { operation, token: self.token.info().name(), missing, condition })
    }
}
