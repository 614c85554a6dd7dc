//! Distinguished names, made from people's names and converted to text.
//!
//! The rule for a common name: it is the person's name in the authority's record, with at most 64
//! *characters* (RFC 5280 ub-common-name). A longer name is cut after its last whole word within 63
//! characters. If the second half has no word boundary, it is cut after 63 characters, or before a
//! letter whose combining marks would be lost. A cut name ends in "…", which shows the cut.
//! The whole name remains in the record, and the e-mail address in the subjectAltName always
//! identifies the person. Nothing else changes: commas, quotes, umlauts and emoji are ordinary
//! characters in a UTF8String.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use const_oid::db::rfc3280::EMAIL_ADDRESS;
use const_oid::db::rfc4519::CN;
use der::Decode;
use der::asn1::ObjectIdentifier;
use x509_cert::name::Name;

use super::PkiError;
use super::directory_string::{normalize, text_of};
use super::tlv::{Element, Elements, OBJECT_IDENTIFIER, SEQUENCE, SET, element, set_of};
use crate::characters::{is_address_sign, is_invisible};

const WHAT: &str = "a name";

/// The tag of a `UTF8String`.
const UTF8_STRING: u8 = 0x0c;

/// The maximum length of a common name, in characters (RFC 5280 appendix A, ub-common-name).
const COMMON_NAME_CHARACTERS: usize = 64;

/// The maximum length of a name, in characters. The authority's record has the same limit.
pub const NAME_CHARACTERS: usize = 256;

/// An X.501 name: the received bytes and the parsed attributes.
///
/// Names are compared as in RFC 5280 §7.1. Attributes are equal if they have the same text, in any
/// string type, without regard to case and to the number of spaces. The attributes of one RDN have
/// no order.
#[derive(Clone)]
pub struct DistinguishedName(Arc<Parts>);

struct Parts {
    der: Vec<u8>,
    /// The relative distinguished names, each with one or more attributes.
    rdns: Vec<Vec<Attribute>>,
    normalized: Vec<Vec<NormalizedAttribute>>,
    x509: Name,
}

#[derive(Clone)]
struct Attribute {
    /// The contents octets of the object identifier. Some have arcs that `const-oid` does not
    /// support.
    kind: Vec<u8>,
    tag: u8,
    value: Vec<u8>,
}

impl Attribute {
    fn is(&self, kind: ObjectIdentifier) -> bool {
        self.kind == kind.as_bytes()
    }

    fn text(&self) -> Option<String> {
        text_of(self.tag, &self.value)
    }
}

/// The type of an attribute and its normalized value.
type NormalizedAttribute = (Vec<u8>, NormalizedValue);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum NormalizedValue {
    Text(String),
    /// The tag and octets of a value that is not text.
    Octets(u8, Vec<u8>),
}

