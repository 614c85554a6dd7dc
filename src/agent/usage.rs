//! One use of a key, as a prompt shows it: the client and the purpose.

use super::{ClientConnection, PeerProcess};

/// One use of a key.
#[derive(Clone, Debug)]
pub struct Usage {
    /// the client
    pub peer: PeerProcess,
    pub purpose: UsagePurpose,
    /// the connection for the answer; when it closes, prompts are withdrawn
    pub client: ClientConnection,
}

/// The purpose of a use. Only the code that has parsed and understood the bytes creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsagePurpose {
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
        /// number of recipients; 0 if the message cannot be parsed
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
    /// a session, so that later uses need no PIN (levels Medium and Low)
    LogIn,
    /// another operation on a keyset, completing "to …": `enroll`, `change the PIN`
    Operation(&'static str),
}

/// The subject of content, from its own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// a mail: its subject
    Mail(String),
    /// a git commit: the first line of its message
    Commit(String),
    /// a git tag: its name
    Tag(String),
}

impl UsagePurpose {
    /// The operation, completing "cannot …" and "to …".
    pub fn operation(&self) -> &'static str {
        match self {
            Self::SshLogIn { .. } => "log in over SSH",
            Self::SshSignature { .. } | Self::SignContent { .. } => "sign",
            Self::Decrypt { .. } => "decrypt",
            Self::Statement { opens_letter: false, .. } => "sign the command",
            Self::Statement { opens_letter: true, .. } => "sign the command and open its letter",
            Self::LogIn => "log in",
            Self::Operation(operation) => operation,
        }
    }
}
