//! The letter as text: written for a person, and parsed even after a mail program has quoted,
//! wrapped or indented it.

use std::fmt::Write as _;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{Letter, LetterError, LetterPurpose, Reference, TemporaryKey, altered};
use crate::token::SecurityLevel;

/// The most bytes that are read as a letter. A letter has about 1,200; a mail around it may be
/// longer.
pub const MAX_LETTER_BYTES: usize = 65_536;

/// The longest URL in a letter, in bytes.
const MAX_URL_BYTES: usize = 1_024;

const USER: &str = "User";
const EMAIL: &str = "E-mail";
const AUTHORITY: &str = "Authority";
const ADDRESS: &str = "Address";
const SECURE_ADDRESS: &str = "Secure address";
const REFERENCE: &str = "Reference";
const TEMPORARY_KEY: &str = "Temporary key";
const CA_FINGERPRINT: &str = "CA fingerprint";
const LEVELS: &str = "Security levels";
const EXPIRES: &str = "Valid until";

/// The mandatory fields; each occurs exactly once.
const FIELDS: [&str; 10] =
    [USER, EMAIL, AUTHORITY, ADDRESS, SECURE_ADDRESS, REFERENCE, TEMPORARY_KEY, CA_FINGERPRINT, LEVELS, EXPIRES];

impl Letter {
    /// The letter as a short text for a person, in UTF-8 with LF line ends. [`Letter::parse`] reads
    /// it.
    ///
    /// Spaces replace the characters that could end a line or reorder it, so that no name can add a
    /// field.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(4_096));
        text.push_str(match self.purpose() {
            LetterPurpose::Enroll => "tokenkeep: your letter to enroll\n\n",
            LetterPurpose::Recover => "tokenkeep: your letter to recover your keys\n\n",
        });
        text.push_str(
            "Keep this letter secret: until it is used, anyone who has it can enroll in\n\
             your name. It works once.\n\n",
        );
        let levels = self.levels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut field = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<18}{}", format!("{name}:"), value);
        };
        field(USER, &one_line(&self.user_name));
        field(EMAIL, &one_line(&self.email));
        field(AUTHORITY, &one_line(&self.authority_name));
        field(ADDRESS, &one_line(&self.http_url));
        field(SECURE_ADDRESS, &one_line(&self.https_url));
        field(REFERENCE, self.reference.as_str());
        field(TEMPORARY_KEY, &self.temporary_key.grouped());
        field(CA_FINGERPRINT, &fingerprint_lines(&self.ca_fingerprint));
        field(LEVELS, &levels);
        field(EXPIRES, &self.expires.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        text.push_str(&instructions(self.purpose(), &self.levels));
        text
    }

    /// Parses a letter's text.
    ///
    /// Lines may end in CRLF or spaces and may be indented or quoted (`>`). Field names match in
    /// upper and lower case. Lines that are not fields are ignored. The fingerprint may be wrapped
    /// anywhere.
    ///
    /// # Errors
    /// [`LetterError::Missing`], [`LetterError::Duplicate`] or [`LetterError::Field`], naming the
    /// field; [`LetterError::Altered`], if the letter was reflowed or encoded;
    /// [`LetterError::TooLong`].
    pub fn parse(text: &str) -> Result<Self, LetterError> {
        if text.len() > MAX_LETTER_BYTES {
            return Err(LetterError::TooLong);
        }
        Self::parse_fields(text).map_err(|error| match error {
            LetterError::Missing { .. } | LetterError::Field { .. } => {
                altered::detect_altered_letter(text, &FIELDS).unwrap_or(error)
            }
            error => error,
        })
    }

    fn parse_fields(text: &str) -> Result<Self, LetterError> {
        let fields = Fields::find(text)?;
        let reference = fields.get(REFERENCE)?;
        let temporary_key = fields.get(TEMPORARY_KEY)?;
        Ok(Self {
            user_name: fields.get(USER)?.to_owned(),
            email: email(fields.get(EMAIL)?)?,
            authority_name: fields.get(AUTHORITY)?.to_owned(),
            http_url: url(ADDRESS, "http://", fields.get(ADDRESS)?)?,
            https_url: url(SECURE_ADDRESS, "https://", fields.get(SECURE_ADDRESS)?)?,
            reference: Reference::parse(reference).map_err(|error| field_error(REFERENCE, error.to_string()))?,
            temporary_key: TemporaryKey::parse(temporary_key)
                .map_err(|error| field_error(TEMPORARY_KEY, error.to_string()))?,
            ca_fingerprint: fingerprint(fields.get(CA_FINGERPRINT)?)?,
            levels: levels(fields.get(LEVELS)?)?,
            expires: expires(fields.get(EXPIRES)?)?,
        })
    }
}

/// The values found, in the order of [`FIELDS`].
struct Fields(Vec<Option<Zeroizing<String>>>);

