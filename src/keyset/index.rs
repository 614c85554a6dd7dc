//! The two data objects that make some keys and certificates on a token a keyset.
//!
//! Both are JSON under [`APPLICATION`], labelled with the keyset's name. Anybody who can write to the token can change
//! the *public index*: it chooses the token before log-in and is good for nothing else. The *private index* says the
//! same again, and with it what an enrollment that is under way needs to be finished after any kill; after log-in it
//! alone is believed. A token cannot replace an object in one step, so each carries a revision, and where a kill left
//! two the later one counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::statement::Checkpoint;
use crate::token::{DataObject, KeyAlgorithm, KeyId, KeysetName, SecurityLevel, Token};

use super::KeysetError;

/// `CKA_APPLICATION` of both indexes.
pub(super) const APPLICATION: &str = "tokenkeep keyset";
/// The form of both indexes that this program writes; it reads no other.
const VERSION: u32 = 1;

/// Where a keyset's authority is, as the letter said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityAddress {
    /// the authority's name
    pub name: String,
    /// its `http` address: CMP, CA certificate, certificate search
    pub http: String,
    /// its `https` address: administration
    pub https: String,
}

/// What both indexes say of a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Card {
    pub name: KeysetName,
    pub level: SecurityLevel,
    pub authority: AuthorityAddress,
    /// None until the first enrollment is confirmed.
    pub keys: Option<Keys>,
}

/// The keys of a keyset that stands, by `CKA_ID`; each has its certificate under the same identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub signing: Hex,
    /// The current one first. Empty when the authority certifies signing keys alone.
    pub encryption: Vec<Hex>,
    /// The CA certificate's; there is no key to it here.
    pub authority: Hex,
}

/// The public index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublicIndex {
    version: u32,
    revision: u64,
    pub keyset: Card,
    pub pending: Option<PublicPending>,
}

/// That an enrollment is under way, and by which letter: enough to go on with it, or to refuse, before any PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublicPending {
    pub transaction_id: Hex,
    pub reference: String,
}

/// The private index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrivateIndex {
    version: u32,
    revision: u64,
    pub keyset: Card,
    /// SHA-256 of the CA certificate: whose replies are believed.
    pub ca_sha256: Hex,
    /// The reference of the letter that it stands by.
    pub enrolled_with: Option<String>,
    pub pending: Option<Pending>,
    /// How far the authority's audit log had got when it last answered a command of this keyset's. Indexes that were
    /// written before this was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Checkpoint>,
}

/// An enrollment that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub transaction_id: Hex,
    pub reference: String,
    /// Was the token made for this keyset? Then it is emptied when the enrollment fails, and its SO PIN is still the
    /// one derived from the letter.
    pub new_token: bool,
    /// The keys that the request names. Chosen before they are made, so that a kill leaves no key that nobody knows.
    pub signing: Hex,
    pub signing_algorithm: KeyAlgorithm,
    pub transport: Hex,
    pub stage: Stage,
}

/// How far an enrollment is. What a stage names may or may not be on the token yet; what it does not name is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "at")]
pub(super) enum Stage {
    /// The token's keys are being made; nothing was sent.
    Making,
    /// The request is made, and perhaps sent: these bytes and no others.
    Requested { request: Base64 },
    /// A good reply is here and is being installed. `made` are the keys and certificates that were not on the token before.
    Installing { request: Base64, keys: Keys, made: Vec<Hex> },
    /// All is installed and fits; the confirmation (`certConf`) is perhaps sent: these bytes and no others.
    Installed { request: Base64, keys: Keys, made: Vec<Hex>, confirmation: Base64 },
    /// The authority has confirmed; what is left is to put away what is no longer needed.
    Confirmed { keys: Keys },
    /// It failed: the authority is told about `request`, if that was sent, and `made` is being removed.
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

    /// What an index without a PIN says differently; `None` when it says the same.
    pub fn differs_from(&self, private: &PrivateIndex) -> Option<&'static str> {
        let (public, private_card) = (&self.keyset, &private.keyset);
        if public.level != private_card.level {
            Some("security level")
        } else if public.authority != private_card.authority {
            Some("authority")
        } else if public.keys != private_card.keys {
            Some("keys")
        } else if self.pending != private.pending.as_ref().map(Pending::public) {
            Some("unfinished enrollment")
        } else {
            None
        }
    }
}

impl PrivateIndex {
    pub fn new(keyset: Card, ca_sha256: [u8; 32]) -> Self {
        let ca_sha256 = Hex(ca_sha256.to_vec());
        Self { version: VERSION, revision: 0, keyset, ca_sha256, enrolled_with: None, pending: None, audit: None }
    }

    /// Writes it in place of the one before; it is the later one from now on, whatever else is found.
    pub fn write(&mut self, token: &Token) -> Result<(), KeysetError> {
        self.revision += 1;
        let name = self.keyset.name.clone();
        write(token, &name, self, true)
    }
}

