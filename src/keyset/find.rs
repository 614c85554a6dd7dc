//! Discovers tokens and keysets without a PIN: modules → tokens → public indexes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pki::Fingerprint;
use crate::token::{KeyId, KeysetName, Module, SecurityLevel, StoredCertificate, Token, TokenError, TokenInfo};

use super::index::{self, Hex, PublicIndex};
use super::kept::Kept;
use super::left_out::LeftOut;
use super::{AuthorityAddress, Elsewhere, KeysetError};

/// How long a listing of all tokens waits for a token that another program uses.
const GLANCE: Duration = Duration::from_millis(300);

/// The PKCS#11 modules and remote tokens that are searched.
#[derive(Clone, Debug)]
pub struct Tokens {
    modules: Vec<Module>,
    elsewhere: Vec<Arc<dyn Elsewhere>>,
    /// Configured modules that cannot be used.
    pub(super) left_out: Vec<LeftOut>,
    /// State kept between operations; only the agent has it.
    pub(super) kept: Option<Arc<Kept>>,
    /// Tests that share a module see only the tokens with this label prefix.
    #[cfg(test)]
    prefix: String,
}

/// The enrollment state of a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standing {
    /// Enrolled and usable.
    Enrolled,
    /// The first enrollment is not finished; the same letter finishes it.
    Pending {
        /// the reference of the letter with which it began
        reference: String,
    },
    /// Enrolled and usable, but a re-enrollment is not finished.
    ReenrollmentPending {
        /// the reference of the letter with which it began
        reference: String,
    },
}

/// A keyset as described by its token's public index. Anyone who can write to the token may have
/// changed it, so it only serves to choose a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKeyset {
    /// the name
    pub name: KeysetName,
    /// the security level
    pub level: SecurityLevel,
    /// the addresses of its authority
    pub authority: AuthorityAddress,
    /// the enrollment state
    pub standing: Standing,
    /// the token that stores it
    pub token: TokenInfo,
    /// `CKA_ID` of the signing key; `None` before the first enrollment is finished
    pub signing: Option<KeyId>,
    /// `CKA_ID`s of the encryption keys, current key first
    pub encryption: Vec<KeyId>,
    /// `CKA_ID` of the authority's CA certificate
    pub authority_certificate: Option<KeyId>,
    /// the certificates found on the token: signing, encryption (in key order), authority
    pub certificates: Vec<StoredCertificate>,
}

/// A token or module that could not be read.
#[derive(Debug)]
pub struct TokenTrouble {
    /// label and serial number of the token, or the path of the module
    pub place: String,
    /// the reason
    pub error: KeysetError,
}

impl Tokens {
    /// Searches these modules.
    pub fn new(modules: Vec<Module>) -> Self {
        Self {
            modules,
            elsewhere: Vec::new(),
            left_out: Vec::new(),
            kept: None,
            #[cfg(test)]
            prefix: String::new(),
        }
    }

    /// Adds the tokens of other processes; lists name them after the local ones.
    #[must_use]
    pub fn and_elsewhere(mut self, elsewhere: Vec<Arc<dyn Elsewhere>>) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Only the local modules, without the tokens of other processes.
    #[must_use]
    pub fn here(&self) -> Self {
        Self { elsewhere: Vec::new(), ..self.clone() }
    }

