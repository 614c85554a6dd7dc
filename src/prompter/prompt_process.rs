//! Runs a program that prompts the user: passes the text, limits reading and waiting, and ends the
//! program with its descendants when no answer arrives.
//!
//! The program inherits the environment without variables meant only for this process, has pipes
//! for standard input and output, and gets no other descriptor: this process opens all of its own
//! with `O_CLOEXEC`. Its standard error is discarded, because it may contain anything. It stays in
//! this process group: in its own group it could not read from the shared terminal.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use zeroize::Zeroizing;

use super::deadline::{Deadline, REQUESTER_GONE};
use super::{PromptEnvironment, PrompterError};

/// Time for a program to exit after it was asked to.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Maximum number of bytes ignored after an answer; more is an error.
const MAX_TRAILING_BYTES: usize = 65_536;

/// Maximum depth of descendants that are ended with a program.
const MAX_DESCENDANT_DEPTH: usize = 8;

/// A running prompt program.
pub(super) struct PromptProcess {
    child: Child,
    handle: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    deadline: Deadline,
    timeout: Duration,
    program: String,
    what: String,
    /// the answer has arrived, so the program may exit by itself
    is_done: bool,
}

impl PromptProcess {
    /// Starts a program. `what` names the requested answer in errors.
    pub(super) fn start(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        more: &[(&str, &str)],
        environment: &PromptEnvironment,
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
            return Err(failed(io::Error::other("its pipes or its process handle are missing")));
        };
        Ok(Self {
            child,
            handle,
            stdin: Some(stdin),
            stdout,
            deadline: environment.deadline(),
            timeout: environment.timeout(),
            program: name,
            what: what.to_owned(),
            is_done: false,
        })
    }

    /// Sets the deadline to `timeout` from now.
    pub(super) fn within(&mut self, timeout: Duration) {
        self.deadline.set(timeout);
    }

    /// Writes to its standard input. Errors are ignored: a program that does not read may still
    /// answer.
    pub(super) fn tell(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes);
        }
    }

    /// Closes its standard input.
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Records that the answer arrived: the program gets [`EXIT_GRACE`] to exit when dropped.
    pub(super) fn mark_done(&mut self) {
        self.is_done = true;
    }

    /// Records that the answer arrived and the program waits for the next prompt: the requesters no
    /// longer matter.
    pub(super) fn pause(&mut self) {
        self.is_done = true;
        self.deadline = Deadline::default();
    }

    /// Prepares for another prompt, with the deadline and requesters of `environment`.
    pub(super) fn resume(&mut self, environment: &PromptEnvironment) {
        self.is_done = false;
        self.deadline = environment.deadline();
        self.timeout = environment.timeout();
    }

    /// Returns whether the program still runs.
    pub(super) fn is_running(&self) -> bool {
        Deadline::after(Duration::ZERO).input(&self.handle).is_err()
    }

    /// Reads the next line without its end (LF or CRLF). A last line without an end counts; `None`
    /// at the end of output.
    pub(super) fn line(&mut self, longest: usize) -> Result<Option<Zeroizing<Vec<u8>>>, PrompterError> {
        // Allocated at full size: a vector that grows leaves copies of its content in freed memory.
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

    /// Waits for the program to exit, and discards a limited amount of further output.
    pub(super) fn status(&mut self) -> Result<ExitStatus, PrompterError> {
        self.close_stdin();
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
            if behind > MAX_TRAILING_BYTES {
                return Err(self.fails(format!("it sent more than {MAX_TRAILING_BYTES} bytes after its answer")));
            }
        }
        self.deadline.input(&self.handle).map_err(|error| self.waited(&error))?;
        self.child.wait().map_err(|error| self.fails(error.to_string()))
    }

    /// An error of the program.
    pub(super) fn fails(&self, reason: impl Into<String>) -> PrompterError {
        PrompterError::Program { program: self.program.clone(), reason: reason.into() }
    }

    /// The user cancelled in the program.
    pub(super) fn cancelled(&self) -> PrompterError {
        PrompterError::Cancelled { what: self.what.clone() }
    }

    /// The program did not answer in time.
    pub(super) fn no_answer(&self) -> PrompterError {
        PrompterError::NobodyAnswered { what: self.what.clone(), waited: self.timeout }
    }

    fn waited(&self, error: &io::Error) -> PrompterError {
        match error.kind() {
            io::ErrorKind::TimedOut => self.no_answer(),
            REQUESTER_GONE => PrompterError::Withdrawn { what: self.what.clone() },
            _ => self.fails(error.to_string()),
        }
    }

    fn has_ended_within(&mut self, grace: Duration) -> bool {
        Deadline::after(grace).input(&self.handle).is_ok() && self.child.wait().is_ok()
    }
}

impl Drop for PromptProcess {
    fn drop(&mut self) {
        self.close_stdin();
        if self.has_ended_within(if self.is_done { EXIT_GRACE } else { Duration::ZERO }) {
            return;
        }
        // Also end the descendants: a script's dialog would survive the script and prompt for
        // nothing.
        let family: Vec<_> = descendants(self.child.id());
        let each = |signal| {
            for member in &family {
                let _ = pidfd_send_signal(member, signal);
            }
        };
        let _ = pidfd_send_signal(&self.handle, Signal::TERM);
        each(Signal::TERM);
        if !self.has_ended_within(EXIT_GRACE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        each(Signal::KILL);
    }
}

/// Returns handles (pidfds) of all descendants. A pidfd stays bound to its process, so a reused
/// process ID is never signalled.
fn descendants(process: u32) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    let mut generation = vec![process];
    for _ in 0..MAX_DESCENDANT_DEPTH {
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
