//! Distinguished names: from what people are called, and back to what can be shown.
//!
//! The rule for a common name: it is the person's name as the authority's record has it, composed of UTF-8, at most 64
//! *characters* (RFC 5280 ub-common-name). A longer one is cut after its last whole word within 63 characters (or, when
//! there is none in its second half, after 63 characters less a letter's combining marks) and ends in "…", which says
//! that it is cut; the whole name stays in the record, and the e-mail address in the subjectAltName always identifies.
//! Nothing else is changed: commas, quotes, umlauts and emoji are characters like any other, in a UTF8String.

use std::fmt;

use const_oid::db::rfc4519::CN;
use der::asn1::{
    BmpString, Ia5StringRef, ObjectIdentifier, PrintableStringRef, SetOfVec, TeletexStringRef, Utf8StringRef,
};
use der::{Any, Decode, Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RelativeDistinguishedName};

use super::PkiError;

/// RFC 5280 appendix A, ub-common-name: characters.
const COMMON_NAME_CHARACTERS: usize = 64;

/// More characters than this are not a name; the record does not take them either.
pub const NAME_CHARACTERS: usize = 256;

/// An X.501 name. Compared by its DER, as a certificate's issuer is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DistinguishedName(Name);

impl DistinguishedName {
    /// The subject of someone or something called `name`: one common name, by this module's rule.
    ///
    /// Leading and trailing space is dropped. Empty names and names of which nothing is seen, names over
    /// [`NAME_CHARACTERS`] and control characters (a line break in a name is a forgery in somebody's log) are refused.
    pub fn of(name: &str) -> Result<Self, PkiError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(PkiError::Name("it is empty".into()));
        }
        if name.chars().any(is_control) {
            return Err(PkiError::Name("it has control characters in it".into()));
        }
        if name.chars().all(is_unseen) {
            return Err(PkiError::Name("nothing of it can be seen".into()));
        }
        if name.chars().count() > NAME_CHARACTERS {
            return Err(PkiError::Name(format!("it is longer than {NAME_CHARACTERS} characters")));
        }
        Self::from_common_name(&shortened(name)).map_err(PkiError::encode("a name"))
    }

    fn from_common_name(name: &str) -> der::Result<Self> {
        let value = Any::encode_from(&Utf8StringRef::new(name)?)?;
        let mut rdn = SetOfVec::new();
        rdn.insert(AttributeTypeAndValue { oid: CN, value })?;
        // `Name` has no public constructor from parts, but what it decodes.
        let der = vec![RelativeDistinguishedName::from(rdn)].to_der()?;
        Name::from_der(&der).map(Self)
    }

    /// From a DER `Name` (an `RDNSequence`).
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        Name::from_der(der).map(Self).map_err(PkiError::decode("a name"))
    }

    /// The DER of the `Name`.
    pub fn to_der(&self) -> Result<Vec<u8>, PkiError> {
        self.0.to_der().map_err(PkiError::encode("a name"))
    }

    /// The last common name, as text; none if there is none or it is in no readable encoding.
    pub fn common_name(&self) -> Option<String> {
        self.0.iter().filter(|attribute| attribute.oid == CN).filter_map(|attribute| text_of(&attribute.value)).last()
    }

    /// The `x509-cert` form, for other structures.
    pub fn as_x509(&self) -> &Name {
        &self.0
    }
}

impl From<Name> for DistinguishedName {
    fn from(name: Name) -> Self {
        Self(name)
    }
}

/// The name cut to the common name's length, if it is longer.
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
    // Not between a letter and what is set upon it, nor inside an emoji made of several characters.
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

/// Combining marks, variation selectors, emoji modifiers and joiners: never the first character of what people see as one.
fn joins_to_previous(char: char) -> bool {
    matches!(char,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{200d}' | '\u{e0020}'..='\u{e007f}')
}

/// Control characters, and the marks that reverse or hide the text around them when it is shown.
fn is_control(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// White space, zero-width characters, fillers, and marks that need a letter to be set upon.
fn is_unseen(char: char) -> bool {
    char.is_whitespace()
        || joins_to_previous(char) && !matches!(char, '\u{1f3fb}'..='\u{1f3ff}')
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The text of a `DirectoryString` or `IA5String`.
fn text_of(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::BmpString => value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        _ => None,
    }
}

/// RFC 4514: the last part first, special characters escaped; control characters never reach a terminal.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rdns: Vec<_> = self.0.iter_rdn().collect();
        for (index, rdn) in rdns.iter().rev().enumerate() {
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

fn write_attribute(f: &mut fmt::Formatter<'_>, attribute: &AttributeTypeAndValue) -> fmt::Result {
    match short_name(attribute.oid) {
        Some(name) => write!(f, "{name}=")?,
        None => write!(f, "{}=", attribute.oid)?,
    }
    let Some(text) = text_of(&attribute.value) else {
        return write!(f, "#{}", hex::encode(attribute.value.to_der().unwrap_or_default()));
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

/// RFC 4514 §3, and what everybody writes for an e-mail address.
fn short_name(oid: ObjectIdentifier) -> Option<&'static str> {
    use const_oid::db::{rfc3280::EMAIL_ADDRESS, rfc4519};
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
