//! Whether the sender that a mail names is one of those who signed it.
//!
//! A mail's own header is not signed: whoever passes it on can write any From above a signature that holds. So exactly
//! one From with one address must name a signer. A From in the signed part (header protection: RFC 9788, or a whole
//! message wrapped in `message/rfc822`, RFC 8551 §3.1) counts before the one outside, which then must be the same.

use std::fmt;

use super::entity::Entity;
use super::header::{AddressError, Header, one_address};
use super::{Format, Message, SignerReport, Verified};
use crate::pki::same_address;

/// Fields that mailing lists put where they rewrite a From: the author's own address.
const AUTHOR_FIELDS: [&str; 4] = ["Reply-To", "X-Original-From", "Original-From", "Author"];

/// Whom a mail names as its sender, and what is against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// The address in the From that counts; none where none can be read.
    pub address: Option<String>,
    /// Whether that From stands in the signed part.
    pub is_signed: bool,
    /// Why the sender is not taken for a signer; none if one of the signers has this address.
    pub problem: Option<SenderProblem>,
}

/// Why a mail's sender is not taken for one of its signers. Its `Display` is a sentence's end: "the sender is not ...: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderProblem {
    /// A Sender field stands alone.
    SenderOnly,
    /// There is more than one From field.
    SeveralFroms,
    /// The From field has not exactly one address.
    NoOneAddress(AddressError),
    /// The From outside is not the one that was signed.
    OuterDiffers {
        /// The signed one.
        signed: String,
        /// The address outside, if it has one.
        outside: Option<String>,
    },
    /// A mailing list, or what looks like one, wrote an address of its own into From.
    RewrittenByList {
        /// The address in From.
        from: String,
        /// The field that names a signer instead, if one does.
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
            Self::NoOneAddress(reason) => write!(f, "the mail's From field names no one sender: {reason}"),
            Self::OuterDiffers { signed, outside } => {
                let outside = outside.as_deref().unwrap_or("something that is no one address");
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

/// Judges the sender of a signed message by the headers around it, the outermost first: that of the
/// mail that it came in; where a mailing list put a message whole into its mail, that of the
/// message; and where it came encrypted, those within the encryption. Each that names a sender must
/// name a signer, and by a From. None where none does.
pub fn judge_sender(headers: &[&Header], message: &Message, verified: &Verified) -> Option<SenderReport> {
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
        Ok(address) => (Some(address.clone()), Some(stranger(&address, header, signers))),
    };
    Some(SenderReport { address, is_signed: false, problem })
}

/// A field that is shown with a message, and whether it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownField {
    /// Its usual name.
    pub name: &'static str,
    /// Its value as it is written, unfolded; nothing is decoded.
    pub value: String,
    /// Whether it stands in the signed part.
    pub is_signed: bool,
}

/// The fields of a mail's headers that people go by. Where the signed part has one, that one is shown.
pub fn shown_fields(headers: &[&Header], signed: Option<(&Message, &Verified)>) -> Vec<ShownField> {
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

/// The From fields of a header: none, or the one address in the one field, or why that cannot be had.
fn froms(header: &Header) -> Option<Result<String, SenderProblem>> {
    let mut values = header.values("From");
    let first = values.next()?;
    if values.next().is_some() {
        return Some(Err(SenderProblem::SeveralFroms));
    }
    Some(one_address(first).map_err(SenderProblem::NoOneAddress))
}

fn stranger(address: &str, outer: &Header, signers: &[SignerReport]) -> SenderProblem {
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

/// The header fields that were signed with the content. In a mail every header of the signed part counts; a file that was
/// signed in DER or PEM may be a stored mail, whose own From says nothing of the signer, unless it is marked as protection.
fn protected_header(message: &Message, content: &[u8]) -> Option<Header> {
    let is_mail = message.format == Format::Smime;
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
