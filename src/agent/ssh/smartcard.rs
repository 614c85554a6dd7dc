//! The messages of `ssh-add -s` and `-e` (draft-miller-ssh-agent §4.3, §4.4), with constraints
//! (§4.7).

use std::fmt;
use std::time::Duration;

use super::SshError;
use super::wire::Reader;

/// A token as the client names it, and the PIN sent with it.
#[derive(Clone, Copy)]
pub struct SmartcardRequest<'a> {
    /// a module's path, a token's URI, or a keyset's name
    pub provider: &'a str,
    /// the PIN; empty if the user typed none
    pub(super) pin: &'a str,
}

/// Constraints that a client requests for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// time limit of the session (`ssh-add -t`)
    pub lifetime: Option<Duration>,
    /// confirm every use (`ssh-add -c`)
    pub confirm: bool,
}

const LIFETIME: u8 = 1;
const CONFIRM: u8 = 2;
const EXTENSION: u8 = 255;

impl<'a> SmartcardRequest<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let provider = reader.text()?;
        Some(Self { provider, pin: reader.text()? })
    }
}

impl Constraints {
    /// Parses all constraints. An unknown or unsupported one rejects the request.
    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, SshError> {
        let malformed = || SshError::Malformed("a constraint");
        let mut read = Self::default();
        while !reader.is_at_end() {
            match reader.byte().ok_or_else(malformed)? {
                LIFETIME if read.lifetime.is_none() => {
                    let seconds = reader.uint32().ok_or_else(malformed)?;
                    read.lifetime = Some(Duration::from_secs(u64::from(seconds)));
                }
                CONFIRM if !read.confirm => read.confirm = true,
                LIFETIME | CONFIRM => return Err(malformed()),
                EXTENSION => {
                    let name = reader.text().ok_or_else(malformed)?;
                    let name: String = name.chars().take(80).collect();
                    return Err(SshError::Constraint(format!("{name:?}, which is unsupported")));
                }
                other => return Err(SshError::Constraint(format!("of type {other}, which is unsupported"))),
            }
        }
        Ok(read)
    }
}

impl fmt::Debug for SmartcardRequest<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SmartcardRequest").field("provider", &self.provider).finish_non_exhaustive()
    }
}
