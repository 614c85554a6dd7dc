//! Runs one enrollment on the selected target: PIN, letter check, keys, request, reply,
//! confirmation. Also continues an interrupted one.

use jiff::Timestamp;

use crate::letter::{Letter, LetterPurpose};
use crate::token::{Pin, SecurityLevel, TokenError, TokenErrorKind, TokenInfo, TokenSource};
use crate::transport::Transport;

use super::super::index::{self, EnrollmentStage, KeysetRecord, PrivateIndex};
use super::super::unlock::{check_before_pin, damaged, read_private_index, with_last_try};
use super::super::{
    AuthorityAddress, FoundKeyset, KeysetError, Notice, Prompt, PromptReply, Purpose, Step, Tokens, UserPrompter,
};
use super::finish::{self, NewTokenPins};
use super::rollback::{self, RejectionNotice};
use super::session::EnrollmentSession;
use super::target::EnrollmentTarget;
use super::{
    EnrollError, EnrollOptions, Enrolled, ExchangeError, NotEnrolledReason, install, letter_check, person_check, reply,
    request, so_pin, stored,
};

const OPERATION: &str = "enroll";

pub(super) struct EnrollmentRun<'a> {
    pub tokens: &'a Tokens,
    pub transport: &'a dyn Transport,
    pub letter: &'a Letter,
    pub options: &'a EnrollOptions,
    pub person: &'a mut dyn UserPrompter,
    pub now: Timestamp,
}

/// The token's properties that its indexes do not contain.
struct TargetToken {
    source: TokenSource,
    info: TokenInfo,
    pins: Option<NewTokenPins>,
    resumed: bool,
    /// Did the enrollment with this letter create the token?
    new_token: bool,
}

