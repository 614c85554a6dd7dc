//! Sends an administrator's command and interprets how it ended.

use super::AdminIdentity;
use crate::cli::clock;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal_prompter::TerminalPrompter;
use crate::keyset::ops::Administer;
use crate::keyset::{Attachments, CommandResult, KeysetChoice, LogMismatch, OpenedResponse};
use crate::statement::{AdminOperation, StatementAnswer};
use crate::transport::HttpTransport;

/// Sends the command and returns the authority's answer. A refusal is a failure.
pub(super) fn send_operation(
    command: AdminOperation,
    identity: &AdminIdentity,
    cx: &Context<'_>,
) -> Result<CommandResult, Failure> {
    let backend = cx.backend()?;
    let keyset = cx.keyset(&backend, &identity.which)?;
    let http = identity.authority.http.as_deref().unwrap_or(&keyset.authority.http);
    let https = identity.authority.https.as_deref().unwrap_or(&keyset.authority.https);
    let fingerprint = keyset.authority_sha256().ok_or_else(|| {
        Failure::new(Exit::Refused, format!("cannot use keyset {:?} yet: it is not enrolled", keyset.name.as_str()))
            .with_remedy("run its `tokenkeep enroll` again with the same letter")
    })?;
    let transport = HttpTransport::new(http, https, fingerprint)?;
    let prompter = cx.prompter(identity.pin.pin_source.as_ref(), None)?;
    let mut person = TerminalPrompter::new(prompter, cx.output);
    let operation =
        Administer { keyset: KeysetChoice::exactly(&keyset), command, log_policy: identity.log.log_policy() };
    let mut attachments = Attachments::default();
    let answered = backend
        .call_with(operation, &mut attachments, &mut person, &transport)
        .and_then(|result| with_letter(result, attachments));
    unless_refused(answered, |failure| clock::explain_clock_error(failure, &transport, cx.now()))
}

/// Puts the text of a letter, which travels apart, back into the result.
pub(super) fn with_letter(result: CommandResult, attachments: Attachments) -> Result<CommandResult, Failure> {
    result.with_letter(attachments.secret).map_err(|_| Failure::fault("cannot read the letter: it is not UTF-8"))
}

/// Turns a refusal into a failure. `complete` completes the text of each failure.
fn unless_refused(
    answered: Result<CommandResult, Failure>,
    complete: impl FnOnce(Failure) -> Failure,
) -> Result<CommandResult, Failure> {
    match answered {
        Ok(CommandResult { answer: OpenedResponse::Other(StatementAnswer::Refused(reason)), log_mismatch }) => {
            let refused = format!("refused by the authority: {reason}");
            Err(complete(match log_mismatch {
                None => Failure::new(Exit::Refused, refused),
                Some(log_mismatch) => log_mismatch_failure(&log_mismatch, &refused),
            }))
        }
        answered => answered.map_err(complete),
    }
}

/// Passes the authority's answer to `give`; a refusal is a failure. If the audit log contradicts
/// the checkpoint, the answer is shown nevertheless (a lost letter would be worse), and the command
/// fails afterwards.
pub(super) fn answer(
    answered: CommandResult,
    give: impl FnOnce(OpenedResponse) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let CommandResult { answer, log_mismatch } = unless_refused(Ok(answered), |failure| failure)?;
    match (answer, log_mismatch) {
        (answer, None) => give(answer),
        (answer, Some(log_mismatch)) => {
            give(answer)?;
            Err(log_mismatch_failure(&log_mismatch, "the command was executed, and its result is shown"))
        }
    }
}

fn log_mismatch_failure(log_mismatch: &LogMismatch, outcome: &str) -> Failure {
    Failure::new(Exit::NotVerified, format!("{log_mismatch}; {outcome}")).with_remedy(
        "keep this text, and have the authority's database and log examined before you continue; \
         each command repeats this until somebody you trust tells you that the database was \
         restored from a backup, and you add --accept-log",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authoritys_refusal_is_worded_like_any_other_failure() {
        let early = "cannot accept the statement: it is not valid before then; compare the clocks";
        let refused = CommandResult {
            answer: OpenedResponse::Other(StatementAnswer::Refused(early.to_owned())),
            log_mismatch: None,
        };
        let worded = |failure: Failure| Failure { message: format!("the clock; {}", failure.message), ..failure };
        let failure = unless_refused(Ok(refused), worded).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.message, format!("the clock; refused by the authority: {early}"));
        assert!(unless_refused(Err(Failure::fault("broken")), worded).unwrap_err().message.starts_with("the clock"));
        let answered =
            || CommandResult { answer: OpenedResponse::Other(StatementAnswer::Acknowledged(7)), log_mismatch: None };
        assert!(unless_refused(Ok(answered()), worded).is_ok());
    }
}
