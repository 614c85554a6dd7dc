//! The two data objects that turn keys and certificates on a token into a keyset.
//!
//! Both are JSON with `CKA_APPLICATION` [`APPLICATION`], labelled with the keyset's name. Write
//! access to the token suffices to change the *public index*, so it only serves to choose the token
//! before login. The *private index* repeats its content and adds what is needed to finish an
//! enrollment after a crash at any point; after login only this one is trusted. A token cannot
//! replace an object atomically, so each index carries a revision: if a crash leaves two, the
//! higher one counts.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::statement::Checkpoint;
use crate::token::{DataObject, KeyAlgorithm, KeyId, KeysetName, SecurityLevel, Token};

use super::KeysetError;

/// `CKA_APPLICATION` of both indexes.
pub(super) const APPLICATION: &str = "tokenkeep keyset";
/// The format version of both indexes; no other version is read.
const VERSION: u32 = 1;

/// The addresses of a keyset's authority, copied from the letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityAddress {
    /// the authority's name
    pub name: String,
    /// its `http` URL: CMP, CA certificate, certificate search
    pub http: String,
    /// its `https` URL: administration
    pub https: String,
}

/// The content that both indexes share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysetRecord {
    pub name: KeysetName,
    pub level: SecurityLevel,
    pub authority: AuthorityAddress,
    /// `None` until the first enrollment is confirmed.
    pub keys: Option<KeysetKeyIds>,
}

/// The keys of an enrolled keyset, by `CKA_ID`; each key and its certificate share the identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysetKeyIds {
    pub signing: Hex,
    /// Current key first. Empty if the authority certifies signing keys only.
    pub encryption: Vec<Hex>,
    /// The identifier of the CA certificate; it has no key here.
    pub authority: Hex,
}

/// The public index, readable without a PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublicIndex {
    version: u32,
    revision: u64,
    pub keyset: KeysetRecord,
    pub pending: Option<PublicPending>,
}

/// The unfinished enrollment and its letter: enough to continue or refuse it before any PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublicPending {
    pub transaction_id: Hex,
    pub reference: String,
}

/// The private index, readable after login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrivateIndex {
    version: u32,
    revision: u64,
    pub keyset: KeysetRecord,
    /// SHA-256 of the CA certificate; only this authority's replies are accepted.
    pub ca_sha256: Hex,
    /// The reference of the letter that led to the current keys.
    pub enrolled_with: Option<String>,
    pub pending: Option<Pending>,
    /// The authority's newest known audit checkpoint. Indexes of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Checkpoint>,
}

/// An unfinished enrollment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub transaction_id: Hex,
    pub reference: String,
    /// Was the token created for this keyset? Then a failed enrollment empties it, and its SO PIN
    /// is still the one derived from the letter.
    pub new_token: bool,
    /// The keys that the request names. Their identifiers are chosen before the keys are generated,
    /// so that a crash leaves no unknown key.
    pub signing: Hex,
    pub signing_algorithm: KeyAlgorithm,
    pub transport: Hex,
    pub stage: EnrollmentStage,
}

/// The progress of an enrollment. Objects that a stage names may or may not exist yet; no other
/// objects exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "at")]
pub(super) enum EnrollmentStage {
    /// The keys are being generated on the token; nothing was sent.
    Making,
    /// The request is complete and possibly sent. A retry sends exactly these bytes.
    Requested { request: Base64 },
    /// A verified reply is being installed. `made` lists keys and certificates that were not on the
    /// token before.
    Installing { request: Base64, keys: KeysetKeyIds, made: Vec<Hex> },
    /// Everything is installed and consistent; the confirmation (`certConf`) is possibly sent. A
    /// retry sends exactly these bytes.
    Installed { request: Base64, keys: KeysetKeyIds, made: Vec<Hex>, confirmation: Base64 },
    /// The authority has confirmed; obsolete objects are being removed.
    Confirmed { keys: KeysetKeyIds },
    /// The enrollment failed: the authority is notified about `request`, if it was sent, and `made`
    /// is being removed.
    Abandoned { request: Option<Base64>, made: Vec<Hex> },
}