impl Fields {
    fn find(text: &str) -> Result<Self, LetterError> {
        let mut found: Vec<Option<Zeroizing<String>>> = vec![None; FIELDS.len()];
        let mut lines = text.lines().map(strip_quotation).peekable();
        while let Some(line) = lines.next() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let name = name.trim();
            let Some((field, place)) = FIELDS.iter().zip(&mut found).find(|(f, _)| f.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if place.is_some() {
                return Err(LetterError::Duplicate { field });
            }
            let mut value = Zeroizing::new(one_line(value));
            if *field == CA_FINGERPRINT {
                while let Some(more) = lines.next_if(|line| is_hexadecimal(line) && hexadecimal_digits(&value) < 64) {
                    value.push_str(more);
                }
            }
            *place = Some(value);
        }
        Ok(Self(found))
    }

    fn get(&self, name: &'static str) -> Result<&str, LetterError> {
        let value = FIELDS.iter().zip(&self.0).find(|(field, _)| **field == name).and_then(|(_, value)| value.as_ref());
        match value {
            None => Err(LetterError::Missing { field: name }),
            Some(value) if value.is_empty() => Err(field_error(name, "it is empty")),
            Some(value) => Ok(value),
        }
    }
}

/// Strips a line of its indentation, quotation marks (`>`, `|`) and trailing white space.
fn strip_quotation(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '>' | '|' | '\u{feff}')).trim_end()
}

fn is_hexadecimal(line: &str) -> bool {
    !line.is_empty() && line.chars().all(|c| c.is_ascii_hexdigit() || c.is_whitespace())
}

fn hexadecimal_digits(text: &str) -> usize {
    text.chars().filter(char::is_ascii_hexdigit).count()
}

fn field_error(field: &'static str, reason: impl Into<String>) -> LetterError {
    LetterError::Field { field, reason: reason.into() }
}

fn email(value: &str) -> Result<String, LetterError> {
    let is_address = value.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if !is_address || value.len() > 254 || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(field_error(EMAIL, "it is not an e-mail address"));
    }
    Ok(value.to_owned())
}

fn url(field: &'static str, scheme: &str, value: &str) -> Result<String, LetterError> {
    // Some mail programs put addresses between angle brackets.
    let value = value.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(value);
    let rest =
        value.strip_prefix(scheme).ok_or_else(|| field_error(field, format!("it does not begin with {scheme}")))?;
    let is_plain = value.len() <= MAX_URL_BYTES && value.chars().all(|c| c.is_ascii_graphic());
    if rest.is_empty() || rest.starts_with('/') || !is_plain {
        return Err(field_error(field, "it is not a URL"));
    }
    Ok(value.trim_end_matches('/').to_owned())
}

fn fingerprint(value: &str) -> Result<[u8; 32], LetterError> {
    let digits: String = value.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let mut bytes = [0; 32];
    hex::decode_to_slice(&digits, &mut bytes)
        .map_err(|_| field_error(CA_FINGERPRINT, "it must be 64 hexadecimal digits (SHA-256)"))?;
    Ok(bytes)
}

fn levels(value: &str) -> Result<Vec<SecurityLevel>, LetterError> {
    let mut levels = Vec::new();
    for name in value.split(',').map(str::trim) {
        let level =
            name.to_ascii_lowercase().parse().map_err(|_| field_error(LEVELS, "it must be high, medium or low"))?;
        if levels.contains(&level) {
            return Err(field_error(LEVELS, "a level is repeated"));
        }
        levels.push(level);
    }
    Ok(levels)
}

fn expires(value: &str) -> Result<Timestamp, LetterError> {
    let time = value.strip_suffix("UTC").and_then(|time| format!("{}Z", time.trim_end()).parse().ok());
    time.filter(|time| *time > Timestamp::UNIX_EPOCH)
        .ok_or_else(|| field_error(EXPIRES, "it must be a date and time like 2026-01-31 12:00:00 UTC"))
}

/// A value as one line of visible text: spaces replace the characters that could end the line or
/// reorder it.
fn one_line(value: &str) -> String {
    let text: String = value.chars().map(|c| if breaks_a_line(c) { ' ' } else { c }).collect();
    text.trim().to_owned()
}

fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}')
}

/// Sixteen groups of four digits on two lines, because many mail programs would wrap 79 characters.
fn fingerprint_lines(fingerprint: &[u8; 32]) -> String {
    let mut text = String::with_capacity(100);
    for (at, pair) in fingerprint.chunks(2).enumerate() {
        text.push_str(match at {
            0 => "",
            8 => "\n                  ",
            _ => " ",
        });
        text.push_str(&hex::encode(pair));
    }
    text
}

fn instructions(purpose: LetterPurpose, levels: &[SecurityLevel]) -> String {
    let level = levels.iter().max().map_or(String::new(), |level| format!(" --level {level}"));
    match purpose {
        LetterPurpose::Enroll => format!(
            "\nSave this letter as a file, then type\n\n    tokenkeep enroll --letter FILE{level} --new-token\n\n\
             and choose a PIN for your new keys. If you already have keys and want new ones\n\
             in the same place, omit --new-token and enter the PIN that you have.\n"
        ),
        LetterPurpose::Recover => format!(
            "\nSave this letter as a file, choose a name your old keys do not have, then type\n\n    \
             tokenkeep enroll --letter FILE --keyset NAME{level} --new-token\n\n\
             and choose a new PIN. You receive all keys with which you have read mail, so\n\
             you can read old mail again.\n"
        ),
    }
}

#[cfg(test)]
pub(super) mod tests;
