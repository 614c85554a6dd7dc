//! `session-bind@openssh.com` (OpenSSH's PROTOCOL.agent §1): a client announces the session and
//! host of its next login.

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use sha2::{Digest, Sha256};

use super::SshError;
use super::key_blob::KeyBlob;
use super::signature_kind::is_valid_signature;
use super::wire::Reader;

/// The fields after the extension's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionBind<'a> {
    pub(super) host_key: &'a [u8],
    pub(super) session_id: &'a [u8],
    signature: &'a [u8],
    /// true if the connection will be forwarded to the host instead of logging in there
    pub(super) is_forwarding: bool,
}

/// The result of verifying a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingProof {
    /// The host key signed the session identifier.
    HostVerified,
    /// The host key's type cannot be verified.
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

    /// Verifies the host key's signature over the session identifier (the exchange hash, RFC 4253
    /// §8). A wrong signature is an error; a key of an unsupported type proves nothing.
    pub(super) fn verify(&self) -> Result<BindingProof, SshError> {
        let Ok(KeyBlob { key, .. }) = KeyBlob::read(self.host_key) else {
            return Ok(BindingProof::Unverified);
        };
        if is_valid_signature(key, self.session_id, self.signature) {
            Ok(BindingProof::HostVerified)
        } else {
            Err(SshError::Bound {
                operation: "bind this connection",
                reason: "the host key's signature over the session is invalid",
            })
        }
    }
}

/// The fingerprint of a host key in OpenSSH's format.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}
