//! Before the authority hears that all is well: is all that was installed really on the token?
//!
//! `SoftHSM` on a full disk says that it stored an object, and shows it to the process that stored it; for the next one it
//! is gone, and the letter would be used up. So a process that loads the module afresh looks for everything that this one
//! sees: keys, certificates and both indexes.

use sha2::{Digest, Sha256};

use super::super::index::{self, Keys, Stage};
use super::super::{KeysetError, Notice, Person};
use super::desk::Desk;
use super::{Trouble, install};
use crate::token::TokenError;
use crate::token::check::StoredObject;

/// Looks for what the confirmation would confirm. What is missing is no fault of the reply's: the authority gives the
/// letter back, and the same letter does it again where there is room. Where nobody could look, the person is told so.
pub(super) fn read_back(desk: &Desk, person: &mut dyn Person) -> Result<(), Trouble> {
    let Stage::Installed { keys, .. } = &desk.pending()?.stage else { return Ok(()) };
    let objects = objects(desk, keys)?;
    let unknown = desk.ceremony.must_be_stored(install::OPERATION, objects).map_err(|error| match error {
        error @ TokenError::NotStored { .. } => Trouble::NotStored(error),
        error => error.into(),
    })?;
    if let Some(reason) = unknown {
        let token = desk.ceremony.info().name().to_string();
        person.notice(Notice::NotReadBack { token, reason });
    }
    Ok(())
}

fn objects(desk: &Desk, keys: &Keys) -> Result<Vec<StoredObject>, KeysetError> {
    let certificates = desk.ceremony.certificates()?;
    let mut objects = Vec::new();
    for id in [&keys.signing].into_iter().chain(&keys.encryption) {
        let key = desk.ceremony.find_key(&id.key_id())?;
        let sha256 = key.map(|key| digest(key.public_key_der()));
        objects.push(StoredObject::Key { id: hex::encode(&id.0), sha256 });
    }
    // What even this process does not see any more is missing all the same.
    for id in keys.objects() {
        let found = certificates.iter().find(|found| found.id == id.key_id());
        objects
            .push(StoredObject::Certificate { id: hex::encode(&id.0), sha256: found.map(|found| digest(&found.der)) });
    }
    for private in [true, false] {
        let found = desk.ceremony.data_objects(index::APPLICATION, private)?;
        objects.extend(found.into_iter().filter(|object| object.label == desk.index.keyset.name.as_str()).map(
            |object| StoredObject::Data {
                application: index::APPLICATION.to_owned(),
                sha256: digest(&object.value),
                label: object.label,
                private,
            },
        ));
    }
    Ok(objects)
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
