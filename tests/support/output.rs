//! The output and exit status of a program, with assertions.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// A finished program. Its `Display` shows everything, for a failed test.
#[derive(Clone, Debug)]
pub struct Output {
    command: String,
    status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn new(command: String, output: std::process::Output) -> Self {
        Self { command, status: output.status, stdout: output.stdout, stderr: output.stderr }
    }

    /// The exit code; fails the test if a signal ended the program.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal\n{self}"))
    }

    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// Fails the test unless the exit code is 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "should have succeeded\n{self}");
        self
    }

    /// Fails the test unless the exit code is `code` and stderr is not empty.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "should have ended with {code}\n{self}");
        assert!(code == 0 || !self.stderr.is_empty(), "ended with {code} and an empty stderr\n{self}");
        self
    }

    /// Fails the test unless stdout or stderr contain the text, possibly with line breaks in place
    /// of spaces.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.contains(text), "should have said \"{text}\"\n{self}");
        self
    }

    /// The opposite of [`Self::says`]: not on several lines either.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Self {
        assert!(!self.contains(text), "should not have said \"{text}\"\n{self}");
        self
    }

    fn contains(&self, text: &str) -> bool {
        let one_line = |said: &str| said.split_whitespace().collect::<Vec<_>>().join(" ");
        [self.out(), self.err()].iter().any(|said| said.contains(text) || one_line(said).contains(text))
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Stdout as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        writeln!(f, "{}", self.status)?;
        writeln!(f, "--- stdout\n{}", self.out())?;
        write!(f, "--- stderr\n{}", self.err())
    }
}
