//! A program that was started to ask a person: told the question, read within bounds, waited for within bounds, and
//! ended with all it started when nobody answers.
//!
//! It gets this program's variables without those that are for this program alone, standard input and output, and no
//! other descriptor: all that this program opens are closed at `exec`. What it says on standard error is dropped, since
//! nobody knows what is in it. It stays in the process group of this program: in one of its own it could not read from the
//! terminal that both have.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use zeroize::Zeroizing;

use super::deadline::{Deadline, GONE};
use super::{Environment, PrompterError};

/// How long a program may take to end after it has been told to.
const GRACE: Duration = Duration::from_secs(1);

/// The most that is read behind an answer before it is no answer at all.
const MOST_BEHIND: usize = 65_536;

/// The most generations of programs started by programs that are looked for when they have to be ended.
const GENERATIONS: usize = 8;

/// A running program.
pub(super) struct Running {
    child: Child,
    handle: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    deadline: Deadline,
    patience: Duration,
    program: String,
    what: String,
    /// it gave its answer, and may end by itself
    done: bool,
}

impl Running {
    /// Starts a program. `what` is what it will be asked for, for errors.
    pub(super) fn start(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        more: &[(&str, &str)],
        environment: &Environment,
        what: &str,
    ) -> Result<Self, PrompterError> {
        let name = program.display().to_string();
        let failed = |error: io::Error| PrompterError::Program {
            program: name.clone(),
            reason: format!("not started: {error}"),
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.variables())
            .envs(more.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let parts = (child.stdin.take(), child.stdout.take(), pidfd_open(Pid::from_child(&child), PidfdFlags::empty()));
        let (Some(stdin), Some(stdout), Ok(handle)) = parts else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(io::Error::other("its pipes or its handle are not there")));
        };
        Ok(Self {
            child,
            handle,
            stdin: Some(stdin),
            stdout,
            deadline: environment.deadline(),
            patience: environment.patience(),
            program: name,
            what: what.to_owned(),
            done: false,
        })
    }

    /// Waits no longer than this from now on, whatever the person's patience is.
    pub(super) fn within(&mut self, patience: Duration) {
        self.deadline.set(patience);
    }

    /// Writes to its standard input. A program that does not listen may still answer.
    pub(super) fn tell(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes);
        }
    }

    /// Ends its standard input.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// It gave its answer: it is given a moment to end by itself when it is dropped.
    pub(super) fn done(&mut self) {
        self.done = true;
    }

    /// It gave its answer and waits for another question: whoever wanted the first one no longer counts.
    pub(super) fn pause(&mut self) {
        self.done = true;
        self.deadline = Deadline::default();
    }

    /// It is asked again, for whoever wants to know it now.
    pub(super) fn resume(&mut self, environment: &Environment) {
        self.done = false;
        self.deadline = environment.deadline();
        self.patience = environment.patience();
    }

    /// Has it not ended?
    pub(super) fn is_running(&self) -> bool {
        Deadline::after(Duration::ZERO).input(&self.handle).is_err()
    }

    /// The next line without its end (LF or CRLF); what ended without one counts, nothing at all is `None`.
    pub(super) fn line(&mut self, longest: usize) -> Result<Option<Zeroizing<Vec<u8>>>, PrompterError> {
        // As long as it will ever get: a vector that grows leaves what it held behind.
        let mut line = Zeroizing::new(Vec::with_capacity(longest.saturating_add(2)));
        loop {
            match self.byte()? {
                None if line.is_empty() => return Ok(None),
                None | Some(b'\n') => break,
                Some(_) if line.len() > longest => {
                    return Err(self.fails(format!("it sent a line of more than {longest} bytes")));
                }
                Some(byte) => line.push(byte),
            }
        }
        line.pop_if(|last| *last == b'\r');
        Ok(Some(line))
    }

    fn byte(&mut self) -> Result<Option<u8>, PrompterError> {
        let mut byte = Zeroizing::new([0u8]);
        loop {
            self.deadline.input(&self.stdout).map_err(|error| self.waited(&error))?;
            match self.stdout.read(byte.as_mut_slice()) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(byte.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fails(error.to_string())),
            }
        }
    }

    /// Waits for its end; what it says until then is thrown away, and must not be without end.
    pub(super) fn status(&mut self) -> Result<ExitStatus, PrompterError> {
        self.hang_up();
        let mut open = true;
        let mut behind = 0;
        let mut buffer = Zeroizing::new([0u8; 1_024]);
        while open {
            let ready = self.deadline.either(&self.stdout, Some(&self.handle));
            let (output, ended) = ready.map_err(|error| self.waited(&error))?;
            if ended {
                break;
            }
            if output {
                let length = self.stdout.read(buffer.as_mut_slice()).map_err(|error| self.fails(error.to_string()))?;
                open = length > 0;
                behind += length;
            }
            if behind > MOST_BEHIND {
                return Err(self.fails(format!("it sent more than {MOST_BEHIND} bytes behind its answer")));
            }
        }
        self.deadline.input(&self.handle).map_err(|error| self.waited(&error))?;
        self.child.wait().map_err(|error| self.fails(error.to_string()))
    }

    /// It did something else than answer.
    pub(super) fn fails(&self, reason: impl Into<String>) -> PrompterError {
        PrompterError::Program { program: self.program.clone(), reason: reason.into() }
    }

    /// The person cancelled there.
    pub(super) fn cancelled(&self) -> PrompterError {
        PrompterError::Cancelled { what: self.what.clone() }
    }

    /// Nobody answered there.
    pub(super) fn nobody(&self) -> PrompterError {
        PrompterError::NobodyAnswered { what: self.what.clone(), waited: self.patience }
    }

    fn waited(&self, error: &io::Error) -> PrompterError {
        match error.kind() {
            io::ErrorKind::TimedOut => self.nobody(),
            GONE => PrompterError::Withdrawn { what: self.what.clone() },
            _ => self.fails(error.to_string()),
        }
    }

    fn has_ended_within(&mut self, grace: Duration) -> bool {
        Deadline::after(grace).input(&self.handle).is_ok() && self.child.wait().is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hang_up();
        if self.has_ended_within(if self.done { GRACE } else { Duration::ZERO }) {
            return;
        }
        // A script's dialog would outlive the script, and ask on for nobody.
        let family: Vec<_> = descendants(self.child.id());
        let each = |signal| {
            for member in &family {
                let _ = pidfd_send_signal(member, signal);
            }
        };
        let _ = pidfd_send_signal(&self.handle, Signal::TERM);
        each(Signal::TERM);
        if !self.has_ended_within(GRACE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        each(Signal::KILL);
    }
}

/// Handles of the processes that a process has started, and those, and so on. A handle stays with its process: whoever
/// gets the number next is not met.
fn descendants(process: u32) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    let mut generation = vec![process];
    for _ in 0..GENERATIONS {
        generation = generation.iter().flat_map(|parent| children(*parent)).collect();
        let handles = generation.iter().filter_map(|number| Pid::from_raw(i32::try_from(*number).ok()?));
        found.extend(handles.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()));
    }
    found
}

fn children(process: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}
