//! What is told of a signed message besides its signers: whom the mail names as its sender, which header fields are signed,
//! what is beside the signed part, that nobody asked about revocation, and that a statement is no mail.

use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use crate::pki::oid::ContentType;
use crate::prompter::showable;
use crate::smime::{Header, Message, SenderReport, ShownField, Verified, judge_sender, shown_fields};

/// Characters of a header field that are shown; a terminal's line is not for more.
const LONGEST_VALUE: usize = 200;

/// Things beside the message that are named one by one.
const MOST_NAMED: usize = 8;

/// Whether a mail's sender may be somebody else than its signer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct AnySender {
    /// Take a signed mail whose From names somebody else than its signer, or nobody
    #[arg(long)]
    any_sender: bool,
}

/// The word for programs where a message's From is what is wrong.
const OTHER_SENDER: &str = "sender";

/// What is told of one message.
pub struct MailFacts {
    no_mail: Option<String>,
    sender: Option<SenderReport>,
    fields: Vec<ShownField>,
    /// Not signed, and not given out.
    outside: Vec<String>,
    /// Not signed, and given out with what is.
    beside: Vec<String>,
    content_type: String,
}

impl MailFacts {
    /// Of a message that was verified: of it the signed content is given out.
    pub fn of_signed(message: &Message, verified: &Verified) -> Self {
        let headers: Vec<_> = message.headers().collect();
        Self::new(&headers, message, message.outside.clone(), Vec::new(), verified)
    }

    /// Of a signed message that was encrypted, which is given out whole.
    pub fn of_signed_inside(outer: &Message, message: &Message, verified: &Verified) -> Self {
        let headers: Vec<_> = outer.headers().chain(message.headers()).collect();
        let beside = message.told_fields().into_iter().chain(message.outside.iter().cloned()).collect();
        Self::new(&headers, message, outer.outside.clone(), beside, verified)
    }

    fn new(
        headers: &[&Header],
        message: &Message,
        outside: Vec<String>,
        beside: Vec<String>,
        verified: &Verified,
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

    /// Whether the message came by itself, with nothing beside it that is not signed.
    pub fn is_whole(&self) -> bool {
        self.outside.is_empty() && self.beside.is_empty()
    }

    /// Refuses a mail whose sender is not its signer, unless any sender will do.
    pub fn check_sender(&self, any: AnySender, signers: &str) -> Result<(), Failure> {
        let problem = self.sender.as_ref().and_then(|sender| sender.problem.as_ref());
        let Some(problem) = problem.filter(|_| !any.any_sender) else { return Ok(()) };
        let message = format!("not verified: {}\n{signers}", showable(&problem.to_string()));
        Err(Failure::new(Exit::NotVerified, message)
            .with_remedy("to take the content as its signer's, whatever the mail's header says, add --any-sender")
            .with_verdict(OTHER_SENDER))
    }

    /// Why the message is refused, and below it that it is no mail, where it is none, and what is against its sender.
    pub fn refused(&self, sentences: String, verified: &Verified) -> Failure {
        let problem = self.sender.as_ref().and_then(|sender| sender.problem.as_ref());
        let lines = [Some(sentences), self.no_mail.clone(), problem.map(|problem| showable(&problem.to_string()))];
        Failure::new(Exit::NotVerified, lines.into_iter().flatten().collect::<Vec<_>>().join("\n"))
            .with_verdict(verified.word())
    }

    /// These sentences, and below them what there is to say of the message.
    pub fn told_after(&self, sentences: String) -> String {
        let mut lines = vec![sentences];
        lines.extend(self.no_mail.clone());
        match &self.sender {
            Some(sender) => lines.push(told_sender(sender)),
            None if self.no_mail.is_none() => lines.push("No sender named: there is no From field.".to_owned()),
            None => {}
        }
        lines.extend(self.fields.iter().filter(|field| field.name != "From").map(told_field));
        if !self.beside.is_empty() {
            lines.push(format!("Given out with it, and not signed: {}.", list(&self.beside)));
        }
        lines.extend(told_outside(&self.outside));
        lines.push("Revocation: not checked.".to_owned());
        lines.join("\n")
    }

    /// The same for programs, as members of a JSON object.
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

/// The header fields of a mail that nobody signed, each in a line, and what it has beside the encrypted part.
pub fn told_unsigned(message: &Message) -> Vec<String> {
    let fields = shown_fields(&message.headers().collect::<Vec<_>>(), None);
    fields.iter().map(told_field).chain(told_outside(&message.outside)).collect()
}

fn told_outside(outside: &[String]) -> Option<String> {
    (!outside.is_empty()).then(|| format!("Not given out, and not signed: {}.", list(outside)))
}

fn told_sender(sender: &SenderReport) -> String {
    let address = sender.address.as_deref().map_or_else(|| "nobody that can be told".to_owned(), showable);
    format!("From: {address} ({})", signed(sender.is_signed))
}

fn told_field(field: &ShownField) -> String {
    let value: String = field.value.chars().take(LONGEST_VALUE).collect();
    format!("{}: {} ({})", field.name, showable(&value), signed(field.is_signed))
}

fn signed(is_signed: bool) -> &'static str {
    if is_signed { "signed" } else { "not signed" }
}

fn list(outside: &[String]) -> String {
    let named: Vec<String> = outside.iter().take(MOST_NAMED).map(|part| showable(part)).collect();
    match outside.len().saturating_sub(MOST_NAMED) {
        0 => named.join(", "),
        more => format!("{}, and {more} more", named.join(", ")),
    }
}

/// A signature over a type of content that is not mail says something else than "I wrote this".
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
    Some(format!("This is no mail: it is {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mail_is_said_so() {
        assert_eq!(no_mail(&ContentType::DATA), None);
        for (content_type, what) in [
            (ContentType::STATEMENT, "administrator's command to"),
            (ContentType::STATEMENT_RESPONSE, "response to an administrator's command"),
            (ContentType::AUDIT_CHECKPOINT, "audit log"),
            (ContentType::from_contents(&[0x2a, 3]), "1.2.3"),
        ] {
            let said = no_mail(&content_type).unwrap();
            assert!(said.starts_with("This is no mail") && said.contains(what), "{said}");
        }
    }

    #[test]
    fn a_field_is_one_line_and_marked() {
        let value = format!("x\u{85}y\u{202e}{}", "z".repeat(1000));
        let told = told_field(&ShownField { name: "Subject", value, is_signed: false });
        assert!(told.ends_with("(not signed)") && told.len() < 300, "{told}");
        assert!(!told.contains(['\u{85}', '\u{202e}']), "{told}");
        assert_eq!(list(&["a".to_owned(), "b".to_owned()]), "a, b");
        assert!(list(&vec!["part".to_owned(); 20]).ends_with("and 12 more"));
    }
}
