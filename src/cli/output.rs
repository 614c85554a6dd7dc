//! The program's output: text by default, one JSON value with `--json`. Answers go to stdout,
//! everything else to stderr, also the spinner during long steps, such as generating keys.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::table::{self, TableColumn, WIDTH};
use crate::prompter::showable;

/// Maximum width of a line, in characters.
const MAX_WIDTH: usize = 80;

/// The visible spinners.
static SPINNERS: Mutex<Vec<ProgressBar>> = Mutex::new(Vec::new());

/// Prints answers, warnings and failures as text or JSON.
#[derive(Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// true if answers are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the command's answer: the text, which has no final line break, or the value as JSON.
    pub fn answer(&self, text: impl Display, value: &impl Serialize) -> Result<Exit, Failure> {
        let line = if self.json {
            serde_json::to_string_pretty(value)
                .map_err(|error| Failure::fault(format!("cannot write the answer as JSON: {error}")))?
        } else {
            plain(&text.to_string())
        };
        clear_spinners();
        if !line.is_empty() {
            print(&mut io::stdout().lock(), &line)?;
        }
        Ok(Exit::Done)
    }

    /// Prints a table with these columns, or the value as JSON. A table without rows prints
    /// `nothing` instead.
    pub fn table(
        &self,
        columns: &[TableColumn],
        rows: Vec<Vec<String>>,
        nothing: &str,
        value: &impl Serialize,
    ) -> Result<Exit, Failure> {
        if rows.is_empty() {
            return self.answer(nothing, value);
        }
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.into_iter().map(|cell| showable(&cell)).collect()).collect();
        self.answer(table::format_table(columns, &rows, terminal_width()), value)
    }

    /// Prints a note to stderr; not with `--json`.
    pub fn note(&self, text: impl Display) {
        clear_spinners();
        if !self.json {
            eprintln!("{}", plain(&text.to_string()));
        }
    }

    /// Prints a warning to stderr, also with `--json`.
    pub fn warning(&self, text: impl Display) {
        clear_spinners();
        if self.json {
            eprintln!("{}", serde_json::json!({ "warning": text.to_string() }));
        } else {
            eprintln!("warning: {}", plain(&text.to_string()));
        }
    }

    /// Prints a failure and its remedy to stderr. [`Exit::Done`] prints nothing.
    pub fn failure(&self, failure: &Failure) {
        clear_spinners();
        if failure.exit == Exit::Done {
            return;
        }
        if self.json {
            eprintln!("{}", serde_json::json!({ "error": failure }));
            return;
        }
        eprintln!("error: {}", plain(&failure.message));
        if let Some(remedy) = &failure.remedy {
            eprintln!("help: {}", plain(remedy));
        }
    }
}

/// The columns of the terminal that shows answers, at least [`WIDTH`]; `None` for a file or a pipe.
fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    stdout.is_terminal().then(|| tcgetwinsize(&stdout).map_or(WIDTH, |size| WIDTH.max(size.ws_col.into())))
}

/// A heading padded to `width` characters, and its value, wrapped at spaces and indented under its
/// first line.
pub fn line_of(heading: &str, cell: &str, width: usize) -> String {
    let mut text = format!("{heading:<width$} ");
    let mut at = width + 1;
    for word in cell.split(' ') {
        let length = word.chars().count();
        if at + 1 + length > MAX_WIDTH && at > width + 1 {
            let _ = write!(text, "\n{:width$} ", "");
            at = width + 1;
        }
        let _ = write!(text, " {word}");
        at += 1 + length;
    }
    text
}

/// Removes characters that could affect a terminal; names from outside (a certificate's subject, a
/// token's label, a path) may contain them. Line breaks stay: the caller must make a name
/// [`showable`] where a line break in it could be taken for a line of this program.
fn plain(text: &str) -> String {
    text.split('\n').map(showable).collect::<Vec<_>>().join("\n")
}

/// Prints a line to a stream. A reader that closes the pipe early (`head`) is no fault.
pub fn print(stream: &mut impl Write, line: &str) -> Result<(), Failure> {
    match writeln!(stream, "{line}").and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ended()),
        Err(error) => Err(Failure::fault(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Removes all spinners from the terminal. Called before any other output and at every exit.
pub fn clear_spinners() {
    let shown = std::mem::take(&mut *SPINNERS.lock().unwrap_or_else(PoisonError::into_inner));
    for spinner in shown {
        spinner.finish_and_clear();
    }
}

/// Runs `work` with a spinner and this label on stderr, if stderr is a terminal.
pub fn with_spinner<T>(label: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = spinner(label);
    let result = work();
    spinner.finish_and_clear();
    result
}

/// A spinner on stderr, which the caller can stop during a prompt. Hidden if stderr is not a
/// terminal.
pub fn spinner(label: &'static str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(label);
    spinner.enable_steady_tick(Duration::from_millis(120));
    SPINNERS.lock().unwrap_or_else(PoisonError::into_inner).push(spinner.clone());
    spinner
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn control_characters_are_not_shown() {
        assert_eq!(plain("one\ntwo\n"), "one\ntwo\n");
        assert_eq!(plain("boss\r\u{1b}[2KSigned\u{9b}1m"), "boss\u{fffd}\u{fffd}[2KSigned\u{fffd}1m");
        assert_eq!(plain("\u{202e}evil"), "\u{fffd}evil");
    }
}