impl EnrollmentRun<'_> {
    pub fn run(&mut self, target: EnrollmentTarget) -> Result<Enrolled, EnrollError> {
        match target {
            EnrollmentTarget::New { source } => self.enroll_on_new_token(source),
            EnrollmentTarget::Existing { token, keyset } => {
                let is_enrolled = keyset.is_some_and(|keyset| keyset.is_usable());
                self.enroll_on_token(token, is_enrolled)
            }
            EnrollmentTarget::Resumed { token, is_enrolled } => self.resume(token, is_enrolled),
        }
    }

    fn enroll_on_new_token(&mut self, source: TokenSource) -> Result<Enrolled, EnrollError> {
        let label = self.options.keyset.as_str();
        let rule = source.rule_for_new_pins();
        let pin = self.ask(&Prompt::NewPin { label: label.to_owned(), serial: None, rule })?;
        let so_pin = self.ask_so_pin(label)?;
        let checked = self.check_letter()?;
        self.person.progress(Step::CreatingToken);
        let reference = self.letter.reference.as_str();
        let provisional_so_pin = so_pin::of_letter(self.letter)?;
        let info = source.create_token_for(reference, label, &provisional_so_pin, &pin).map_err(not_made)?;
        crate::crash_point::reached("keyset.token_made");
        let pins = Some(NewTokenPins { pin: copy(&pin)?, so_pin });
        let token_enrollment = source.open(&info)?.unlock(pin)?.begin_enrollment();
        let session = EnrollmentSession { token_enrollment, index: self.new_index() };
        let target_token = TargetToken { source, info, pins, resumed: false, new_token: true };
        self.request(session, target_token, &checked)
    }

    fn enroll_on_token(&mut self, info: TokenInfo, is_enrolled: bool) -> Result<Enrolled, EnrollError> {
        let prompt = present_pin(&info);
        let (mut session, _pin) = self.unlock(&info, &prompt)?;
        if is_enrolled && session.index.keyset.keys.is_none() {
            let name = &self.options.keyset;
            return Err(damaged(
                session.token(),
                name,
                "its public index says that it is enrolled, and its private index does not",
            )
            .into());
        }
        self.index_allows(&session)?;
        let checked = self.check_letter()?;
        if session.index.pending.is_some() {
            self.person.notice(Notice::RollingBack { keyset: self.options.keyset.clone() });
            rollback::rollback(&mut session, None)?;
            session.index = self.renewed_index(session.index);
        }
        let source = self.tokens.source_of(&info)?.clone();
        self.request(session, TargetToken { source, info, pins: None, resumed: false, new_token: false }, &checked)
    }

    /// Continues an enrollment with this letter.
    fn resume(&mut self, info: TokenInfo, is_enrolled: bool) -> Result<Enrolled, EnrollError> {
        let new_token = self.options.new_token.is_some();
        let prompt = if new_token { Prompt::ResumedPin { token: info.clone() } } else { present_pin(&info) };
        let so_pin = self.ask_so_pin(&info.label)?;
        let (mut session, pin) = self.unlock(&info, &prompt)?;
        if session.index.enrolled_with.as_deref() == Some(self.letter.reference.as_str())
            && session.index.pending.is_none()
        {
            // Interrupted between the two last writes: unlocking has just updated the public index.
            drop(session);
            return self.enrolled(&info, is_enrolled, true);
        }
        self.index_allows(&session)?;
        self.person.notice(Notice::Resuming { keyset: self.options.keyset.clone() });
        let pins = Some(NewTokenPins { pin, so_pin });
        let source = self.tokens.source_of(&info)?.clone();
        let pending =
            session.index.pending.clone().filter(|pending| pending.reference == self.letter.reference.as_str());
        // Never empty a token with an enrolled keyset, whatever its public index claims.
        let new_token =
            session.index.keyset.keys.is_none() && pending.as_ref().map_or(new_token, |pending| pending.new_token);
        let target_token = TargetToken { source, info, pins, resumed: true, new_token };
        match pending.map(|pending| pending.stage) {
            Some(EnrollmentStage::Requested { request }) => self.send(session, target_token, &request.0),
            Some(EnrollmentStage::Installing { request, made, .. }) => {
                session.destroy(&made)?;
                session.record_stage(EnrollmentStage::Requested { request: request.clone() })?;
                self.send(session, target_token, &request.0)
            }
            Some(EnrollmentStage::Installed { .. }) => self.confirm(session, target_token),
            Some(EnrollmentStage::Confirmed { .. }) => self.finish(session, target_token),
            // Nothing was sent, or the enrollment was rolled back: start over on the same token.
            Some(EnrollmentStage::Making | EnrollmentStage::Abandoned { .. }) | None => {
                let rejection =
                    RejectionNotice { transport: self.transport, letter: self.letter, reply: None, now: self.now };
                rollback::rollback(&mut session, Some(&rejection))?;
                session.index = self.renewed_index(session.index);
                let checked = self.check_letter()?;
                self.request(session, target_token, &checked)
            }
        }
    }

    fn request(
        &mut self,
        mut session: EnrollmentSession,
        target_token: TargetToken,
        checked: &letter_check::CheckedLetter,
    ) -> Result<Enrolled, EnrollError> {
        self.person.progress(Step::MakingKeys);
        match request::make(&mut session, checked, self.letter, target_token.new_token, self.now) {
            Ok(request) => self.send(session, target_token, &request.message),
            Err(error) => {
                // Report the original error; the same letter finds what it left.
                if let Err(EnrollError::Fault(left)) = self.undo(session, &target_token, None) {
                    tracing::warn!(%left, "cannot remove the objects of a failed enrollment");
                }
                Err(error.into())
            }
        }
    }

    fn send(
        &mut self,
        mut session: EnrollmentSession,
        target_token: TargetToken,
        request: &[u8],
    ) -> Result<Enrolled, EnrollError> {
        self.person.progress(Step::AwaitingReply);
        let installed = signing_spki(&session).and_then(|signing_spki| {
            let reply = reply::exchange(self.transport, self.letter, request, &signing_spki)?;
            let current_holder = person_check::current_holder_on_token(&session, &session.index.keyset)?;
            person_check::check_reply(&reply, self.letter, self.options, &current_holder)
                .map_err(|reason| ExchangeError::bad(reason, Some(reply.message.clone())))?;
            crate::crash_point::reached("keyset.reply_here");
            install::install(&mut session, self.letter, request, &reply, self.person, self.now)
        });
        match installed {
            Ok(()) => self.confirm(session, target_token),
            Err(exchange_error) => self.abort(session, &target_token, exchange_error),
        }
    }

    fn confirm(&mut self, mut session: EnrollmentSession, target_token: TargetToken) -> Result<Enrolled, EnrollError> {
        self.person.progress(Step::Confirming);
        let stored = stored::read_back(&session, self.person);
        match stored.and_then(|()| finish::confirm(&mut session, self.transport, self.letter)) {
            Ok(()) => self.finish(session, target_token),
            Err(exchange_error) => self.abort(session, &target_token, exchange_error),
        }
    }

    fn finish(&mut self, session: EnrollmentSession, target_token: TargetToken) -> Result<Enrolled, EnrollError> {
        let reenrolled = session.index.keyset.keys.is_some();
        finish::finish(session, self.letter, target_token.pins, self.person)?;
        self.enrolled(&target_token.info, reenrolled, target_token.resumed)
    }

    fn enrolled(&self, info: &TokenInfo, reenrolled: bool, resumed: bool) -> Result<Enrolled, EnrollError> {
        // The cached content of the token is outdated.
        self.tokens.forget_keysets(info);
        let (keysets, _) = self.tokens.keysets_on(info)?;
        let keyset = keysets.into_iter().find(|keyset| keyset.name == self.options.keyset);
        let keyset = keyset.ok_or_else(|| KeysetError::NoSuchKeyset {
            name: self.options.keyset.to_string(),
            found: format!("it is no longer on {}", info.name()),
        })?;
        let encryption_keys = keyset.encryption.len();
        let holder = keyset.holder();
        let supersedes = self.superseded_by(&keyset);
        Ok(Enrolled { keyset, reenrolled, resumed, encryption_keys, holder, supersedes })
    }

    /// The person's other keysets at this authority that are present.
    fn superseded_by(&self, keyset: &FoundKeyset) -> Vec<FoundKeyset> {
        match self.tokens.keysets() {
            Ok((mut others, _)) => {
                others.retain(|other| other.is_usable() && !other.is_same_keyset(keyset));
                others.retain(|other| other.has_same_holder(keyset));
                others
            }
            Err(error) => {
                tracing::debug!(%error, "cannot search for other keysets of this person");
                Vec::new()
            }
        }
    }

    /// Rolls back after a failed exchange. The authority is notified in either case: after a
    /// refusal this has no effect, after a failure it releases the letter.
    fn abort<T>(
        &mut self,
        session: EnrollmentSession,
        target_token: &TargetToken,
        exchange_error: ExchangeError,
    ) -> Result<T, EnrollError> {
        let (reason, reply) = match exchange_error {
            ExchangeError::Enroll(stop) => return Err(stop),
            ExchangeError::Rejected(reason) => (NotEnrolledReason::Rejected(reason), None),
            ExchangeError::NotStored(error) => (NotEnrolledReason::NotStored(error), None),
            ExchangeError::Bad { reason, reply } => (NotEnrolledReason::BadReply(reason), reply),
        };
        let rejection =
            RejectionNotice { transport: self.transport, letter: self.letter, reply: reply.as_deref(), now: self.now };
        self.undo(session, target_token, Some(&rejection))?;
        Err(reason.into())
    }

    /// Removes everything created.
    fn undo(
        &mut self,
        mut session: EnrollmentSession,
        target_token: &TargetToken,
        rejection: Option<&RejectionNotice<'_>>,
    ) -> Result<(), EnrollError> {
        self.person.progress(Step::CleaningUp);
        rollback::rollback(&mut session, rejection)?;
        self.rollback_token(session, target_token)
    }

    fn rollback_token(&mut self, session: EnrollmentSession, target_token: &TargetToken) -> Result<(), EnrollError> {
        if target_token.new_token {
            rollback::rollback_token(session, &target_token.source, self.letter, self.person)?;
        }
        Ok(())
    }
}

