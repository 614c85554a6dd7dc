//! The names in a subjectAltName and in name constraints (RFC 5280 §4.2.1.6). Each is parsed
//! separately, so that an invalid one does not hide the others.

use super::DistinguishedName;
use super::tlv::{Element, Elements, OBJECT_IDENTIFIER, context, context_constructed};

/// The name of the structure in errors.
const WHAT: &str = "an alternative name";

/// The tag of `UTF8String`.
const UTF8_STRING: u8 = 0x0c;

/// `id-on-SmtpUTF8Mailbox` (RFC 9598 §3), contents octets.
const SMTP_UTF8_MAILBOX: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x09];

/// One name. The text of a mailbox or host is not validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GeneralName {
    /// `rfc822Name`: a mailbox in ASCII.
    Email(String),
    /// `SmtpUTF8Mailbox` (RFC 9598): a mailbox beyond ASCII.
    Utf8Mailbox(String),
    /// `dNSName`, in ASCII.
    Dns(String),
    /// `directoryName`.
    Directory(DistinguishedName),
    /// `uniformResourceIdentifier`, in ASCII.
    Uri(String),
    /// `iPAddress`, as octets.
    Ip(Vec<u8>),
    /// A kind that is not used here or cannot be parsed, as the number of its tag.
    Other(u8),
}

impl GeneralName {
    pub(super) fn from_element(element: Element<'_>) -> Self {
        let number = element.tag() & 0x1f;
        let ascii = || element.value.is_ascii().then(|| String::from_utf8_lossy(element.value).into_owned());
        let read = match (number, element.tag()) {
            (0, tag) if tag == context_constructed(0) => utf8_mailbox(element).map(Self::Utf8Mailbox),
            (1, tag) if tag == context(1) => ascii().map(Self::Email),
            (2, tag) if tag == context(2) => ascii().map(Self::Dns),
            (4, tag) if tag == context_constructed(4) => {
                DistinguishedName::from_der(element.value).ok().map(Self::Directory)
            }
            (6, tag) if tag == context(6) => ascii().map(Self::Uri),
            (7, tag) if tag == context(7) => Some(Self::Ip(element.value.to_vec())),
            _ => None,
        };
        read.unwrap_or(Self::Other(number))
    }

    /// The number of the tag, which is the same for all names of a kind. An `SmtpUTF8Mailbox` has
    /// the number of `rfc822Name` (RFC 9598 §6).
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Email(_) | Self::Utf8Mailbox(_) => 1,
            Self::Dns(_) => 2,
            Self::Directory(_) => 4,
            Self::Uri(_) => 6,
            Self::Ip(_) => 7,
            Self::Other(number) => *number,
        }
    }
}

/// Parses `OtherName`: the type's identifier, and `[0]` with the value.
fn utf8_mailbox(other_name: Element<'_>) -> Option<String> {
    let mut parts = other_name.inside(WHAT);
    let kind = parts.required(OBJECT_IDENTIFIER).ok()?.value;
    let mut value = parts.required(context_constructed(0)).ok()?.inside(WHAT);
    let text = value.required(UTF8_STRING).ok()?.value;
    (kind == SMTP_UTF8_MAILBOX && parts.end().is_ok() && value.end().is_ok())
        .then(|| String::from_utf8(text.to_vec()).ok())
        .flatten()
}

/// Parses a `GeneralNames`. Names after one with an invalid length cannot be found.
pub(super) fn parse_general_names(general_names: &[u8]) -> Vec<GeneralName> {
    let Ok(sequence) = Elements::of(general_names, WHAT).required(super::tlv::SEQUENCE) else { return Vec::new() };
    let mut names = sequence.inside(WHAT);
    std::iter::from_fn(|| names.any().ok()).map(GeneralName::from_element).collect()
}
