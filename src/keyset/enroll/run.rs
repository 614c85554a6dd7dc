//! Runs one enrollment on the selected target: PIN, letter check, keys, request, reply,
//! confirmation. Also continues an interrupted one.

use jiff::Timestamp;

use crate::carrier::Carrier;
use crate::letter::{Letter, Purpose};
use crate::token::{Module, Pin, SecurityLevel, TokenError, TokenErrorKind, TokenInfo};

use super::super::index::{self, Card, PrivateIndex, Stage};
use super::super::unlock::{believed, damaged, refuse_without_try};
use super::super::{AuthorityAddress, FoundKeyset, KeysetError, Notice, Person, PinRequest, Step, Tokens};
use super::abandon::{self, Rejection};
use super::desk::Desk;
use super::finish::{self, NewTokenPins};
use super::place::Place;
use super::{
    EnrollOptions, Enrolled, NotEnrolledReason, Stop, Trouble, install, letter_check, person_check, reply, request,
    so_pin, stored,
};

const OPERATION: &str = "enroll";

/// One run of an enrollment.
pub(super) struct Act<'a> {
    pub tokens: &'a Tokens,
    pub carrier: &'a dyn Carrier,
    pub letter: &'a Letter,
    pub options: &'a EnrollOptions,
    pub person: &'a mut dyn Person,
    pub now: Timestamp,
}

/// The token's properties that its indexes do not contain.
struct Ground {
    module: Module,
    info: TokenInfo,
    pins: Option<NewTokenPins>,
    resumed: bool,
    /// Did the enrollment with this letter create the token?
    new_token: bool,
}

