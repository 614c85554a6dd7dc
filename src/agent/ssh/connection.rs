//! One connection: reads requests and answers each in turn.

use std::os::unix::net::UnixStream;

use super::bindings::SessionBindings;
use super::framing::{MessageReader, MessageWriter};
use super::key_blob::{KeyBlob, write_blob};
use super::provider::find_by_provider;
use super::request::{EXTENSIONS, SignRequest, SshRequest};
use super::signature_kind::SignatureKind;
use super::smartcard::{Constraints, SmartcardRequest};
use super::wire::Writer;
use super::{AgentError, Keystore, SignedData, SshError, error_log};
use crate::agent::spin_reader::SpinReader;
use crate::agent::{Requester, SignData};
use crate::keyset::{KeysetChoice, Purpose, TokenSelector};
use crate::prompter::showable;
use crate::token::{Pin, SecurityLevel, TokenInfo, TokenUri};

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION_FAILURE: u8 = 28;
const EXTENSION_RESPONSE: u8 = 29;

/// A client's connection and its session bindings.
pub(super) struct SshConnection<'k> {
    keystore: &'k Keystore,
    requester: Requester,
    bindings: SessionBindings,
    /// The last signing key: its blob and its DER. Most clients use one key.
    pub(super) last_key: (Vec<u8>, Vec<u8>),
}

impl<'k> SshConnection<'k> {
    pub(super) fn new(keystore: &'k Keystore, requester: Requester) -> Self {
        Self { keystore, requester, bindings: SessionBindings::default(), last_key: (Vec::new(), Vec::new()) }
    }

    /// Serves until the client disconnects or breaks the framing.
    pub(super) fn serve(&mut self, stream: &UnixStream) -> std::io::Result<()> {
        let (mut incoming, mut outgoing) = (MessageReader::new(), MessageWriter::new());
        let mut spin_reader = SpinReader::default();
        while let Some(message) = incoming.next(&mut spin_reader.of(stream))? {
            self.answer(message, outgoing.begin());
            outgoing.send(&mut &*stream)?;
            incoming.wipe_message();
        }
        Ok(())
    }

    /// Appends the answer to a message.
    pub(super) fn answer(&mut self, message: &[u8], answer: &mut Vec<u8>) {
        let start = answer.len();
        let answered = SshRequest::read(message).and_then(|request| self.handle(&request, &mut Writer::new(answer)));
        if let Err(refusal) = answered {
            error_log::note(&refusal, self.requester.peer);
            answer.truncate(start);
            answer.push(if SshRequest::is_known_extension(message) { EXTENSION_FAILURE } else { FAILURE });
        }
    }

    fn handle(&mut self, request: &SshRequest<'_>, answer: &mut Writer<'_>) -> Result<(), SshError> {
        match request {
            SshRequest::Sign(request) => return self.sign(request, answer),
            SshRequest::Identities => {
                self.list(answer);
                return Ok(());
            }
            SshRequest::Query => {
                answer.byte(EXTENSION_RESPONSE);
                answer.string(b"query");
                for name in EXTENSIONS {
                    answer.string(name.as_bytes());
                }
                return Ok(());
            }
            SshRequest::SessionBind(bind) => self.bindings.add(&bind.0)?,
            SshRequest::AddIdentity => return Err(SshError::TokenKeysOnly),
            SshRequest::RemoveIdentity(blob) => {
                self.check_unlocked("log off")?;
                let key = self.keystore.find(&KeyBlob::read(blob)?.to_spki_der()?).ok_or(SshError::NoSuchKey)?;
                self.keystore.log_off(Some(&selector(&key.keyset.token)))?;
            }
            SshRequest::RemoveAll => {
                self.check_unlocked("log off")?;
                self.keystore.log_off(None)?;
            }
            SshRequest::RemoveSmartcard(smartcard) => {
                self.check_unlocked("log off")?;
                let identities = self.keystore.identities();
                let token = &find_by_provider(&identities, smartcard.provider)?.keyset.token;
                self.keystore.log_off(Some(&selector(token)))?;
            }
            SshRequest::AddSmartcard(smartcard, constraints) => {
                self.check_unlocked("log in")?;
                self.log_in(*smartcard, *constraints)?;
            }
            SshRequest::Lock(phrase) => {
                self.check_unlocked("lock the agent")?;
                self.keystore.lock(phrase.0)?;
            }
            SshRequest::Unlock(phrase) => {
                self.bindings.check_not_forwarded("unlock the agent")?;
                self.keystore.unlock(phrase.0)?;
            }
        }
        answer.byte(SUCCESS);
        Ok(())
    }

