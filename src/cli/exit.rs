//! The end of the program: an exit code, one line with the reason, and one with the next step.

use std::io::Write;
use std::process::ExitStatus;

use serde::{Serialize, Serializer};

use super::spinner;
use crate::agent::AgentProcessError;
use crate::agent::operations::ClientError;
use crate::authority::{AuthorityError, ConfigurationError};
use crate::keyset::{ErrorKind, KeysetError};
use crate::letter::LetterError;
use crate::pki::PkiError;
use crate::prompter::PrompterError;
use crate::service::ServiceError;
use crate::smime::SmimeError;
use crate::statement::StatementError;
use crate::store::StoreError;
use crate::token::{TokenError, TokenErrorKind};
use crate::transport::TransportError;

/// The exit codes. They are an interface: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: success
    Done,
    /// 1: fault
    Fault,
    /// 2: invalid command line or configuration file
    Usage,
    /// 3: token, keyset, key or agent not found
    Absent,
    /// 4: no PIN, cancelled prompt, wrong or locked PIN
    Pin,
    /// 5: declined by the person or the authority, forbidden by a rule, or ambiguous
    Refused,
    /// 6: authority unreachable
    Unreachable,
    /// 7: the authority has not decided yet
    #[allow(dead_code, reason = "part of the interface; no command waits yet")]
    Waiting,
    /// 8: signature or message not verified
    NotVerified,
    /// 9: the authority's audit log was modified or truncated
    LogBroken,
    /// 130: interrupted by Ctrl-C
    Interrupted,
}

impl Exit {
    /// The exit code of the process.
    pub fn code(self) -> i32 {
        i32::from(self.number())
    }

    /// The exit code that another tokenkeep process ended with; an unknown one counts as a fault.
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

/// Exits with `_exit`. `atexit` handlers that PKCS#11 modules registered must not run: they free
/// what other threads may still use (a pending module call, the service's last request), and have
/// crashed programs that had finished.
pub fn end(exit: Exit) -> ! {
    spinner::clear_spinners();
    // A failed flush cannot be reported any more.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    signal_hook::low_level::exit(exit.code())
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// A failed command in JSON.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// the exit code
    #[serde(rename = "code")]
    pub exit: Exit,
    /// the failed operation and the reason
    pub message: String,
    /// the next step, unless the message names it already
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// the verdict on a signature or a message as one word, if it is the reason
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

    /// Not a failure: the reader of the output closed the pipe, so there is nothing to report.
    pub fn ended() -> Self {
        Self::new(Exit::Done, "")
    }

    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the verdict for programs.
    #[must_use]
    pub fn with_verdict(mut self, verdict: &'static str) -> Self {
        self.verdict = Some(verdict);
        self
    }
}

/// Prints a usage error (exit code 2), or the requested help or version (0).
pub fn usage(error: &clap::Error) -> Exit {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        _ if error.use_stderr() => Exit::Usage,
        // A reader that closes the pipe early is no fault.
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

impl From<AgentProcessError> for Failure {
    fn from(error: AgentProcessError) -> Self {
        let exit = match &error {
            AgentProcessError::Running { .. } => Exit::Refused,
            AgentProcessError::NotRunning => Exit::Absent,
            AgentProcessError::Worker { status, .. } => Exit::of_status(*status),
            _ => Exit::Fault,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::new(KeysetError::transport_kind(&error).into(), error.to_string())
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
            AuthorityError::TokenAbsent { .. } | AuthorityError::NoTokenSource(_) => Exit::Absent,
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

/// For a statement or response that was read from a file.
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
            // An unreadable message counts as not verified.
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
