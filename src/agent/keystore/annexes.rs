//! The modules that have workers of their own: what they tell, and which uses and acts are theirs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::catalogue::is_at;
use super::{Event, Inner, LogOff};
use crate::agent::act::{ActAnswer, ActRequest, Choice, NewTokenIn};
use crate::agent::annex::{Annex, LogInChange, News};
use crate::agent::client::{Agent, ClientError};
use crate::agent::{AgentError, Usage};
use crate::carrier::Carrier;
use crate::keyset::{self, FoundKeyset, KeysetError, Person, TokenSelector};
use crate::token::{TokenInfo, TokenUri};

/// Before it is looked for the next annex when one has ended at once.
const BREATHER: Duration = Duration::from_millis(50);

impl Inner {
    /// The annex that has this token.
    pub fn annex_of(&self, token: &TokenInfo) -> Option<&Arc<Annex>> {
        self.annexes.iter().find(|annex| annex.has(token))
    }

    /// Follows each annex, a thread each, as long as the keystore is there.
    pub fn follow_annexes(inner: &Arc<Self>) -> std::io::Result<()> {
        for annex in &inner.annexes {
            let (annex, inner) = (Arc::clone(annex), Arc::downgrade(inner));
            let thread = std::thread::Builder::new().name("annex".to_owned()).stack_size(256 * 1024);
            thread.spawn(move || follow(&inner, &annex))?;
        }
        Ok(())
    }

    fn heard(&self, annex: &Annex, news: News) {
        if let Some(LogInChange::Ended(token, why)) = &news.log_in {
            self.events.tell(&Event::LoggedOff { token: token.clone(), why: *why });
        }
        annex.note(news.seen);
        if news.is_first && self.locked.is_locked() {
            annex.lock(true);
        }
        self.refresh_or_say();
        if let Some(LogInChange::Begun(token)) = news.log_in {
            self.events.tell(&Event::LoggedIn(token));
        }
    }

    fn heard_end(&self, annex: &Annex) {
        for token in annex.note_end() {
            self.events.tell(&Event::LoggedOff { token, why: LogOff::Removed });
        }
        self.refresh_or_say();
    }

    /// Has the annexes be locked as this is: what goes on there stops, too. The pass phrase stays here.
    pub fn tell_annexes_whether_locked(&self) {
        for annex in &self.annexes {
            annex.lock(self.locked.is_locked());
        }
    }

    /// Does the act in the annex that has the token; none when it is done here.
    pub fn act_elsewhere(
        &self,
        request: &mut ActRequest,
        person: &mut dyn Person,
        carrier: &dyn Carrier,
        usage: &Usage,
    ) -> Option<Result<ActAnswer, AgentError>> {
        if self.annexes.is_empty() {
            return None;
        }
        if let ActRequest::LookAtPins { token: None } = request {
            return Some(self.look_at_all_pins(usage));
        }
        let (annex, keyset) = match self.theirs(request) {
            Ok(found) => found?,
            Err(error) => return Some(Err(error.into())),
        };
        if let Some(keyset) = keyset {
            person.concerns(&keyset);
        }
        let result = done_by(&annex, request, person, carrier, usage);
        if !request.changes_nothing() {
            annex.look(None);
            self.refresh_or_say();
        }
        Some(result)
    }

    /// Whose act it is, and with which keyset; the request then names that very token.
    fn theirs(&self, request: &mut ActRequest) -> Result<Option<(Arc<Annex>, Option<FoundKeyset>)>, KeysetError> {
        let found = match request {
            ActRequest::ListTokens {} | ActRequest::ListKeysets {} | ActRequest::ChooseKeyset(_) => return Ok(None),
            ActRequest::Decrypt { keyset, message } => {
                let Ok(choice) = keyset.to_choice() else { return Ok(None) };
                return Ok(self.theirs_if(keyset, keyset::reader_of(&self.tokens, &choice, message.as_slice())));
            }
            ActRequest::OpenRecipient { keyset, recipient_info, key_length } => {
                let Ok(choice) = keyset.to_choice() else { return Ok(None) };
                let reader = keyset::reader_of_recipient(&self.tokens, &choice, recipient_info.as_slice(), *key_length);
                return Ok(self.theirs_if(keyset, reader));
            }
            ActRequest::Sign { keyset, .. }
            | ActRequest::Administer { keyset, .. }
            | ActRequest::OpenResponse { keyset, .. }
            | ActRequest::ChangePin { keyset }
            | ActRequest::DeleteKeyset { keyset } => {
                let Ok(choice) = keyset.to_choice() else { return Ok(None) };
                return Ok(self.theirs_if(keyset, self.tokens.choose(&choice)));
            }
            ActRequest::LookAtPins { token } | ActRequest::UnblockPin { token } => {
                let selector = token.as_deref().map(str::parse::<TokenSelector>).transpose();
                let Some(found) = selector.ok().and_then(|named| self.tokens.token_or_only(named.as_ref()).ok()) else {
                    return Ok(None);
                };
                *token = Some(TokenUri::of(&found).to_string());
                found
            }
            ActRequest::Enroll(enroll) => {
                let Ok(options) = enroll.options() else { return Ok(None) };
                if let Some(new_token) = &mut enroll.new_token {
                    return self.new_token_there(new_token, options.keyset.as_str());
                }
                let named = options.token.as_ref().map(|selector| self.tokens.token(selector));
                let place = match named {
                    Some(found) => found.ok(),
                    None => {
                        let (keysets, _) = self.tokens.keysets()?;
                        let mut same_name = keysets.into_iter().filter(|keyset| keyset.name == options.keyset);
                        // Several are refused, with the list.
                        same_name.next().filter(|_| same_name.next().is_none()).map(|keyset| keyset.token)
                    }
                };
                let Some(found) = place.filter(|token| self.annex_of(token).is_some()) else { return Ok(None) };
                enroll.token = Some(TokenUri::of(&found).to_string());
                found
            }
        };
        Ok(self.annex_of(&found).map(|annex| (Arc::clone(annex), None)))
    }