impl Keys {
    /// Every identifier.
    pub fn objects(&self) -> Vec<Hex> {
        [&self.signing, &self.authority].into_iter().chain(&self.encryption).cloned().collect()
    }
}

impl Pending {
    /// Every identifier under which this enrollment has made something, or may have.
    pub fn made(&self) -> Vec<Hex> {
        let mut ids = vec![self.signing.clone(), self.transport.clone()];
        match &self.stage {
            Stage::Making | Stage::Requested { .. } => {}
            Stage::Installing { made, .. } | Stage::Installed { made, .. } | Stage::Abandoned { made, .. } => {
                ids.extend(made.iter().cloned());
            }
            Stage::Confirmed { keys } => ids.extend(keys.objects()),
        }
        ids
    }

    pub fn public(&self) -> PublicPending {
        PublicPending { transaction_id: self.transaction_id.clone(), reference: self.reference.clone() }
    }
}

/// What can be read, and what cannot.
pub(super) type Indexes<T> = (Vec<T>, Vec<Unreadable>);

/// An index that cannot be read.
pub(super) struct Unreadable {
    /// Its label: the keyset's name.
    pub keyset: String,
    /// Why not.
    pub reason: Unread,
}

/// Why an index cannot be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// A newer program wrote it.
    Newer { version: u32 },
    /// It is damaged, or none.
    Damaged { reason: String },
}

impl Unreadable {
    /// The same as an error; `token` is the token's label and serial number.
    pub fn into_error(self, token: &str) -> KeysetError {
        let (keyset, token) = (self.keyset, token.to_owned());
        match self.reason {
            Unread::Newer { version } => KeysetError::Newer { keyset, token, version, reads: VERSION },
            Unread::Damaged { reason } => KeysetError::Damaged { keyset, token, reason },
        }
    }
}

/// All public indexes on the token, the later one of each name, and the labels of those that cannot be read, with why.
pub(super) fn public_indexes(token: &Token) -> Result<Indexes<PublicIndex>, KeysetError> {
    let (found, unreadable) = latest::<PublicIndex>(token.data_objects(APPLICATION, false)?, |index| index.revision);
    Ok((
        found
            .into_iter()
            .filter(|(label, index)| label == index.keyset.name.as_str())
            .map(|(_, index)| index)
            .collect(),
        unreadable,
    ))
}

/// The private index of this name; the token must be unlocked. `None` when there is none.
pub(super) fn private_index(token: &Token, name: &KeysetName) -> Result<Option<PrivateIndex>, KeysetError> {
    let (found, unreadable) = private_indexes(token)?;
    if let Some(unreadable) = unreadable.into_iter().find(|unreadable| unreadable.keyset == name.as_str()) {
        return Err(unreadable.into_error(&token.info().name().to_string()));
    }
    Ok(found.into_iter().find(|index| index.keyset.name == *name))
}

/// All private indexes on the token, which must be unlocked, and the labels of those that cannot be read.
pub(super) fn private_indexes(token: &Token) -> Result<Indexes<PrivateIndex>, KeysetError> {
    let (found, unreadable) = latest::<PrivateIndex>(token.data_objects(APPLICATION, true)?, |index| index.revision);
    Ok((
        found
            .into_iter()
            .filter(|(label, index)| label == index.keyset.name.as_str())
            .map(|(_, index)| index)
            .collect(),
        unreadable,
    ))
}

/// Removes both indexes of this name, the public one last: as long as it stands, the name leads to this token.
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

/// Of each label the index with the highest revision, and those labels under which nothing can be read.
fn latest<T: DeserializeOwned>(objects: Vec<DataObject>, revision: impl Fn(&T) -> u64) -> Indexes<(String, T)> {
    let mut found: Vec<(String, T)> = Vec::new();
    let mut unreadable = Vec::new();
    for object in objects {
        match read::<T>(&object.value) {
            Ok(index) => match found.iter_mut().find(|(label, _)| *label == object.label) {
                Some((_, kept)) if revision(kept) >= revision(&index) => {}
                Some((_, kept)) => *kept = index,
                None => found.push((object.label, index)),
            },
            Err(reason) => unreadable.push(Unreadable { keyset: object.label, reason }),
        }
    }
    unreadable.retain(|unreadable| !found.iter().any(|(readable, _)| *readable == unreadable.keyset));
    (found, unreadable)
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unread> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    // SoftHSM gives values as they are; some cards pad them with zeros.
    let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let value = value.get(..end).unwrap_or_default();
    let damaged = |error: serde_json::Error| Unread::Damaged { reason: format!("its index cannot be read: {error}") };
    let version = serde_json::from_slice::<Version>(value).map_err(damaged)?.version;
    if version > VERSION {
        return Err(Unread::Newer { version });
    }
    if version < VERSION {
        return Err(Unread::Damaged { reason: format!("its index has the version {version}, which there never was") });
    }
    serde_json::from_slice(value).map_err(damaged)
}

/// Bytes that are hexadecimal in JSON.
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

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
