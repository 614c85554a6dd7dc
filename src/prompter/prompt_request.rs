//! The text of a prompt: plain, without control characters, and limited so that no part can push
//! another out of view.

use super::showable;

/// Maximum number of lines; the agent's prompts have about eight.
const MAX_LINES: usize = 16;

/// Maximum number of characters in a line. Long enough for a SHA-512 in hexadecimal. Program names,
/// hosts and mail subjects are chosen by others and may be long.
const MAX_LINE_LEN: usize = 200;

/// The text of one prompt. It must contain no secret: some prompters pass it on a command line,
/// which other processes can read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptRequest {
    /// the subject, in one line: `Use of a signing key`
    pub title: String,
    /// the requester, its purpose, the keyset and the token; one line each
    pub lines: Vec<String>,
    /// the name of the input, without a colon: `PIN`; for a confirmation, the question with its
    /// question mark
    pub prompt: String,
    /// a warning, such as that the next wrong PIN locks the token
    pub warning: Option<String>,
}

impl PromptRequest {
    /// The title and the lines, safe to display.
    pub(super) fn text(&self) -> Vec<String> {
        let lines = std::iter::once(&self.title).chain(&self.lines);
        let mut text: Vec<_> = lines.take(MAX_LINES).map(|line| cut(&showable(line), MAX_LINE_LEN)).collect();
        if self.lines.len() >= MAX_LINES {
            text.push("...".to_owned());
        }
        text
    }

    /// The prompt, safe to display.
    pub(super) fn prompt(&self) -> String {
        cut(&showable(&self.prompt), MAX_LINE_LEN)
    }

    /// The warning, safe to display.
    pub(super) fn warning(&self) -> Option<String> {
        self.warning.as_ref().map(|warning| cut(&showable(warning), MAX_LINE_LEN))
    }

    /// The whole text, with the prompt last.
    pub(super) fn whole(&self) -> String {
        self.text().into_iter().chain(self.warning()).chain([self.prompt()]).collect::<Vec<_>>().join("\n")
    }

    /// Names the missing answer in errors.
    pub(super) fn what(&self) -> String {
        cut(&showable(&format!("an answer to {:?}", self.title)), MAX_LINE_LEN)
    }
}

/// Shortens a text to at most `longest` characters. Keeps its beginning and end, because both can
/// matter.
pub(super) fn cut(text: &str, longest: usize) -> String {
    let length = text.chars().count();
    if length <= longest {
        return text.to_owned();
    }
    let end = longest.saturating_sub(3) / 3;
    let beginning = longest.saturating_sub(3 + end);
    text.chars().take(beginning).chain("...".chars()).chain(text.chars().skip(length - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_pushes_another_out_of_sight() {
        let ask = PromptRequest {
            title: "Use of a key".to_owned(),
            lines: vec!["x".repeat(100_000), "a\nb\u{2028}c\u{202e}d\u{7}".to_owned(), "token \"last\"".to_owned()],
            prompt: "PIN".to_owned(),
            warning: Some("The next wrong PIN locks it.".to_owned()),
        };
        let text = ask.text();
        assert_eq!(text.len(), 4, "{text:?}");
        assert_eq!(text[1].chars().count(), MAX_LINE_LEN);
        assert_eq!(text[2], "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(text[3], "token \"last\"");
        assert!(ask.whole().ends_with("token \"last\"\nThe next wrong PIN locks it.\nPIN"));
    }

    #[test]
    fn an_omission_of_lines_is_visible() {
        let ask = PromptRequest { lines: vec!["line".to_owned(); 1_000], ..PromptRequest::default() };
        assert_eq!(ask.text().len(), MAX_LINES + 1);
        assert_eq!(ask.text().last().unwrap(), "...");
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(cut("abcdefghijklmnop", 12), "abcdef...nop");
        assert_eq!(cut("äöüß", 4), "äöüß");
        assert_eq!(cut("äöüßäöüßäöüß", 9).chars().count(), 9);
    }
}
