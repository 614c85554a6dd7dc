//! The text of the prompts for one use of a key.

use serde::{Deserialize, Serialize};

use super::{Question, Subject, UsagePurpose};
use crate::token::PinState;

/// The text of one question; the prompter escapes it for display. The supervisor adds the client
/// program, which the worker cannot look up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PromptText {
    /// the subject, one line
    pub(super) title: String,
    /// the purpose, the keyset and the token
    pub(super) lines: Vec<String>,
    /// the label of the input
    pub(super) prompt: String,
    /// a warning, such as few tries left
    pub(super) warning: Option<String>,
    /// the client's process id
    pub(super) pid: i32,
}

impl PromptText {
    /// The prompt for a PIN.
    pub(super) fn for_pin(question: &Question<'_>) -> Self {
        let warning = match question.token.pin_state {
            PinState::FinalTry if question.was_repeated => Some(
                "This PIN was just wrong; it was not tried again. One try is left: a wrong PIN now locks the token.",
            ),
            _ if question.was_repeated => Some("This PIN was just wrong; it was not tried again."),
            PinState::FinalTry if question.was_wrong => {
                Some("That PIN was wrong. One try is left: another wrong one locks the token.")
            }
            _ if question.last_try => Some("One try is left: a wrong PIN now locks the token."),
            PinState::FinalTry => Some("One try is left: a wrong PIN now locks the token."),
            PinState::CountLow if question.was_wrong => Some("That PIN was wrong; few tries may be left."),
            PinState::CountLow => Some("A wrong PIN was tried before; few tries may be left."),
            _ if question.was_wrong => Some("That PIN was wrong."),
            _ => None,
        };
        let title = format!("tokenkeep: the PIN of the token {:?}", question.token.label);
        Self::new(question, title, "PIN".to_owned(), warning)
    }

    /// The prompt for a confirmation.
    pub(super) fn for_confirmation(question: &Question<'_>) -> Self {
        if question.last_try {
            let title = format!("tokenkeep: the last try of the token {:?}", question.token.label);
            let warning = "The next wrong PIN locks this token.";
            return Self::new(question, title, "Risk it?".to_owned(), Some(warning));
        }
        let title = format!("tokenkeep: use of a key on the token {:?}", question.token.label);
        Self::new(question, title, "Allow this once?".to_owned(), None)
    }

    fn new(question: &Question<'_>, title: String, prompt: String, warning: Option<&str>) -> Self {
        let mut lines = vec![purpose(&question.usage.purpose)];
        lines.extend(forwarded(&question.usage.purpose));
        if let Some((name, level)) = question.keyset {
            lines.push(format!("Keyset: {} (level {level})", name.as_str()));
        }
        lines.push(format!("Token: {} (serial {})", question.token.label, question.token.serial));
        Self { title, lines, prompt, warning: warning.map(ToOwned::to_owned), pid: question.usage.peer.pid }
    }
}

/// With forwarding, the client program only relays the request of somebody at that host.
fn forwarded(purpose: &UsagePurpose) -> Option<String> {
    match purpose {
        UsagePurpose::SshLogIn { forwarded_by: Some(hosts), .. }
        | UsagePurpose::SshSignature { forwarded_by: Some(hosts), .. } => {
            Some(format!("Forwarded: requested from the host with the key {hosts}"))
        }
        _ => None,
    }
}

