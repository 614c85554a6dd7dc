//! The context of prompts: environment variables, terminal, time limit, requesters.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::deadline::Deadline;
use super::terminal::Terminal;

/// The default time limit of a prompt.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);

/// Variables meant only for this process: socket activation and service notification.
const PRIVATE_VARIABLES: &[&str] =
    &["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The context of prompts. It is passed in, so that tests can use their own.
#[derive(Clone)]
pub struct PromptEnvironment {
    variables: BTreeMap<OsString, OsString>,
    terminal: PathBuf,
    timeout: Duration,
    descriptors: Option<Vec<u32>>,
    requesters: Vec<Arc<OwnedFd>>,
}

impl PromptEnvironment {
    /// Uses these variables (`std::env::vars_os()`), `/dev/tty`, and a time limit of five minutes.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables =
            variables.into_iter().filter(|(name, _)| PRIVATE_VARIABLES.iter().all(|own| name != own)).collect();
        Self {
            variables,
            terminal: PathBuf::from("/dev/tty"),
            timeout: DEFAULT_TIMEOUT,
            descriptors: None,
            requesters: Vec::new(),
        }
    }

    /// Replaces `/dev/tty` by another terminal.
    #[must_use]
    pub fn with_terminal(mut self, terminal: impl Into<PathBuf>) -> Self {
        self.terminal = terminal.into();
        self
    }

    /// Sets the time after which an unanswered prompt counts as cancelled. Default: five minutes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the descriptors that were open at the start of the program; only these are PIN sources.
    #[must_use]
    pub fn with_descriptors(mut self, open: Vec<u32>) -> Self {
        self.descriptors = Some(open);
        self
    }

    pub(super) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// The value of a variable, if set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    pub(super) fn terminal(&self) -> &Path {
        &self.terminal
    }

    /// Adds a requester: a pidfd, or a pipe. The prompt is withdrawn when it closes.
    pub(super) fn with_requester(mut self, requester: OwnedFd) -> Self {
        self.requesters.push(Arc::new(requester));
        self
    }

    /// Removes all requesters.
    #[must_use]
    pub(super) fn without_requesters(mut self) -> Self {
        self.requesters.clear();
        self
    }

    /// The deadline of a prompt that starts now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout).for_requesters(&self.requesters)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn descriptors(&self) -> Option<&[u32]> {
        self.descriptors.as_deref()
    }

    /// Returns whether a display for windows is configured.
    pub(super) fn has_display(&self) -> bool {
        self.variable("DISPLAY").is_some() || self.variable("WAYLAND_DISPLAY").is_some()
    }

    /// The controlling terminal, if this process can prompt there. It must be in the foreground:
    /// otherwise the user types for another program, such as a shell that keeps a history.
    pub(super) fn controlling_terminal(&self) -> Result<PathBuf, String> {
        Terminal::open_to_ask(&self.terminal)
            .map_err(|error| format!("cannot prompt at {}: {error}", self.terminal.display()))?;
        Ok(self.terminal.clone())
    }

    /// Removes `$GPG_TTY`: it names the terminal of the shell in which the user runs `GnuPG`, and
    /// that shell would read the input.
    #[must_use]
    pub(super) fn without_gpg_tty(mut self) -> Self {
        self.variables.remove(OsStr::new("GPG_TTY"));
        self
    }

    /// The terminal that `$GPG_TTY` names, if it is usable for a prompt.
    pub(super) fn gpg_tty(&self) -> Result<PathBuf, String> {
        let named = self.variable("GPG_TTY").ok_or("GPG_TTY is not set")?;
        let path = PathBuf::from(named);
        // `export GPG_TTY=$(tty)` in a script results in "not a tty".
        if !path.is_absolute() {
            return Err(format!("GPG_TTY is {}, which is not a terminal", super::showable(&named.to_string_lossy())));
        }
        Terminal::open_to_ask(&path).map_err(|error| format!("GPG_TTY is {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Resolves a program: an absolute path, or a name found in `$PATH`.
    pub(super) fn program(&self, name: &Path) -> Result<PathBuf, String> {
        let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
        let shown = name.display();
        if name.is_absolute() {
            return if runs(name) { Ok(name.to_owned()) } else { Err(format!("{shown} is not an executable file")) };
        }
        if name.components().count() != 1 {
            return Err(format!("{shown} is neither an absolute path nor a program name"));
        }
        let directories = self.variable("PATH").unwrap_or_default();
        std::env::split_paths(directories)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|path| runs(path))
            .ok_or_else(|| format!("{shown} is not in PATH"))
    }
}

/// Omits the variables' values, which may be secret.
impl fmt::Debug for PromptEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptEnvironment")
            .field("terminal", &self.terminal)
            .field("patience", &self.timeout)
            .finish_non_exhaustive()
    }
}
