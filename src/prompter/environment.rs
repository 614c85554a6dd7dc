//! What is around the program, as far as it matters for asking: variables, terminals, patience.

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

/// How long a question stands if nothing else is said.
const PATIENCE: Duration = Duration::from_mins(5);

/// Variables that are for this program alone: its sockets, its readiness, its credentials.
const OWN: &[&str] = &["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The surroundings. Passed in, so that tests have their own.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    terminal: PathBuf,
    patience: Duration,
    descriptors: Option<Vec<u32>>,
    askers: Vec<Arc<OwnedFd>>,
}

impl Environment {
    /// With these variables (`std::env::vars_os()`), `/dev/tty`, and five minutes of patience.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter().filter(|(name, _)| OWN.iter().all(|own| name != own)).collect();
        Self {
            variables,
            terminal: PathBuf::from("/dev/tty"),
            patience: PATIENCE,
            descriptors: None,
            askers: Vec::new(),
        }
    }

    /// With another terminal than `/dev/tty`.
    #[must_use]
    pub fn with_terminal(mut self, terminal: impl Into<PathBuf>) -> Self {
        self.terminal = terminal.into();
        self
    }

    /// With another time after which a question that is not answered counts as cancelled.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With the descriptors that were open when the program was started: no other is a source of PINs.
    #[must_use]
    pub fn with_descriptors(mut self, open: Vec<u32>) -> Self {
        self.descriptors = Some(open);
        self
    }

    pub(super) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    pub(super) fn terminal(&self) -> &Path {
        &self.terminal
    }

    /// With somebody more who wants the answer: a handle of a process, or a pipe. When it ends nobody is asked any more.
    pub(super) fn with_asker(mut self, asker: OwnedFd) -> Self {
        self.askers.push(Arc::new(asker));
        self
    }

    /// With nobody who wants the answer.
    #[must_use]
    pub(super) fn without_askers(mut self) -> Self {
        self.askers.clear();
        self
    }

    /// Until when a question that is asked now stands.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.patience).for_askers(&self.askers)
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn descriptors(&self) -> Option<&[u32]> {
        self.descriptors.as_deref()
    }

    /// Whether there is a screen that windows appear on.
    pub(super) fn has_display(&self) -> bool {
        self.variable("DISPLAY").is_some() || self.variable("WAYLAND_DISPLAY").is_some()
    }

    /// The terminal of this very program, if one can ask there: only while the program is in the foreground of it. At any
    /// other somebody types for another program, a shell that keeps a history among them.
    pub(super) fn own_terminal(&self) -> Result<PathBuf, String> {
        Terminal::open_to_ask(&self.terminal)
            .map_err(|error| format!("{} cannot be asked at: {error}", self.terminal.display()))?;
        Ok(self.terminal.clone())
    }

    /// Without `$GPG_TTY`: it names the terminal of the shell that a person has in mind for `GnuPG`, and that shell reads
    /// what is typed there.
    #[must_use]
    pub(super) fn without_gpg_tty(mut self) -> Self {
        self.variables.remove(OsStr::new("GPG_TTY"));
        self
    }

    /// The terminal that `$GPG_TTY` names, if one can ask there.
    pub(super) fn gpg_tty(&self) -> Result<PathBuf, String> {
        let named = self.variable("GPG_TTY").ok_or("GPG_TTY is not set")?;
        let path = PathBuf::from(named);
        // `export GPG_TTY=$(tty)` in a script gives "not a tty".
        if !path.is_absolute() {
            return Err(format!("GPG_TTY is {}, which names no terminal", super::showable(&named.to_string_lossy())));
        }
        Terminal::open_to_ask(&path).map_err(|error| format!("GPG_TTY is {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Where a program is: an absolute path, or a name that is looked for in `$PATH`.
    pub(super) fn program(&self, name: &Path) -> Result<PathBuf, String> {
        let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
        let shown = name.display();
        if name.is_absolute() {
            return if runs(name) {
                Ok(name.to_owned())
            } else {
                Err(format!("{shown} is no program that can be run"))
            };
        }
        if name.components().count() != 1 {
            return Err(format!("{shown} is neither an absolute path nor a plain name"));
        }
        let directories = self.variable("PATH").unwrap_or_default();
        std::env::split_paths(directories)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|path| runs(path))
            .ok_or_else(|| format!("there is no {shown} in PATH"))
    }
}

/// Without the variables' values: people keep all kinds of things in them.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("terminal", &self.terminal)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
