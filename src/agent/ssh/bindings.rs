//! To which sessions a connection is bound, and what that admits.

use super::session_bind::{Proof, SessionBind, fingerprint};
use super::{Refusal, UserAuth};

/// As many sessions as OpenSSH's agent takes on one connection: one for each host on the way.
const MOST: usize = 16;

/// The longest session identifier that is kept, in bytes; a key exchange has no longer hash.
const LONGEST_SESSION_ID: usize = 64;

/// The sessions that a client has told of, in their order: hosts on the way (`forwarding`), at last one to log in to.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    sessions: Vec<Session>,
    /// A binding was tried and failed: who is at the other end is less known than if none had been tried.
    has_failed: bool,
}

#[derive(Debug)]
struct Session {
    id: Vec<u8>,
    host_key: Vec<u8>,
    /// for people
    host: String,
    is_forwarding: bool,
}

impl Bindings {
    /// Adds one. One that cannot be verified is kept too, because it admits less than none, but it is an error.
    pub(super) fn add(&mut self, bind: &SessionBind<'_>) -> Result<(), Refusal> {
        let added = self.try_add(bind);
        self.has_failed |= added.is_err();
        added
    }

    fn try_add(&mut self, bind: &SessionBind<'_>) -> Result<(), Refusal> {
        let refused = |why| Err(Refusal::Bound { what: "bind this connection", why });
        if bind.session_id.is_empty() || bind.session_id.len() > LONGEST_SESSION_ID {
            return refused("its session identifier is none");
        }
        if self.sessions.len() >= MOST {
            return refused("it is bound to too many sessions");
        }
        if let Some(known) = self.sessions.iter().find(|session| session.id == bind.session_id) {
            return if known.host_key == bind.host_key && known.is_forwarding == bind.is_forwarding {
                Ok(())
            } else {
                refused("the same session was bound to another host, or otherwise")
            };
        }
        if self.sessions.iter().any(|session| !session.is_forwarding) {
            return refused("it was bound to log in already");
        }
        let proof = bind.verify()?;
        let fingerprint = fingerprint(bind.host_key);
        let host = match proof {
            Proof::Verified => fingerprint,
            Proof::Unverified => format!("{fingerprint} (not verified)"),
        };
        self.sessions.push(Session {
            id: bind.session_id.to_vec(),
            host_key: bind.host_key.to_vec(),
            host,
            is_forwarding: bind.is_forwarding,
        });
        match proof {
            Proof::Verified => Ok(()),
            Proof::Unverified => refused("host keys of this kind cannot be verified here; it is kept as not verified"),
        }
    }

    /// Is this log-in for the session that was bound last? A connection that was not bound may log in anywhere: clients
    /// before OpenSSH 8.9 bind nothing.
    pub(super) fn must_admit(&self, log_in: &UserAuth<'_>) -> Result<(), Refusal> {
        let refused = |why| Err(Refusal::Bound { what: "sign this log-in", why });
        let Some(session) = self.sessions.last() else {
            return Ok(());
        };
        if session.is_forwarding {
            return refused(
                "the connection is forwarded and the client at its other end did not say to which host it logs in; \
                 OpenSSH 8.9 and newer say so",
            );
        }
        if session.id != log_in.session_id {
            return refused("it is for another session than the one that the connection is bound to");
        }
        if log_in.host_key.is_some_and(|key| key != session.host_key) {
            return refused("it names another host than the one that the connection is bound to");
        }
        Ok(())
    }

    /// Does somebody on another host stand at the other end, or may they? From there keys are listed and used, and
    /// nothing else is done.
    pub(super) fn must_be_here(&self, what: &'static str) -> Result<(), Refusal> {
        if self.has_failed || self.is_forwarded() {
            return Err(Refusal::Bound { what, why: "the connection is forwarded, or may be; do it on this machine" });
        }
        Ok(())
    }

    /// For people: the host that is logged in to.
    pub(super) fn host(&self) -> Option<String> {
        Some(self.sessions.last()?.host.clone())
    }

    /// For people: the hosts from which a forwarded connection comes.
    pub(super) fn way(&self) -> Option<String> {
        let hosts = self.sessions.iter().filter(|session| session.is_forwarding).map(|session| session.host.as_str());
        self.is_forwarded().then(|| hosts.collect::<Vec<_>>().join(", "))
    }

    fn is_forwarded(&self) -> bool {
        self.sessions.iter().any(|session| session.is_forwarding)
    }
}
