//! What the worker asks an annex, and what it answers: frames ([`crate::agent::frame`]), in which a PIN is the secret.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::agent::act::{Bytes, Choice, KeysetOnWire, TroubleOnWire};
use crate::agent::{LogOff, Peer, Usage};
use crate::keyset::{ErrorKind, FoundKeyset, KeysetError, TokenTrouble};
use crate::token::{SignatureHash, TokenInfo};

/// The longest JSON of a frame that an annex reads, bytes: data of an SSH client to be signed.
pub const LONGEST: usize = 16 * 1024 * 1024;

/// The longest with which an annex tells what is there: the certificates on all tokens of a module.
const LONGEST_TOLD: usize = 4 * 1024 * 1024;

/// The longest of its other answers: a signature, a number, a sentence.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The most tokens that are taken from one annex.
const MOST_TOKENS: usize = 256;

/// The most keysets.
const MOST_KEYSETS: usize = 512;

/// The most keys and certificates of all its keysets together.
const MOST_OBJECTS: usize = 8 * 1024;

/// The longest text that a token says of itself, bytes. PKCS#11 has room for 32; where they are not UTF-8 they become more.
const LONGEST_TEXT: usize = 128;

/// What the worker wants of an annex. A connection serves one request after the other, but for the two that take it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// to be told what is there, and each time that it changes; takes the connection
    Watch {},
    /// to be told what is there
    Look {
        /// after having looked for tokens that other programs made, if nobody is logged in; also through readers?
        again: Option<bool>,
        /// with what tokens say of their PINs now, and without those of which it is not known? That
        /// may take as long as another process.
        pins: bool,
    },
    /// a signature by the key with this `SubjectPublicKeyInfo` (DER), as its level wants it
    Sign {
        /// the key
        spki: Bytes,
        /// the hash
        hash: SignatureHash,
        /// what is signed; the worker has read it
        data: Bytes,
        /// who asks, and for what
        usage: Usage,
    },
    /// a log-in that stands; with the PIN that is the frame's secret, if that is not empty
    LogIn {
        /// for which keyset
        keyset: Choice,
        /// who asks
        usage: Usage,
        /// did a person type the PIN?
        attended: bool,
    },
    /// that a log-in stands no longer than this
    Bound {
        /// the token
        token: TokenInfo,
        /// how long, however much it is used
        seconds: u64,
    },
    /// that a log-in ends, or all
    LogOff {
        /// the one to this token
        token: Option<TokenInfo>,
        /// why
        why: LogOff,
    },
    /// that nothing is done until it is unlocked
    Lock {
        /// locked, or unlocked again?
        locked: bool,
    },
    /// whether a token can be made
    Room {},
    /// acts, by HTTP as at the agent's own API; takes the connection
    Serve {
        /// who asks
        peer: Peer,
    },
}

impl Request {
    /// The longest JSON of an answer to it, bytes.
    pub fn longest_answer(&self) -> usize {
        if matches!(self, Self::Watch {} | Self::Look { .. }) { LONGEST_TOLD } else { LONGEST_ANSWER }
    }
}

/// What an annex answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// what is there
    Told(Seen),
    /// the signature, in its algorithm's own form
    Signature(Bytes),
    /// it is done
    Done {},
    /// how many log-ins ended
    Ended(usize),
    /// whether there is room
    Room(bool),
    /// it is not done
    Failed(Failed),
}

/// Why something is not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// the end that this leads to
    pub kind: ErrorKind,
    /// the whole sentence
    pub message: String,
}

/// Something has changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct News {
    /// what is there now
    pub seen: Seen,
    /// a log-in that begun or ended
    pub log_in: Option<LogInChange>,
}

/// A log-in begun or ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum LogInChange {
    /// it stands now
    Begun(TokenInfo),
    /// it is over
    Ended(TokenInfo, LogOff),
}

/// What is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub(super) tokens: Vec<TokenInfo>,
    /// why the module cannot say
    no_tokens: Option<Failed>,
    /// those to which a log-in stands
    pub logged_in: Vec<TokenInfo>,
    /// is it locked?
    pub locked: bool,
    keysets: Vec<KeysetOnWire>,
    trouble: Vec<TroubleOnWire>,
}

impl Seen {
    /// For the wire.
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
    /// The module cannot say.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        match &self.no_tokens {
            Some(Failed { kind, message }) => Err(KeysetError::Told { kind: *kind, message: message.clone() }),
            None => Ok(self.tokens.clone()),
        }
    }

    /// The same, if it is no more than is taken of one module: an annex that means harm could fill the worker's memory with
    /// what it has made up.
    ///
    /// # Errors
    /// What is too much.
    pub fn bounded(self) -> Result<Self, String> {
        let objects = self.keysets.iter().map(KeysetOnWire::objects).sum();
        let bounds = [
            ("tokens", self.tokens.len(), MOST_TOKENS),
            ("log-ins", self.logged_in.len(), MOST_TOKENS),
            ("keysets", self.keysets.len(), MOST_KEYSETS),
            ("keys and certificates", objects, MOST_OBJECTS),
            ("tokens that cannot be read", self.trouble.len(), MOST_TOKENS),
        ];
        if let Some((what, count, most)) = bounds.into_iter().find(|(_, count, most)| count > most) {
            return Err(format!("{count} {what}, and no more than {most} are taken"));
        }
        let keysets = self.keysets.iter().map(KeysetOnWire::token);
        match self.tokens.iter().chain(&self.logged_in).chain(keysets).find(|token| !is_short(token)) {
            Some(_) => Err(format!("a token that describes itself with more than {LONGEST_TEXT} bytes")),
            None => Ok(self),
        }
    }

    /// In the place of what was too much: no token, and why.
    pub fn nothing(kind: ErrorKind, message: String, locked: bool) -> Self {
        let no_tokens = Some(Failed { kind, message });
        let (logged_in, keysets, trouble) = (Vec::new(), Vec::new(), Vec::new());
        Self { tokens: Vec::new(), no_tokens, logged_in, locked, keysets, trouble }
    }

    /// As of this module, by whatever path the annex has loaded it; a keyset, or a log-in, of a token that is not there is
    /// none.
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

    /// The keysets, and what could not be looked at. One whose identifiers make no sense is none.
    pub fn keysets(&self) -> (Vec<FoundKeyset>, Vec<TokenTrouble>) {
        let keysets = self.keysets.iter().cloned().filter_map(|keyset| keyset.try_into().ok()).collect();
        (keysets, self.trouble.iter().cloned().map(TokenTrouble::from).collect())
    }
}

impl LogInChange {
    /// As of this module; none when the token is described at too great length.
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

/// The module's path is not the annex's to say.
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
        assert_eq!(seen.logged_in, [token("/own.so", "1")], "a log-in to a token that is not there");
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
