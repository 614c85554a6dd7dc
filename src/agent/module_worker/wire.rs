//! The protocol between main worker and module worker: frames ([`crate::agent::frame`]) whose
//! secret is a PIN.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::agent::operation::{Bytes, WireKeyset, WireKeysetChoice, WireUnreadableToken};
use crate::agent::{LogOffReason, PeerProcess, Usage};
use crate::keyset::{ErrorKind, FoundKeyset, KeysetError, UnreadableToken};
use crate::token::{SignatureHash, TokenInfo};

/// Maximum length of a request's JSON in bytes: data of an SSH client to be signed.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Maximum length of an inventory's JSON in bytes: the certificates on all tokens of a module.
const MAX_INVENTORY_BYTES: usize = 4 * 1024 * 1024;

/// Maximum length of any other reply's JSON in bytes: a signature, a number or a message.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// Maximum number of tokens accepted from one module worker.
const MAX_TOKENS: usize = 256;

/// Maximum number of keysets in an inventory.
const MAX_KEYSETS: usize = 512;

/// Maximum number of keys and certificates in all keysets together.
const MAX_OBJECTS: usize = 8 * 1024;

/// Maximum length in bytes of each text in a token's description. PKCS#11 allows 32; replacing
/// bytes that are not UTF-8 makes a text longer.
const MAX_TEXT_BYTES: usize = 128;

/// A request of the main worker. A connection serves one request after another, except for the two
/// that take it over.
#[derive(Debug, Serialize, Deserialize)]
pub enum ModuleWorkerRequest {
    /// send the inventory now and after each change; takes over the connection
    Watch {},
    /// send the inventory
    ReadInventory {
        /// `Some`: first rescan the module for tokens that other programs created, unless a session
        /// is active. `Some(true)` rescans a module with readers too; `Some(false)` does not.
        rescan: Option<bool>,
        /// include the current PIN states, and omit tokens whose PIN state is unknown; may start a
        /// process
        pin_states: bool,
    },
    /// sign with the key of this `SubjectPublicKeyInfo` (DER), as its level requires
    Sign {
        /// the key
        spki: Bytes,
        hash: SignatureHash,
        /// the data to sign; the main worker has parsed it
        data: Bytes,
        /// the client and its purpose
        usage: Usage,
    },
    /// start a session; the frame's secret is the PIN, or empty if the module worker must ask for
    /// it
    LogIn {
        /// the keyset to log in for
        keyset: WireKeysetChoice,
        /// the client and its purpose
        usage: Usage,
        /// true if a person typed the PIN
        attended: bool,
    },
    LimitSession {
        token: TokenInfo,
        /// time from now in seconds, whether the session is used or not
        seconds: u64,
    },
    /// end one session or all
    LogOff {
        /// the token; `None` ends all sessions
        token: Option<TokenInfo>,
        reason: LogOffReason,
    },
    /// lock or unlock
    Lock {
        /// true to lock
        locked: bool,
    },
    /// ask whether a token can be created
    FreeSlot {},
    /// serve operations over HTTP, as the agent's API does; takes over the connection
    Serve {
        /// the client
        peer: PeerProcess,
    },
}

impl ModuleWorkerRequest {
    /// Maximum length of the reply's JSON in bytes.
    pub fn max_reply_bytes(&self) -> usize {
        if matches!(self, Self::Watch {} | Self::ReadInventory { .. }) { MAX_INVENTORY_BYTES } else { MAX_REPLY_BYTES }
    }
}

/// A module worker's reply.
#[derive(Debug, Serialize, Deserialize)]
pub enum ModuleWorkerReply {
    Inventory(Inventory),
    /// the signature, in its algorithm's own encoding
    Signature(Bytes),
    /// the request succeeded
    Done {},
    /// the number of sessions that ended
    Ended(usize),
    /// whether a token can be created
    FreeSlot(bool),
    /// the request failed
    Failed(WireError),
}

/// An error, as sent to the main worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireError {
    /// the kind of error, which decides the exit code
    pub kind: ErrorKind,
    /// the complete message
    pub message: String,
}

/// An update of the inventory.
#[derive(Debug, Serialize, Deserialize)]
pub struct StateUpdate {
    /// the inventory after the change
    pub inventory: Inventory,
    /// the session that started or ended, if one did
    pub session_change: Option<SessionChange>,
}

/// A session started or ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum SessionChange {
    /// the session is active
    Started(TokenInfo),
    /// the session has ended
    Ended(TokenInfo, LogOffReason),
}

/// The inventory of a module worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inventory {
    pub(super) tokens: Vec<TokenInfo>,
    /// why the module cannot list tokens
    list_error: Option<WireError>,
    /// the tokens with an active session
    pub logged_in: Vec<TokenInfo>,
    /// true if the module worker is locked
    pub locked: bool,
    keysets: Vec<WireKeyset>,
    unreadable_tokens: Vec<WireUnreadableToken>,
}

impl Inventory {
    /// Converts the module worker's lists.
    pub fn new(
        tokens: Result<Vec<TokenInfo>, KeysetError>,
        logged_in: Vec<TokenInfo>,
        locked: bool,
        (keysets, unreadable_tokens): (Vec<FoundKeyset>, Vec<UnreadableToken>),
    ) -> Self {
        let (tokens, list_error) = match tokens {
            Ok(tokens) => (tokens, None),
            Err(error) => (Vec::new(), Some(WireError { kind: error.kind(), message: error.to_string() })),
        };
        let keysets = keysets.into_iter().map(WireKeyset::from).collect();
        let unreadable_tokens = unreadable_tokens.into_iter().map(WireUnreadableToken::from).collect();
        Self { tokens, list_error, logged_in, locked, keysets, unreadable_tokens }
    }

