//! Checks whether the sender that a mail names is one of its signers.
//!
//! A mail's own header is not signed: anyone who forwards the mail can write any From above a valid
//! signature. Therefore exactly one From with one address must name a signer. A From in the signed
//! part (header protection: RFC 9788, or a whole message in `message/rfc822`, RFC 8551 §3.1) has
//! priority over the outer one, which must then be the same.

use std::fmt;

use super::entity::Entity;
use super::header::{AddressError, Header, one_address};
use super::{Message, MessageFormat, SignerReport, VerifiedMessage};
use crate::pki::same_address;

/// Fields in which mailing lists keep the author's address when they rewrite From.
const AUTHOR_FIELDS: [&str; 4] = ["Reply-To", "X-Original-From", "Original-From", "Author"];

/// The sender that a mail names, and the reason if it is not a signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The address in the From field that counts; `None` if it cannot be parsed.
    pub address: Option<String>,
    /// Whether that From is in the signed part.
    pub is_signed: bool,
    /// The reason why the sender is not accepted as a signer; `None` if a signer has this address.
    pub problem: Option<SenderProblem>,
}

/// The reason why a mail's sender is not accepted as one of its signers. Its `Display` completes a
/// sentence: "the sender is not ...: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderProblem {
    /// The mail has a Sender field but no From.
    SenderOnly,
    /// The mail has more than one From field.
    SeveralFroms,
    /// The From field does not have exactly one address.
    NoSingleAddress(AddressError),
    /// The outer From differs from the signed one.
    OuterDiffers {
        /// The signed address.
        signed: String,
        /// The outer address, if there is one.
        outside: Option<String>,
    },
    /// A mailing list, or a mail that looks like a list's, has its own address in From.
    RewrittenByList {
        /// The address in From.
        from: String,
        /// The field that names a signer instead, if there is one.
        author_field: Option<&'static str>,
    },
    /// No signer's certificate has the address.
    NotASigner {
        /// The address in From.
        from: String,
    },
}

impl fmt::Display for SenderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SenderOnly => f.write_str("the mail has no From field, only a Sender"),
            Self::SeveralFroms => f.write_str("the mail has more than one From field"),
            Self::NoSingleAddress(reason) => {
                write!(f, "the mail's From field does not name exactly one sender: {reason}")
            }
            Self::OuterDiffers { signed, outside } => {
                let outside = outside.as_deref().unwrap_or("not a single address");
                write!(f, "the mail's From outside the signed part is {outside}, the signed one is {signed}")
            }
            Self::RewrittenByList { from, author_field } => {
                write!(f, "the mail's From, {from}, is not the signer; it seems to be rewritten by a mailing list")?;
                match author_field {
                    Some(field) => write!(f, ", and the field {field} names the signer"),
                    None => Ok(()),
                }
            }
            Self::NotASigner { from } => {
                write!(f, "the mail is from {from}, and no signer's certificate has this address")
            }
        }
    }
}

/// Checks the sender of a signed message by the headers around it, outermost first: that of the
/// mail; that of the message, if a mailing list embedded one; and those within the encryption, if
/// there is one. Each header that names a sender must name a signer, in a From field. `None` if no
/// header names a sender.
pub fn judge_sender(headers: &[&Header], message: &Message, verified: &VerifiedMessage) -> Option<SenderReport> {
    let protected = protected_header(message, &verified.content).unwrap_or_default();
    if let Some(signed) = froms(&protected) {
        return Some(judge_signed_from(signed, headers, &verified.signers));
    }
    let mut reports = headers.iter().filter_map(|header| judge_unsigned_from(header, &verified.signers));
    if let Some(first) = reports.next() {
        return Some(if first.problem.is_some() { first } else { reports.find(has_problem).unwrap_or(first) });
    }
    protected.has("Sender").then(sender_only)
}

fn sender_only() -> SenderReport {
    SenderReport { address: None, is_signed: false, problem: Some(SenderProblem::SenderOnly) }
}

fn has_problem(report: &SenderReport) -> bool {
    report.problem.is_some()
}

fn judge_signed_from(
    signed: Result<String, SenderProblem>,
    headers: &[&Header],
    signers: &[SignerReport],
) -> SenderReport {
    let address = match signed {
        Ok(address) => address,
        Err(problem) => return SenderReport { address: None, is_signed: true, problem: Some(problem) },
    };
    let is_other = |outside: &Result<String, _>| !outside.as_ref().is_ok_and(|outside| same_address(outside, &address));
    let problem = match headers.iter().filter_map(|header| froms(header)).find(is_other) {
        Some(outside) => Some(SenderProblem::OuterDiffers { signed: address.clone(), outside: outside.ok() }),
        None if is_a_signers(&address, signers) => None,
        None => Some(SenderProblem::NotASigner { from: address.clone() }),
    };
    SenderReport { address: Some(address), is_signed: true, problem }
}