    #[cfg(test)]
    pub(super) fn seeing_only(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The local modules.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Refuses an operation without a selector while a remote process is starting: it may hold the
    /// intended token, and the remaining ones must not be taken for it.
    pub(super) fn refuse_unless_all_are_there(&self) -> Result<(), KeysetError> {
        let gone = self.elsewhere.iter().find_map(|elsewhere| elsewhere.tokens().err());
        gone.map_or(Ok(()), |error| {
            Err(KeysetError::Told {
                kind: error.kind(),
                message: format!("{error}, or name the keyset or token that is meant"),
            })
        })
    }

    /// The paths of the local modules in which a token can be created.
    ///
    /// # Errors
    /// A module does not respond.
    pub fn modules_with_room(&self) -> Result<Vec<PathBuf>, KeysetError> {
        let mut found = Vec::new();
        for module in &self.modules {
            if module.can_create_tokens()? {
                found.push(module.path().to_owned());
            }
        }
        Ok(found)
    }

    /// Lists all initialized tokens present, in the order of the modules. A token shown by two
    /// modules is listed once.
    pub fn list(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        self.list_by(Module::tokens)
    }

    /// As [`Tokens::list`], but without a request to any card: the token information dates from the
    /// insertion or the last listing.
    pub fn glance(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        self.list_by(Module::glance)
    }

    fn list_by(&self, look: Look) -> Result<Vec<TokenInfo>, KeysetError> {
        let (tokens, trouble) = self.list_each(look);
        match trouble.into_iter().next() {
            // The agent continues with the modules that work.
            Some(trouble) if self.kept.is_none() || tokens.is_empty() => Err(trouble.error),
            _ => Ok(tokens),
        }
    }

    /// Lists the tokens of each module, and the modules that failed.
    fn list_each(&self, look: Look) -> Seen<TokenInfo> {
        let mut tokens: Vec<TokenInfo> = Vec::new();
        let mut trouble = Vec::new();
        let here = self.modules.iter().map(|module| {
            // A module that only does not respond still has its tokens.
            let last_seen = || if module.silent_for().is_some() { module.last_seen() } else { Vec::new() };
            (module.path(), self.asked(module, look).map_err(|error| (KeysetError::from(error), last_seen())))
        });
        let elsewhere = self.elsewhere.iter();
        let elsewhere = elsewhere.map(|there| (there.module(), there.tokens().map_err(|error| (error, Vec::new()))));
        for (module, listed) in here.chain(elsewhere) {
            let listed = listed.unwrap_or_else(|(error, last_seen)| {
                trouble.push(TokenTrouble { place: module.display().to_string(), error });
                last_seen
            });
            for token in listed {
                #[cfg(test)]
                if !token.label.starts_with(&self.prefix) {
                    continue;
                }
                if !tokens.iter().any(|seen| is_same(seen, &token)) {
                    tokens.push(token);
                }
            }
        }
        (tokens, trouble)
    }

    /// Queries a module. In the agent the query has a time limit, because other requests must not
    /// wait for one module.
    pub(super) fn asked<T: Send + 'static>(
        &self,
        module: &Module,
        ask: impl FnOnce(&Module) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        if self.kept.is_none() {
            return ask(module);
        }
        let of_thread = module.clone();
        module.ask(move || ask(&of_thread))?
    }

