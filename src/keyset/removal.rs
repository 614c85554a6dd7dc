//! Removes a keyset's keys and certificates from its token.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::crash_point;
use crate::token::{KeyId, TokenEnrollment};

use super::KeysetError;
use super::index::{Hex, KeysetKeyIds, Pending, PrivateIndex};

/// The number of objects that a deletion removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// private keys destroyed
    pub keys: usize,
    /// certificates removed
    pub certificates: usize,
}

/// All identifiers that a keyset's index names, including those of an unfinished enrollment.
pub(super) fn objects_of(index: &PrivateIndex) -> Vec<Hex> {
    let mut ids = index.keyset.keys.iter().flat_map(KeysetKeyIds::objects).collect::<Vec<_>>();
    ids.extend(index.pending.iter().flat_map(Pending::made));
    ids
}

/// Destroys all keys and certificates with these identifiers, including transport keys and single
/// halves of key pairs. Missing objects are skipped.
pub(super) fn remove(token: &TokenEnrollment, doomed: &BTreeSet<Hex>) -> Result<Deleted, KeysetError> {
    let is_doomed = |id: &KeyId| doomed.contains(&Hex::from(id));
    let keys = token.keys()?.iter().filter(|key| is_doomed(key.id())).count();
    for id in doomed {
        token.destroy_transport_key(&id.key_id())?;
        crash_point::reached("keyset.deleted_key");
    }
    let mut certificates = 0;
    for certificate in token.certificates()?.iter().filter(|certificate| is_doomed(&certificate.id)) {
        token.delete_certificate(certificate)?;
        certificates += 1;
    }
    Ok(Deleted { keys, certificates })
}
