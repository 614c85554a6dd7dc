//! What the program says: for people by default, one JSON value with `--json`. Answers go to stdout, everything else
//! to stderr.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::presets;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::exit::{Exit, Failure};

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
            text.to_string()
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
        table.add_rows(rows);
        // The style leaves room on both sides of each column, also at the edges.
        let edge = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
        let lines = table.lines().map(edge).collect::<Vec<_>>();
        self.answer(lines.join("\n"), value)
    }

    /// Something to know beside the answer; not with `--json`.
    pub fn note(&self, text: impl Display) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// Something to be careful about; always.
    pub fn warning(&self, text: impl Display) {
        if self.json {
            eprintln!("{}", serde_json::json!({ "warning": text.to_string() }));
        } else {
            eprintln!("warning: {text}");
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
        eprintln!("error: {}", failure.message);
        if let Some(remedy) = &failure.remedy {
            eprintln!("help: {remedy}");
        }
    }
}

/// A line on a stream. Whoever closes the pipe early (`head`) has read enough: that is no fault.
pub fn print(stream: &mut impl Write, line: &str) -> Result<(), Failure> {
    match writeln!(stream, "{line}").and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ended()),
        Err(error) => Err(Failure::fault(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}
