//! Deletes a keyset: its keys, certificates and both indexes, and nothing else on the token.

use std::collections::BTreeSet;

use crate::crash_point;
use crate::token::{Ceremony, KeyId};

use super::index::{self, Hex, Keys, Pending, PrivateIndex};
use super::unlock::{tell_mismatch, unlock};
use super::{FoundKeyset, KeysetError, Person, Tokens};

/// What a deletion removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// private keys destroyed
    pub keys: usize,
    /// certificates removed
    pub certificates: usize,
}

/// Deletes the keyset after its PIN. What is encrypted to its keys can then be read only after a `recover`. Objects that
/// are not the keyset's, the authority's certificate among them where another keyset needs it, are left alone.
///
/// The indexes go last: a deletion that was cut off is finished by another one. Nothing is stored, so that no disk is too
/// full for it; what is still there afterwards is not lost.
pub fn delete(tokens: &Tokens, keyset: &FoundKeyset, person: &mut dyn Person) -> Result<Deleted, KeysetError> {
    let operation = "delete the keyset";
    let unlock = unlock(tokens, keyset, operation, person)?;
    let token = unlock.ceremony();
    let (indexes, unreadable) = index::private_indexes(&token)?;
    let (own, others): (Vec<_>, Vec<_>) = indexes.into_iter().partition(|index| index.keyset.name == keyset.name);

    for private in &own {
        tell_mismatch(&token, private, person)?;
    }
    // Without a private index nobody with the PIN has ever said what is this keyset's: only its name is taken back.
    let mut doomed: BTreeSet<Hex> = own.iter().flat_map(objects_of).collect();
    for other in others.iter().flat_map(objects_of) {
        doomed.remove(&other);
    }
    // What cannot be read here may be a keyset that needs the authority's certificate, too.
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

/// Every identifier that a keyset's index names, unfinished enrollments included.
pub(super) fn objects_of(index: &PrivateIndex) -> Vec<Hex> {
    let mut ids = index.keyset.keys.iter().flat_map(Keys::objects).collect::<Vec<_>>();
    ids.extend(index.pending.iter().flat_map(Pending::made));
    ids
}

/// Destroys keys and certificates with these identifiers, transport keys and halves of pairs among them. What is gone
/// already is not missed.
pub(super) fn remove(token: &Ceremony, doomed: &BTreeSet<Hex>) -> Result<Deleted, KeysetError> {
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
