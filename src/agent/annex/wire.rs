//! The protocol between main worker and module worker: frames ([`crate::agent::frame`]) whose
//! secret is a PIN.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::agent::act::{Bytes, Choice, KeysetOnWire, TroubleOnWire};
use crate::agent::{LogOff, Peer, Usage};
use crate::keyset::{ErrorKind, FoundKeyset, KeysetError, TokenTrouble};
use crate::token::{SignatureHash, TokenInfo};

/// Maximum length of a request's JSON in bytes: data of an SSH client to be signed.
pub const LONGEST: usize = 16 * 1024 * 1024;

/// Maximum length of an inventory's JSON in bytes: the certificates on all tokens of a module.
const LONGEST_TOLD: usize = 4 * 1024 * 1024;

/// Maximum length of any other reply's JSON in bytes: a signature, a number or a message.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Maximum number of tokens accepted from one module worker.
const MOST_TOKENS: usize = 256;

/// Maximum number of keysets.
const MOST_KEYSETS: usize = 512;

/// Maximum number of keys and certificates in all keysets together.
const MOST_OBJECTS: usize = 8 * 1024;

/// Maximum length of a token's texts in bytes. PKCS#11 has 32; replacing bytes that are not UTF-8
/// lengthens them.
const LONGEST_TEXT: usize = 128;

/// A request of the main worker. A connection serves one request after another, except for the two
/// that take it over.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// send the inventory now and after each change; takes over the connection
    Watch {},
    /// send the inventory
    Look {
        /// first search for tokens that other programs created, unless a session is active; `true`
        /// includes modules with readers
        again: Option<bool>,
        /// include the current PIN states, and omit tokens without a known one; may take as long as
        /// starting a process
        pins: bool,
    },
    /// sign with the key of this `SubjectPublicKeyInfo` (DER), as its level requires
    Sign {
        /// the key
        spki: Bytes,
        /// the hash
        hash: SignatureHash,
        /// the data to sign; the main worker has parsed it
        data: Bytes,
        /// the client and its purpose
        usage: Usage,
    },
    /// start a session; the frame's secret is the PIN, unless empty
    LogIn {
        /// the keyset to log in for
        keyset: Choice,
        /// the client and its purpose
        usage: Usage,
        /// did a person type the PIN?
        attended: bool,
    },
    /// limit a session
    Bound {
        /// the token
        token: TokenInfo,
        /// time from now, however much the session is used
        seconds: u64,
    },
    /// end one session or all
    LogOff {
        /// the token; none: all sessions
        token: Option<TokenInfo>,
        /// the reason
        why: LogOff,
    },
    /// lock or unlock
    Lock {
        /// true to lock
        locked: bool,
    },
    /// ask whether a token can be created
    Room {},
    /// serve operations in HTTP, as the agent's API does; takes over the connection
    Serve {
        /// the client
        peer: Peer,
    },
}

impl Request {
    /// Maximum length of the reply's JSON in bytes.
    pub fn longest_answer(&self) -> usize {
        if matches!(self, Self::Watch {} | Self::Look { .. }) { LONGEST_TOLD } else { LONGEST_ANSWER }
    }
}

/// A module worker's reply.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// the inventory
    Told(Seen),
    /// the signature, in its algorithm's own encoding
    Signature(Bytes),
    /// the request succeeded
    Done {},
    /// the number of sessions that ended
    Ended(usize),
    /// whether a token can be created
    Room(bool),
    /// the request failed
    Failed(Failed),
}

/// An error, as sent to the main worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// the kind of error, which decides the exit code
    pub kind: ErrorKind,
    /// the complete sentence
    pub message: String,
}

/// An update of the inventory.
#[derive(Debug, Serialize, Deserialize)]
pub struct News {
    /// the inventory after the change
    pub seen: Seen,
    /// the session that started or ended, if one did
    pub log_in: Option<LogInChange>,
}

/// A session started or ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum LogInChange {
    /// the session is active
    Begun(TokenInfo),
    /// the session has ended
    Ended(TokenInfo, LogOff),
}

/// The inventory of a module worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub(super) tokens: Vec<TokenInfo>,
    /// why the module cannot list tokens
    no_tokens: Option<Failed>,
    /// the tokens with an active session
    pub logged_in: Vec<TokenInfo>,
    /// is the module worker locked?
    pub locked: bool,
    keysets: Vec<KeysetOnWire>,
    trouble: Vec<TroubleOnWire>,
}

impl Seen {
    /// Converts the module worker's lists.
    pub fn new(
        tokens: Result<Vec<TokenInfo>, KeysetError>,
        logged_in: Vec<TokenInfo>,
        locked: bool,
        (keysets, trouble): (Vec<FoundKeyset>, Vec<TokenTrouble>),
    ) -> Self {
        let (tokens, no_tokens) = match tokens {
            Ok(tokens) => (tokens, None),
            Err(error) => (Vec::new(), Some(Failed { kind: error.kind(), message: error.to_string() })),
        };
        let keysets = keysets.into_iter().map(KeysetOnWire::from).collect();
        let trouble = trouble.into_iter().map(TroubleOnWire::from).collect();
        Self { tokens, no_tokens, logged_in, locked, keysets, trouble }
    }

