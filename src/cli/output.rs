//! The program's output: text by default, one JSON value with `--json`. Answers go to stdout,
//! everything else to stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::spinner::clear_spinners;
use super::table::{self, TableColumn, WIDTH};
use crate::prompter::showable;

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