impl Act<'_> {
    pub fn run(&mut self, place: Place) -> Result<Enrolled, Stop> {
        match place {
            Place::New { module } => self.enroll_on_new_token(module),
            Place::Existing { token, keyset } => {
                let stands = keyset.is_some_and(|keyset| keyset.is_usable());
                self.enroll_on_token(token, stands)
            }
            Place::Resumed { token, stands } => self.resume(token, stands),
        }
    }

    fn enroll_on_new_token(&mut self, module: Module) -> Result<Enrolled, Stop> {
        let label = self.options.keyset.as_str();
        let pin = self.ask(PinRequest::New { label, rule: module.rule_for_new_pins() })?;
        let so_pin = self.ask_so_pin(label)?;
        let checked = self.check_letter()?;
        self.person.progress(Step::CreatingToken);
        let reference = self.letter.reference.as_str();
        let so_pin_until_then = so_pin::of_letter(self.letter)?;
        let info = module.create_token_for(reference, label, &so_pin_until_then, &pin).map_err(not_made)?;
        crate::crash_point::reached("keyset.token_made");
        let pins = Some(NewTokenPins { pin: copy(&pin)?, so_pin });
        let ceremony = module.open(&info)?.unlock(pin)?.ceremony();
        let desk = Desk { ceremony, index: self.new_index() };
        let ground = Ground { module, info, pins, resumed: false, new_token: true };
        self.request(desk, ground, &checked)
    }

    fn enroll_on_token(&mut self, info: TokenInfo, stands: bool) -> Result<Enrolled, Stop> {
        let request = PinRequest::Existing { operation: OPERATION, token: &info };
        let (mut desk, _pin) = self.unlock(&info, request)?;
        if stands && desk.index.keyset.keys.is_none() {
            let name = &self.options.keyset;
            return Err(damaged(
                desk.token(),
                name,
                "its public index says that it is enrolled, and its private index does not",
            )
            .into());
        }
        self.index_allows(&desk)?;
        let checked = self.check_letter()?;
        if desk.index.pending.is_some() {
            self.person.notice(Notice::Abandoning { keyset: self.options.keyset.clone() });
            abandon::clean(&mut desk, None)?;
            desk.index = self.renewed_index(desk.index);
        }
        let module = self.tokens.module_of(&info)?.clone();
        self.request(desk, Ground { module, info, pins: None, resumed: false, new_token: false }, &checked)
    }

    /// Continues an enrollment with this letter.
    fn resume(&mut self, info: TokenInfo, stands: bool) -> Result<Enrolled, Stop> {
        let new_token = self.options.new_token.is_some();
        let request = if new_token {
            PinRequest::Resumed { token: &info }
        } else {
            PinRequest::Existing { operation: OPERATION, token: &info }
        };
        let so_pin = self.ask_so_pin(&info.label)?;
        let (mut desk, pin) = self.unlock(&info, request)?;
        if desk.index.enrolled_with.as_deref() == Some(self.letter.reference.as_str()) && desk.index.pending.is_none() {
            // Interrupted between the two last writes: unlocking has just updated the public index.
            drop(desk);
            return self.enrolled(&info, stands, true);
        }
        self.index_allows(&desk)?;
        self.person.notice(Notice::Resuming { keyset: self.options.keyset.clone() });
        let pins = Some(NewTokenPins { pin, so_pin });
        let module = self.tokens.module_of(&info)?.clone();
        let ours = desk.index.pending.clone().filter(|pending| pending.reference == self.letter.reference.as_str());
        // Never empty a token with an enrolled keyset, whatever its public index claims.
        let new_token =
            desk.index.keyset.keys.is_none() && ours.as_ref().map_or(new_token, |pending| pending.new_token);
        let ground = Ground { module, info, pins, resumed: true, new_token };
        match ours.map(|pending| pending.stage) {
            Some(Stage::Requested { request }) => self.send(desk, ground, &request.0),
            Some(Stage::Installing { request, made, .. }) => {
                desk.destroy(&made)?;
                desk.reach(Stage::Requested { request: request.clone() })?;
                self.send(desk, ground, &request.0)
            }
            Some(Stage::Installed { .. }) => self.confirm(desk, ground),
            Some(Stage::Confirmed { .. }) => self.finish(desk, ground),
            // Nothing was sent, or the enrollment was rolled back: start over on the same token.
            Some(Stage::Making | Stage::Abandoned { .. }) | None => {
                let rejection = Rejection { carrier: self.carrier, letter: self.letter, reply: None, now: self.now };
                abandon::clean(&mut desk, Some(&rejection))?;
                desk.index = self.renewed_index(desk.index);
                let checked = self.check_letter()?;
                self.request(desk, ground, &checked)
            }
        }
    }

    fn request(
        &mut self,
        mut desk: Desk,
        ground: Ground,
        checked: &letter_check::CheckedLetter,
    ) -> Result<Enrolled, Stop> {
        self.person.progress(Step::MakingKeys);
        match request::make(&mut desk, checked, self.letter, ground.new_token, self.now) {
            Ok(request) => self.send(desk, ground, &request.message),
            Err(error) => {
                // Report the original error; the same letter finds what it left.
                if let Err(Stop::Fault(left)) = self.undo(desk, &ground, None) {
                    tracing::warn!(%left, "cannot remove the objects of a failed enrollment");
                }
                Err(error.into())
            }
        }
    }

    fn send(&mut self, mut desk: Desk, ground: Ground, request: &[u8]) -> Result<Enrolled, Stop> {
        self.person.progress(Step::AwaitingReply);
        let installed = signing_spki(&desk).and_then(|signing_spki| {
            let reply = reply::exchange(self.carrier, self.letter, request, &signing_spki)?;
            let whose = person_check::whose_on_token(&desk, &desk.index.keyset)?;
            person_check::check_reply(&reply, self.letter, self.options, &whose)
                .map_err(|reason| Trouble::bad(reason, Some(reply.message.clone())))?;
            crate::crash_point::reached("keyset.reply_here");
            install::install(&mut desk, self.letter, request, &reply, self.person, self.now)
        });
        match installed {
            Ok(()) => self.confirm(desk, ground),
            Err(trouble) => self.give_up(desk, &ground, trouble),
        }
    }

    fn confirm(&mut self, mut desk: Desk, ground: Ground) -> Result<Enrolled, Stop> {
        self.person.progress(Step::Confirming);
        let stored = stored::read_back(&desk, self.person);
        match stored.and_then(|()| finish::confirm(&mut desk, self.carrier, self.letter)) {
            Ok(()) => self.finish(desk, ground),
            Err(trouble) => self.give_up(desk, &ground, trouble),
        }
    }

    fn finish(&mut self, desk: Desk, ground: Ground) -> Result<Enrolled, Stop> {
        let reenrolled = desk.index.keyset.keys.is_some();
        finish::finish(desk, self.letter, ground.pins)?;
        self.enrolled(&ground.info, reenrolled, ground.resumed)
    }

    fn enrolled(&self, info: &TokenInfo, reenrolled: bool, resumed: bool) -> Result<Enrolled, Stop> {
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
                others.retain(|other| other.is_usable() && !other.is_at_the_place_of(keyset));
                others.retain(|other| other.is_same_persons(keyset));
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
    fn give_up<T>(&mut self, desk: Desk, ground: &Ground, trouble: Trouble) -> Result<T, Stop> {
        let (reason, reply) = match trouble {
            Trouble::Stop(stop) => return Err(stop),
            Trouble::Rejected(reason) => (NotEnrolledReason::Rejected(reason), None),
            Trouble::NotStored(error) => (NotEnrolledReason::NotStored(error), None),
            Trouble::Bad { reason, reply } => (NotEnrolledReason::BadReply(reason), reply),
        };
        let rejection =
            Rejection { carrier: self.carrier, letter: self.letter, reply: reply.as_deref(), now: self.now };
        self.undo(desk, ground, Some(&rejection))?;
        Err(reason.into())
    }

    /// Removes everything created.
    fn undo(&mut self, mut desk: Desk, ground: &Ground, rejection: Option<&Rejection<'_>>) -> Result<(), Stop> {
        self.person.progress(Step::CleaningUp);
        abandon::clean(&mut desk, rejection)?;
        self.discard(desk, ground)
    }

    fn discard(&mut self, desk: Desk, ground: &Ground) -> Result<(), Stop> {
        if ground.new_token {
            abandon::discard(desk, &ground.module, self.letter, self.person)?;
        }
        Ok(())
    }
}

