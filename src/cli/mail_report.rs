//! The report on a signed message besides its signers: the sender that the mail names, which header
//! fields are signed, which parts are not signed, that revocation is not checked, and that a
//! statement is not mail.

use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use crate::pki::oid::ContentType;
use crate::prompter::showable;
use crate::smime::{Header, Message, SenderReport, ShownField, VerifiedMessage, judge_sender, shown_fields};

/// Maximum number of characters shown of a header field.
const MAX_VALUE_CHARACTERS: usize = 200;

/// Maximum number of unsigned parts that are listed.
const MAX_NAMED_PARTS: usize = 8;

/// The option that allows a mail's sender to differ from its signer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SenderArguments {
    /// Accept a signed mail whose From does not name its signer
    #[arg(long)]
    any_sender: bool,
}

/// The verdict if the From field does not name the signer.
const OTHER_SENDER: &str = "sender";

/// The report on one message.
pub struct MailReport {
    no_mail: Option<String>,
    sender: Option<SenderReport>,
    fields: Vec<ShownField>,
    /// Parts that are not signed, and not in the output.
    outside: Vec<String>,
    /// Parts that are not signed, but in the output.
    beside: Vec<String>,
    content_type: String,
}

impl MailReport {
    /// The report on a verified message, of which only the signed content is output.
    pub fn of_signed(message: &Message, verified: &VerifiedMessage) -> Self {
        let headers: Vec<_> = message.headers().collect();
        Self::new(&headers, message, message.outside.clone(), Vec::new(), verified)
    }

    /// The report on a signed message that was encrypted, which is output whole.
    pub fn of_signed_inside(outer: &Message, message: &Message, verified: &VerifiedMessage) -> Self {
        let headers: Vec<_> = outer.headers().chain(message.headers()).collect();
        let beside = message.told_fields().into_iter().chain(message.outside.iter().cloned()).collect();
        Self::new(&headers, message, outer.outside.clone(), beside, verified)
    }

    fn new(
        headers: &[&Header],
        message: &Message,
        outside: Vec<String>,
        beside: Vec<String>,
        verified: &VerifiedMessage,
    ) -> Self {
        let content_type = &verified.content_type;
        Self {
            no_mail: no_mail(content_type),
            sender: judge_sender(headers, message, verified),
            fields: shown_fields(headers, Some((message, verified))),
            outside,
            beside,
            content_type: content_type.to_string(),
        }
    }

    /// Returns true if the message has no unsigned parts.
    pub fn is_whole(&self) -> bool {
        self.outside.is_empty() && self.beside.is_empty()
    }

    /// Refuses a mail whose sender is not its signer, unless `--any-sender` was given.
    pub fn check_sender(&self, any: SenderArguments, signers: &str) -> Result<(), Failure> {
        let problem = self.sender.as_ref().and_then(|sender| sender.problem.as_ref());
        let Some(problem) = problem.filter(|_| !any.any_sender) else { return Ok(()) };
        let message = format!("not verified: {}\n{signers}", showable(&problem.to_string()));
        Err(Failure::new(Exit::NotVerified, message)
            .with_remedy("--any-sender accepts the signer's content whatever the mail's header says")
            .with_verdict(OTHER_SENDER))
    }

    /// The failure of a refused message. Further lines say that it is not mail, and what is wrong
    /// with its sender.
    pub fn refused(&self, sentences: String, verified: &VerifiedMessage) -> Failure {
        let problem = self.sender.as_ref().and_then(|sender| sender.problem.as_ref());
        let lines = [Some(sentences), self.no_mail.clone(), problem.map(|problem| showable(&problem.to_string()))];
        Failure::new(Exit::NotVerified, lines.into_iter().flatten().collect::<Vec<_>>().join("\n"))
            .with_verdict(verified.word())
    }

    /// These sentences, followed by the report on the message.
    pub fn append_to(&self, sentences: String) -> String {
        let mut lines = vec![sentences];
        lines.extend(self.no_mail.clone());
        match &self.sender {
            Some(sender) => lines.push(sender_line(sender)),
            None if self.no_mail.is_none() => lines.push("No sender named: there is no From field.".to_owned()),
            None => {}
        }
        lines.extend(self.fields.iter().filter(|field| field.name != "From").map(field_line));
        if !self.beside.is_empty() {
            lines.push(format!("In the output, but not signed: {}.", list(&self.beside)));
        }
        lines.extend(outside_note(&self.outside));
        lines.push("Revocation: not checked.".to_owned());
        lines.join("\n")
    }