impl PublicIndex {
    pub fn of(private: &PrivateIndex) -> Self {
        Self {
            version: VERSION,
            revision: private.revision,
            keyset: private.keyset.clone(),
            pending: private.pending.as_ref().map(Pending::public),
        }
    }

    pub fn write(&self, token: &Token) -> Result<(), KeysetError> {
        write(token, &self.keyset.name, self, false)
    }

    /// The part in which the public index differs from the private one; `None` if they agree.
    pub fn differs_from(&self, private: &PrivateIndex) -> Option<&'static str> {
        let (public, private_record) = (&self.keyset, &private.keyset);
        if public.level != private_record.level {
            Some("security level")
        } else if public.authority != private_record.authority {
            Some("authority")
        } else if public.keys != private_record.keys {
            Some("keys")
        } else if self.pending != private.pending.as_ref().map(Pending::public) {
            Some("unfinished enrollment")
        } else {
            None
        }
    }
}

impl PrivateIndex {
    pub fn new(keyset: KeysetRecord, ca_sha256: [u8; 32]) -> Self {
        let ca_sha256 = Hex(ca_sha256.to_vec());
        Self { version: VERSION, revision: 0, keyset, ca_sha256, enrolled_with: None, pending: None, audit: None }
    }

    /// Increments the revision and replaces the stored index.
    pub fn write(&mut self, token: &Token) -> Result<(), KeysetError> {
        self.revision += 1;
        let name = self.keyset.name.clone();
        write(token, &name, self, true)
    }
}

impl KeysetKeyIds {
    /// All identifiers.
    pub fn objects(&self) -> Vec<Hex> {
        [&self.signing, &self.authority].into_iter().chain(&self.encryption).cloned().collect()
    }
}

impl Pending {
    /// All identifiers under which this enrollment may have created objects.
    pub fn made(&self) -> Vec<Hex> {
        let mut ids = vec![self.signing.clone(), self.transport.clone()];
        match &self.stage {
            EnrollmentStage::Making | EnrollmentStage::Requested { .. } => {}
            EnrollmentStage::Installing { made, .. }
            | EnrollmentStage::Installed { made, .. }
            | EnrollmentStage::Abandoned { made, .. } => {
                ids.extend(made.iter().cloned());
            }
            EnrollmentStage::Confirmed { keys } => ids.extend(keys.objects()),
        }
        ids
    }

    pub fn public(&self) -> PublicPending {
        PublicPending { transaction_id: self.transaction_id.clone(), reference: self.reference.clone() }
    }
}

/// The indexes that can be read, and those that cannot.
pub(super) type Indexes<T> = (Vec<T>, Vec<UnreadableIndex>);

pub(super) struct UnreadableIndex {
    /// Its label, which is the keyset's name.
    pub keyset: String,
    pub reason: UnreadableReason,
}

/// The reason why an index is unreadable.
#[derive(Debug)]
pub(super) enum UnreadableReason {
    /// A newer tokenkeep wrote it.
    Newer { version: u32 },
    /// It is damaged or not an index.
    Damaged { reason: String },
}

impl UnreadableIndex {
    /// Converts into an error; `token` is the token's label and serial number.
    pub fn into_error(self, token: &str) -> KeysetError {
        let (keyset, token) = (self.keyset, token.to_owned());
        match self.reason {
            UnreadableReason::Newer { version } => KeysetError::Newer { keyset, token, version, reads: VERSION },
            UnreadableReason::Damaged { reason } => KeysetError::Damaged { keyset, token, reason },
        }
    }
}

/// Reads all public indexes on the token, the highest revision of each name, and reports unreadable
/// ones.
pub(super) fn public_indexes(token: &Token) -> Result<Indexes<PublicIndex>, KeysetError> {
    indexes(token, false, |index: &PublicIndex| index.revision, |index| &index.keyset.name)
}