/// One line that begins with "To".
fn purpose(purpose: &UsagePurpose) -> String {
    match purpose {
        UsagePurpose::SshLogIn { user, host_key: Some(host), .. } => {
            format!("To log in over SSH as {user:?} at the host with the key {host}")
        }
        UsagePurpose::SshLogIn { user, host_key: None, .. } => {
            format!("To log in over SSH as {user:?} (host unknown)")
        }
        UsagePurpose::SshSignature { namespace, hash: (name, bytes), .. } => {
            format!("To sign in the namespace {namespace:?}: {name} {}", hex::encode(bytes))
        }
        UsagePurpose::SignContent { sha256, subject: Some(subject) } => {
            let description = match subject {
                Subject::Mail(subject) => format!("mail {subject:?}"),
                Subject::Commit(message) => format!("git commit {message:?}"),
                Subject::Tag(name) => format!("git tag {name:?}"),
            };
            format!("To sign the {description}: SHA-256 {}", hex::encode(sha256))
        }
        UsagePurpose::SignContent { sha256, subject: None } => {
            format!("To sign content: SHA-256 {}", hex::encode(sha256))
        }
        UsagePurpose::Decrypt { recipients: 1 } => "To open a message encrypted to this keyset only".to_owned(),
        UsagePurpose::Decrypt { recipients } => format!("To open a message encrypted to {recipients} recipients"),
        UsagePurpose::Statement { operation, target, opens_letter } => {
            let target = target.as_ref().map(|target| format!(" {target:?}")).unwrap_or_default();
            let letter = if *opens_letter { ", and to open the letter in the response" } else { "" };
            format!("To sign the administrator's statement: {operation}{target}{letter}")
        }
        UsagePurpose::LogIn => "To log in, so that later uses need no PIN".to_owned(),
        UsagePurpose::Operation(operation) => format!("To {operation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{ClientConnection, PeerProcess, Usage};
    use crate::token::test_support::a_card;
    use crate::token::{KeysetName, SecurityLevel, TokenInfo};

    fn token(pin_state: PinState) -> TokenInfo {
        TokenInfo { pin_state, ..a_card() }
    }

    fn usage(purpose: UsagePurpose) -> Usage {
        Usage { peer: PeerProcess { pid: 7, uid: 0 }, purpose, client: ClientConnection::default() }
    }

    #[test]
    fn a_prompt_names_purpose_keyset_and_token() {
        let usage = usage(UsagePurpose::SshLogIn {
            user: "git".into(),
            host_key: Some("SHA256:abc".into()),
            forwarded_by: None,
        });
        let name: KeysetName = "work".parse().unwrap();
        let token = token(PinState::Ok);
        let question =
            Question { keyset: Some((&name, SecurityLevel::High)), ..Question::without_a_keyset(&usage, &token) };
        let text = PromptText::for_pin(&question);
        let all = text.lines.join("\n");
        for part in ["\"git\"", "SHA256:abc", "work (level high)", "serial 4711"] {
            assert!(all.contains(part), "{part} is missing: {all}");
        }
        assert_eq!((text.warning, text.pid), (None, 7));
    }

    #[test]
    fn a_prompt_names_the_hosts_of_a_forwarded_request() {
        let (user, host) = (|| "git".to_owned(), |name: &str| Some(format!("SHA256:{name}")));
        let log_in = |forwarded_by| UsagePurpose::SshLogIn { user: user(), host_key: host("there"), forwarded_by };
        let hash = || ("sha512".to_owned(), vec![7; 64]);
        let sign = |forwarded_by| UsagePurpose::SshSignature { namespace: "git".into(), hash: hash(), forwarded_by };
        let token = token(PinState::Ok);
        for (purpose, is_forwarded) in [
            (log_in(None), false),
            (log_in(host("forwarder")), true),
            (sign(None), false),
            (sign(host("forwarder")), true),
        ] {
            let usage = usage(purpose);
            let all = PromptText::for_pin(&Question::without_a_keyset(&usage, &token)).lines.join("\n");
            assert_eq!(
                all.contains("Forwarded: requested from the host with the key SHA256:forwarder"),
                is_forwarded,
                "{all}"
            );
        }
    }

    #[test]
    fn a_prompt_warns_of_lost_tries() {
        let usage = usage(UsagePurpose::LogIn);
        for (state, last_try, expected) in [
            (PinState::Ok, false, None),
            (PinState::CountLow, false, Some("few tries")),
            (PinState::FinalTry, false, Some("locks the token")),
            (PinState::Ok, true, Some("locks the token")),
        ] {
            let token = token(state);
            let question = Question { last_try, ..Question::without_a_keyset(&usage, &token) };
            let text = PromptText::for_pin(&question);
            assert_eq!(text.warning.is_some(), expected.is_some(), "{state:?}");
            assert!(text.warning.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn a_prompt_names_a_statement() {
        let line = |opens_letter| {
            let target = Some("user@example.org".into());
            purpose(&UsagePurpose::Statement { operation: "issue".into(), target, opens_letter })
        };
        let statement = "To sign the administrator's statement: issue \"user@example.org\"";
        assert_eq!(line(false), statement);
        assert_eq!(line(true), format!("{statement}, and to open the letter in the response"));
    }
}
