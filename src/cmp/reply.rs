//! The client's side: whether a reply is the answer to what was sent.

use super::status::PkiStatusInfo;
use super::{CmpError, ErrorMsgContent, PkiBody, PkiMessage, ProtectionError, verify_mac};

/// What came back.
#[derive(Clone, Debug)]
pub enum Reply {
    /// From the authority, in answer to the request: everything in it may be believed, also an `error` in it.
    Proven(PkiMessage),
    /// An `error` without protection. It may come from anyone, so nothing may be undone or given up for good because of
    /// it; the authority answers a secret that it cannot verify in this way.
    UnprovenError(ErrorMsgContent),
}

impl Reply {
    /// The message if it is proven and grants or answers something; the status of a refusal otherwise.
    pub fn granted(self) -> Result<PkiMessage, PkiStatusInfo> {
        match self {
            Self::UnprovenError(error) => Err(error.status),
            Self::Proven(message) => match message.body() {
                PkiBody::Error(error) => Err(error.status.clone()),
                _ => Ok(message),
            },
        }
    }
}

/// Why a reply is not the answer to the request.
#[derive(Debug, thiserror::Error)]
pub enum ReplyRefusal {
    /// Not a CMP message.
    #[error("the reply cannot be read: {0}")]
    Unreadable(#[source] CmpError),
    /// Neither its MAC nor anything else says that it is from the authority.
    #[error("the reply is not proven to come from the authority: {0}")]
    Unproven(ProtectionError),
    /// It belongs to another transaction.
    #[error("the reply belongs to another transaction")]
    OtherTransaction,
    /// It answers another message of the transaction, or is a replay.
    #[error("the reply does not answer the message that was sent (recipNonce)")]
    OtherMessage,
    /// It has another version than the request.
    #[error("the reply has pvno {0}, which was not asked for")]
    OtherVersion(u32),
}

/// Checks a reply to `request` (our own message, read back from its exact bytes) that was protected by `secret`: MAC
/// over the received bytes, then pvno, transactionID and recipNonce. Only an `error` may come without protection.
pub fn check_reply(request: &PkiMessage, reply: &[u8], secret: &[u8]) -> Result<Reply, ReplyRefusal> {
    let reply = PkiMessage::from_der(reply).map_err(ReplyRefusal::Unreadable)?;
    let proven = match (verify_mac(&reply, secret), reply.body()) {
        (Ok(_), _) => true,
        (Err(ProtectionError::Missing), PkiBody::Error(_)) => false,
        (Err(error), _) => return Err(ReplyRefusal::Unproven(error)),
    };
    let (asked, answered) = (request.header(), reply.header());
    if asked.transaction_id != answered.transaction_id {
        return Err(ReplyRefusal::OtherTransaction);
    }
    if answered.recip_nonce != asked.sender_nonce {
        return Err(ReplyRefusal::OtherMessage);
    }
    match (proven, reply.body()) {
        (false, PkiBody::Error(error)) => Ok(Reply::UnprovenError(error.clone())),
        _ if answered.pvno != asked.pvno => Err(ReplyRefusal::OtherVersion(answered.pvno.number())),
        _ => Ok(Reply::Proven(reply)),
    }
}