/// Reads the private index of this name, or `None` if it does not exist; the token must be
/// unlocked.
pub(super) fn private_index(token: &Token, name: &KeysetName) -> Result<Option<PrivateIndex>, KeysetError> {
    let (found, unreadable) = private_indexes(token)?;
    if let Some(unreadable) = unreadable.into_iter().find(|unreadable| unreadable.keyset == name.as_str()) {
        return Err(unreadable.into_error(&token.info().name().to_string()));
    }
    Ok(found.into_iter().find(|index| index.keyset.name == *name))
}

/// Reads all private indexes on the token and reports unreadable ones; the token must be unlocked.
pub(super) fn private_indexes(token: &Token) -> Result<Indexes<PrivateIndex>, KeysetError> {
    indexes(token, true, |index: &PrivateIndex| index.revision, |index| &index.keyset.name)
}

/// Removes both indexes of this name. The public one is removed last: until then, the name leads to
/// this token.
pub(super) fn remove(token: &Token, name: &KeysetName) -> Result<(), KeysetError> {
    token.delete_data(APPLICATION, name.as_str(), true)?;
    token.delete_data(APPLICATION, name.as_str(), false)?;
    Ok(())
}

fn write<T: Serialize>(token: &Token, name: &KeysetName, index: &T, private: bool) -> Result<(), KeysetError> {
    let value = serde_json::to_vec(index)
        .map_err(|error| KeysetError::Message { operation: "write the keyset's index", reason: error.to_string() })?;
    Ok(token.put_data(APPLICATION, name.as_str(), &value, private)?)
}

/// Reads the indexes whose label is the name of their keyset: the highest revision of each.
fn indexes<T: DeserializeOwned>(
    token: &Token,
    private: bool,
    revision: impl Fn(&T) -> u64,
    name: impl Fn(&T) -> &KeysetName,
) -> Result<Indexes<T>, KeysetError> {
    let (found, unreadable) = latest(token.data_objects(APPLICATION, private)?, revision);
    let labeled = found.into_iter().filter(|(label, index)| label == name(index).as_str());
    Ok((labeled.map(|(_, index)| index).collect(), unreadable))
}

/// Selects the highest revision for each label, and reports labels without a readable index.
fn latest<T: DeserializeOwned>(objects: Vec<DataObject>, revision: impl Fn(&T) -> u64) -> Indexes<(String, T)> {
    let mut found: Vec<(String, T)> = Vec::new();
    let mut unreadable = Vec::new();
    for object in objects {
        match read::<T>(&object.value) {
            Ok(index) => match found.iter_mut().find(|(label, _)| *label == object.label) {
                Some((_, current)) if revision(current) >= revision(&index) => {}
                Some((_, current)) => *current = index,
                None => found.push((object.label, index)),
            },
            Err(reason) => unreadable.push(UnreadableIndex { keyset: object.label, reason }),
        }
    }
    unreadable.retain(|unreadable| !found.iter().any(|(readable, _)| *readable == unreadable.keyset));
    (found, unreadable)
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, UnreadableReason> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    // SoftHSM returns values unchanged; some cards pad them with zeros.
    let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let value = value.get(..end).unwrap_or_default();
    let damaged =
        |error: serde_json::Error| UnreadableReason::Damaged { reason: format!("its index cannot be read: {error}") };
    let version = serde_json::from_slice::<Version>(value).map_err(damaged)?.version;
    if version > VERSION {
        return Err(UnreadableReason::Newer { version });
    }
    if version < VERSION {
        return Err(UnreadableReason::Damaged { reason: format!("its index has the unknown version {version}") });
    }
    serde_json::from_slice(value).map_err(damaged)
}

/// Bytes, encoded as hexadecimal in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hex(pub Vec<u8>);

impl Hex {
    pub fn key_id(&self) -> KeyId {
        KeyId::from(self.0.clone())
    }
}

impl From<&KeyId> for Hex {
    fn from(id: &KeyId) -> Self {
        Self(id.as_bytes().to_vec())
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

/// Bytes, encoded as base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Base64(#[serde(with = "crate::base64_bytes")] pub Vec<u8>);

#[cfg(test)]
mod tests;
