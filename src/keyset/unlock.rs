//! Logs in to a chosen token: all checks that need no PIN, then the prompt, then one try. After
//! login, reads the trusted index.

use crate::token::{
    KeysetName, Pin, PinLease, PinSession, PinState, SecurityLevel, StoredCertificate, Token, TokenError, TokenInfo,
    TokenKey, WhichPin,
};

use super::index::{self, Hex, PrivateIndex, PublicIndex};
use super::{
    FoundKeyset, KeysetError, NoPin, Notice, Prompt, PromptReply, PromptedKeyset, Purpose, Tokens, UserPrompter,
};

/// Logs in for an operation that asks for the PIN at every level. One try, with a PIN typed for
/// this operation.
pub(super) fn unlock(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    purpose: &Purpose,
    person: &mut dyn UserPrompter,
) -> Result<PinSession, KeysetError> {
    person.token_chosen(&keyset.token);
    let token = tokens.open(&keyset.token)?;
    LoginPrompts::new(tokens, keyset, purpose, person).retry_wrong_pin(|prompts| {
        let lease = token.acquire_pin_lease();
        let pin = prompts.ask_pin(&lease)?;
        lease.unlock(pin).map_err(|error| error.with_operation(purpose.operation()).into())
    })
}

/// The prompts of one login.
struct LoginPrompts<'a> {
    tokens: &'a Tokens,
    keyset: &'a FoundKeyset,
    purpose: &'a Purpose,
    person: &'a mut dyn UserPrompter,
    /// true if the previous PIN was wrong
    was_wrong: bool,
    /// true if the user can be asked again should the last PIN be wrong
    may_retry: bool,
}

impl<'a> LoginPrompts<'a> {
    fn new(
        tokens: &'a Tokens,
        keyset: &'a FoundKeyset,
        purpose: &'a Purpose,
        person: &'a mut dyn UserPrompter,
    ) -> Self {
        Self { tokens, keyset, purpose, person, was_wrong: false, may_retry: false }
    }

    /// Repeats a login after a wrong PIN, if the user can be asked again. Each PIN typed is one
    /// try, after the same checks and warnings. If the user then gives no PIN, the error is that of
    /// the wrong one.
    fn retry_wrong_pin(
        mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<PinSession, KeysetError>,
    ) -> Result<PinSession, KeysetError> {
        let is_wrong = |error: &KeysetError| matches!(error, KeysetError::Token(TokenError::PinIncorrect { .. }));
        let mut result = attempt(&mut self);
        loop {
            match &result {
                Err(wrong) if is_wrong(wrong) && self.may_retry => self.was_wrong = true,
                _ => return result,
            }
            match attempt(&mut self) {
                Err(KeysetError::NoPin { .. }) => return result,
                next => result = next,
            }
        }
    }

    /// Asks for the token's PIN, after all checks that need none.
    fn ask_pin(&mut self, lease: &PinLease) -> Result<Pin, KeysetError> {
        let operation = self.purpose.operation();
        let pin_state = check_before_pin(self.tokens, lease, self.purpose, Some(self.keyset), self.person)?;
        let token = TokenInfo { pin_state, ..lease.token().info().clone() };
        let name = token.name();
        let prompt = Prompt::Pin {
            purpose: self.purpose.clone(),
            token,
            keyset: Some(PromptedKeyset::of(self.keyset)),
            was_wrong: self.was_wrong,
        };
        let reply = self.person.ask(&prompt);
        if let Ok(PromptReply::Pin { may_retry, .. }) = &reply {
            self.may_retry = *may_retry;
        }
        let no_pin = |reason| KeysetError::NoPin { operation, token: Some(name), reason };
        let pin = reply.and_then(PromptReply::into_pin).map_err(no_pin)?;
        Ok(with_last_try(pin, pin_state))
    }
}

/// Logs in for one use of a keyset's keys, according to its level. If sessions are kept, level Low
/// uses the active session, and Medium too, after a confirmation; without an active session, the
/// PIN starts one and also confirms this use. At High, or if no sessions are kept, the PIN is
/// required for this use only.
pub(super) fn unlock_for_use(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    purpose: &Purpose,
    person: &mut dyn UserPrompter,
) -> Result<PinSession, KeysetError> {
    if !keeps_session(tokens, keyset) {
        return unlock(tokens, keyset, purpose, person);
    }
    person.token_chosen(&keyset.token);
    let token = tokens.open(&keyset.token)?;
    if keyset.level == SecurityLevel::Low
        && let Some(pin_session) = token.under_active_session()
    {
        return Ok(pin_session);
    }
    // Confirmations also wait for the lease: one prompt at a time, in order of arrival.
    let lease = token.acquire_pin_lease();
    if token.has_active_session() {
        let no_yes =
            |reason| KeysetError::NoPin { operation: purpose.operation(), token: Some(keyset.token.name()), reason };
        if keyset.level == SecurityLevel::Medium {
            let (token, keyset) = (keyset.token.clone(), PromptedKeyset::of(keyset));
            let prompt = Prompt::Use { purpose: purpose.clone(), token, keyset };
            person.ask(&prompt).and_then(PromptReply::into_yes).map_err(no_yes)?;
        }
        if let Some(pin_session) = token.under_active_session() {
            return Ok(pin_session);
        }
    }
    open_session(lease, LoginPrompts::new(tokens, keyset, purpose, person))
}

