//! The terminal: asks with and without echo, and knows when a person gave up.
//!
//! Not `rpassword`: it answers Ctrl-C by signalling the process, and then nobody could say "not re-enrolled, nothing
//! was sent"; here Ctrl-C is an answer.

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

/// The most bytes taken in one answer; a PIN has at most 255.
const LONGEST_ANSWER: usize = 1_024;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// What a person answered.
pub(super) enum Answer {
    /// What was typed before Enter; it may be empty.
    Text(Zeroizing<String>),
    /// The end of input before anything was typed.
    Cancelled,
    /// Ctrl-C.
    Interrupted,
}

/// Throws away what was typed at a terminal before anything was asked there: it is no answer.
pub(super) fn forget_what_was_typed_ahead(terminal: &Path) {
    // Whoever asks there next meets the error, if there is one.
    let _ = Terminal::open(terminal).map(|terminal| tcflush(&terminal.file, QueueSelector::IFlush));
}

/// An open terminal.
pub(super) struct Terminal {
    file: File,
    deadline: Deadline,
}

impl Terminal {
    /// Opens a terminal for reading and writing; fails if it is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOCTTY.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        if !isatty(&file) {
            return Err(io::Error::other("it is no terminal"));
        }
        Ok(Self { file, deadline: Deadline::default() })
    }

    /// As [`Terminal::open`]; also fails for a program in the background of it, which the kernel would stop at the first
    /// key: a service that is stopped answers nobody any more.
    pub(super) fn open_to_ask(path: &Path) -> io::Result<Self> {
        let terminal = Self::open(path)?;
        // The kernel answers for a process's own terminal alone (ENOTTY for any other); and with 0 for a group in another
        // PID namespace, as in a container that was entered from outside.
        if tcgetpgrp(&terminal.file).is_ok_and(|foreground| foreground != getpgrp()) {
            return Err(io::Error::other("this program runs in the background of it"));
        }
        Ok(terminal)
    }

    /// Waits for answers until then: [`io::ErrorKind::TimedOut`].
    #[must_use]
    pub(super) fn within(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Shows a line.
    pub(super) fn say(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{}\n", showable(line)).as_bytes())
    }

    /// Asks without showing what is typed.
    pub(super) fn ask_without_echo(&mut self, prompt: &str) -> io::Result<Answer> {
        self.ask(prompt, false)
    }

    /// Asks and shows what is typed.
    pub(super) fn ask_visibly(&mut self, prompt: &str) -> io::Result<Answer> {
        self.ask(prompt, true)
    }

    fn ask(&mut self, prompt: &str, echo: bool) -> io::Result<Answer> {
        let raw = RawMode::begin(&self.file)?;
        self.file.write_all(showable(prompt).as_bytes())?;
        let answer = self.line(echo);
        drop(raw);
        self.file.write_all(b"\n")?;
        answer
    }

    fn line(&mut self, echo: bool) -> io::Result<Answer> {
        let mut line = Zeroizing::new(Vec::with_capacity(LONGEST_ANSWER));
        loop {
            match self.key()? {
                Some(CTRL_C) => return Ok(Answer::Interrupted),
                None => return Ok(Answer::Cancelled),
                Some(CTRL_D) if line.is_empty() => return Ok(Answer::Cancelled),
                Some(b'\r' | b'\n') => break,
                Some(DELETE | BACKSPACE) => self.erase(&mut line, 1, echo)?,
                Some(CTRL_U) => self.erase(&mut line, usize::MAX, echo)?,
                Some(ESCAPE) => self.skip_escape_sequence()?,
                Some(key) if key < b' ' => {}
                Some(_) if line.len() >= LONGEST_ANSWER => {
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
        Ok(Answer::Text(Zeroizing::new(text.to_owned())))
    }

    /// One byte; none at the end of input.
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

    /// Takes whole characters off the end.
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

    /// Cursor keys and the like are no part of an answer: `ESC [ … letter` and `ESC O letter` are left out.
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

/// No echo, no line editing, no signals from keys, until it is dropped. What was typed ahead is thrown away, so that it
/// is not taken for a PIN; and so is what was typed after the answer, so that no other program reads and shows it.
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
        // There is nobody to tell: the terminal has gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
