//! One connection: reads requests and answers each in turn.

use std::os::unix::net::UnixStream;

use super::bindings::SessionBindings;
use super::framing::{MessageReader, MessageWriter};
use super::key_blob::{KeyBlob, write_blob};
use super::keystore::{KeyProvider, ListedKey};
use super::request::{EXTENSIONS, SignRequest, SshRequest};
use super::signature_kind::SignatureKind;
use super::wire::Writer;
use super::{AgentError, SignedData, SshError, error_log};
use crate::agent::Requester;
use crate::agent::spin_reader::SpinReader;
use crate::keyset::Purpose;
use crate::token::Pin;

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION_FAILURE: u8 = 28;
const EXTENSION_RESPONSE: u8 = 29;

/// A client's connection and its session bindings.
pub(super) struct SshConnection<'k, K: KeyProvider> {
    keys: &'k K,
    requester: Requester,
    bindings: SessionBindings,
    /// The last signing key: its blob and its DER. Most clients use one key.
    last_key: (Vec<u8>, Vec<u8>),
}

impl<'k, K: KeyProvider> SshConnection<'k, K> {
    pub(super) fn new(keys: &'k K, requester: Requester) -> Self {
        Self { keys, requester, bindings: SessionBindings::default(), last_key: (Vec::new(), Vec::new()) }
    }

    /// Serves until the client disconnects or breaks the framing.
    pub(super) fn serve(&mut self, stream: &UnixStream) -> std::io::Result<()> {
        let (mut incoming, mut outgoing) = (MessageReader::new(), MessageWriter::new());
        let mut spin_reader = SpinReader::default();
        while let Some(message) = incoming.next(&mut spin_reader.of(stream))? {
            let has_secret = SshRequest::has_secret(message);
            self.answer(message, outgoing.begin());
            if has_secret {
                incoming.wipe_message();
            }
            outgoing.send(&mut &*stream)?;
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
                let key = self.keys.find(&KeyBlob::read(blob)?.to_spki_der()?).ok_or(SshError::NoSuchKey)?;
                self.keys.log_off_from(&key)?;
            }
            SshRequest::RemoveAll => {
                self.check_unlocked("log off")?;
                self.keys.log_off_from_all()?;
            }
            SshRequest::RemoveSmartcard(smartcard) => {
                self.check_unlocked("log off")?;
                self.keys.log_off(smartcard.provider)?;
            }
            SshRequest::AddSmartcard(smartcard, constraints) => {
                self.check_unlocked("log in")?;
                // With an empty PIN, the agent's own prompter asks.
                let pin = Some(smartcard.pin).filter(|pin| !pin.is_empty());
                let pin = pin.map(|pin| Pin::new(pin.to_owned())).transpose()?;
                self.keys.log_in(smartcard.provider, pin, *constraints, &self.requester)?;
            }
            SshRequest::Lock(phrase) => {
                self.check_unlocked("lock the agent")?;
                self.keys.lock(phrase.0)?;
            }
            SshRequest::Unlock(phrase) => {
                self.bindings.check_not_forwarded("unlock the agent")?;
                self.keys.unlock(phrase.0)?;
            }
        }
        answer.byte(SUCCESS);
        Ok(())
    }

    fn list(&self, answer: &mut Writer<'_>) {
        let (mut count, mut entries) = (0, Vec::new());
        self.keys.list(&mut |ListedKey { spki_der, comment }| {
            let mut blob = Vec::new();
            if write_blob(spki_der, &mut Writer::new(&mut blob)).is_some() {
                count += 1;
                let mut entry = Writer::new(&mut entries);
                entry.string(&blob);
                entry.string(comment.as_bytes());
            }
        });
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
        let Some(key) = self.keys.find(&self.last_key.1) else {
            let locked = || AgentError::Locked { operation: "sign" };
            return Err(if self.keys.is_locked() { locked().into() } else { SshError::NoSuchKey });
        };
        let kind = SignatureKind::asked_for(K::algorithm(&key), request.flags)?;
        data.check_key(request.key_blob, kind)?;
        let purpose = self.purpose(&data)?;
        let signature = self.keys.sign(&key, kind.hash, request.data, &purpose, &self.requester)?;
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
        if self.keys.is_locked() { Err(AgentError::Locked { operation }.into()) } else { Ok(()) }
    }
}
