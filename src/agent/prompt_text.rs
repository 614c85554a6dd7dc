//! The text of the prompts for one use of a key.

use super::Question;
use crate::keyset::{Prompt, Purpose, Subject};
use crate::prompter::PromptRequest;
use crate::token::PinState;

/// The prompt for a question of this client program: the program, the purpose, the keyset and the
/// token, with a warning such as few tries left. The prompter escapes it for display. `None` for a
/// new PIN and for the SO PIN, which only a command asks for.
pub(super) fn prompt_request(question: &Question, program: &str) -> Option<PromptRequest> {
    let (purpose, token) = (question.prompt.purpose()?, question.token()?);
    let (title, prompt, warning) = match &question.prompt {
        Prompt::LastTry { .. } => {
            let title = format!("tokenkeep: the last try of the token {:?}", token.label);
            (title, "Risk it?", Some("The next wrong PIN locks this token."))
        }
        Prompt::Use { .. } => {
            (format!("tokenkeep: use of a key on the token {:?}", token.label), "Allow this once?", None)
        }
        _ => {
            let title = format!("tokenkeep: the PIN of the token {:?}", token.label);
            (title, "PIN", pin_warning(question, token.pin_state))
        }
    };
    let mut lines = vec![format!("Asked by: {program}"), purpose_line(purpose)];
    lines.extend(forwarded(purpose));
    if let Some(keyset) = question.prompt.keyset() {
        lines.push(format!("Keyset: {} (level {})", keyset.name.as_str(), keyset.level));
    }
    lines.push(format!("Token: {} (serial {})", token.label, token.serial));
    let warning = warning.map(ToOwned::to_owned);
    Some(PromptRequest { title, lines, prompt: prompt.to_owned(), warning })
}

fn pin_warning(question: &Question, pin_state: PinState) -> Option<&'static str> {
    let was_wrong = matches!(question.prompt, Prompt::Pin { was_wrong: true, .. });
    match pin_state {
        PinState::FinalTry if question.was_repeated => {
            Some("This PIN was just wrong; it was not tried again. One try is left: a wrong PIN now locks the token.")
        }
        _ if question.was_repeated => Some("This PIN was just wrong; it was not tried again."),
        PinState::FinalTry if was_wrong => {
            Some("That PIN was wrong. One try is left: another wrong one locks the token.")
        }
        _ if question.last_try => Some("One try is left: a wrong PIN now locks the token."),
        PinState::FinalTry => Some("One try is left: a wrong PIN now locks the token."),
        PinState::CountLow if was_wrong => Some("That PIN was wrong; few tries may be left."),
        PinState::CountLow => Some("A wrong PIN was tried before; few tries may be left."),
        _ if was_wrong => Some("That PIN was wrong."),
        _ => None,
    }
}

/// With forwarding, the client program only relays the request of somebody at that host.
fn forwarded(purpose: &Purpose) -> Option<String> {
    match purpose {
        Purpose::SshLogIn { forwarded_by: Some(hosts), .. }
        | Purpose::SshSignature { forwarded_by: Some(hosts), .. } => {
            Some(format!("Forwarded: requested from the host with the key {hosts}"))
        }
        _ => None,
    }
}

