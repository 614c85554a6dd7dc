//! How the program ends: an exit code that says what happened, one line that says why, one that says what to do.

use std::io::Write;
use std::process::ExitStatus;

use serde::{Serialize, Serializer};

use super::progress;
use crate::agent::BrokerError;
use crate::agent::client::ClientError;
use crate::authority::{AuthorityError, ConfigurationError};
use crate::carrier::CarrierError;
use crate::keyset::{ErrorKind, KeysetError};
use crate::letter::LetterError;
use crate::pki::PkiError;
use crate::prompter::PrompterError;
use crate::service::ServiceError;
use crate::smime::SmimeError;
use crate::statement::StatementError;
use crate::store::StoreError;
use crate::token::{TokenError, TokenErrorKind};

/// The exit codes. They are an interface: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1: something broke
    Fault,
    /// 2: the command line or a configuration file cannot be understood
    Usage,
    /// 3: token, keyset or key is not there
    Absent,
    /// 4: no PIN, a cancelled prompt, a wrong or locked PIN
    Pin,
    /// 5: somebody who may decide it said no, a rule is against it, or several things could be meant
    Refused,
    /// 6: the authority cannot be reached
    Unreachable,
    /// 7: the authority has not decided yet
    #[allow(dead_code, reason = "part of the interface; no command waits yet")]
    Waiting,
    /// 8: a signature or a message is not what it claims to be
    NotVerified,
    /// 9: the authority's audit log was changed or cut off
    LogBroken,
    /// 130: Ctrl-C
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> i32 {
        i32::from(self.number())
    }

    /// Of another process of this program.
    pub fn of_status(status: ExitStatus) -> Self {
        let all = [Self::Usage, Self::Absent, Self::Pin, Self::Refused, Self::Unreachable, Self::NotVerified];
        all.into_iter()
            .chain([Self::Interrupted])
            .find(|exit| status.code() == Some(exit.code()))
            .unwrap_or(Self::Fault)
    }

    fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Fault => 1,
            Self::Usage => 2,
            Self::Absent => 3,
            Self::Pin => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::Waiting => 7,
            Self::NotVerified => 8,
            Self::LogBroken => 9,
            Self::Interrupted => 130,
        }
    }
}

/// Ends the process, now. What modules registered for its orderly end is not run: it clears up what threads may still be
/// using (a module that is asked, a service's last request), and has ended programs that were done with a crash.
pub fn end(exit: Exit) -> ! {
    progress::clear();
    // Nobody is left to tell when this fails.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    signal_hook::low_level::exit(exit.code())
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// Why the program ends without having done what it was asked for.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// the exit code
    #[serde(rename = "code")]
    pub exit: Exit,
    /// what could not be done, and why
    pub message: String,
    /// the next step to take, where the message does not say it already
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// what a signature or a message amounts to, in one word, where that is why it was refused
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), remedy: None, verdict: None }
    }

    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(Exit::Fault, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn absent(message: impl Into<String>) -> Self {
        Self::new(Exit::Absent, message)
    }

    /// Not a failure: whoever read our output has closed it, and there is nobody to tell.
    pub fn ended() -> Self {
        Self::new(Exit::Done, "")
    }

    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with this word for programs.
    #[must_use]
    pub fn with_verdict(mut self, verdict: &'static str) -> Self {
        self.verdict = Some(verdict);
        self
    }
}

/// A command line that cannot be understood (2), or help and version that were asked for (0).
pub fn usage(error: &clap::Error) -> Exit {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        _ if error.use_stderr() => Exit::Usage,
        // A reader that closes the pipe early has read enough.
        Err(reason) if reason.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to stdout: {reason}");
            Exit::Fault
        }
        _ => Exit::Done,
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let exit = match error.kind() {
            TokenErrorKind::Absent => Exit::Absent,
            TokenErrorKind::Pin => Exit::Pin,
            TokenErrorKind::Refused => Exit::Refused,
            TokenErrorKind::Fault => Exit::Fault,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let exit = match &error {
            BrokerError::Running { .. } => Exit::Refused,
            BrokerError::NotRunning => Exit::Absent,
            BrokerError::Worker { status } => Exit::of_status(*status),
            _ => Exit::Fault,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<CarrierError> for Failure {
    fn from(error: CarrierError) -> Self {
        Self::new(KeysetError::carrier_kind(&error).into(), error.to_string())
    }
}

impl From<PrompterError> for Failure {
    fn from(error: PrompterError) -> Self {
        let exit = if matches!(error, PrompterError::Interrupted { .. }) { Exit::Interrupted } else { Exit::Pin };
        Self::new(exit, error.to_string())
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Fault => Self::Fault,
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Absent => Self::Absent,
            ErrorKind::Pin => Self::Pin,
            ErrorKind::Interrupted => Self::Interrupted,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::NotVerified => Self::NotVerified,
        }
    }
}

impl From<KeysetError> for Failure {
    fn from(error: KeysetError) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        let exit = match error {
            AuthorityError::Configuration(error) => return error.into(),
            AuthorityError::Token(error) => return error.into(),
            AuthorityError::Administrator { .. }
            | AuthorityError::Pki(PkiError::ProfileFile { .. } | PkiError::ProfileUnreadable { .. }) => Exit::Usage,
            AuthorityError::StateNotEmpty(_) | AuthorityError::NotAdded(_) => Exit::Refused,
            AuthorityError::Log { .. } | AuthorityError::Store(StoreError::LogChanged { .. }) => Exit::LogBroken,
            AuthorityError::TokenAbsent { .. } | AuthorityError::NoModule(_) => Exit::Absent,
            _ => Exit::Fault,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Authority(error) => error.into(),
            ServiceError::Unverified(_) => Self::new(Exit::Refused, error.to_string()),
            other => Self::fault(other.to_string()),
        }
    }
}

/// Of a statement or response that was given as a file.
impl From<StatementError> for Failure {
    fn from(error: StatementError) -> Self {
        Self::new(Exit::NotVerified, error.to_string())
    }
}

impl From<LetterError> for Failure {
    fn from(error: LetterError) -> Self {
        let exit = match error {
            LetterError::Write { .. } => Exit::Fault,
            _ => Exit::Usage,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::fault(error.to_string())
    }
}

impl From<SmimeError> for Failure {
    fn from(error: SmimeError) -> Self {
        let exit = match error {
            SmimeError::NoContent => Exit::Usage,
            // What cannot be read as a message is not what it claims to be.
            SmimeError::Unreadable(_)
            | SmimeError::NoMessage(_)
            | SmimeError::WrongKind { .. }
            | SmimeError::Undecryptable => Exit::NotVerified,
            SmimeError::ReservedContentType(_) | SmimeError::Recipient { .. } | SmimeError::NoRecipient => {
                Exit::Refused
            }
            _ => Exit::Fault,
        };
        Self::new(exit, error.to_string())
    }
}
