//! Finds the module worker that has to run an operation, by the operation's own rules, and hands
//! the operation over, narrowed to the token found.

use std::sync::Arc;

use super::Inner;
use super::of_module::OfModule;
use super::rescan::Acting;
use crate::agent::act::{ActAnswer, ActRequest, Choice, FoundPins, NewTokenIn};
use crate::agent::annex::Annex;
use crate::agent::client::{Agent, ClientError};
use crate::agent::{AgentError, Usage};
use crate::carrier::Carrier;
use crate::keyset::{self, Elsewhere, FoundKeyset, KeysetChoice, KeysetError, Person, TokenSelector, TokenTrouble};
use crate::token::{KeysetName, SecurityLevel, TokenError, TokenUri};

/// The module worker that owns an operation, and its keyset, if it has one.
struct Theirs {
    annex: Arc<Annex>,
    keyset: Option<FoundKeyset>,
}

impl Theirs {
    fn annex(annex: &Arc<Annex>) -> Self {
        Self { annex: Arc::clone(annex), keyset: None }
    }
}

impl Inner {
    /// Runs the operation in the module worker that has the token; `None` if it belongs to this
    /// process.
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
        let Theirs { annex, keyset } = match self.theirs(request) {
            Ok(theirs) => theirs?,
            Err(error) => return Some(Err(error)),
        };
        if let Some(keyset) = &keyset {
            person.concerns(keyset);
        }
        let acting = Acting::begin(&self.acts_elsewhere);
        let agent = Agent::in_annex(Arc::clone(&annex), usage.peer).for_client(usage.client.clone());
        let result = agent.act(request, &mut OfModule { person, module: annex.module() }, carrier);
        drop(acting);
        let result = result.map_err(|error| of_client(&annex, request.operation(), error));
        let is_right = match (&result, &keyset) {
            (Ok(ActAnswer::PinSet(token)), _) => Some(token),
            // At the other levels the worker reports the session that the PIN started.
            (Ok(_), Some(keyset))
                if keyset.level == SecurityLevel::High || matches!(request, ActRequest::ChangePin { .. }) =>
            {
                Some(&keyset.token)
            }
            _ => None,
        };
        if let Some(token) = is_right {
            annex.note_right_pin(token);
        }
        if !request.changes_nothing() {
            if matches!(request, ActRequest::ChangePin { .. } | ActRequest::UnblockPin { .. }) {
                annex.look_at_pins();
            } else {
                annex.look(None);
            }
            self.refresh_or_say();
        }
        Some(result)
    }

    /// Finds the owner and the keyset, and narrows the request to that token.
    fn theirs(&self, request: &mut ActRequest) -> Result<Option<Theirs>, AgentError> {
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
                    return self.new_token_there(new_token, &options.keyset);
                }
                // Several keysets of one name are refused, with the list.
                let choice = KeysetChoice { name: Some(options.keyset), ..KeysetChoice::default() };
                let place = match &options.token {
                    Some(selector) => self.tokens.token(selector),
                    None => self.tokens.choose(&choice).map(|keyset| keyset.token),
                };
                let Some(found) = place.ok().filter(|token| self.annex_of(token).is_some()) else { return Ok(None) };
                enroll.token = Some(TokenUri::of(&found).to_string());
                found
            }
        };
        Ok(self.annex_of(&found).map(Theirs::annex))
    }

    /// Ignores errors: the operation meets them again where it runs.
    fn theirs_if(&self, choice: &mut Choice, found: Result<FoundKeyset, KeysetError>) -> Option<Theirs> {
        let found = found.ok()?;
        let annex = Arc::clone(self.annex_of(&found.token)?);
        *choice = Choice::of(&found);
        Some(Theirs { annex, keyset: Some(found) })
    }

    /// Chooses the module worker for a new token: the one with the unfinished token, the one named,
    /// or the only candidate. A name or label that another module uses is refused, as within one
    /// module.
    fn new_token_there(&self, new_token: &mut NewTokenIn, name: &KeysetName) -> Result<Option<Theirs>, AgentError> {
        let (keysets, _) = self.tokens.keysets()?;
        let taken = keysets.into_iter().find(|keyset| keyset.name == *name);
        let begun = self.tokens.list()?.into_iter().find(|token| token.label == name.as_str());
        let named = match new_token {
            NewTokenIn::Module(path) => {
                let path = path.canonicalize().ok();
                Some(self.annexes.iter().find(|annex| Some(annex.module()) == path.as_deref()))
            }
            NewTokenIn::Anywhere => None,
        };
        let annex = match (taken, begun, named) {
            // The owner resumes the enrollment or refuses it.
            (Some(keyset), _, _) => self.annex_of(&keyset.token),
            (None, Some(begun), Some(Some(annex))) if !annex.has(&begun) => {
                let (label, serial) = (begun.label, begun.serial);
                return Err(KeysetError::from(TokenError::LabelTaken { label, serial }).into());
            }
            (None, Some(begun), _) => self.annex_of(&begun),
            (None, None, Some(named)) => named,
            (None, None, None) => self.only_room()?,
        };
        Ok(annex.map(|annex| {
            *new_token = NewTokenIn::Module(annex.module().to_owned());
            Theirs::annex(annex)
        }))
    }

    /// The module worker that can create a token, if no other module can.
    fn only_room(&self) -> Result<Option<&Arc<Annex>>, AgentError> {
        let here = self.tokens.modules_with_room()?;
        let mut there: Vec<&Arc<Annex>> = Vec::new();
        for annex in &self.annexes {
            if annex.has_room()? {
                there.push(annex);
            }
        }
        match (here.is_empty(), there.as_slice()) {
            (_, []) => Ok(None),
            (true, [annex]) => Ok(Some(annex)),
            _ => {
                let there = there.iter().map(|annex| annex.module().to_owned());
                let all: Vec<_> = here.into_iter().chain(there).map(|path| path.display().to_string()).collect();
                Err(KeysetError::Ambiguous {
                    what: "module",
                    candidates: all.join(", "),
                    remedy: "name the module for the token with `--new-token=MODULE`".to_owned(),
                }
                .into())
            }
        }
    }

    fn look_at_all_pins(&self, usage: &Usage) -> Result<ActAnswer, AgentError> {
        let (mut all, mut troubles) = self.tokens.here().look_at_pins(None)?;
        for annex in self.annexes.iter().filter(|annex| annex.is_there()) {
            let agent = Agent::in_annex(Arc::clone(annex), usage.peer);
            match agent.pins(None) {
                Ok((pins, unknown)) => {
                    all.extend(pins);
                    troubles.extend(unknown);
                }
                Err(error) => troubles.extend(of_each_token(annex, &of_client(annex, "check the PINs", error))),
            }
        }
        match troubles.pop() {
            Some(trouble) if all.is_empty() => Err(trouble.error.into()),
            last => {
                troubles.extend(last);
                Ok(ActAnswer::Pins(FoundPins::new((all, troubles))))
            }
        }
    }
}

/// Reports each token of this module worker as unreadable.
fn of_each_token(annex: &Annex, error: &AgentError) -> Vec<TokenTrouble> {
    let tokens = annex.tokens().unwrap_or_default();
    let mut places: Vec<_> = tokens.iter().map(|token| token.name().to_string()).collect();
    if places.is_empty() {
        places.push(annex.module().display().to_string());
    }
    let told = || KeysetError::Told { kind: error.kind(), message: error.to_string() };
    places.into_iter().map(|place| TokenTrouble { place, error: told() }).collect()
}

fn of_client(annex: &Annex, operation: &'static str, error: ClientError) -> AgentError {
    match error {
        ClientError::Act(error) => error.into(),
        error => {
            tracing::debug!(%error, "a module worker did not complete an operation");
            annex.ended(operation)
        }
    }
}