/// Returns whether the PIN for a use starts a session that permits later uses.
fn keeps_session(tokens: &Tokens, keyset: &FoundKeyset) -> bool {
    tokens.access.keeps_sessions() && keyset.level != SecurityLevel::High
}

/// Starts a session with a PIN. Operations that waited while another one failed, or was declined,
/// share its result: one prompt, one try.
fn open_session(lease: PinLease, prompts: LoginPrompts<'_>) -> Result<PinSession, KeysetError> {
    let token = lease.token().clone();
    let mut first = Some(lease);
    prompts.retry_wrong_pin(|prompts| {
        let lease = first.take().unwrap_or_else(|| token.acquire_pin_lease());
        open_session_with_pin(lease, prompts)
    })
}

fn open_session_with_pin(lease: PinLease, prompts: &mut LoginPrompts<'_>) -> Result<PinSession, KeysetError> {
    let operation = prompts.purpose.operation();
    if let Some(error) = lease.failed_meanwhile() {
        return Err(error.with_operation(operation).into());
    }
    if lease.declined_meanwhile() {
        let token = Some(lease.token().info().name());
        return Err(KeysetError::NoPin { operation, token, reason: NoPin::Cancelled });
    }
    match prompts.ask_pin(&lease) {
        Ok(pin) => {
            let opened = lease.open_session(pin).map_err(|error| error.with_operation(operation))?;
            prompts.tokens.access.keep(opened.token());
            Ok(opened)
        }
        Err(error) => {
            if matches!(&error, KeysetError::NoPin { reason, .. } if reason.is_refusal()) {
                lease.decline();
            }
            Err(error)
        }
    }
}

/// Permits a PIN to spend the last try: in that state the person was warned before the prompt, and
/// accepted the risk.
pub(super) fn with_last_try(pin: Pin, state: PinState) -> Pin {
    if state == PinState::FinalTry { pin.allow_last_try() } else { pin }
}

/// Checks everything that needs no PIN: no PIN set, PIN locked, too many wrong PINs, last try.
/// `keyset` is the keyset that the warning names. Returns the token's PIN state.
pub(super) fn check_before_pin(
    tokens: &Tokens,
    lease: &PinLease,
    purpose: &Purpose,
    keyset: Option<&FoundKeyset>,
    person: &mut dyn UserPrompter,
) -> Result<PinState, KeysetError> {
    let operation = purpose.operation();
    let token = lease.token();
    let name = token.info().name();
    tokens.access.limit_wrong_pins(token, operation)?;
    match token.refresh_pin_state()? {
        state @ (PinState::Ok | PinState::CountLow) => Ok(state),
        state @ PinState::FinalTry => {
            let info = TokenInfo { pin_state: state, ..token.info().clone() };
            let no_pin = |reason: NoPin| KeysetError::NoPin { operation, token: Some(name), reason };
            let prompt = Prompt::LastTry {
                purpose: purpose.clone(),
                token: info,
                keyset: keyset.map(PromptedKeyset::of),
                which: WhichPin::User,
            };
            person.ask(&prompt).and_then(PromptReply::into_yes).map_err(no_pin)?;
            Ok(state)
        }
        PinState::Locked => Err(TokenError::PinLocked { operation, token: name }.into()),
        PinState::NotSet => Err(TokenError::PinNotSet { operation, token: name }.into()),
    }
}

/// Reads the private index of a keyset used under `unlock`, and refuses if the keyset was unlocked
/// at too low a level: a change of the public index must not yield several uses of a High key for
/// one PIN.
pub(super) fn read_private_index_for_use(
    tokens: &Tokens,
    pin_session: &PinSession,
    keyset: &FoundKeyset,
    person: &mut dyn UserPrompter,
) -> Result<PrivateIndex, KeysetError> {
    let index = read_private_index(pin_session.token(), &keyset.name, person);
    let misled =
        tokens.access.keeps_sessions() && index.as_ref().map_or(true, |index| index.keyset.level > keyset.level);
    if misled {
        // End the session: a false public index caused it.
        tokens.forget_keysets(&keyset.token);
        pin_session.token().log_out()?;
    }
    let index = index?;
    if !matches_index(&index, keyset) {
        tokens.forget_keysets(&keyset.token);
    }
    if misled {
        return Err(KeysetError::Refused(format!(
            "cannot use the keyset {}: its public index named the level {}, but the level is {}; the public index was \
             rewritten, nothing was done, and the session has ended; try again",
            keyset.described(),
            keyset.level,
            index.keyset.level
        )));
    }
    Ok(index)
}

