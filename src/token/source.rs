//! Where tokens come from: lists, watches and opens them, and makes new ones.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::pkcs11::Pkcs11Source;
use super::softhsm;
use super::{AuthorityToken, Pin, PinRule, SlotCount, Token, TokenError, TokenFlags, TokenInfo, UnreadTokens};

/// A source of tokens. It is displayed by its name, which every [`TokenInfo`] of its tokens has.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// a PKCS#11 module, named by its file
    Pkcs11(Pkcs11Source),
}

impl fmt::Display for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(formatter)
    }
}

impl TokenSource {
    /// Loads and initializes a PKCS#11 module, once per process.
    pub fn load(module: &Path) -> Result<Self, TokenError> {
        Pkcs11Source::load(module).map(Self::Pkcs11)
    }

    /// The file of the module.
    pub fn path(&self) -> &Path {
        let Self::Pkcs11(source) = self;
        source.module().path()
    }

    /// Whether this token was found here.
    pub fn has(&self, token: &TokenInfo) -> bool {
        self.path() == token.source
    }

    /// All present initialized tokens, except emptied ones.
    pub fn tokens(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().tokens()
    }

    /// Like [`TokenSource::tokens`]. A source with readers reads its tokens again only after a card
    /// was inserted or removed.
    pub fn poll_tokens(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().poll_tokens()
    }

    /// The tokens of the last listing; asks no token.
    pub fn last_seen(&self) -> Vec<TokenInfo> {
        let Self::Pkcs11(source) = self;
        source.module().last_seen()
    }

