//! A loaded PKCS#11 module and the tokens in its slots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::token::{Pin, PinState, Token, TokenError, TokenName};

/// A loaded PKCS#11 module. Loading the same file twice in a process gives the same module.
#[derive(Clone, Debug)]
pub struct Module {
    inner: Arc<PathBuf>,
}

/// What a token says about itself; no log-in is needed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// label, without the padding
    pub label: String,
    /// serial number, unique for a manufacturer and model
    pub serial: String,
    /// who made it
    pub manufacturer: String,
    /// its model
    pub model: String,
    /// the module it was found through
    pub module: PathBuf,
    /// what it says about its user PIN
    pub pin_state: PinState,
    /// can nothing be written to it?
    pub write_protected: bool,
}

impl TokenInfo {
    /// Label and serial number, for messages.
    pub fn name(&self) -> TokenName {
        TokenName { label: self.label.clone(), serial: self.serial.clone() }
    }
}

impl Module {
    /// Loads and starts the module, once a process.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        todo!()
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.inner
    }

    /// All initialized tokens that are present.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, TokenError> {
        todo!()
    }

    /// Starts the module anew, so that tokens made by other processes are seen. Does nothing while this process has a
    /// token of this module open, because that would end its sessions; says whether it was done.
    pub fn rescan(&self) -> Result<bool, TokenError> {
        todo!()
    }

    /// Has it a slot in which a new token can be made, an empty discarded one included?
    pub fn can_create_tokens(&self) -> Result<bool, TokenError> {
        todo!()
    }

    /// Makes a token of this label (1 to 32 bytes), SO PIN and user PIN.
    ///
    /// Resumes what an earlier call with the same label and SO PIN left behind: a token of that label that has no user
    /// PIN, or holds no object, is finished with one try of the SO PIN. Any other token of that label is
    /// [`TokenError::LabelTaken`]. A token emptied by [`Module::discard_token`] is used before a free slot.
    pub fn create_token(&self, label: &str, so_pin: &Pin, pin: &Pin) -> Result<TokenInfo, TokenError> {
        todo!()
    }

    /// Makes it an empty token again, which the next [`Module::create_token`] uses first: PKCS#11 cannot delete one.
    /// Everything on it is lost.
    pub fn discard_token(&self, token: &TokenInfo, so_pin: &Pin) -> Result<(), TokenError> {
        todo!()
    }

    /// Opens the token and becomes its owner. Waits up to 5 s for another owner to end, then names it in the error.
    /// Opening a token that this process has open already gives the same one.
    pub fn open(&self, token: &TokenInfo) -> Result<Token, TokenError> {
        todo!()
    }
}