impl EnrollmentRun<'_> {
    fn check_letter(&mut self) -> Result<letter_check::CheckedLetter, EnrollError> {
        self.person.progress(Step::CheckingLetter);
        letter_check::check(self.transport, self.letter, self.now)
    }

    fn ask(&mut self, prompt: &Prompt) -> Result<Pin, EnrollError> {
        let token = match prompt {
            Prompt::Pin { token, .. } | Prompt::ResumedPin { token } => Some(token.name()),
            Prompt::NewPin { .. }
            | Prompt::NewSoPin { .. }
            | Prompt::SoPin { .. }
            | Prompt::LastTry { .. }
            | Prompt::Use { .. } => None,
        };
        let no_pin = |reason| KeysetError::NoPin { operation: OPERATION, token, reason };
        Ok(self.person.ask(prompt).and_then(PromptReply::into_pin).map_err(no_pin).map_err(NotEnrolledReason::Pin)?)
    }

    fn ask_so_pin(&mut self, label: &str) -> Result<Option<Pin>, EnrollError> {
        if self.options.so_pin { self.ask(&Prompt::NewSoPin { label: label.to_owned() }).map(Some) } else { Ok(None) }
    }

    /// Logs in with one try and reads the trusted index.
    fn unlock(&mut self, info: &TokenInfo, prompt: &Prompt) -> Result<(EnrollmentSession, Pin), EnrollError> {
        let lease = self.tokens.open(info)?.acquire_pin_lease();
        let pin_state =
            check_before_pin(self.tokens, &lease, &Purpose::Enroll, None, self.person).map_err(pin_or_fault)?;
        let pin = self.ask(prompt)?;
        let again = copy(&pin)?;
        let unlocked = lease.unlock(with_last_try(pin, pin_state));
        let token_enrollment =
            unlocked.map_err(|error| pin_or_fault(error.with_operation(OPERATION).into()))?.begin_enrollment();
        let name = &self.options.keyset;
        let index = match index::private_index(&token_enrollment, name)? {
            Some(_) => read_private_index(&token_enrollment, name, self.person)?,
            None => self.new_index(),
        };
        Ok((EnrollmentSession { token_enrollment, index }, again))
    }

    /// Repeats with the private index the checks that were made with the public one.
    fn index_allows(&self, session: &EnrollmentSession) -> Result<(), EnrollError> {
        let record = &session.index.keyset;
        if record.keys.is_none() {
            return Ok(());
        }
        let described = format!("{:?} on {}", record.name.as_str(), session.token().info().name());
        let current_holder = person_check::current_holder_on_token(session, record)?;
        person_check::check_letter(self.letter, self.options, &current_holder, &described)
            .map_err(NotEnrolledReason::Refused)?;
        let against = if session.index.ca_sha256.0 != self.letter.ca_fingerprint {
            format!("cannot re-enroll the keyset {described}: the letter is from another authority")
        } else if self.letter.purpose() == LetterPurpose::Recover {
            format!("cannot recover into the keyset {described}: it exists; choose another name, `--keyset NAME`")
        } else if self.options.level.is_some_and(|level| level != record.level) {
            format!("cannot re-enroll the keyset {described}: its level is {}", record.level)
        } else {
            return Ok(());
        };
        Err(NotEnrolledReason::Refused(KeysetError::Refused(against)).into())
    }

    fn level(&self) -> SecurityLevel {
        let strictest = self.letter.levels.iter().copied().max().unwrap_or(SecurityLevel::High);
        self.options.level.unwrap_or(strictest)
    }

    fn new_index(&self) -> PrivateIndex {
        let record = KeysetRecord {
            name: self.options.keyset.clone(),
            level: self.level(),
            authority: AuthorityAddress::of(self.letter),
            keys: None,
        };
        PrivateIndex::new(record, self.letter.ca_fingerprint)
    }

    /// The index after an unfinished enrollment was removed: an enrolled keyset keeps its own, any
    /// other gets a new one.
    fn renewed_index(&self, index: PrivateIndex) -> PrivateIndex {
        if index.keyset.keys.is_some() { index } else { self.new_index() }
    }
}

