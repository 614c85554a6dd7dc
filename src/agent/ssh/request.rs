//! Client messages (draft-miller-ssh-agent §4, §7).

use super::SshError;
use super::session_bind::SessionBind;
use super::smartcard::{Constraints, SmartcardRequest};
use super::wire::Reader;

/// A client message. Message types of SSH 1 are not supported.
#[derive(Debug)]
pub enum SshRequest<'a> {
    /// `SSH_AGENTC_REQUEST_IDENTITIES`
    Identities,
    /// `SSH_AGENTC_SIGN_REQUEST`
    Sign(SignRequest<'a>),
    /// `SSH_AGENTC_ADD_IDENTITY` or `SSH_AGENTC_ADD_ID_CONSTRAINED`; its private key is not parsed
    AddIdentity,
    /// `SSH_AGENTC_REMOVE_IDENTITY`: a key blob
    RemoveIdentity(&'a [u8]),
    /// `SSH_AGENTC_REMOVE_ALL_IDENTITIES`
    RemoveAll,
    /// `SSH_AGENTC_ADD_SMARTCARD_KEY`, or constrained
    AddSmartcard(SmartcardRequest<'a>, Constraints),
    /// `SSH_AGENTC_REMOVE_SMARTCARD_KEY`
    RemoveSmartcard(SmartcardRequest<'a>),
    /// `SSH_AGENTC_LOCK`: a pass phrase
    Lock(PassPhrase<'a>),
    /// `SSH_AGENTC_UNLOCK`: a pass phrase
    Unlock(PassPhrase<'a>),
    /// `SSH_AGENTC_EXTENSION` `query`
    Query,
    /// `SSH_AGENTC_EXTENSION` `session-bind@openssh.com`
    SessionBind(BindRequest<'a>),
}

#[derive(Clone, Copy, Debug)]
pub struct SignRequest<'a> {
    /// the public key, or a certificate of it
    pub key_blob: &'a [u8],
    /// the data to sign, as received
    pub data: &'a [u8],
    /// selects the hash for RSA keys
    pub flags: u32,
}

/// A request to bind the connection; opaque outside this module.
#[derive(Clone, Copy, Debug)]
pub struct BindRequest<'a>(pub(super) SessionBind<'a>);

/// The secret of a request.
#[derive(Clone, Copy)]
pub struct PassPhrase<'a>(pub(super) &'a [u8]);

impl std::fmt::Debug for PassPhrase<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const ADD_IDENTITY: u8 = 17;
const REMOVE_IDENTITY: u8 = 18;
const REMOVE_ALL_IDENTITIES: u8 = 19;
const ADD_SMARTCARD_KEY: u8 = 20;
const REMOVE_SMARTCARD_KEY: u8 = 21;
const LOCK: u8 = 22;
const UNLOCK: u8 = 23;
const ADD_ID_CONSTRAINED: u8 = 25;
const ADD_SMARTCARD_KEY_CONSTRAINED: u8 = 26;
const EXTENSION: u8 = 27;

/// The supported extensions, as `query` lists them.
pub(super) const EXTENSIONS: [&str; 2] = ["query", "session-bind@openssh.com"];

impl<'a> SshRequest<'a> {
    /// Parses a whole message.
    pub fn read(message: &'a [u8]) -> Result<Self, SshError> {
        let mut reader = Reader::new(message);
        let kind = reader.byte().ok_or(SshError::Malformed("a message"))?;
        match kind {
            REQUEST_IDENTITIES => ended(reader, Self::Identities, "a request for the keys"),
            SIGN_REQUEST => SignRequest::read(reader).map(Self::Sign).ok_or(SshError::Malformed("a request to sign")),
            ADD_IDENTITY | ADD_ID_CONSTRAINED => Ok(Self::AddIdentity),
            REMOVE_IDENTITY => only_string(reader, "a request to remove a key").map(Self::RemoveIdentity),
            REMOVE_ALL_IDENTITIES => ended(reader, Self::RemoveAll, "a request to remove all keys"),
            ADD_SMARTCARD_KEY => {
                let smartcard =
                    SmartcardRequest::read(&mut reader).ok_or(SshError::Malformed("a request to log in"))?;
                ended(reader, Self::AddSmartcard(smartcard, Constraints::default()), "a request to log in")
            }
            ADD_SMARTCARD_KEY_CONSTRAINED => {
                let smartcard =
                    SmartcardRequest::read(&mut reader).ok_or(SshError::Malformed("a request to log in"))?;
                Ok(Self::AddSmartcard(smartcard, Constraints::read(reader)?))
            }
            REMOVE_SMARTCARD_KEY => {
                let smartcard =
                    SmartcardRequest::read(&mut reader).ok_or(SshError::Malformed("a request to log off"))?;
                ended(reader, Self::RemoveSmartcard(smartcard), "a request to log off")
            }
            LOCK => only_string(reader, "a request to lock").map(|phrase| Self::Lock(PassPhrase(phrase))),
            UNLOCK => only_string(reader, "a request to unlock").map(|phrase| Self::Unlock(PassPhrase(phrase))),
            EXTENSION => Self::read_extension(reader),
            other => Err(SshError::UnknownMessage(other)),
        }
    }

    fn read_extension(mut reader: Reader<'a>) -> Result<Self, SshError> {
        match reader.text().ok_or(SshError::Malformed("an extension"))? {
            "query" => ended(reader, Self::Query, "a query"),
            "session-bind@openssh.com" => SessionBind::read(reader)
                .map(|bind| Self::SessionBind(BindRequest(bind)))
                .ok_or(SshError::Malformed("a session-bind")),
            other => Err(SshError::UnknownExtension(other.chars().take(80).collect())),
        }
    }

    /// Returns true for a supported extension, whose failures have a code of their own.
    pub(super) fn is_known_extension(message: &[u8]) -> bool {
        let mut reader = Reader::new(message);
        reader.byte() == Some(EXTENSION) && reader.text().is_some_and(|name| EXTENSIONS.contains(&name))
    }
}

impl<'a> SignRequest<'a> {
    fn read(mut reader: Reader<'a>) -> Option<Self> {
        let key_blob = reader.string()?;
        let read = Self { key_blob, data: reader.string()?, flags: reader.uint32()? };
        reader.end()?;
        Some(read)
    }
}

fn ended<'a>(reader: Reader<'a>, request: SshRequest<'a>, message: &'static str) -> Result<SshRequest<'a>, SshError> {
    reader.end().map(|()| request).ok_or(SshError::Malformed(message))
}

fn only_string<'a>(mut reader: Reader<'a>, message: &'static str) -> Result<&'a [u8], SshError> {
    let string = reader.string();
    reader.end().and(string).ok_or(SshError::Malformed(message))
}