    /// Reads all keysets on all tokens. Returns also the tokens that could not be read, among them
    /// those in use by another program.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), KeysetError> {
        self.keysets_and(None)
    }

    /// As [`Tokens::keysets`], but a token whose label is `name` gets the full waiting time when
    /// another program uses it.
    pub(super) fn keysets_and(
        &self,
        name: Option<&KeysetName>,
    ) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), KeysetError> {
        let mut found = Vec::new();
        let (tokens, mut trouble) = self.list_each(Module::tokens);
        if self.kept.is_none() && !trouble.is_empty() {
            return Err(trouble.swap_remove(0).error);
        }
        let taken =
            self.modules.iter().filter_map(|module| Some((module.path().display().to_string(), module.taken()?)));
        trouble.extend(taken.map(|(place, error)| TokenTrouble { place, error: error.into() }));
        trouble.extend(self.modules_left_out());
        for token in tokens {
            let wanted = name.is_some_and(|name| token.label == name.as_str());
            let looked = if wanted { self.look_at(&token, None) } else { self.glance_at(&token) };
            match looked {
                Err(KeysetError::Authoritys { .. }) => {}
                Ok((keysets, unreadable)) => {
                    found.extend(keysets);
                    trouble.extend(unreadable);
                }
                // This error concerns every token.
                Err(error @ KeysetError::Token(TokenError::LockDirectory { .. })) => return Err(error),
                Err(error) => {
                    // Report an unresponsive module once, not for each of its tokens.
                    let text = error.to_string();
                    if !trouble.iter().any(|trouble| trouble.error.to_string() == text) {
                        trouble.push(TokenTrouble { place: token.name().to_string(), error });
                    }
                }
            }
        }
        Ok((found, trouble))
    }

    /// Reads the keysets on one token. Returns also the keysets whose index is unreadable.
    pub(super) fn keysets_on(&self, info: &TokenInfo) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), KeysetError> {
        self.look_at(info, None)
    }

    /// Opens a token that was found.
    pub(super) fn open(&self, info: &TokenInfo) -> Result<Token, KeysetError> {
        self.open_within(info, None)
    }

    /// Opens a token, waiting no longer than `patience` for another program to release it. A
    /// program such as an authority may own its token permanently.
    fn open_within(&self, info: &TokenInfo, patience: Option<Duration>) -> Result<Token, KeysetError> {
        if let Some(kept) = &self.kept {
            if kept.is_an_authoritys(info) {
                return Err(authoritys(info));
            }
            self.module_of(info)?.must_answer()?;
            if let Some(token) = kept.open(info) {
                return Ok(token);
            }
        }
        let module = self.module_of(info)?;
        if module.is_in_use_by_an_authority(info) {
            return Err(authoritys(info));
        }
        let opened = match (patience, &self.kept) {
            (Some(patience), Some(kept)) => {
                let opened = module.open_within(info, kept.patience(info, patience));
                kept.note_held(info, &opened);
                opened
            }
            (Some(patience), None) => module.open_within(info, patience),
            (None, _) => module.open(info),
        };
        let token = opened?;
        if !token.is_an_authoritys()? {
            return Ok(token);
        }
        if let Some(kept) = &self.kept {
            kept.note_authoritys(info);
        }
        Err(authoritys(info))
    }

    fn is_elsewhere(&self, info: &TokenInfo) -> bool {
        self.elsewhere.iter().any(|elsewhere| elsewhere.module() == info.module)
    }

    /// Reads the keysets of one token among many, with the short waiting time [`GLANCE`].
    fn glance_at(&self, info: &TokenInfo) -> Result<Seen<FoundKeyset>, KeysetError> {
        if self.is_elsewhere(info) {
            return self.look_at(info, None);
        }
        let Some(kept) = &self.kept else { return self.look_at(info, Some(GLANCE)) };
        if let Some(keysets) = kept.keysets(info) {
            return Ok((keysets, Vec::new()));
        }
        let (tokens, of_thread) = (self.clone(), info.clone());
        self.module_of(info)?.ask(move || tokens.look_at(&of_thread, Some(GLANCE)))?
    }

    /// Returns a token's keysets from the cache, or reads its public indexes.
    fn look_at(&self, info: &TokenInfo, patience: Option<Duration>) -> Result<Seen<FoundKeyset>, KeysetError> {
        if let Some(elsewhere) = self.elsewhere.iter().find(|elsewhere| elsewhere.module() == info.module) {
            return Ok(only_on(info, elsewhere.keysets()));
        }
        let Some(kept) = &self.kept else {
            return keysets_of(&self.open_within(info, patience)?, info);
        };
        if kept.is_an_authoritys(info) {
            return Err(authoritys(info));
        }
        if let Some(keysets) = kept.keysets(info) {
            return Ok((keysets, Vec::new()));
        }
        let token = self.open_within(info, patience)?;
        let (keysets, trouble) = keysets_of(&token, info)?;
        // Incomplete results are not cached, so that the next call reads again.
        if trouble.is_empty() {
            kept.keep_keysets(info, &token, &keysets);
        }
        Ok((keysets, trouble))
    }

    /// The module through which the token was found.
    pub fn module_of(&self, info: &TokenInfo) -> Result<&Module, KeysetError> {
        self.modules.iter().find(|module| module.path() == info.module).ok_or_else(|| KeysetError::NoSuchToken {
            selector: info.name().to_string(),
            found: format!("its module {} is not loaded", info.module.display()),
        })
    }
}

/// Lists the tokens of a module.
type Look = fn(&Module) -> Result<Vec<TokenInfo>, TokenError>;

/// The items found, and the tokens that could not be read.
type Seen<T> = (Vec<T>, Vec<TokenTrouble>);