/// One line that begins with "To".
fn purpose_line(purpose: &Purpose) -> String {
    match purpose {
        Purpose::SshLogIn { user, host_key: Some(host), .. } => {
            format!("To log in over SSH as {user:?} at the host with the key {host}")
        }
        Purpose::SshLogIn { user, host_key: None, .. } => {
            format!("To log in over SSH as {user:?} (host unknown)")
        }
        Purpose::SshSignature { namespace, hash: (name, bytes), .. } => {
            format!("To sign in the namespace {namespace:?}: {name} {}", hex::encode(bytes))
        }
        Purpose::SignContent { sha256, subject: Some(subject) } => {
            let description = match subject {
                Subject::Mail(subject) => format!("mail {subject:?}"),
                Subject::Commit(message) => format!("git commit {message:?}"),
                Subject::Tag(name) => format!("git tag {name:?}"),
            };
            format!("To sign the {description}: SHA-256 {}", hex::encode(sha256))
        }
        Purpose::SignContent { sha256, subject: None } => {
            format!("To sign content: SHA-256 {}", hex::encode(sha256))
        }
        Purpose::Decrypt { recipients: 1 } => "To open a message encrypted to this keyset only".to_owned(),
        Purpose::Decrypt { recipients } => format!("To open a message encrypted to {recipients} recipients"),
        Purpose::Statement { operation, target, opens_letter } => {
            let target = target.as_ref().map(|target| format!(" {target:?}")).unwrap_or_default();
            let letter = if *opens_letter { ", and to open the letter in the response" } else { "" };
            format!("To sign the administrator's statement: {operation}{target}{letter}")
        }
        Purpose::LogIn => "To log in, so that later uses need no PIN".to_owned(),
        Purpose::OpenResponse | Purpose::Enroll | Purpose::ChangePin | Purpose::UnblockPin | Purpose::DeleteKeyset => {
            format!("To {}", purpose.operation())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyset::PromptedKeyset;
    use crate::token::test_support::a_card;
    use crate::token::{SecurityLevel, TokenInfo};

    fn token(pin_state: PinState) -> TokenInfo {
        TokenInfo { pin_state, ..a_card() }
    }

    fn question(purpose: Purpose, token: TokenInfo) -> Question {
        let keyset = PromptedKeyset { name: "work".parse().unwrap(), level: SecurityLevel::High };
        let prompt = Prompt::Pin { purpose, token, keyset: Some(keyset), was_wrong: false };
        Question { prompt, pid: 7, last_try: false, was_repeated: false, dialog: 5 }
    }

    #[test]
    fn a_prompt_names_purpose_keyset_and_token() {
        let host_key = Some("SHA256:abc".into());
        let purpose = Purpose::SshLogIn { user: "git".into(), host_key, forwarded_by: None };
        let text = prompt_request(&question(purpose, token(PinState::Ok)), "a program").unwrap();
        let all = text.lines.join("\n");
        for part in ["Asked by: a program", "\"git\"", "SHA256:abc", "work (level high)", "serial 4711"] {
            assert!(all.contains(part), "{part} is missing: {all}");
        }
        assert_eq!(text.warning, None);
    }

    #[test]
    fn a_prompt_names_the_hosts_of_a_forwarded_request() {
        let (user, host) = (|| "git".to_owned(), |name: &str| Some(format!("SHA256:{name}")));
        let log_in = |forwarded_by| Purpose::SshLogIn { user: user(), host_key: host("there"), forwarded_by };
        let hash = || ("sha512".to_owned(), vec![7; 64]);
        let sign = |forwarded_by| Purpose::SshSignature { namespace: "git".into(), hash: hash(), forwarded_by };
        for (purpose, is_forwarded) in [
            (log_in(None), false),
            (log_in(host("forwarder")), true),
            (sign(None), false),
            (sign(host("forwarder")), true),
        ] {
            let all = prompt_request(&question(purpose, token(PinState::Ok)), "a program").unwrap().lines.join("\n");
            assert_eq!(
                all.contains("Forwarded: requested from the host with the key SHA256:forwarder"),
                is_forwarded,
                "{all}"
            );
        }
    }

    #[test]
    fn a_prompt_warns_of_lost_tries() {
        for (state, last_try, expected) in [
            (PinState::Ok, false, None),
            (PinState::CountLow, false, Some("few tries")),
            (PinState::FinalTry, false, Some("locks the token")),
            (PinState::Ok, true, Some("locks the token")),
        ] {
            let question = Question { last_try, ..question(Purpose::LogIn, token(state)) };
            let text = prompt_request(&question, "a program").unwrap();
            assert_eq!(text.warning.is_some(), expected.is_some(), "{state:?}");
            assert!(text.warning.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn a_prompt_names_a_statement() {
        let line = |opens_letter| {
            let target = Some("user@example.org".into());
            purpose_line(&Purpose::Statement { operation: "issue".into(), target, opens_letter })
        };
        let statement = "To sign the administrator's statement: issue \"user@example.org\"";
        assert_eq!(line(false), statement);
        assert_eq!(line(true), format!("{statement}, and to open the letter in the response"));
    }
}