/// The public key that the request certifies, as DER of a `SubjectPublicKeyInfo`.
fn signing_spki(session: &EnrollmentSession) -> Result<Vec<u8>, ExchangeError> {
    let id = session.pending()?.signing.key_id();
    let key = session.token_enrollment.find_key(&id)?;
    let key = key.ok_or(TokenError::KeyAbsent { operation: OPERATION, token: session.token().info().name() })?;
    Ok(key.public_key_der().to_vec())
}

/// The prompt for the PIN of a token that was there before this command.
fn present_pin(info: &TokenInfo) -> Prompt {
    Prompt::Pin { purpose: Purpose::Enroll, token: info.clone(), keyset: None, was_wrong: false }
}

/// Classifies a login error: a wrong or locked PIN ends the enrollment before anything was sent,
/// everything else is a fault.
fn pin_or_fault(error: KeysetError) -> EnrollError {
    match error.kind() {
        super::ErrorKind::Pin | super::ErrorKind::Interrupted => NotEnrolledReason::Pin(error).into(),
        _ => error.into(),
    }
}

/// Classifies a failed token creation: an invalid PIN, a refused label, or a fault.
fn not_made(error: TokenError) -> EnrollError {
    match error.kind() {
        TokenErrorKind::Pin => NotEnrolledReason::Pin(error.into()).into(),
        TokenErrorKind::Refused => NotEnrolledReason::Refused(error.into()).into(),
        TokenErrorKind::Absent | TokenErrorKind::Fault => error.into(),
    }
}

/// Copies the PIN. An enrollment asks once but logs in twice, because the SO PIN of a new token is
/// changed in between.
fn copy(pin: &Pin) -> Result<Pin, KeysetError> {
    let copy = Pin::new(pin.as_str().to_owned())
        .map_err(|error| KeysetError::Message { operation: OPERATION, reason: error.to_string() })?;
    Ok(if pin.is_attended() { copy } else { copy.unattended() })
}
