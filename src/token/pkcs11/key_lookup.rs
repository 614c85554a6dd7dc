//! Finds a key by its identifier, and uses it under the token's lock.

use cryptoki::error::Result as CkResult;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::key_handles::ObjectClassKey;
use super::return_values;
use super::token::Pkcs11Token;
use crate::token::authorization::KeyAuthorization;
use crate::token::{KeyId, TokenError};

/// The keys of a token by their identifiers.
pub(super) struct KeyLookup<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> KeyLookup<'a> {
    pub(super) fn on(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// Uses a key by its identifier: under the shared lock if its handle is cached, else looked up
    /// and used under the exclusive lock.
    pub(super) fn use_key<T>(
        &self,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        action: impl Fn(&Session, ObjectHandle) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        self.use_key_under(KeyAuthorization::LoggedIn, operation, class, id, action)
    }

    /// Like `use_key`, and checks this authorization under the lock.
    pub(super) fn use_key_under<T>(
        &self,
        authorization: KeyAuthorization<'_>,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        action: impl Fn(&Session, ObjectHandle) -> CkResult<T>,
    ) -> Result<T, TokenError> {
        let concurrently = || {
            let _shared = self.token.shared();
            self.check_authorization(operation, authorization)?;
            let known = self.token.handles().get(class, id);
            Ok::<_, TokenError>(known.map(|handle| self.token.sessions().with(|session| action(session, handle))))
        };
        let looked_up = || {
            let with = |handle| self.token.sessions().with(|session| action(session, handle));
            self.look_up_and_use(authorization, operation, class, id, with)
        };
        let first = match concurrently()? {
            Some(used) => used,
            None => looked_up()?,
        };
        match first {
            // Do not repeat a call after a login with the PIN: that would be a second try.
            Err(error) if authorization.pin().is_some() && return_values::is_after_init(&error) => Err(error),
            Err(error) if return_values::is_stale_handle(&error) => looked_up()?,
            // The pool has closed the session. If nothing else is gone, a new one works.
            Err(error) if return_values::is_session_gone(&error) => {
                self.token.note(&error);
                looked_up()?
            }
            result => result,
        }
        .map_err(|error| self.token.explain(operation, &error))
    }

    /// Looks up a key's handle and uses it, both under the exclusive lock.
    pub(super) fn look_up_and_use<T>(
        &self,
        authorization: KeyAuthorization<'_>,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
        action: impl FnOnce(ObjectHandle) -> CkResult<T>,
    ) -> Result<CkResult<T>, TokenError> {
        let _alone = self.token.exclusive();
        self.check_authorization(operation, authorization)?;
        Ok(self.look_up(operation, class, id)?.and_then(action))
    }

    fn check_authorization(
        &self,
        operation: &'static str,
        authorization: KeyAuthorization<'_>,
    ) -> Result<(), TokenError> {
        match authorization {
            KeyAuthorization::ActiveSession(number) if self.token.login().active_session() != Some(number) => {
                Err(self.token.not_logged_in_error(operation))
            }
            _ => self.token.require_login(operation),
        }
    }

    /// Looks up the handle of a key. The caller holds the token exclusively until it has used the
    /// handle: a logout in between would invalidate it. The caller handles errors of the search,
    /// because only the session may be gone.
    pub(super) fn look_up(
        &self,
        operation: &'static str,
        class: ObjectClassKey,
        id: &KeyId,
    ) -> Result<CkResult<ObjectHandle>, TokenError> {
        let template = [Attribute::Class(class.class()), Attribute::Token(true), Attribute::Id(id.as_bytes().to_vec())];
        let found = match self.token.sessions().with(|session| session.find_objects(&template)) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let Some(handle) = found.first() else {
            self.token.handles().forget(class, id);
            self.token.require_login(operation)?;
            return Err(TokenError::KeyAbsent { operation, token: self.token.info().name() });
        };
        self.token.handles().remember(class, id, *handle);
        Ok(Ok(*handle))
    }
}