impl DistinguishedName {
    /// The subject for a person or thing called `name`: one common name, according to this module's
    /// rule.
    ///
    /// Leading and trailing white space is dropped. Refused are empty and invisible names, names
    /// longer than [`NAME_CHARACTERS`], and control characters, because a line break in a name can
    /// forge a log entry.
    pub fn of(name: &str) -> Result<Self, PkiError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(PkiError::Name("it is empty".into()));
        }
        if name.chars().any(is_control) {
            return Err(PkiError::Name("it contains control characters".into()));
        }
        if name.chars().all(is_blank) {
            return Err(PkiError::Name("it has no visible character".into()));
        }
        if name.chars().count() > NAME_CHARACTERS {
            return Err(PkiError::Name(format!("it is longer than {NAME_CHARACTERS} characters")));
        }
        Self::from_common_name(&shortened(name))
    }

    /// Checks the name of a new person as [`DistinguishedName::of`] does, and refuses one that
    /// could be read as an address. When a name is displayed beside an address, the two must not be
    /// confused. (A person with only an address is named by it.)
    pub fn check_person_name(name: &str) -> Result<(), PkiError> {
        if name.contains(is_address_sign) {
            return Err(PkiError::Name("it contains <, > or @, like an address".into()));
        }
        Self::of(name).map(drop)
    }

    fn from_common_name(name: &str) -> Result<Self, PkiError> {
        let value = element(UTF8_STRING, &[name.as_bytes()]);
        let attribute = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[CN.as_bytes()]), &value]);
        Self::from_der(&element(SEQUENCE, &[&element(SET, &[&attribute])]))
    }

    /// Parses a DER `Name` (an `RDNSequence`). Lengths and orders that deviate from DER are
    /// accepted too.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let mut elements = Elements::of(der, WHAT);
        let sequence = elements.required(SEQUENCE)?;
        elements.end()?;
        let rdns = sequence.inside(WHAT).all()?.into_iter().map(attributes_of).collect::<Result<Vec<_>, _>>()?;
        let normalized = rdns.iter().map(|rdn| normalize_rdn(rdn)).collect();
        let x509 = Name::from_der(der).or_else(|_| Name::from_der(&rewritten(&rdns))).unwrap_or_default();
        Ok(Self(Arc::new(Parts { der: der.to_vec(), rdns, normalized, x509 })))
    }

    /// The bytes of the `Name` as received.
    pub fn to_der(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.0.der.clone())
    }

    fn attributes(&self, kind: ObjectIdentifier) -> impl Iterator<Item = &Attribute> {
        self.0.rdns.iter().flatten().filter(move |attribute| attribute.is(kind))
    }

    /// The last common name as text; `None` if it is missing or undecodable.
    pub fn common_name(&self) -> Option<String> {
        self.attributes(CN).filter_map(Attribute::text).last()
    }

    /// The text of the emailAddress attributes (RFC 8550 §3), unchecked.
    pub fn email_addresses(&self) -> Vec<String> {
        self.attributes(EMAIL_ADDRESS).filter_map(Attribute::text).collect()
    }

    /// Whether the name has no attribute.
    pub fn is_empty(&self) -> bool {
        self.0.rdns.is_empty()
    }

    /// Whether it is `base` or a name below it in the directory tree.
    pub fn is_within(&self, base: &Self) -> bool {
        self.0.normalized.starts_with(&base.0.normalized)
    }

    /// The `x509-cert` form, for structures that are encoded here. That crate does not support all
    /// string types; a `UTF8String` replaces the others.
    pub fn as_x509(&self) -> &Name {
        &self.0.x509
    }
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.0.normalized == other.0.normalized
    }
}

impl Eq for DistinguishedName {}

impl Hash for DistinguishedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.normalized.hash(state);
    }
}

/// Parses a `RelativeDistinguishedName`.
fn attributes_of(rdn: Element<'_>) -> Result<Vec<Attribute>, PkiError> {
    let set = Elements::of(rdn.whole, WHAT).required(SET)?;
    let mut attributes = Vec::new();
    for attribute in set.inside(WHAT).all()? {
        let mut parts = Elements::of(attribute.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        let kind = parts.required(OBJECT_IDENTIFIER)?.value.to_vec();
        let value = parts.any()?;
        parts.end()?;
        attributes.push(Attribute { kind, tag: value.tag(), value: value.value.to_vec() });
    }
    if attributes.is_empty() { Err(PkiError::malformed(WHAT, "a part of it is empty")) } else { Ok(attributes) }
}

fn normalize_rdn(rdn: &[Attribute]) -> Vec<NormalizedAttribute> {
    let normalized = |attribute: &Attribute| {
        let value = match attribute.text() {
            Some(text) => NormalizedValue::Text(normalize(&text)),
            None => NormalizedValue::Octets(attribute.tag, attribute.value.clone()),
        };
        (attribute.kind.clone(), value)
    };
    let mut attributes: Vec<_> = rdn.iter().map(normalized).collect();
    attributes.sort();
    attributes
}

/// Encodes the name in DER, with every text as a `UTF8String`.
fn rewritten(rdns: &[Vec<Attribute>]) -> Vec<u8> {
    let attribute = |attribute: &Attribute| {
        let value = match attribute.text() {
            Some(text) => element(UTF8_STRING, &[text.as_bytes()]),
            None => element(attribute.tag, &[&attribute.value]),
        };
        element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[&attribute.kind]), &value])
    };
    let rdns: Vec<_> = rdns.iter().map(|rdn| set_of(SET, rdn.iter().map(attribute).collect())).collect();
    element(SEQUENCE, &[&rdns.concat()])
}

