//! Finds the module worker that has to run an operation, by the operation's own rules, and hands
//! the operation over, narrowed to the token found.

use std::sync::Arc;

use super::Inner;
use super::rescan::OperationGuard;
use super::scoped_prompter::ScopedPrompter;
use crate::agent::client::{AgentClient, ClientError};
use crate::agent::module_worker::ModuleWorker;
use crate::agent::operation::{FoundPins, NewTokenTarget, OperationOutput, OperationRequest, WireKeysetChoice};
use crate::agent::{AgentError, Usage};
use crate::keyset::{
    self, FoundKeyset, KeysetChoice, KeysetError, RemoteTokens, TokenSelector, UnreadableToken, UserPrompter,
};
use crate::token::{KeysetName, SecurityLevel, TokenError, TokenUri};
use crate::transport::Transport;

/// The module worker that owns an operation, and its keyset, if it has one.
struct RemoteOwner {
    module_worker: Arc<ModuleWorker>,
    keyset: Option<FoundKeyset>,
}

impl RemoteOwner {
    fn module_worker(module_worker: &Arc<ModuleWorker>) -> Self {
        Self { module_worker: Arc::clone(module_worker), keyset: None }
    }
}

impl Inner {
    /// Runs the operation in the module worker that has the token; `None` if it belongs to this
    /// process.
    pub fn run_remotely(
        &self,
        request: &mut OperationRequest,
        person: &mut dyn UserPrompter,
        transport: &dyn Transport,
        usage: &Usage,
    ) -> Option<Result<OperationOutput, AgentError>> {
        if self.module_workers.is_empty() {
            return None;
        }
        if let OperationRequest::PinStatus { token: None } = request {
            return Some(self.all_pin_statuses(usage));
        }
        let RemoteOwner { module_worker, keyset } = match self.find_remote_owner(request) {
            Ok(owner) => owner?,
            Err(error) => return Some(Err(error)),
        };
        if let Some(keyset) = &keyset {
            person.set_keyset(keyset);
        }
        let operation_guard = OperationGuard::begin(&self.remote_operations);
        let agent =
            AgentClient::in_module_worker(Arc::clone(&module_worker), usage.peer).for_client(usage.client.clone());
        let result =
            agent.run_operation(request, &mut ScopedPrompter { person, module: module_worker.module() }, transport);
        drop(operation_guard);
        let result = result.map_err(|error| of_client(&module_worker, request.operation(), error));
        let is_right = match (&result, &keyset) {
            (Ok(OperationOutput::PinSet(token)), _) => Some(token),
            // At the other levels the worker reports the session that the PIN started.
            (Ok(_), Some(keyset))
                if keyset.level == SecurityLevel::High || matches!(request, OperationRequest::ChangePin { .. }) =>
            {
                Some(&keyset.token)
            }
            _ => None,
        };
        if let Some(token) = is_right {
            module_worker.note_right_pin(token);
        }
        if !request.is_read_only() {
            if matches!(request, OperationRequest::ChangePin { .. } | OperationRequest::UnblockPin { .. }) {
                module_worker.refresh_pin_states();
            } else {
                module_worker.refresh(None);
            }
            self.refresh_or_log();
        }
        Some(result)
    }

    /// Finds the owner and the keyset, and narrows the request to that token.
    fn find_remote_owner(&self, request: &mut OperationRequest) -> Result<Option<RemoteOwner>, AgentError> {
        let found = match request {
            OperationRequest::ListTokens {} | OperationRequest::ListKeysets {} | OperationRequest::ChooseKeyset(_) => {
                return Ok(None);
            }
            OperationRequest::Decrypt { keyset, message } => {
                let Ok(choice) = keyset.to_choice() else { return Ok(None) };
                return Ok(self.remote_owner_if(keyset, keyset::find_reader(&self.tokens, &choice, message.as_slice())));
            }
            OperationRequest::OpenRecipient { keyset, recipient_info, key_length } => {
                let Ok(choice) = keyset.to_choice() else { return Ok(None) };
                let reader =
                    keyset::find_recipient_reader(&self.tokens, &choice, recipient_info.as_slice(), *key_length);
                return Ok(self.remote_owner_if(keyset, reader));
            }
            OperationRequest::Sign { keyset, .. }
            | OperationRequest::Administer { keyset, .. }
            | OperationRequest::OpenResponse { keyset, .. }
            | OperationRequest::ChangePin { keyset }
            | OperationRequest::DeleteKeyset { keyset } => {
                let Ok(choice) = keyset.to_choice() else { return Ok(None) };
                return Ok(self.remote_owner_if(keyset, self.tokens.choose(&choice)));
            }
            OperationRequest::PinStatus { token } | OperationRequest::UnblockPin { token } => {
                let selector = token.as_deref().map(str::parse::<TokenSelector>).transpose();
                let Some(found) = selector.ok().and_then(|named| self.tokens.token_or_only(named.as_ref()).ok()) else {
                    return Ok(None);
                };
                *token = Some(TokenUri::of(&found).to_string());
                found
            }
            OperationRequest::Enroll(enroll) => {
                let Ok(options) = enroll.options() else { return Ok(None) };
                if let Some(new_token) = &mut enroll.new_token {
                    return self.choose_new_token_owner(new_token, &options.keyset);
                }
                // Several keysets of one name are refused, with the list.
                let choice = KeysetChoice { name: Some(options.keyset), ..KeysetChoice::default() };
                let token = match &options.token {
                    Some(selector) => self.tokens.token(selector),
                    None => self.tokens.choose(&choice).map(|keyset| keyset.token),
                };
                let Some(found) = token.ok().filter(|token| self.module_worker_of(token).is_some()) else {
                    return Ok(None);
                };
                enroll.token = Some(TokenUri::of(&found).to_string());
                found
            }
        };
        Ok(self.module_worker_of(&found).map(RemoteOwner::module_worker))
    }