    /// The reason why the last listing of the tokens skipped a present card.
    pub fn blocked_card(&self) -> Option<TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().blocked_card()
    }

    /// Duration of the current call, if it is longer than the time limit.
    pub fn unresponsive_for(&self) -> Option<Duration> {
        let Self::Pkcs11(source) = self;
        source.module().unresponsive_for()
    }

    /// Whether the source has answered before, and has not answered for at least `longest`.
    pub fn is_hung(&self, longest: Duration) -> bool {
        let Self::Pkcs11(source) = self;
        source.module().is_hung(longest)
    }

    /// Refuses to wait for a source that does not respond. One that may only be busy, perhaps with
    /// a key generation for the same caller, gets one more second.
    pub fn check_responsive(&self) -> Result<(), TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().check_responsive()
    }

    /// Runs a call to this source in a thread of its own, and abandons the thread at the time
    /// limit. No other call starts until an abandoned one has returned.
    pub fn ask<T: Send + 'static>(&self, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().ask(ask)
    }

    /// Whether it has card readers, and so notices insertions and removals itself. One with
    /// software slots only sees tokens of other processes only after [`TokenSource::rescan`].
    pub fn has_readers(&self) -> Result<bool, TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().has_readers()
    }

    /// Starts again, to see tokens made by other processes. Does nothing while this process has a
    /// token open, because that would end its sessions. Returns whether it did.
    pub fn rescan(&self) -> Result<bool, TokenError> {
        let Self::Pkcs11(source) = self;
        source.rescan()
    }

    /// Whether [`TokenSource::rescan`] has failed to start it again. The missing part (its
    /// configuration, its token directory) may be back by now.
    pub fn is_stopped(&self) -> bool {
        let Self::Pkcs11(source) = self;
        source.module().is_stopped()
    }

    /// Whether an authority owns this token now, in another process or in this one. It neither
    /// waits nor opens the token.
    pub fn is_used_by_authority(&self, token: &TokenInfo) -> bool {
        let Self::Pkcs11(source) = self;
        source.is_used_by_authority(token)
    }

    /// Opens the token and takes ownership. Waits up to 5 s while another process owns it; the
    /// error then names that owner. A token that is already open in this process is returned again.
    /// If it was removed or initialized again since, it is opened again and is not logged in.
    pub fn open(&self, token: &TokenInfo) -> Result<Token, TokenError> {
        let Self::Pkcs11(source) = self;
        source.open(token).map(Token::Pkcs11)
    }

    /// Like [`TokenSource::open`], with this timeout: for listing all tokens, some of which other
    /// processes own.
    pub fn open_within(&self, token: &TokenInfo, timeout: Duration) -> Result<Token, TokenError> {
        let Self::Pkcs11(source) = self;
        source.open_within(token, timeout).map(Token::Pkcs11)
    }

    /// Opens a token like [`TokenSource::open`], for the authority that it belongs to.
    pub fn open_for_authority(&self, token: &TokenInfo) -> Result<AuthorityToken, TokenError> {
        let Self::Pkcs11(source) = self;
        source.open(token).map(AuthorityToken::new)
    }

    /// The current flags of a token. The token is not opened, so its owner is not disturbed.
    pub fn flags(&self, token: &TokenInfo) -> Result<TokenFlags, TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().flags(token)
    }

    /// The PIN lengths for a new token; `None` if they are not known before it is made.
    pub fn rule_for_new_pins(&self) -> Option<PinRule> {
        let Self::Pkcs11(source) = self;
        source.module().rule_for_new_pins()
    }

    /// Counts the slots by their content.
    pub fn count_slots(&self) -> Result<SlotCount, TokenError> {
        let Self::Pkcs11(source) = self;
        source.module().count_slots()
    }

    /// Updates the PIN states of these tokens, and their flags where given. All tokens must be of
    /// this source. Returns the tokens whose states could not be read and are unchanged.
    pub fn refresh_flags<'a>(
        &self,
        tokens: impl Iterator<Item = (&'a mut TokenInfo, Option<&'a mut TokenFlags>)>,
    ) -> UnreadTokens {
        let Self::Pkcs11(source) = self;
        source.module().refresh_flags(tokens)
    }

    /// Whether a new token can be made here. An emptied token counts.
    pub fn can_create_tokens(&self) -> Result<bool, TokenError> {
        let Self::Pkcs11(source) = self;
        source.can_create_tokens()
    }

    /// Refuses a label of an existing token that [`TokenSource::create_token`] would not resume. It
    /// tries no PIN. Does not see a token that another process makes meanwhile; `create_token`
    /// does.
    ///
    /// # Errors
    /// [`TokenError::LabelTaken`].
    pub fn refuse_taken_label(&self, label: &str) -> Result<(), TokenError> {
        let Self::Pkcs11(source) = self;
        source.refuse_taken_label(label)
    }

    /// Makes a token with this label (1 to 32 bytes), SO PIN and user PIN.
    ///
    /// Resumes an interrupted earlier call with the same label and SO PIN: a token with that label
    /// that has no user PIN, or no object, is finished with one try of the SO PIN. Any other token
    /// with that label is [`TokenError::LabelTaken`]. A token emptied by
    /// [`TokenSource::discard_token`] is used before a free slot.
    pub fn create_token(&self, label: &str, so_pin: &Pin, pin: &Pin) -> Result<TokenInfo, TokenError> {
        let Self::Pkcs11(source) = self;
        source.create_token(label, so_pin, pin)
    }

    /// Like [`TokenSource::create_token`], with a mark on the token that tells its purpose until
    /// [`Token::finish_provisioning`]. A token of an earlier call that has a user PIN is resumed
    /// only if it carries exactly this mark and nothing else, so that an emptied token with an
    /// unknown SO PIN loses no try.
    pub fn create_token_for(
        &self,
        purpose: &str,
        label: &str,
        so_pin: &Pin,
        pin: &Pin,
    ) -> Result<TokenInfo, TokenError> {
        let Self::Pkcs11(source) = self;
        source.create_token_for(purpose, label, so_pin, pin)
    }

    /// Empties the token, so that the next [`TokenSource::create_token`] uses it first. All its
    /// objects are lost. No clone of it may be open in this process ([`TokenError::Busy`]). It
    /// spends one try of the SO PIN, and never the last one.
    pub fn discard_token(&self, token: &TokenInfo, so_pin: &Pin) -> Result<(), TokenError> {
        let Self::Pkcs11(source) = self;
        source.discard_token(token, so_pin)
    }

    /// Whether this token is made of files that [`TokenSource::erase`] can remove.
    pub fn can_erase(&self, token: &TokenInfo) -> bool {
        self.has(token) && softhsm::is_soft_token(&token.manufacturer)
    }

    /// Removes the token's files, with everything on it. The caller owns the token.
    ///
    /// # Errors
    /// The reason why it is still there, or not completely.
    pub fn erase(&self, token: &TokenInfo) -> Result<(), String> {
        if !self.can_erase(token) {
            return Err("it has no files that can be removed".to_owned());
        }
        softhsm::remove_soft_token(&token.serial)
    }
}

#[cfg(test)]
impl TokenSource {
    pub(super) fn pkcs11(&self) -> &Pkcs11Source {
        let Self::Pkcs11(source) = self;
        source
    }
}