/// Cuts the name to the length of a common name, if it is longer.
fn shortened(name: &str) -> String {
    if name.chars().count() <= COMMON_NAME_CHARACTERS {
        return name.to_owned();
    }
    let within: Vec<char> = name.chars().take(COMMON_NAME_CHARACTERS).collect();
    let (kept, next) = within.split_at(COMMON_NAME_CHARACTERS - 1);
    let at_word = kept.iter().rposition(|char| char.is_whitespace()).filter(|at| *at >= COMMON_NAME_CHARACTERS / 2);
    let ends_with_word = next.first().is_some_and(|char| char.is_whitespace());
    let mut end = match at_word {
        Some(at) if !ends_with_word => at,
        _ => kept.len(),
    };
    // Do not cut between a letter and its combining marks, or inside an emoji of several
    // characters.
    let joined = |end: usize| {
        let joins = |at: usize| within.get(at).is_some_and(|char| joins_to_previous(*char));
        joins(end) || within.get(end - 1) == Some(&'\u{200d}')
    };
    while end > 1 && joined(end) {
        end -= 1;
    }
    let text: String = within.iter().take(end).collect();
    format!("{}…", text.trim_end_matches([' ', ',', ';', '-']))
}

/// Whether a character continues the previous one: combining marks, variation selectors, emoji
/// modifiers and joiners. It is never the first of what people see as one character.
fn joins_to_previous(char: char) -> bool {
    matches!(char,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{200d}'
        | '\u{e0020}'..='\u{e007f}')
}

/// Whether a character is a control character, or a mark that reverses or hides the displayed text
/// around it.
pub(super) fn is_control(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character is invisible by itself: white space, zero-width characters, fillers, and
/// combining marks.
pub(super) fn is_blank(char: char) -> bool {
    char.is_whitespace() || joins_to_previous(char) && !matches!(char, '\u{1f3fb}'..='\u{1f3ff}') || is_invisible(char)
}

/// Writes the name as in RFC 4514: the last RDN first, special characters escaped. Control
/// characters are escaped too, so that they never reach a terminal.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rdn) in self.0.rdns.iter().rev().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            for (index, attribute) in rdn.iter().enumerate() {
                if index > 0 {
                    f.write_str("+")?;
                }
                write_attribute(f, attribute)?;
            }
        }
        Ok(())
    }
}

fn write_attribute(f: &mut fmt::Formatter<'_>, attribute: &Attribute) -> fmt::Result {
    match ObjectIdentifier::from_bytes(&attribute.kind) {
        Ok(oid) => match short_name(oid) {
            Some(name) => write!(f, "{name}=")?,
            None => write!(f, "{oid}=")?,
        },
        Err(_) => write!(f, "OID.{}=", hex::encode(&attribute.kind))?,
    }
    let Some(text) = attribute.text() else {
        return write!(f, "#{}", hex::encode(element(attribute.tag, &[&attribute.value])));
    };
    let last = text.chars().count().saturating_sub(1);
    for (index, char) in text.chars().enumerate() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{char}")?,
            '#' if index == 0 => f.write_str("\\#")?,
            ' ' if index == 0 || index == last => f.write_str("\\ ")?,
            char if is_control(char) => {
                for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                    write!(f, "\\{byte:02x}")?;
                }
            }
            char => write!(f, "{char}")?,
        }
    }
    Ok(())
}

/// The short names of RFC 4514 §3, and the usual one for an e-mail address.
fn short_name(oid: ObjectIdentifier) -> Option<&'static str> {
    use const_oid::db::rfc4519;
    Some(match oid {
        CN => "CN",
        rfc4519::SN => "SN",
        rfc4519::SERIAL_NUMBER => "serialNumber",
        rfc4519::L => "L",
        rfc4519::ST => "ST",
        rfc4519::O => "O",
        rfc4519::OU => "OU",
        rfc4519::C => "C",
        rfc4519::DC => "DC",
        rfc4519::UID => "UID",
        EMAIL_ADDRESS => "emailAddress",
        _ => return None,
    })
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DistinguishedName({self})")
    }
}

#[cfg(test)]
mod tests;
