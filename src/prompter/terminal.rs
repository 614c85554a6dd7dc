//! Terminal prompts, with and without echo, that recognize cancellation.
//!
//! The crate `rpassword` is not used: on Ctrl-C it raises a signal, and the command could no longer
//! report "not re-enrolled, nothing was sent". Here Ctrl-C is an answer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::fs::OFlags;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, isatty, tcflush, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::deadline::Deadline;
use super::showable;

/// Maximum number of bytes in one answer; a PIN has at most 255.
const MAX_ANSWER_BYTES: usize = 1_024;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// The user's input.
pub(super) enum TerminalInput {
    /// The text typed before Enter; may be empty.
    Text(Zeroizing<String>),
    /// End of input before any text.
    Cancelled,
    /// Ctrl-C.
    Interrupted,
}

/// Discards input typed before the prompt.
pub(super) fn flush_input(terminal: &Path) {
    // The next prompt reports an error, if there is one.
    let _ = Terminal::open(terminal).map(|terminal| tcflush(&terminal.file, QueueSelector::IFlush));
}

/// An open terminal.
pub(super) struct Terminal {
    file: File,
    deadline: Deadline,
}

impl Terminal {
    /// Opens a terminal for reading and writing; fails for anything else.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOCTTY.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        if !isatty(&file) {
            return Err(io::Error::other("it is not a terminal"));
        }
        Ok(Self { file, deadline: Deadline::default() })
    }

    /// Like [`Terminal::open`], but fails for a background process: the kernel would stop it at the
    /// first key, and a stopped service answers no requests.
    pub(super) fn open_to_ask(path: &Path) -> io::Result<Self> {
        let terminal = Self::open(path)?;
        // The kernel answers only for the controlling terminal (ENOTTY otherwise), and with 0 for a
        // process group of another PID namespace, as in a container entered from outside.
        if tcgetpgrp(&terminal.file).is_ok_and(|foreground| foreground != getpgrp()) {
            return Err(io::Error::other("this program runs in the background"));
        }
        Ok(terminal)
    }

    /// Sets the deadline for answers; a prompt then fails with [`io::ErrorKind::TimedOut`].
    #[must_use]
    pub(super) fn within(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Shows a line.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{}\n", showable(line)).as_bytes())
    }

    pub(super) fn ask_without_echo(&mut self, prompt: &str) -> io::Result<TerminalInput> {
        self.ask(prompt, false)
    }

    /// Asks with echo.
    pub(super) fn ask_visibly(&mut self, prompt: &str) -> io::Result<TerminalInput> {
        self.ask(prompt, true)
    }

    fn ask(&mut self, prompt: &str, echo: bool) -> io::Result<TerminalInput> {
        let raw = RawMode::begin(&self.file)?;
        self.file.write_all(showable(prompt).as_bytes())?;
        let answer = self.line(echo);
        drop(raw);
        self.file.write_all(b"\n")?;
        answer
    }

    fn line(&mut self, echo: bool) -> io::Result<TerminalInput> {
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
        loop {
            match self.key()? {
                Some(CTRL_C) => return Ok(TerminalInput::Interrupted),
                None => return Ok(TerminalInput::Cancelled),
                Some(CTRL_D) if line.is_empty() => return Ok(TerminalInput::Cancelled),
                Some(b'\r' | b'\n') => break,
                Some(DELETE | BACKSPACE) => self.erase(&mut line, 1, echo)?,
                Some(CTRL_U) => self.erase(&mut line, usize::MAX, echo)?,
                Some(ESCAPE) => self.skip_escape_sequence()?,
                Some(key) if key < b' ' => {}
                Some(_) if line.len() >= MAX_ANSWER_BYTES => {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "the answer is too long"));
                }
                Some(key) => {
                    line.push(key);
                    if echo {
                        self.file.write_all(&[key])?;
                    }
                }
            }
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the terminal does not send UTF-8"))?;
        Ok(TerminalInput::Text(Zeroizing::new(text.to_owned())))
    }

    /// Reads one byte; `None` at the end of input.
    fn key(&mut self) -> io::Result<Option<u8>> {
        let mut byte = Zeroizing::new([0u8]);
        loop {
            self.deadline.input(&self.file)?;
            match self.file.read(byte.as_mut_slice()) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(byte.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes whole characters from the end.
    fn erase(&mut self, line: &mut Vec<u8>, characters: usize, echo: bool) -> io::Result<()> {
        for _ in 0..characters {
            while line.pop_if(|byte| (*byte & 0b1100_0000) == 0b1000_0000).is_some() {}
            if line.pop().is_none() {
                break;
            }
            if echo {
                self.file.write_all(b"\x08 \x08")?;
            }
        }
        Ok(())
    }

    /// Skips cursor keys and similar: `ESC [ … letter` and `ESC O letter`.
    fn skip_escape_sequence(&mut self) -> io::Result<()> {
        if !matches!(self.key()?, Some(b'[' | b'O')) {
            return Ok(());
        }
        while let Some(key) = self.key()? {
            if key.is_ascii_alphabetic() || key == b'~' {
                break;
            }
        }
        Ok(())
    }
}

/// Disables echo, line editing and signal keys until dropped. Discards input typed before the
/// prompt, so that it is not taken for a PIN, and input typed after the answer, so that no other
/// program reads and shows it.
struct RawMode {
    terminal: File,
    before: Termios,
}

impl RawMode {
    fn begin(terminal: &File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let guard = Self { terminal: terminal.try_clone()?, before };
        tcsetattr(terminal, OptionalActions::Flush, &raw)?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A failure means that the terminal has gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