    /// An error is the act's own, found again where it is done.
    fn theirs_if(
        &self,
        choice: &mut Choice,
        found: Result<FoundKeyset, KeysetError>,
    ) -> Option<(Arc<Annex>, Option<FoundKeyset>)> {
        let found = found.ok()?;
        let annex = Arc::clone(self.annex_of(&found.token)?);
        *choice = Choice::of(&found);
        Some((annex, Some(found)))
    }

    /// In which annex a new token is to be made: the one that was named, the one that has begun it, else the only place.
    fn new_token_there(
        &self,
        new_token: &mut NewTokenIn,
        label: &str,
    ) -> Result<Option<(Arc<Annex>, Option<FoundKeyset>)>, KeysetError> {
        use keyset::Elsewhere as _;
        let annex = match new_token {
            NewTokenIn::Module(path) => {
                let path = path.canonicalize().ok();
                self.annexes.iter().find(|annex| Some(annex.module()) == path.as_deref())
            }
            NewTokenIn::Anywhere => {
                let begun = self.tokens.list()?.into_iter().find(|token| token.label == label);
                match begun {
                    Some(token) => self.annex_of(&token),
                    None => self.only_room()?,
                }
            }
        };
        Ok(annex.map(|annex| {
            *new_token = NewTokenIn::Module(annex.module().to_owned());
            (Arc::clone(annex), None)
        }))
    }

    /// The annex in which a token can be made, if it can be made nowhere else.
    fn only_room(&self) -> Result<Option<&Arc<Annex>>, KeysetError> {
        use keyset::Elsewhere as _;
        let here = self.tokens.modules_with_room()?;
        let there: Vec<&Arc<Annex>> = self.annexes.iter().filter(|annex| annex.has_room()).collect();
        match (here.is_empty(), there.as_slice()) {
            (_, []) => Ok(None),
            (true, [annex]) => Ok(Some(annex)),
            _ => {
                let there = there.iter().map(|annex| annex.module().to_owned());
                let all: Vec<_> = here.into_iter().chain(there).map(|path| path.display().to_string()).collect();
                Err(KeysetError::Ambiguous {
                    what: "module",
                    candidates: all.join(", "),
                    remedy: "name the one that is to hold the token, `--new-token=MODULE`".to_owned(),
                })
            }
        }
    }

    fn look_at_all_pins(&self, usage: &Usage) -> Result<ActAnswer, AgentError> {
        let mut all: Vec<_> = self.tokens.here().pins(None)?.into_iter().map(Into::into).collect();
        for annex in &self.annexes {
            let agent = Agent::in_annex(Arc::clone(annex), usage.peer);
            match agent.pins(None) {
                Ok(pins) => all.extend(pins.into_iter().map(Into::into)),
                Err(error) => return Err(of_client(annex, "look at the PINs", error)),
            }
        }
        Ok(ActAnswer::Pins(all))
    }

    /// Does a log-in stand in an annex, to this token?
    pub fn stands_elsewhere(&self, token: &TokenInfo) -> bool {
        self.annex_of(token).is_some_and(|annex| annex.logged_in().iter().any(|other| is_at(other, token)))
    }

    /// Is an act going on here, or does a log-in stand?
    pub fn is_in_use(&self) -> bool {
        self.acts.load(Ordering::SeqCst) > 0 || !self.tokens.standing().is_empty()
    }
}

fn done_by(
    annex: &Arc<Annex>,
    request: &ActRequest,
    person: &mut dyn Person,
    carrier: &dyn Carrier,
    usage: &Usage,
) -> Result<ActAnswer, AgentError> {
    let agent = Agent::in_annex(Arc::clone(annex), usage.peer);
    agent.act(request, person, carrier).map_err(|error| of_client(annex, request.operation(), error))
}

fn of_client(annex: &Annex, operation: &'static str, error: ClientError) -> AgentError {
    match error {
        ClientError::Act(error) => error.into(),
        error => {
            tracing::debug!(%error, "an annex did not do an act");
            annex.ended(operation)
        }
    }
}

fn follow(inner: &Weak<Inner>, annex: &Annex) {
    loop {
        let followed = annex.follow(|annex, news| {
            if let Some(inner) = inner.upgrade() {
                inner.heard(annex, news);
            }
        });
        let Some(inner) = inner.upgrade() else { return };
        inner.heard_end(annex);
        if let Err(error) = followed {
            tracing::error!("{error}");
            return;
        }
        drop(inner);
        std::thread::sleep(BREATHER);
    }
}
