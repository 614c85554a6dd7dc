//! One result of a check.

use serde::Serialize;

use crate::prompter::showable;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingState {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing fails because of it.
    Note,
    /// Something does not work, or is not safe.
    Wrong,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// what was checked: `module`, `token`, `agent` …
    pub concern: &'static str,
    /// its severity
    pub state: FindingState,
    /// what was found
    pub what: String,
    /// the next step
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl DoctorFinding {
    pub fn ok(concern: &'static str, what: impl Into<String>) -> Self {
        Self { concern, state: FindingState::Ok, what: what.into(), remedy: None }
    }

    pub fn note(concern: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { concern, state: FindingState::Note, what: what.into(), remedy: Some(remedy.into()) }
    }

    pub fn wrong(concern: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { concern, state: FindingState::Wrong, what: what.into(), remedy: Some(remedy.into()) }
    }

    /// A finding from one of this program's errors; the part after its last semicolon is the
    /// remedy.
    pub fn of_error(concern: &'static str, error: &str) -> Self {
        let (what, remedy) = error.rsplit_once("; ").unwrap_or((error, "see the message"));
        Self::wrong(concern, what, remedy)
    }

    /// The text for people. Names come from tokens and files; a line break in them must not begin a
    /// new line.
    pub fn lines(&self) -> String {
        let state = match self.state {
            FindingState::Ok => "ok   ",
            FindingState::Note => "note ",
            FindingState::Wrong => "WRONG",
        };
        let line = format!("{state}  {:<13}  {}", self.concern, showable(&self.what));
        match &self.remedy {
            Some(remedy) => format!("{line}\n{:22}> {}", "", showable(remedy)),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_add_a_line() {
        let finding = DoctorFinding::ok("token", "x\nWRONG  all");
        assert_eq!(finding.lines().lines().count(), 1);
        let wrong = DoctorFinding::of_error("module", "cannot use it: gone; and more; install it");
        assert_eq!(
            (wrong.what.as_str(), wrong.remedy.as_deref()),
            ("cannot use it: gone; and more", Some("install it"))
        );
    }
}