    /// The tokens.
    ///
    /// # Errors
    /// The module cannot list its tokens.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        match &self.no_tokens {
            Some(Failed { kind, message }) => Err(KeysetError::Told { kind: *kind, message: message.clone() }),
            None => Ok(self.tokens.clone()),
        }
    }

    /// Returns the inventory if it is within the limits: a compromised module worker could
    /// otherwise exhaust the main worker's memory.
    ///
    /// # Errors
    /// A description of what exceeds its limit.
    pub fn bounded(self) -> Result<Self, String> {
        let objects = self.keysets.iter().map(KeysetOnWire::objects).sum();
        let bounds = [
            ("tokens", self.tokens.len(), MOST_TOKENS),
            ("sessions", self.logged_in.len(), MOST_TOKENS),
            ("keysets", self.keysets.len(), MOST_KEYSETS),
            ("keys and certificates", objects, MOST_OBJECTS),
            ("tokens that cannot be read", self.trouble.len(), MOST_TOKENS),
        ];
        if let Some((what, count, most)) = bounds.into_iter().find(|(_, count, most)| count > most) {
            return Err(format!("{count} {what}, more than the limit of {most}"));
        }
        let keysets = self.keysets.iter().map(KeysetOnWire::token);
        match self.tokens.iter().chain(&self.logged_in).chain(keysets).find(|token| !is_short(token)) {
            Some(_) => Err(format!("a token description longer than {LONGEST_TEXT} bytes")),
            None => Ok(self),
        }
    }

    /// Replaces an oversized inventory: no tokens, and the reason.
    pub fn nothing(kind: ErrorKind, message: String, locked: bool) -> Self {
        let no_tokens = Some(Failed { kind, message });
        let (logged_in, keysets, trouble) = (Vec::new(), Vec::new(), Vec::new());
        Self { tokens: Vec::new(), no_tokens, logged_in, locked, keysets, trouble }
    }

    /// Attributes all tokens to this module, whatever path the module worker loaded. Drops keysets
    /// and sessions of tokens that are not listed.
    pub fn of_module(mut self, module: &Path) -> Self {
        for token in self.tokens.iter_mut().chain(&mut self.logged_in) {
            module.clone_into(&mut token.module);
        }
        let is_there = |token: &TokenInfo| self.tokens.iter().any(|other| other.serial == token.serial);
        self.logged_in.retain(is_there);
        self.keysets.retain(|keyset| is_there(keyset.token()));
        for keyset in &mut self.keysets {
            module.clone_into(&mut keyset.token_mut().module);
        }
        self
    }

    /// The keysets, and the tokens that could not be read. Drops keysets with invalid identifiers.
    pub fn keysets(&self) -> (Vec<FoundKeyset>, Vec<TokenTrouble>) {
        let keysets = self.keysets.iter().cloned().filter_map(|keyset| keyset.try_into().ok()).collect();
        (keysets, self.trouble.iter().cloned().map(TokenTrouble::from).collect())
    }
}

impl LogInChange {
    /// Attributes the token to this module; `None` if the token's texts are too long.
    pub fn of_module(self, module: &Path) -> Option<Self> {
        let own = |mut token: TokenInfo| {
            module.clone_into(&mut token.module);
            is_short(&token).then_some(token)
        };
        Some(match self {
            Self::Begun(token) => Self::Begun(own(token)?),
            Self::Ended(token, why) => Self::Ended(own(token)?, why),
        })
    }
}

/// The main worker sets the module's path itself, so it needs no limit.
fn is_short(token: &TokenInfo) -> bool {
    [&token.label, &token.serial, &token.manufacturer, &token.model].iter().all(|text| text.len() <= LONGEST_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::a_card;

    fn token(module: &str, serial: &str) -> TokenInfo {
        TokenInfo { module: module.into(), serial: serial.into(), ..a_card() }
    }

    #[test]
    fn an_annex_speaks_for_its_own_module_and_for_tokens_that_are_there() {
        let tokens = vec![token("/another.so", "1")];
        let logged_in = vec![token("/another.so", "1"), token("/another.so", "2")];
        let seen = Seen::new(Ok(tokens), logged_in, false, (Vec::new(), Vec::new()));
        let seen = seen.of_module(Path::new("/own.so"));
        assert_eq!(seen.tokens().unwrap(), [token("/own.so", "1")], "it spoke for another module's token");
        assert_eq!(seen.logged_in, [token("/own.so", "1")], "a session on an absent token");
    }

    #[test]
    fn why_a_module_cannot_say_arrives() {
        let error = KeysetError::Told { kind: ErrorKind::Absent, message: "cannot list: pcscd is not there".into() };
        let seen = Seen::new(Err(error), Vec::new(), false, (Vec::new(), Vec::new()));
        let sent = serde_json::to_vec(&seen).unwrap();
        let error = serde_json::from_slice::<Seen>(&sent).unwrap().tokens().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Absent, "cannot list: pcscd is not there"));
    }
}
