//! What the program says: for people by default, one JSON value with `--json`. Answers go to stdout, everything else
//! to stderr.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::presets;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::exit::{Exit, Failure};
use crate::prompter::showable;

/// Where answers go, and in which form.
#[derive(Debug)]
pub struct Screen {
    json: bool,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// True if answers are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// The command's answer: the text (without its last line break), or the value as JSON.
    pub fn answer(&self, text: impl Display, value: &impl Serialize) -> Result<Exit, Failure> {
        let line = if self.json {
            serde_json::to_string_pretty(value)
                .map_err(|error| Failure::fault(format!("cannot write the answer as JSON: {error}")))?
        } else {
            plain(&text.to_string())
        };
        if !line.is_empty() {
            print(&mut io::stdout().lock(), &line)?;
        }
        Ok(Exit::Done)
    }

    /// A table under these headings, or the value as JSON; `nothing` when it has no rows.
    pub fn table(
        &self,
        headings: &[&str],
        rows: Vec<Vec<String>>,
        nothing: &str,
        value: &impl Serialize,
    ) -> Result<Exit, Failure> {
        if rows.is_empty() {
            return self.answer(nothing, value);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
        table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| showable(&cell))));
        // The style leaves room on both sides of each column, also at the edges.
        let edge = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
        let lines = table.lines().map(edge).collect::<Vec<_>>();
        self.answer(lines.join("\n"), value)
    }

    /// Something to know beside the answer; not with `--json`.
    pub fn note(&self, text: impl Display) {
        if !self.json {
            eprintln!("{}", plain(&text.to_string()));
        }
    }

    /// Something to be careful about; always.
    pub fn warning(&self, text: impl Display) {
        if self.json {
            eprintln!("{}", serde_json::json!({ "warning": text.to_string() }));
        } else {
            eprintln!("warning: {}", plain(&text.to_string()));
        }
    }

    /// Why the program ends without having done it.
    pub fn failure(&self, failure: &Failure) {
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

/// Lines that do nothing to a terminal but stand there, whoever's names are in them: a certificate's subject, a token's
/// label, a path. Who puts a name into a line makes it [`showable`] itself where a line break in it could be taken for a
/// line of ours.
fn plain(text: &str) -> String {
    text.split('\n').map(showable).collect::<Vec<_>>().join("\n")
}

/// A line on a stream. Whoever closes the pipe early (`head`) has read enough: that is no fault.
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
    fn what_could_act_on_a_terminal_is_not_shown() {
        assert_eq!(plain("one\ntwo\n"), "one\ntwo\n");
        assert_eq!(plain("boss\r\u{1b}[2KSigned\u{9b}1m"), "boss\u{fffd}\u{fffd}[2KSigned\u{fffd}1m");
        assert_eq!(plain("\u{202e}evil"), "\u{fffd}evil");
    }
}