    /// Adds the report to a JSON object.
    pub fn add_members(&self, value: &mut Value) {
        let Some(members) = value.as_object_mut() else { return };
        let sender = self.sender.as_ref().map(|sender| {
            json!({
                "address": sender.address,
                "signed": sender.is_signed,
                "problem": sender.problem.as_ref().map(ToString::to_string),
            })
        });
        let field = |field: &ShownField| json!({ "name": field.name, "value": field.value, "signed": field.is_signed });
        members.insert("sender".to_owned(), json!(sender));
        members.insert("headers".to_owned(), self.fields.iter().map(field).collect());
        members.insert("unsigned_parts".to_owned(), self.beside.iter().chain(&self.outside).cloned().collect());
        members.insert("content_type".to_owned(), json!(self.content_type));
        members.insert("revocation".to_owned(), json!("not checked"));
    }
}

/// The header fields of an unsigned mail, one a line, and the parts beside the encrypted part.
pub fn unsigned_notes(message: &Message) -> Vec<String> {
    let fields = shown_fields(&message.headers().collect::<Vec<_>>(), None);
    fields.iter().map(field_line).chain(outside_note(&message.outside)).collect()
}

fn outside_note(outside: &[String]) -> Option<String> {
    (!outside.is_empty()).then(|| format!("Not in the output, and not signed: {}.", list(outside)))
}

fn sender_line(sender: &SenderReport) -> String {
    let address = sender.address.as_deref().map_or_else(|| "unknown".to_owned(), showable);
    format!("From: {address} ({})", signed(sender.is_signed))
}

fn field_line(field: &ShownField) -> String {
    let value: String = field.value.chars().take(MAX_VALUE_CHARACTERS).collect();
    format!("{}: {} ({})", field.name, showable(&value), signed(field.is_signed))
}

fn signed(is_signed: bool) -> &'static str {
    if is_signed { "signed" } else { "not signed" }
}

fn list(outside: &[String]) -> String {
    let named: Vec<String> = outside.iter().take(MAX_NAMED_PARTS).map(|part| showable(part)).collect();
    match outside.len().saturating_sub(MAX_NAMED_PARTS) {
        0 => named.join(", "),
        more => format!("{}, and {more} more", named.join(", ")),
    }
}

/// Says what signed content is that is not mail: its signature does not mean "I wrote this mail".
fn no_mail(content_type: &ContentType) -> Option<String> {
    let what = if *content_type == ContentType::DATA {
        return None;
    } else if *content_type == ContentType::STATEMENT {
        "an administrator's command to an authority".to_owned()
    } else if *content_type == ContentType::STATEMENT_RESPONSE {
        "an authority's response to an administrator's command".to_owned()
    } else if *content_type == ContentType::AUDIT_CHECKPOINT {
        "a checkpoint of an authority's audit log".to_owned()
    } else {
        format!("content of the type {content_type}")
    };
    Some(format!("This is not mail: it is {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_is_not_mail_is_reported() {
        assert_eq!(no_mail(&ContentType::DATA), None);
        for (content_type, what) in [
            (ContentType::STATEMENT, "administrator's command to"),
            (ContentType::STATEMENT_RESPONSE, "response to an administrator's command"),
            (ContentType::AUDIT_CHECKPOINT, "audit log"),
            (ContentType::from_contents(&[0x2a, 3]), "1.2.3"),
        ] {
            let text = no_mail(&content_type).unwrap();
            assert!(text.starts_with("This is not mail") && text.contains(what), "{text}");
        }
    }

    #[test]
    fn a_field_is_one_line_and_marked() {
        let value = format!("x\u{85}y\u{202e}{}", "z".repeat(1000));
        let line = field_line(&ShownField { name: "Subject", value, is_signed: false });
        assert!(line.ends_with("(not signed)") && line.len() < 300, "{line}");
        assert!(!line.contains(['\u{85}', '\u{202e}']), "{line}");
        assert_eq!(list(&["a".to_owned(), "b".to_owned()]), "a, b");
        assert!(list(&vec!["part".to_owned(); 20]).ends_with("and 12 more"));
    }
}