    /// Ignores errors: the operation meets them again where it runs.
    fn remote_owner_if(
        &self,
        choice: &mut WireKeysetChoice,
        found: Result<FoundKeyset, KeysetError>,
    ) -> Option<RemoteOwner> {
        let found = found.ok()?;
        let module_worker = Arc::clone(self.module_worker_of(&found.token)?);
        *choice = WireKeysetChoice::of(&found);
        Some(RemoteOwner { module_worker, keyset: Some(found) })
    }

    /// Chooses the module worker for a new token: the one with the unfinished token, the one named,
    /// or the only candidate. A name or label that another module uses is refused, as within one
    /// module.
    fn choose_new_token_owner(
        &self,
        new_token: &mut NewTokenTarget,
        name: &KeysetName,
    ) -> Result<Option<RemoteOwner>, AgentError> {
        let (keysets, _) = self.tokens.keysets()?;
        let taken = keysets.into_iter().find(|keyset| keyset.name == *name);
        let begun = self.tokens.list()?.into_iter().find(|token| token.label == name.as_str());
        let named = match new_token {
            NewTokenTarget::Module(path) => {
                let path = path.canonicalize().ok();
                Some(self.module_workers.iter().find(|module_worker| Some(module_worker.module()) == path.as_deref()))
            }
            NewTokenTarget::Anywhere => None,
        };
        let module_worker = match (taken, begun, named) {
            // The owner resumes the enrollment or refuses it.
            (Some(keyset), _, _) => self.module_worker_of(&keyset.token),
            (None, Some(begun), Some(Some(module_worker))) if !module_worker.has(&begun) => {
                let (label, serial) = (begun.label, begun.serial);
                return Err(KeysetError::from(TokenError::LabelTaken { label, serial }).into());
            }
            (None, Some(begun), _) => self.module_worker_of(&begun),
            (None, None, Some(named)) => named,
            (None, None, None) => self.only_module_with_free_slot()?,
        };
        Ok(module_worker.map(|module_worker| {
            *new_token = NewTokenTarget::Module(module_worker.module().to_owned());
            RemoteOwner::module_worker(module_worker)
        }))
    }

    /// The module worker that can create a token, if no other module can.
    fn only_module_with_free_slot(&self) -> Result<Option<&Arc<ModuleWorker>>, AgentError> {
        let local = self.tokens.modules_with_free_slot()?;
        let mut remote: Vec<&Arc<ModuleWorker>> = Vec::new();
        for module_worker in &self.module_workers {
            if module_worker.has_free_slot()? {
                remote.push(module_worker);
            }
        }
        match (local.is_empty(), remote.as_slice()) {
            (_, []) => Ok(None),
            (true, [module_worker]) => Ok(Some(module_worker)),
            _ => {
                let remote = remote.iter().map(|module_worker| module_worker.module().to_owned());
                let all: Vec<_> = local.into_iter().chain(remote).map(|path| path.display().to_string()).collect();
                Err(KeysetError::Ambiguous {
                    what: "module",
                    candidates: all.join(", "),
                    remedy: "name the module for the token with `--new-token=MODULE`".to_owned(),
                }
                .into())
            }
        }
    }

    fn all_pin_statuses(&self, usage: &Usage) -> Result<OperationOutput, AgentError> {
        let (mut all, mut unreadable) = self.tokens.local_only().pin_states(None)?;
        for module_worker in &self.module_workers {
            if let Err(error) = module_worker.tokens() {
                let place = module_worker.module().display().to_string();
                unreadable.push(UnreadableToken { place, error });
                continue;
            }
            let agent =
                AgentClient::in_module_worker(Arc::clone(module_worker), usage.peer).for_client(usage.client.clone());
            match agent.pins(None) {
                Ok((pins, unknown)) => {
                    all.extend(pins);
                    unreadable.extend(unknown);
                }
                Err(error) => {
                    unreadable.extend(of_each_token(module_worker, &of_client(module_worker, "check the PINs", error)));
                }
            }
        }
        match unreadable.pop() {
            Some(one) if all.is_empty() => Err(one.error.into()),
            last => {
                unreadable.extend(last);
                Ok(OperationOutput::Pins(FoundPins::new((all, unreadable))))
            }
        }
    }
}

/// Reports each token of this module worker as unreadable.
fn of_each_token(module_worker: &ModuleWorker, error: &AgentError) -> Vec<UnreadableToken> {
    let tokens = module_worker.tokens().unwrap_or_default();
    let mut places: Vec<_> = tokens.iter().map(|token| token.name().to_string()).collect();
    if places.is_empty() {
        places.push(module_worker.module().display().to_string());
    }
    let remote_error = || KeysetError::Remote { kind: error.kind(), message: error.to_string() };
    places.into_iter().map(|place| UnreadableToken { place, error: remote_error() }).collect()
}

fn of_client(module_worker: &ModuleWorker, operation: &'static str, error: ClientError) -> AgentError {
    match error {
        ClientError::Operation(error) => error.into(),
        error => {
            tracing::debug!(%error, "a module worker did not complete an operation");
            module_worker.ended(operation)
        }
    }
}
