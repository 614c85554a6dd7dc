//! Which tokens and keysets are there: modules → tokens → public indexes, without any PIN.

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

/// How long to wait for a token that another program uses, when it is only looked at: as long as a listing takes.
const GLANCE: Duration = Duration::from_millis(300);

/// The PKCS#11 modules to look through.
#[derive(Clone, Debug)]
pub struct Tokens {
    modules: Vec<Module>,
    elsewhere: Vec<Arc<dyn Elsewhere>>,
    /// Modules that cannot be used.
    pub(super) left_out: Vec<LeftOut>,
    /// What is kept between acts; the agent's alone.
    pub(super) kept: Option<Arc<Kept>>,
    /// Tests that share a module look at their own tokens alone.
    #[cfg(test)]
    prefix: String,
}

/// How far a keyset is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standing {
    /// Enrolled; usable.
    Enrolled,
    /// Its first enrollment is not finished; the same letter finishes it.
    Pending {
        /// the reference of the letter it was begun with
        reference: String,
    },
    /// Enrolled and usable; a re-enrollment is not finished.
    ReenrollmentPending {
        /// the reference of the letter it was begun with
        reference: String,
    },
}

/// A keyset as its token's public index has it. Anybody who can write to the token may have changed it: good for
/// choosing a token, and believed no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundKeyset {
    /// its name
    pub name: KeysetName,
    /// its level
    pub level: SecurityLevel,
    /// where its authority is
    pub authority: AuthorityAddress,
    /// how far it is
    pub standing: Standing,
    /// the token it is on
    pub token: TokenInfo,
    /// `CKA_ID` of its signing key
    pub signing: Option<KeyId>,
    /// `CKA_ID`s of its encryption keys, the current one first
    pub encryption: Vec<KeyId>,
    /// `CKA_ID` under which the authority's CA certificate is
    pub authority_certificate: Option<KeyId>,
    /// its certificates that are there: signing, encryption in the order of the keys, authority
    pub certificates: Vec<StoredCertificate>,
}

/// A token that could not be looked at, and why.
#[derive(Debug)]
pub struct TokenTrouble {
    /// the token, or the module if it is that
    pub place: String,
    /// why
    pub error: KeysetError,
}

impl Tokens {
    /// Looks through these modules.
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

    /// Also lists what other processes have, after what is here, and chooses among all.
    #[must_use]
    pub fn and_elsewhere(mut self, elsewhere: Vec<Arc<dyn Elsewhere>>) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Those that are here, alone.
    #[must_use]
    pub fn here(&self) -> Self {
        Self { elsewhere: Vec::new(), ..self.clone() }
    }

    #[cfg(test)]
    pub(super) fn seeing_only(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The modules.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Whoever names nothing may mean what another process has, and that one is being started: what is left must not be
    /// taken for it.
    pub(super) fn refuse_unless_all_are_there(&self) -> Result<(), KeysetError> {
        let gone = self.elsewhere.iter().find_map(|elsewhere| elsewhere.tokens().err());
        gone.map_or(Ok(()), |error| {
            Err(KeysetError::Told {
                kind: error.kind(),
                message: format!("{error}, or name the keyset or token that is meant"),
            })
        })
    }

    /// The modules here in which a token can be made.
    ///
    /// # Errors
    /// A module does not answer.
    pub fn modules_with_room(&self) -> Result<Vec<PathBuf>, KeysetError> {
        let mut found = Vec::new();
        for module in &self.modules {
            if module.can_create_tokens()? {
                found.push(module.path().to_owned());
            }
        }
        Ok(found)
    }

    /// All initialized tokens that are present, in the modules' order; one that two modules show is listed once.
    pub fn list(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        self.list_by(Module::tokens)
    }

    /// The same as far as it costs no card an answer: what a token says about itself is what it said when it came, or was last
    /// listed.
    pub fn glance(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        self.list_by(Module::glance)
    }

    fn list_by(&self, look: Look) -> Result<Vec<TokenInfo>, KeysetError> {
        let (tokens, trouble) = self.list_each(look);
        match trouble.into_iter().next() {
            // The agent goes on with the modules that work.
            Some(trouble) if self.kept.is_none() || tokens.is_empty() => Err(trouble.error),
            _ => Ok(tokens),
        }
    }

    /// The tokens of each module, and the modules that cannot say.
    fn list_each(&self, look: Look) -> Seen<TokenInfo> {
        let mut tokens: Vec<TokenInfo> = Vec::new();
        let mut trouble = Vec::new();
        let here = self.modules.iter().map(|module| {
            // Where a module only does not answer, its tokens are not gone.
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

    /// Asks a module. The agent serves others meanwhile, so it waits for none without end.
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

    /// All keysets on all tokens, and what could not be looked at. A token in use by another program is trouble, not an
    /// error.
    pub fn keysets(&self) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), KeysetError> {
        self.keysets_and(None)
    }

    /// The same, but for a token in use by another program whose label is this name it waits as long as for any act.
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
                // Not this token's trouble alone.
                Err(error @ KeysetError::Token(TokenError::LockDirectory { .. })) => return Err(error),
                Err(error) => {
                    // That a module does not answer is said once, not of each of its tokens.
                    let text = error.to_string();
                    if !trouble.iter().any(|trouble| trouble.error.to_string() == text) {
                        trouble.push(TokenTrouble { place: token.name().to_string(), error });
                    }
                }
            }
        }
        Ok((found, trouble))
    }