    /// Logs in to the one token that the client names: one try of the client's PIN, or of a PIN
    /// that a person is asked for.
    fn log_in(
        &self,
        SmartcardRequest { provider, pin }: SmartcardRequest<'_>,
        constraints: Constraints,
    ) -> Result<(), SshError> {
        // With an empty PIN, the agent's own prompter asks.
        let pin = Some(pin).filter(|pin| !pin.is_empty()).map(|pin| Pin::new(pin.to_owned())).transpose()?;
        let identities = self.keystore.identities();
        let keyset = &find_by_provider(&identities, provider)?.keyset;
        // `ssh-add -c`. Whether uses are confirmed depends on the keyset's level: a session cannot
        // add a confirmation.
        if constraints.confirm && keyset.level == SecurityLevel::Low {
            return Err(SshError::Constraint(
                "confirm (`-c`): at the keyset's level, low, no use is confirmed".to_owned(),
            ));
        }
        let token = selector(&keyset.token);
        if let Some(pin) = pin {
            self.keystore.log_in_with(&token, pin, constraints.lifetime, &self.requester)?;
        } else {
            let name = Some(keyset.name.clone());
            let choice = KeysetChoice { name, token: Some(token), ..KeysetChoice::default() };
            self.keystore.log_in(&choice, constraints.lifetime, &self.requester)?;
        }
        Ok(())
    }

    fn list(&self, answer: &mut Writer<'_>) {
        let (mut count, mut entries) = (0, Vec::new());
        for identity in self.keystore.identities() {
            let mut blob = Vec::new();
            if write_blob(&identity.spki, &mut Writer::new(&mut blob)).is_some() {
                count += 1;
                let comment = showable(&format!("{} {}", identity.keyset.name.as_str(), identity.user));
                let mut entry = Writer::new(&mut entries);
                entry.string(&blob);
                entry.string(comment.as_bytes());
            }
        }
        answer.byte(IDENTITIES_ANSWER);
        answer.uint32(count);
        answer.bytes(&entries);
    }

    fn sign(&mut self, request: &SignRequest<'_>, answer: &mut Writer<'_>) -> Result<(), SshError> {
        // Parse the data before looking up the key: junk data must not reveal which keys exist.
        let data = SignedData::read(request.data)?;
        if self.last_key.0 != request.key_blob {
            self.last_key = (request.key_blob.to_vec(), KeyBlob::read(request.key_blob)?.to_spki_der()?);
        }
        let Some(identity) = self.keystore.find(&self.last_key.1) else {
            let locked = || AgentError::Locked { operation: "sign" };
            return Err(if self.keystore.is_locked() { locked().into() } else { SshError::NoSuchKey });
        };
        let kind = SignatureKind::asked_for(identity.algorithm, request.flags)?;
        data.check_key(request.key_blob, kind)?;
        let purpose = self.purpose(&data)?;
        let key_use = SignData { identity: &identity, hash: kind.hash, data: request.data, purpose: &purpose };
        let signature = self.keystore.use_key(key_use, &self.requester)?;
        answer.byte(SIGN_RESPONSE);
        kind.write(&signature, answer)
    }

    /// The purpose to show to a person, if the bindings allow the use.
    fn purpose(&self, data: &SignedData<'_>) -> Result<Purpose, SshError> {
        match data {
            SignedData::UserAuth(log_in) => {
                self.bindings.check_session(log_in)?;
                let user = log_in.user.to_owned();
                Ok(Purpose::SshLogIn {
                    user,
                    host_key: self.bindings.host(),
                    forwarded_by: self.bindings.forwarded_from(),
                })
            }
            SignedData::SshSig(blob) => Ok(Purpose::SshSignature {
                namespace: blob.namespace.to_owned(),
                hash: (blob.hash_name.to_owned(), blob.hash.to_vec()),
                forwarded_by: self.bindings.forwarded_from(),
            }),
        }
    }

    /// Checks that the agent is unlocked and the connection is not forwarded.
    fn check_unlocked(&self, operation: &'static str) -> Result<(), SshError> {
        self.bindings.check_not_forwarded(operation)?;
        if self.keystore.is_locked() { Err(AgentError::Locked { operation }.into()) } else { Ok(()) }
    }
}

fn selector(token: &TokenInfo) -> TokenSelector {
    TokenSelector::Uri(Box::new(TokenUri::of(token)))
}
