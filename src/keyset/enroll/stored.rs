//! Verifies, before the confirmation, that the token really stores everything installed.
//!
//! On a full disk, `SoftHSM` reports that it stored an object and shows it to the same process; a
//! new process does not find it, and the letter would be used up. Therefore a new process, which
//! loads the module again, looks for everything that this one sees: keys, certificates and both
//! indexes.

use sha2::{Digest, Sha256};

use super::super::index::{self, EnrollmentStage, KeysetKeyIds};
use super::super::{KeysetError, Notice, UserPrompter};
use super::session::EnrollmentSession;
use super::{ExchangeError, install};
use crate::token::TokenError;
use crate::token::check::StoredObject;

/// Looks for the objects that the confirmation would confirm. A missing object is not the reply's
/// fault: the authority releases the letter, which can be used again on a token with free space. If
/// the check cannot run, the user is notified.
pub(super) fn read_back(session: &EnrollmentSession, person: &mut dyn UserPrompter) -> Result<(), ExchangeError> {
    let EnrollmentStage::Installed { keys, .. } = &session.pending()?.stage else { return Ok(()) };
    let objects = objects(session, keys)?;
    let unknown = session.token_enrollment.verify_stored(install::OPERATION, objects).map_err(|error| match error {
        error @ TokenError::NotStored { .. } => ExchangeError::NotStored(error),
        error => error.into(),
    })?;
    if let Some(reason) = unknown {
        let token = session.token_enrollment.info().name().to_string();
        person.notice(Notice::NotReadBack { token, reason });
    }
    Ok(())
}

fn objects(session: &EnrollmentSession, keys: &KeysetKeyIds) -> Result<Vec<StoredObject>, KeysetError> {
    let certificates = session.token_enrollment.certificates()?;
    let mut objects = Vec::new();
    for id in [&keys.signing].into_iter().chain(&keys.encryption) {
        let key = session.token_enrollment.find_key(&id.key_id())?;
        let sha256 = key.map(|key| digest(key.public_key_der()));
        objects.push(StoredObject::Key { id: hex::encode(&id.0), sha256 });
    }
    // An object that even this process no longer sees is also missing.
    for id in keys.objects() {
        let found = certificates.iter().find(|found| found.id == id.key_id());
        objects
            .push(StoredObject::Certificate { id: hex::encode(&id.0), sha256: found.map(|found| digest(&found.der)) });
    }
    for private in [true, false] {
        let found = session.token_enrollment.data_objects(index::APPLICATION, private)?;
        objects.extend(found.into_iter().filter(|object| object.label == session.index.keyset.name.as_str()).map(
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
