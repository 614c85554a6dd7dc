//! Deletes a keyset: its keys, certificates and both indexes, and nothing else on the token.

use std::collections::BTreeSet;

use crate::crash_point;
use crate::token::{KeyId, TokenEnrollment};

use super::index::{self, Hex, KeysetKeyIds, Pending, PrivateIndex};
use super::unlock::{report_index_mismatch, unlock};
use super::{FoundKeyset, KeysetError, Tokens, UserPrompter};

/// The number of objects that a deletion removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// private keys destroyed
    pub keys: usize,
    /// certificates removed
    pub certificates: usize,
}

/// Deletes the keyset after a PIN check. Mail encrypted to its keys is readable again only after a
/// `recover`. Objects of other keysets stay, including an authority's certificate that another
/// keyset needs.
///
/// The indexes are deleted last, so that a second deletion can finish an interrupted one. Nothing
/// is written: a full disk cannot prevent a deletion, and a failed one loses nothing that remains.
pub fn delete(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn UserPrompter) -> Result<Deleted, KeysetError> {
    let operation = "delete the keyset";
    let pin_session = unlock(tokens, keyset, operation, person)?;
    let token = pin_session.begin_enrollment();
    let (indexes, unreadable) = index::private_indexes(&token)?;
    let (own, others): (Vec<_>, Vec<_>) = indexes.into_iter().partition(|index| index.keyset.name == keyset.name);

    for private in &own {
        report_index_mismatch(&token, private, person)?;
    }
    // Without a private index, nothing that needed the PIN proves which objects are the keyset's:
    // only the name is removed.
    let mut doomed: BTreeSet<Hex> = own.iter().flat_map(objects_of).collect();
    for other in others.iter().flat_map(objects_of) {
        doomed.remove(&other);
    }
    // An unreadable index may belong to a keyset that needs the same authority's certificate.
    if !unreadable.is_empty() {
        for keys in own.iter().filter_map(|index| index.keyset.keys.as_ref()) {
            doomed.remove(&keys.authority);
        }
    }
    let deleted = remove(&token, &doomed)?;
    crash_point::reached("keyset.deleted_objects");
    index::remove(&token, &keyset.name)?;
    Ok(deleted)
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
