//! One connection: reads requests and answers each in turn.

use std::os::unix::net::UnixStream;

use super::bindings::Bindings;
use super::framing::{Incoming, Outgoing};
use super::key_blob::{KeyBlob, write_blob};
use super::keys::{Keys, Listed};
use super::request::{EXTENSIONS, Request, SignRequest};
use super::signature_kind::SignatureKind;
use super::wire::Writer;
use super::{AgentError, ClientConnection, Peer, Purpose, Refusal, SignedData, Usage, refusal_log};
use crate::agent::attention::Attention;
use crate::token::Pin;

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION_FAILURE: u8 = 28;
const EXTENSION_RESPONSE: u8 = 29;

/// A client's connection and its session bindings.
pub(super) struct Connection<'k, K: Keys> {
    keys: &'k K,
    peer: Peer,
    client: ClientConnection,
    bindings: Bindings,
    /// The last signing key: its blob and its DER. Most clients use one key.
    last_key: (Vec<u8>, Vec<u8>),
}

impl<'k, K: Keys> Connection<'k, K> {
    pub(super) fn new(keys: &'k K, peer: Peer, client: ClientConnection) -> Self {
        Self { keys, peer, client, bindings: Bindings::default(), last_key: (Vec::new(), Vec::new()) }
    }

    /// Serves until the client disconnects or breaks the framing.
    pub(super) fn serve(&mut self, stream: &UnixStream) -> std::io::Result<()> {
        let (mut incoming, mut outgoing) = (Incoming::new(), Outgoing::new());
        let mut attention = Attention::default();
        while let Some(message) = incoming.next(&mut attention.of(stream))? {
            let has_secret = Request::has_secret(message);
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
        let answered = Request::read(message).and_then(|request| self.act(&request, &mut Writer::new(answer)));
        if let Err(refusal) = answered {
            refusal_log::note(&refusal, self.peer);
            answer.truncate(start);
            answer.push(if Request::is_known_extension(message) { EXTENSION_FAILURE } else { FAILURE });
        }
    }

    fn act(&mut self, request: &Request<'_>, answer: &mut Writer<'_>) -> Result<(), Refusal> {
        match request {
            Request::Sign(request) => return self.sign(request, answer),
            Request::Identities => {
                self.list(answer);
                return Ok(());
            }
            Request::Query => {
                answer.byte(EXTENSION_RESPONSE);
                answer.string(b"query");
                for name in EXTENSIONS {
                    answer.string(name.as_bytes());
                }
                return Ok(());
            }
            Request::SessionBind(bind) => self.bindings.add(&bind.0)?,
            Request::AddIdentity => return Err(Refusal::KeysLiveOnTokens),
            Request::RemoveIdentity(blob) => {
                self.must_be_open("log off")?;
                let key = self.keys.find(&KeyBlob::read(blob)?.to_spki_der()?).ok_or(Refusal::NoSuchKey)?;
                self.keys.log_off_from(&key)?;
            }
            Request::RemoveAll => {
                self.must_be_open("log off")?;
                self.keys.log_off_from_all()?;
            }
            Request::RemoveCard(card) => {
                self.must_be_open("log off")?;
                self.keys.log_off(card.provider)?;
            }
            Request::AddCard(card, constraints) => {
                self.must_be_open("log in")?;
                // With an empty PIN, the agent's own prompter asks.
                let pin = Some(card.pin).filter(|pin| !pin.is_empty());
                let pin = pin.map(|pin| Pin::new(pin.to_owned())).transpose()?;
                let usage = self.usage(Purpose::LogIn);
                self.keys.log_in(card.provider, pin, *constraints, &usage)?;
            }
            Request::Lock(phrase) => {
                self.must_be_open("lock the agent")?;
                self.keys.lock(phrase.0)?;
            }
            Request::Unlock(phrase) => {
                self.bindings.must_be_here("unlock the agent")?;
                self.keys.unlock(phrase.0)?;
            }
        }
        answer.byte(SUCCESS);
        Ok(())
    }

    fn list(&self, answer: &mut Writer<'_>) {
        let (mut count, mut entries) = (0, Vec::new());
        self.keys.list(&mut |Listed { spki_der, comment }| {
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

    fn sign(&mut self, request: &SignRequest<'_>, answer: &mut Writer<'_>) -> Result<(), Refusal> {
        // Parse the data before looking up the key: junk data must not reveal which keys exist.
        let data = SignedData::read(request.data)?;
        if self.last_key.0 != request.key_blob {
            self.last_key = (request.key_blob.to_vec(), KeyBlob::read(request.key_blob)?.to_spki_der()?);
        }
        let Some(key) = self.keys.find(&self.last_key.1) else {
            let locked = || AgentError::Locked { operation: "sign" };
            return Err(if self.keys.is_locked() { locked().into() } else { Refusal::NoSuchKey });
        };
        let kind = SignatureKind::asked_for(K::algorithm(&key), request.flags)?;
        data.must_fit(request.key_blob, kind)?;
        let usage = self.usage(self.purpose(&data)?);
        let signature = self.keys.sign(&key, kind.hash, request.data, &usage)?;
        answer.byte(SIGN_RESPONSE);
        kind.write(&signature, answer)
    }

    fn usage(&self, purpose: Purpose) -> Usage {
        Usage { peer: self.peer, purpose, client: self.client.clone() }
    }

    /// The purpose to show to a person, if the bindings allow the use.
    fn purpose(&self, data: &SignedData<'_>) -> Result<Purpose, Refusal> {
        match data {
            SignedData::UserAuth(log_in) => {
                self.bindings.must_admit(log_in)?;
                let user = log_in.user.to_owned();
                Ok(Purpose::SshLogIn { user, host_key: self.bindings.host(), forwarded_by: self.bindings.way() })
            }
            SignedData::SshSig(blob) => Ok(Purpose::SshSignature {
                namespace: blob.namespace.to_owned(),
                hash: (blob.hash_name.to_owned(), blob.hash.to_vec()),
                forwarded_by: self.bindings.way(),
            }),
        }
    }

    /// Checks that the agent is unlocked and the connection is not forwarded.
    fn must_be_open(&self, what: &'static str) -> Result<(), Refusal> {
        self.bindings.must_be_here(what)?;
        if self.keys.is_locked() { Err(AgentError::Locked { operation: what }.into()) } else { Ok(()) }
    }
}