    /// The keysets on one token, and those whose index cannot be read.
    pub(super) fn keysets_on(&self, info: &TokenInfo) -> Result<(Vec<FoundKeyset>, Vec<TokenTrouble>), KeysetError> {
        self.look_at(info, None)
    }

    /// Opens a token that was found.
    pub(super) fn open(&self, info: &TokenInfo) -> Result<Token, KeysetError> {
        self.open_within(info, None)
    }

    /// With a patience, to look at all tokens: one that another program has for long, as an authority has its own, is
    /// passed over.
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

    /// Looks at a token among others: it is not waited for long.
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

    /// Reads a token's public indexes, or remembers what they said.
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
        // What could not be read is read again each time, until it can be.
        if trouble.is_empty() {
            kept.keep_keysets(info, &token, &keysets);
        }
        Ok((keysets, trouble))
    }

    /// The module that a token was found through.
    pub fn module_of(&self, info: &TokenInfo) -> Result<&Module, KeysetError> {
        self.modules.iter().find(|module| module.path() == info.module).ok_or_else(|| KeysetError::NoSuchToken {
            selector: info.name().to_string(),
            found: format!("its module {} is not loaded", info.module.display()),
        })
    }
}

/// How a module is asked for its tokens.
type Look = fn(&Module) -> Result<Vec<TokenInfo>, TokenError>;

/// What is there, and what could not be looked at.
type Seen<T> = (Vec<T>, Vec<TokenTrouble>);

/// Of what another process has told what is about this token.
fn only_on(info: &TokenInfo, (keysets, trouble): Seen<FoundKeyset>) -> Seen<FoundKeyset> {
    let name = info.name().to_string();
    let keysets = keysets.into_iter().filter(|keyset| keyset.token.serial == info.serial).collect();
    (keysets, trouble.into_iter().filter(|trouble| trouble.place == name).collect())
}

/// No user's act opens an authority's token.
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
        // In the order in which the index names them: signing, encryption with the current one first, authority.
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

    /// Does it stand, so that it can sign and decrypt?
    pub fn is_usable(&self) -> bool {
        self.signing.is_some()
    }

    /// The reference of the letter whose enrollment is not finished.
    pub fn pending_reference(&self) -> Option<&str> {
        match &self.standing {
            Standing::Enrolled => None,
            Standing::Pending { reference } | Standing::ReenrollmentPending { reference } => Some(reference),
        }
    }

    /// The stored certificate of this key.
    pub fn certificate_of(&self, id: &KeyId) -> Option<&StoredCertificate> {
        self.certificates.iter().find(|certificate| certificate.id == *id)
    }

    /// The authority's CA certificate, DER.
    pub fn authority_certificate(&self) -> Option<&[u8]> {
        self.certificate_of(self.authority_certificate.as_ref()?).map(|certificate| certificate.der.as_slice())
    }

    /// SHA-256 of the authority's CA certificate: the pin of a carrier to it.
    pub fn authority_sha256(&self) -> Option<[u8; 32]> {
        self.authority_certificate().map(|der| *Fingerprint::of(der).as_bytes())
    }

    /// Name and token, for messages.
    pub fn described(&self) -> String {
        format!("{:?} on {}", self.name.as_str(), self.token.name())
    }
}

/// Two modules may show one token; serial numbers are unique for a manufacturer and model.
fn is_same(one: &TokenInfo, other: &TokenInfo) -> bool {
    one.serial == other.serial
        && one.label == other.label
        && one.manufacturer == other.manufacturer
        && one.model == other.model
}