    /// The tokens.
    ///
    /// # Errors
    /// The module cannot list its tokens.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, KeysetError> {
        match &self.list_error {
            Some(WireError { kind, message }) => Err(KeysetError::Remote { kind: *kind, message: message.clone() }),
            None => Ok(self.tokens.clone()),
        }
    }

    /// Returns the inventory if it is within the limits: a compromised module worker could
    /// otherwise exhaust the main worker's memory.
    ///
    /// # Errors
    /// A description of what exceeds its limit.
    pub fn within_limits(self) -> Result<Self, String> {
        let object_count = self.keysets.iter().map(WireKeyset::objects).sum();
        let counts = [
            ("tokens", self.tokens.len(), MAX_TOKENS),
            ("sessions", self.logged_in.len(), MAX_TOKENS),
            ("keysets", self.keysets.len(), MAX_KEYSETS),
            ("keys and certificates", object_count, MAX_OBJECTS),
            ("tokens that cannot be read", self.unreadable_tokens.len(), MAX_TOKENS),
        ];
        if let Some((objects, count, limit)) = counts.into_iter().find(|(_, count, limit)| count > limit) {
            return Err(format!("{count} {objects}, more than the limit of {limit}"));
        }
        let keysets = self.keysets.iter().map(WireKeyset::token);
        match self.tokens.iter().chain(&self.logged_in).chain(keysets).find(|token| !is_short(token)) {
            Some(_) => Err(format!("a token description longer than {MAX_TEXT_BYTES} bytes")),
            None => Ok(self),
        }
    }

    /// Replaces an oversized inventory: no tokens, and the reason.
    pub fn without_tokens(kind: ErrorKind, message: String, locked: bool) -> Self {
        let list_error = Some(WireError { kind, message });
        let (logged_in, keysets, unreadable_tokens) = (Vec::new(), Vec::new(), Vec::new());
        Self { tokens: Vec::new(), list_error, logged_in, locked, keysets, unreadable_tokens }
    }

    /// Attributes all tokens to this module, whatever path the module worker loaded. Drops keysets
    /// and sessions of tokens that are not listed.
    pub fn attributed_to(mut self, module: &Path) -> Self {
        for token in self.tokens.iter_mut().chain(&mut self.logged_in) {
            module.clone_into(&mut token.module);
        }
        let is_listed = |token: &TokenInfo| self.tokens.iter().any(|other| other.serial == token.serial);
        self.logged_in.retain(is_listed);
        self.keysets.retain(|keyset| is_listed(keyset.token()));
        for keyset in &mut self.keysets {
            module.clone_into(&mut keyset.token_mut().module);
        }
        self
    }

    /// The keysets, and the tokens that could not be read. Drops keysets with invalid identifiers.
    pub fn keysets(&self) -> (Vec<FoundKeyset>, Vec<UnreadableToken>) {
        let keysets = self.keysets.iter().cloned().filter_map(|keyset| keyset.try_into().ok()).collect();
        (keysets, self.unreadable_tokens.iter().cloned().map(UnreadableToken::from).collect())
    }
}

impl SessionChange {
    /// Attributes the token to this module; `None` if the token's texts are too long.
    pub fn attributed_to(self, module: &Path) -> Option<Self> {
        let own = |mut token: TokenInfo| {
            module.clone_into(&mut token.module);
            is_short(&token).then_some(token)
        };
        Some(match self {
            Self::Started(token) => Self::Started(own(token)?),
            Self::Ended(token, reason) => Self::Ended(own(token)?, reason),
        })
    }
}

/// The main worker sets the module's path itself, so it needs no limit.
fn is_short(token: &TokenInfo) -> bool {
    [&token.label, &token.serial, &token.manufacturer, &token.model].iter().all(|text| text.len() <= MAX_TEXT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::a_card;

    fn token(module: &str, serial: &str) -> TokenInfo {
        TokenInfo { module: module.into(), serial: serial.into(), ..a_card() }
    }

    #[test]
    fn a_module_worker_reports_only_its_own_modules_tokens() {
        let tokens = vec![token("/another.so", "1")];
        let logged_in = vec![token("/another.so", "1"), token("/another.so", "2")];
        let inventory = Inventory::new(Ok(tokens), logged_in, false, (Vec::new(), Vec::new()));
        let inventory = inventory.attributed_to(Path::new("/own.so"));
        assert_eq!(inventory.tokens().unwrap(), [token("/own.so", "1")], "it spoke for another module's token");
        assert_eq!(inventory.logged_in, [token("/own.so", "1")], "a session on an absent token");
    }

    #[test]
    fn a_modules_error_arrives_with_its_message() {
        let error = KeysetError::Remote { kind: ErrorKind::Absent, message: "cannot list: pcscd is not there".into() };
        let inventory = Inventory::new(Err(error), Vec::new(), false, (Vec::new(), Vec::new()));
        let sent = serde_json::to_vec(&inventory).unwrap();
        let error = serde_json::from_slice::<Inventory>(&sent).unwrap().tokens().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Absent, "cannot list: pcscd is not there"));
    }
}
