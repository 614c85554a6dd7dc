//! `session-bind@openssh.com` (OpenSSH's PROTOCOL.agent §1): a client tells to which session, with which host, it will log in.

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use sha2::{Digest, Sha256};

use super::Refusal;
use super::key_blob::KeyBlob;
use super::verification::has_signed;
use super::wire::Reader;

/// What follows the extension's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionBind<'a> {
    pub(super) host_key: &'a [u8],
    pub(super) session_id: &'a [u8],
    signature: &'a [u8],
    /// Will the connection serve somebody at the host, rather than log in there?
    pub(super) is_forwarding: bool,
}

/// How much of a binding is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The host's key has signed the session identifier.
    Verified,
    /// The host's key is of a kind that cannot be verified here.
    Unverified,
}

impl<'a> SessionBind<'a> {
    pub(super) fn read(mut reader: Reader<'a>) -> Option<Self> {
        let host_key = reader.string()?;
        let session_id = reader.string()?;
        let signature = reader.string()?;
        let read = Self { host_key, session_id, signature, is_forwarding: reader.boolean()? };
        reader.end()?;
        Some(read)
    }

    /// Has the host's key signed the session identifier (RFC 4253 §8: as the hash of the key exchange)? An error when
    /// it has not; a key that cannot be verified with here proves nothing.
    pub(super) fn verify(&self) -> Result<Proof, Refusal> {
        let Ok(KeyBlob { key, .. }) = KeyBlob::read(self.host_key) else {
            return Ok(Proof::Unverified);
        };
        if has_signed(key, self.session_id, self.signature) {
            Ok(Proof::Verified)
        } else {
            Err(Refusal::Bound { what: "bind this connection", why: "the host's key has not signed its session" })
        }
    }
}

/// A host key's fingerprint as OpenSSH shows it.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}