/// Filters another process's report for one token.
fn only_on(info: &TokenInfo, (keysets, trouble): Seen<FoundKeyset>) -> Seen<FoundKeyset> {
    let name = info.name().to_string();
    let keysets = keysets.into_iter().filter(|keyset| keyset.token.serial == info.serial).collect();
    (keysets, trouble.into_iter().filter(|trouble| trouble.place == name).collect())
}

/// The error for a token that belongs to an authority.
fn authoritys(info: &TokenInfo) -> KeysetError {
    KeysetError::Authoritys { token: info.name().to_string() }
}

pub(super) fn keysets_of(token: &Token, info: &TokenInfo) -> Result<Seen<FoundKeyset>, KeysetError> {
    let (indexes, unreadable) = index::public_indexes(token)?;
    let certificates = if indexes.is_empty() { Vec::new() } else { token.certificates()? };
    let place = info.name().to_string();
    let trouble = unreadable
        .into_iter()
        .map(|unreadable| TokenTrouble { place: place.clone(), error: unreadable.into_error(&place) });
    let found = indexes.into_iter().map(|index| FoundKeyset::from_index(index, info, &certificates));
    Ok((found.collect(), trouble.collect()))
}

impl FoundKeyset {
    pub(super) fn from_index(index: PublicIndex, token: &TokenInfo, certificates: &[StoredCertificate]) -> Self {
        let card = index.keyset;
        let reference = index.pending.map(|pending| pending.reference);
        let standing = match (&card.keys, reference) {
            (None, reference) => Standing::Pending { reference: reference.unwrap_or_default() },
            (Some(_), Some(reference)) => Standing::ReenrollmentPending { reference },
            (Some(_), None) => Standing::Enrolled,
        };
        let (signing, encryption, authority) = match card.keys {
            Some(keys) => (Some(keys.signing), keys.encryption, Some(keys.authority)),
            None => (None, Vec::new(), None),
        };
        let named: Vec<KeyId> = signing.iter().chain(&encryption).chain(&authority).map(Hex::key_id).collect();
        // In the order of the index: signing, encryption with the current key first, authority.
        let certificates = named
            .iter()
            .filter_map(|id| certificates.iter().find(|certificate| certificate.id == *id).cloned())
            .collect();
        Self {
            name: card.name,
            level: card.level,
            authority: card.authority,
            standing,
            token: token.clone(),
            signing: signing.as_ref().map(Hex::key_id),
            encryption: encryption.iter().map(Hex::key_id).collect(),
            authority_certificate: authority.as_ref().map(Hex::key_id),
            certificates,
        }
    }

    /// Returns whether an enrollment is finished, so that the keyset can sign and decrypt.
    pub fn is_usable(&self) -> bool {
        self.signing.is_some()
    }

    /// The reference of the letter of an unfinished enrollment.
    pub fn pending_reference(&self) -> Option<&str> {
        match &self.standing {
            Standing::Enrolled => None,
            Standing::Pending { reference } | Standing::ReenrollmentPending { reference } => Some(reference),
        }
    }

    /// The stored certificate with this `CKA_ID`.
    pub fn certificate_of(&self, id: &KeyId) -> Option<&StoredCertificate> {
        self.certificates.iter().find(|certificate| certificate.id == *id)
    }

    /// The authority's CA certificate in DER.
    pub fn authority_certificate(&self) -> Option<&[u8]> {
        self.certificate_of(self.authority_certificate.as_ref()?).map(|certificate| certificate.der.as_slice())
    }

    /// SHA-256 of the authority's CA certificate, the pin of connections to it.
    pub fn authority_sha256(&self) -> Option<[u8; 32]> {
        self.authority_certificate().map(|der| *Fingerprint::of(der).as_bytes())
    }

    /// Keyset name, token label and serial number, for messages.
    pub fn described(&self) -> String {
        format!("{:?} on {}", self.name.as_str(), self.token.name())
    }
}

/// Returns whether two entries show the same token. Serial numbers are unique per manufacturer and
/// model.
fn is_same(one: &TokenInfo, other: &TokenInfo) -> bool {
    one.serial == other.serial
        && one.label == other.label
        && one.manufacturer == other.manufacturer
        && one.model == other.model
}
