//! The handles of keys that were looked up before: a search costs more than a signature.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki::object::{ObjectClass, ObjectHandle};

use crate::token::KeyId;

/// The object classes whose handles are cached, as a hash key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ObjectClassKey {
    Private,
    Secret,
}

impl ObjectClassKey {
    pub(super) fn class(self) -> ObjectClass {
        match self {
            Self::Private => ObjectClass::PRIVATE_KEY,
            Self::Secret => ObjectClass::SECRET_KEY,
        }
    }
}

/// The known handles of a token's keys. A logout makes them invalid.
#[derive(Debug, Default)]
pub(super) struct KeyHandles(Mutex<HashMap<(ObjectClassKey, KeyId), ObjectHandle>>);

impl KeyHandles {
    pub(super) fn get(&self, class: ObjectClassKey, id: &KeyId) -> Option<ObjectHandle> {
        self.known().get(&(class, id.clone())).copied()
    }

    pub(super) fn remember(&self, class: ObjectClassKey, id: &KeyId, handle: ObjectHandle) {
        self.known().insert((class, id.clone()), handle);
    }

    pub(super) fn forget(&self, class: ObjectClassKey, id: &KeyId) {
        self.known().remove(&(class, id.clone()));
    }

    pub(super) fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(ObjectClassKey, KeyId), ObjectHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
