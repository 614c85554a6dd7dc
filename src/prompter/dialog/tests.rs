//! The choice of a method, and each method with a real program: scripts, a scripted Assuan peer,
//! and Debian's pinentries at a pseudo-terminal.

mod choice;
mod pinentries;
mod programs;
mod scripted_pinentry;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Started, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::prompter::tests::TestTerminal;

/// A directory with programs.
struct TestDir(tempfile::TempDir);

impl TestDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a script with a separate process: a child that another test starts at this moment
    /// would inherit a file open for writing here, and running the script would fail ("text file
    /// busy").
    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        let mut writer = Started::new("/bin/sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("#!/bin/sh\n{body}\n").replace("$PLACE", &self.0.path().display().to_string());
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    /// The content of a file that a script wrote.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits for the content of a file that a script will write.
    fn wait_for(&self, name: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.read(name).ends_with('\n') {
            assert!(Instant::now() < end, "{name} was not written");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.read(name)
    }
}

/// Only these variables and `PATH`; no terminal.
fn environment(variables: &[(&str, &Path)]) -> PromptEnvironment {
    let path = ("PATH", Path::new("/usr/bin:/bin"));
    let all = std::iter::once(&path).chain(variables).map(|(name, value)| (OsString::from(name), (*value).into()));
    PromptEnvironment::new(all).with_terminal("/dev/null").with_timeout(Duration::from_secs(20))
}

fn display() -> (&'static str, &'static Path) {
    ("DISPLAY", Path::new(":99"))
}

fn ask() -> PromptRequest {
    PromptRequest {
        title: "Use of a signing key".to_owned(),
        lines: vec!["git (process 4711) asks".to_owned(), "keyset \"Jürgen\", token \"card\"".to_owned()],
        prompt: "PIN".to_owned(),
        warning: None,
    }
}

fn question() -> PromptRequest {
    PromptRequest { prompt: "Sign?".to_owned(), ..ask() }
}

/// Returns whether a process runs and is not a zombie.
fn runs(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

#[track_caller]
fn ends_soon(process: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while runs(process) {
        assert!(Instant::now() < end, "process {process} runs on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
