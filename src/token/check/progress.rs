//! The output of a child, as its parent follows it.

use super::TokenCheckReport;

/// Printed before the module is loaded: if the process ends after this word, the module ended it.
pub(in crate::token) const BEGUN: &str = "begun";

/// Printed once the module is loaded and initialized.
pub(in crate::token) const LOADED: &str = "loaded";

/// The child's answer, from the last line of its output.
pub(super) fn read(output: &str) -> Option<TokenCheckReport> {
    let last = output.lines().rev().find(|line| !line.trim().is_empty());
    last.and_then(|line| serde_json::from_str(line).ok())
}

/// Follows the progress words in the child's output. A module may print much before and after them.
#[derive(Debug, Default)]
pub(super) struct Noted {
    progress: Progress,
    // The start of the unfinished line, up to one byte more than the longest progress word.
    line: Vec<u8>,
}

impl Noted {
    /// Processes the next part of the output.
    pub fn take(&mut self, part: &[u8]) {
        let limit = BEGUN.len().max(LOADED.len()) + 1;
        let mut pieces = part.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let remaining = limit.saturating_sub(self.line.len());
            self.line.extend(piece.iter().take(remaining));
            if pieces.peek().is_some() {
                self.progress = match self.progress {
                    _ if self.line == LOADED.as_bytes() => Progress::Loaded,
                    Progress::None if self.line == BEGUN.as_bytes() => Progress::Begun,
                    progress => progress,
                };
                self.line.clear();
            }
        }
    }

    /// The progress so far.
    pub fn progress(&self) -> Progress {
        self.progress
    }
}

/// The progress of a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not reached the module.
    #[default]
    None,
    /// It has begun to load the module.
    Begun,
    /// The module is loaded and initialized.
    Loaded,
}
