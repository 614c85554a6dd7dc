//! One use of a key, as a person is asked about it: who asks, and for what.

use serde::{Deserialize, Serialize};

use super::{ClientConnection, Peer};

/// A few words that are in the program.
type Words = &'static str;

/// One use of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// who asks
    pub peer: Peer,
    /// what for
    pub purpose: Purpose,
    /// where the answer goes: when that ends, nobody is asked any more. It never travels: whoever does this use for another
    /// process watches the connection to that
    #[serde(skip)]
    pub client: ClientConnection,
}

/// What a key is to be used for. It is made by whoever has read and understood the bytes, and by nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// RFC 4252 §7: to log in over SSH
    SshLogIn {
        /// the user name on the other side
        user: String,
        /// the host, where `session-bind@openssh.com` told it: its key's fingerprint (`SHA256:…`)
        host_key: Option<String>,
        /// by which host the connection is forwarded, if it is told to be: its key's fingerprint
        forwarded_by: Option<String>,
    },
    /// an `SSHSIG` signature (`ssh-keygen -Y sign`, git)
    SshSignature {
        /// the namespace (`git`, `file`, …)
        namespace: String,
        /// the hash of what is signed: its algorithm's name and its bytes
        hash: (String, Vec<u8>),
        /// as above
        forwarded_by: Option<String>,
    },
    /// a CMS signature over a content
    SignContent {
        /// SHA-256 of the content
        sha256: [u8; 32],
        /// what the content says that it is about
        subject: Option<Subject>,
    },
    /// opening a message that was encrypted to a keyset
    Decrypt {
        /// how many recipients it has
        recipients: usize,
    },
    /// an administrator's statement, and what it orders
    Statement {
        /// the operation, e.g. `issue`
        operation: String,
        /// whom it is about
        target: Option<String>,
        /// is the letter that answers it opened, too?
        opens_letter: bool,
    },
    /// logging in, so that later uses need no PIN (levels Medium and Low)
    LogIn,
    /// another act with a keyset; completes "to …": `enroll`, `change the PIN`. It never travels: an annex that does an act
    /// reads for itself what the act is
    #[serde(skip)]
    Act(Words),
}

/// What a content is, by its own bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// a mail, by its subject
    Mail(String),
    /// a commit of git's, by the first line of its message
    Commit(String),
    /// a tag of git's, by its name
    Tag(String),
}

impl Purpose {
    /// What is done, completing "cannot …" and "to …".
    pub fn operation(&self) -> &'static str {
        match self {
            Self::SshLogIn { .. } => "log in over SSH",
            Self::SshSignature { .. } | Self::SignContent { .. } => "sign",
            Self::Decrypt { .. } => "decrypt",
            Self::Statement { opens_letter: false, .. } => "sign the command",
            Self::Statement { opens_letter: true, .. } => "sign the command and open its letter",
            Self::LogIn => "log in",
            Self::Act(act) => act,
        }
    }
}
