//! The sessions that a connection is bound to, and the requests that they allow.

use super::session_bind::{BindingProof, SessionBind, fingerprint};
use super::{SshError, UserAuth};

/// Maximum number of sessions on one connection, one for each host on the path, as in OpenSSH's
/// agent.
const MAX_SESSIONS: usize = 16;

/// Maximum length of a session identifier in bytes; no key exchange has a longer hash.
const MAX_SESSION_ID_BYTES: usize = 64;

/// The sessions that a client announced, in order: hosts that forward the connection, and last the
/// host to log in to.
#[derive(Debug, Default)]
pub(super) struct SessionBindings {
    sessions: Vec<Session>,
    /// A binding failed: less is known about the peer than without any attempt.
    has_failed: bool,
}

#[derive(Debug)]
struct Session {
    id: Vec<u8>,
    host_key: Vec<u8>,
    /// the host key's fingerprint, for display
    host: String,
    is_forwarding: bool,
}

impl SessionBindings {
    /// Adds a binding. An unverifiable binding is an error, but is kept, because it allows less
    /// than none.
    pub(super) fn add(&mut self, bind: &SessionBind<'_>) -> Result<(), SshError> {
        let added = self.try_add(bind);
        self.has_failed |= added.is_err();
        added
    }

    fn try_add(&mut self, bind: &SessionBind<'_>) -> Result<(), SshError> {
        let refused = |reason| Err(SshError::Bound { operation: "bind this connection", reason });
        if bind.session_id.is_empty() || bind.session_id.len() > MAX_SESSION_ID_BYTES {
            return refused("its session identifier is invalid");
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return refused("it is bound to too many sessions");
        }
        if let Some(known) = self.sessions.iter().find(|session| session.id == bind.session_id) {
            return if known.host_key == bind.host_key && known.is_forwarding == bind.is_forwarding {
                Ok(())
            } else {
                refused("the same session is bound to another host or with another forwarding flag")
            };
        }
        if self.sessions.iter().any(|session| !session.is_forwarding) {
            return refused("it is already bound to a login session");
        }
        let proof = bind.verify()?;
        let fingerprint = fingerprint(bind.host_key);
        let host = match proof {
            BindingProof::HostVerified => fingerprint,
            BindingProof::Unverified => format!("{fingerprint} (not verified)"),
        };
        self.sessions.push(Session {
            id: bind.session_id.to_vec(),
            host_key: bind.host_key.to_vec(),
            host,
            is_forwarding: bind.is_forwarding,
        });
        match proof {
            BindingProof::HostVerified => Ok(()),
            BindingProof::Unverified => {
                refused("host keys of this type cannot be verified; the binding is kept as unverified")
            }
        }
    }

    /// Checks that a login is for the session bound last. A connection without bindings may log in
    /// anywhere, because clients before OpenSSH 8.9 bind nothing.
    pub(super) fn check_session(&self, log_in: &UserAuth<'_>) -> Result<(), SshError> {
        let refused = |reason| Err(SshError::Bound { operation: "sign this login", reason });
        let Some(session) = self.sessions.last() else {
            return Ok(());
        };
        if session.is_forwarding {
            return refused(
                "the connection is forwarded and the remote client did not name the host of the login; \
                 OpenSSH 8.9 and newer do",
            );
        }
        if session.id != log_in.session_id {
            return refused("it is for a session other than the one the connection is bound to");
        }
        if log_in.host_key.is_some_and(|key| key != session.host_key) {
            return refused("it names a host other than the one the connection is bound to");
        }
        Ok(())
    }

    /// Checks that the client is not on another host. A forwarded connection may only list and use
    /// keys.
    pub(super) fn check_not_forwarded(&self, operation: &'static str) -> Result<(), SshError> {
        if self.has_failed || self.is_forwarded() {
            return Err(SshError::Bound {
                operation,
                reason: "the connection is forwarded, or may be; do it on this machine",
            });
        }
        Ok(())
    }

    /// The fingerprint of the login's host, for display.
    pub(super) fn host(&self) -> Option<String> {
        Some(self.sessions.last()?.host.clone())
    }

    /// The fingerprints of the hosts that forward the connection, for display.
    pub(super) fn forwarded_from(&self) -> Option<String> {
        let hosts = self.sessions.iter().filter(|session| session.is_forwarding).map(|session| session.host.as_str());
        self.is_forwarded().then(|| hosts.collect::<Vec<_>>().join(", "))
    }

    fn is_forwarded(&self) -> bool {
        self.sessions.iter().any(|session| session.is_forwarding)
    }
}