fn judge_unsigned_from(header: &Header, signers: &[SignerReport]) -> Option<SenderReport> {
    let Some(from) = froms(header) else { return header.has("Sender").then(sender_only) };
    let (address, problem) = match from {
        Err(problem) => (None, Some(problem)),
        Ok(address) if is_a_signers(&address, signers) => (Some(address), None),
        Ok(address) => (Some(address.clone()), Some(explain_unknown_sender(&address, header, signers))),
    };
    Some(SenderReport { address, is_signed: false, problem })
}

/// A field that is shown with a message, and whether it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownField {
    /// The usual name of the field.
    pub name: &'static str,
    /// The value as written, unfolded but not decoded.
    pub value: String,
    /// Whether the field is in the signed part.
    pub is_signed: bool,
}

/// The fields of a mail's headers that matter to people. A field in the signed part replaces the
/// unsigned ones.
pub fn shown_fields(headers: &[&Header], signed: Option<(&Message, &VerifiedMessage)>) -> Vec<ShownField> {
    let protected = signed.and_then(|(message, verified)| protected_header(message, &verified.content));
    let mut shown = Vec::new();
    for name in ["From", "To", "Cc", "Date", "Subject"] {
        let mut add = |header: &Header, is_signed| {
            for value in header.values(name) {
                let field = ShownField { name, value: value.to_owned(), is_signed };
                if !shown.contains(&field) {
                    shown.push(field);
                }
            }
        };
        match protected.as_ref().filter(|protected| protected.has(name)) {
            Some(protected) => add(protected, true),
            None => headers.iter().for_each(|header| add(header, false)),
        }
    }
    shown
}

/// The address in the only From field of a header, or the reason why there is not exactly one;
/// `None` without a From field.
fn froms(header: &Header) -> Option<Result<String, SenderProblem>> {
    let mut values = header.values("From");
    let first = values.next()?;
    if values.next().is_some() {
        return Some(Err(SenderProblem::SeveralFroms));
    }
    Some(one_address(first).map_err(SenderProblem::NoSingleAddress))
}

fn explain_unknown_sender(address: &str, outer: &Header, signers: &[SignerReport]) -> SenderProblem {
    let from = address.to_owned();
    let names_a_signer = |field: &&'static str| {
        outer.values(field).any(|value| one_address(value).is_ok_and(|address| is_a_signers(&address, signers)))
    };
    let author_field = AUTHOR_FIELDS.into_iter().find(names_a_signer);
    let is_lists = ["List-Id", "List-Post", "X-Original-From", "Original-From"].iter().any(|field| outer.has(field));
    if is_lists || author_field.is_some() {
        return SenderProblem::RewrittenByList { from, author_field };
    }
    SenderProblem::NotASigner { from }
}

fn is_a_signers(address: &str, signers: &[SignerReport]) -> bool {
    signers.iter().flat_map(|signer| &signer.emails).any(|email| same_address(email, address))
}

/// The header fields that were signed with the content. In a mail, every header of the signed part
/// counts. A file that was signed in DER or PEM may be a stored mail; its From says nothing about
/// the signer, unless the header is marked as protection.
fn protected_header(message: &Message, content: &[u8]) -> Option<Header> {
    let is_mail = message.format == MessageFormat::Smime;
    let entity = Entity::parse(content).ok()?;
    let media = entity.content_type().ok().flatten();
    let parameter = |name| media.as_ref().and_then(|media| media.parameter(name)).map(str::to_ascii_lowercase);
    if media.as_ref().is_some_and(|media| media.kind == "message/rfc822") {
        let forwarded = parameter("forwarded");
        let counts = forwarded.as_deref() == Some("no") || is_mail && forwarded.as_deref() != Some("yes");
        let wrapped = entity.decoded_body().filter(|_| counts)?;
        return Header::parse(&wrapped).ok().map(|(header, _)| header);
    }
    let is_marked = parameter("hp").is_some() || parameter("protected-headers").is_some();
    (is_mail || is_marked).then_some(entity.header)
}

#[cfg(test)]
mod tests;