/// Reads the private index of a keyset that was chosen by its public index. If the two differ,
/// notifies the user and rewrites the public one, which is only a copy.
pub(super) fn read_private_index(
    token: &Token,
    name: &KeysetName,
    person: &mut dyn UserPrompter,
) -> Result<PrivateIndex, KeysetError> {
    let Some(private) = index::private_index(token, name)? else {
        return Err(damaged(
            token,
            name,
            "it has a public index and no private one, so it was created without the PIN, or its first enrollment was \
             interrupted at the start; `tokenkeep keyset delete` removes it, `enroll` creates it again",
        ));
    };
    if report_index_mismatch(token, &private, person)?
        // A full or write-protected token can still be used.
        && let Err(error) = PublicIndex::of(&private).write(token)
    {
        tracing::info!(%error, "cannot rewrite the public index");
    }
    Ok(private)
}

/// Notifies the user if the public index differs from the private one. Returns whether it does.
pub(super) fn report_index_mismatch(
    token: &Token,
    private: &PrivateIndex,
    person: &mut dyn UserPrompter,
) -> Result<bool, KeysetError> {
    let name = &private.keyset.name;
    let (publics, _) = index::public_indexes(token)?;
    let what = match publics.iter().find(|public| public.keyset.name == *name) {
        Some(public) => public.differs_from(private),
        None => Some("everything"),
    };
    if let Some(what) = what {
        person.notice(Notice::IndexMismatch {
            keyset: name.clone(),
            token: token.info().name().to_string(),
            what: what.to_owned(),
        });
    }
    Ok(what.is_some())
}

fn matches_index(index: &PrivateIndex, keyset: &FoundKeyset) -> bool {
    let keys = index.keyset.keys.as_ref();
    let encryption = keys.map(|keys| keys.encryption.iter().map(Hex::key_id).collect::<Vec<_>>());
    index.keyset.level == keyset.level
        && keys.map(|keys| keys.signing.key_id()) == keyset.signing
        && encryption.unwrap_or_default() == keyset.encryption
}

/// The key with this identifier and its certificate, which must contain the key's public key.
pub(super) fn key_and_certificate(
    token: &Token,
    name: &KeysetName,
    id: &Hex,
) -> Result<(TokenKey, StoredCertificate), KeysetError> {
    let id = id.key_id();
    let key = token.find_key(&id)?.ok_or_else(|| damaged(token, name, "one of its keys is missing from the token"))?;
    let certificate = token.certificates()?.into_iter().find(|certificate| {
        certificate.id == id
            && crate::pki::Certificate::from_der(&certificate.der)
                .and_then(|certificate| certificate.public_key_der())
                .is_ok_and(|public_key| public_key == key.public_key_der())
    });
    let certificate = certificate.ok_or_else(|| {
        damaged(token, name, "the certificate of one of its keys is missing from the token, or was replaced")
    })?;
    Ok((key, certificate))
}

pub(super) fn damaged(token: &Token, name: &KeysetName, reason: &str) -> KeysetError {
    KeysetError::Damaged { keyset: name.to_string(), token: token.info().name().to_string(), reason: reason.to_owned() }
}

/// Refuses a keyset that is not enrolled, because it cannot sign or decrypt.
pub(super) fn require_usable(keyset: &FoundKeyset) -> Result<(), KeysetError> {
    if keyset.is_usable() {
        return Ok(());
    }
    let reference = keyset.pending_reference().unwrap_or_default();
    Err(KeysetError::Refused(format!(
        "cannot use the keyset {}: its enrollment is not finished; run the `enroll` command with the letter \
         {reference} again",
        keyset.described()
    )))
}

/// Starts a session on the keyset's token ahead of any use, so that uses at levels Medium and Low
/// need no PIN, if [`Tokens::with_persistent_sessions`] keeps sessions.
/// Refuses level High before any prompt. With `verify_again`, the user supplies a PIN that is
/// verified even in an active session, because an active session does not prove that this PIN is
/// correct.
pub fn log_in(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    verify_again: bool,
    person: &mut dyn UserPrompter,
) -> Result<(), KeysetError> {
    require_usable(keyset)?;
    if !keeps_session(tokens, keyset) {
        return Err(KeysetError::Refused(format!(
            "cannot log in for the keyset {}: at level {} every use asks for the PIN; use it without a login",
            keyset.described(),
            keyset.level
        )));
    }
    person.token_chosen(&keyset.token);
    let token = tokens.open(&keyset.token)?;
    let lease = token.acquire_pin_lease();
    if token.has_active_session() && !verify_again {
        return Ok(());
    }
    let pin_session = open_session(lease, LoginPrompts::new(tokens, keyset, &Purpose::LogIn, person))?;
    read_private_index_for_use(tokens, &pin_session, keyset, person).map(|_| ())
}