impl Act<'_> {
    fn check_letter(&mut self) -> Result<letter_check::CheckedLetter, Stop> {
        self.person.progress(Step::CheckingLetter);
        letter_check::check(self.carrier, self.letter, self.now)
    }

    fn ask(&mut self, request: PinRequest<'_>) -> Result<Pin, Stop> {
        let token = match request {
            PinRequest::Existing { token, .. } | PinRequest::Resumed { token } => Some(token.name()),
            PinRequest::New { .. } | PinRequest::NewSoPin { .. } => None,
        };
        let no_pin = |reason| KeysetError::NoPin { operation: OPERATION, token, reason };
        Ok(self.person.pin(request).map_err(no_pin).map_err(NotEnrolledReason::Pin)?)
    }

    fn ask_so_pin(&mut self, label: &str) -> Result<Option<Pin>, Stop> {
        if self.options.so_pin { self.ask(PinRequest::NewSoPin { label }).map(Some) } else { Ok(None) }
    }

    /// Logs in with one try and reads the trusted index.
    fn unlock(&mut self, info: &TokenInfo, request: PinRequest<'_>) -> Result<(Desk, Pin), Stop> {
        let turn = self.tokens.turn(&self.tokens.open(info)?);
        refuse_without_try(&turn, OPERATION, self.person).map_err(pin_or_fault)?;
        let pin = self.ask(request)?;
        let again = copy(&pin)?;
        let ceremony = turn.unlock(pin).map_err(|error| pin_or_fault(error.of_act(OPERATION).into()))?.ceremony();
        let name = &self.options.keyset;
        let index = match index::private_index(&ceremony, name)? {
            Some(_) => believed(&ceremony, name, self.person)?,
            None => self.new_index(),
        };
        Ok((Desk { ceremony, index }, again))
    }

    /// Repeats with the private index the checks that were made with the public one.
    fn index_allows(&self, desk: &Desk) -> Result<(), Stop> {
        let card = &desk.index.keyset;
        if card.keys.is_none() {
            return Ok(());
        }
        let described = format!("{:?} on {}", card.name.as_str(), desk.token().info().name());
        let whose = person_check::whose_on_token(desk, card)?;
        person_check::check_letter(self.letter, self.options, &whose, &described)
            .map_err(NotEnrolledReason::Refused)?;
        let against = if desk.index.ca_sha256.0 != self.letter.ca_fingerprint {
            format!("cannot re-enroll the keyset {described}: the letter is from another authority")
        } else if self.letter.purpose() == Purpose::Recover {
            format!("cannot recover into the keyset {described}: it exists; choose another name, `--keyset NAME`")
        } else if self.options.level.is_some_and(|level| level != card.level) {
            format!("cannot re-enroll the keyset {described}: its level is {}", card.level)
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
        let card = Card {
            name: self.options.keyset.clone(),
            level: self.level(),
            authority: AuthorityAddress::of(self.letter),
            keys: None,
        };
        PrivateIndex::new(card, self.letter.ca_fingerprint)
    }

    /// The index after an unfinished enrollment was removed: an enrolled keyset keeps its own, any
    /// other gets a new one.
    fn renewed_index(&self, index: PrivateIndex) -> PrivateIndex {
        if index.keyset.keys.is_some() { index } else { self.new_index() }
    }
}

/// The public key that the request certifies, as DER of a `SubjectPublicKeyInfo`.
fn signing_spki(desk: &Desk) -> Result<Vec<u8>, Trouble> {
    let id = desk.pending()?.signing.key_id();
    let key = desk.ceremony.find_key(&id)?;
    let key = key.ok_or(TokenError::KeyAbsent { operation: OPERATION, token: desk.token().info().name() })?;
    Ok(key.public_key_der().to_vec())
}

/// Classifies a login error: a wrong or locked PIN ends the enrollment before anything was sent,
/// everything else is a fault.
fn pin_or_fault(error: KeysetError) -> Stop {
    match error.kind() {
        super::ErrorKind::Pin | super::ErrorKind::Interrupted => NotEnrolledReason::Pin(error).into(),
        _ => error.into(),
    }
}

/// Classifies a failed token creation: an invalid PIN, a refused label, or a fault.
fn not_made(error: TokenError) -> Stop {
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
