//! The purpose of a use of a key or of a PIN, as a prompt shows it.

use serde::{Deserialize, Serialize};

use super::subject::{self, Subject};

/// The purpose of a prompt. Only the code that has parsed and understood the bytes creates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// a login over SSH (RFC 4252 §7)
    SshLogIn {
        /// the user name on the host
        user: String,
        /// the host key's fingerprint (`SHA256:…`), if `session-bind@openssh.com` named the host
        host_key: Option<String>,
        /// fingerprints of the hosts that forward the connection, if the client announced
        /// forwarding
        forwarded_by: Option<String>,
    },
    /// an `SSHSIG` signature (`ssh-keygen -Y sign`, git)
    SshSignature {
        /// the namespace (`git`, `file`, …)
        namespace: String,
        /// the hash of the signed message: the algorithm's name and the bytes
        hash: (String, Vec<u8>),
        /// fingerprints of the hosts that forward the connection
        forwarded_by: Option<String>,
    },
    /// a CMS signature over content
    SignContent {
        /// SHA-256 of the content
        sha256: [u8; 32],
        /// the content's subject, if it has one
        subject: Option<Subject>,
    },
    /// decryption of a message
    Decrypt {
        /// number of recipients
        recipients: usize,
    },
    /// an administrator's statement
    Statement {
        /// the operation, e.g. `issue`
        operation: String,
        /// the address or reference that it concerns
        target: Option<String>,
        /// true if the letter in the response is opened, too
        opens_letter: bool,
    },
    /// the authority's response to a statement file
    OpenResponse,
    /// a session, so that later uses need no PIN (levels Medium and Low)
    LogIn,
    Enroll,
    ChangePin,
    UnblockPin,
    DeleteKeyset,
}

impl Purpose {
    /// Number of bytes of content in which its subject is looked for.
    pub const BEGINNING_BYTES: usize = subject::MAX_READ_BYTES;

    /// A CMS signature over the content with this SHA-256 digest and beginning.
    pub fn of_digest(sha256: [u8; 32], beginning: &[u8]) -> Self {
        Self::SignContent { sha256, subject: subject::of(beginning) }
    }

    /// The operation, completing "cannot …" and "to …".
    pub fn operation(&self) -> &'static str {
        match self {
            Self::SshLogIn { .. } => "log in over SSH",
            Self::SshSignature { .. } | Self::SignContent { .. } => "sign",
            Self::Decrypt { .. } => "decrypt",
            Self::Statement { opens_letter: false, .. } => "sign the command",
            Self::Statement { opens_letter: true, .. } => "sign the command and open its letter",
            Self::OpenResponse => "open the response",
            Self::LogIn => "log in",
            Self::Enroll => "enroll",
            Self::ChangePin => "change the PIN",
            Self::UnblockPin => "set a new PIN",
            Self::DeleteKeyset => "delete the keyset",
        }
    }
}
