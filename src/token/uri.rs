//! PKCS#11 URIs (RFC 7512), which name a token and an object on it.

use std::fmt;
use std::str::FromStr;

use super::{KeyId, NonUtf8Name, TokenInfo};

/// A parsed `pkcs11:` URI. Absent attributes match everything (RFC 7512 §2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenUri {
    /// `token`: the label
    pub token: Option<String>,
    /// `manufacturer`
    pub manufacturer: Option<String>,
    /// `model`
    pub model: Option<String>,
    /// `serial`
    pub serial: Option<String>,
    /// `object`: the label of an object
    pub object: Option<String>,
    /// `id`: the `CKA_ID` of an object
    pub id: Option<KeyId>,
    /// `type`: `cert`, `data`, `private`, `public`, `secret-key`
    pub object_type: Option<String>,
    /// `module-path`
    pub module_path: Option<String>,
    /// `module-name`
    pub module_name: Option<String>,
    /// `pin-source`
    pub pin_source: Option<String>,
    /// the values of `token`, `serial`, `manufacturer` and `model` that are not UTF-8; a token's
    /// names need not be
    pub non_utf8_names: Vec<NonUtf8Name>,
}

/// The RFC 7512 attributes that select a slot or a library. This program selects tokens, so it
/// refuses them instead of ignoring them.
const OF_SLOT_OR_LIBRARY: [&str; 6] = [
    "slot-manufacturer",
    "slot-description",
    "slot-id",
    "library-manufacturer",
    "library-description",
    "library-version",
];

/// The values of `type` (RFC 7512 §2.3).
const OBJECT_TYPES: [&str; 5] = ["public", "private", "cert", "secret-key", "data"];

impl TokenUri {
    /// Whether the URI names this token. The URI's attributes are compared exactly.
    pub fn matches(&self, info: &TokenInfo) -> bool {
        let names = [
            ("token", &self.token, &info.label),
            ("manufacturer", &self.manufacturer, &info.manufacturer),
            ("model", &self.model, &info.model),
            ("serial", &self.serial, &info.serial),
        ];
        names.into_iter().all(|(attribute, wanted, is)| match bytes_of(&self.non_utf8_names, attribute) {
            Some(bytes) => bytes_of(&info.non_utf8_names, attribute) == Some(bytes),
            // A name that is only similar as text is a different one.
            None => {
                wanted.as_ref().is_none_or(|wanted| wanted == is && bytes_of(&info.non_utf8_names, attribute).is_none())
            }
        }) && self.module_path.as_deref().is_none_or(|path| info.source.as_os_str() == path)
            && self.module_name.as_deref().is_none_or(|name| is_module_name(&info.source, name))
    }

    /// The URI that names exactly this token.
    pub fn of(info: &TokenInfo) -> Self {
        let some = |attribute: &str, text: &str| {
            Some(text.to_owned()).filter(|text| !text.is_empty() && bytes_of(&info.non_utf8_names, attribute).is_none())
        };
        Self {
            token: some("token", &info.label),
            manufacturer: some("manufacturer", &info.manufacturer),
            model: some("model", &info.model),
            serial: some("serial", &info.serial),
            non_utf8_names: info.non_utf8_names.clone(),
            ..Self::default()
        }
    }

    fn path_attributes(&self) -> [(&'static str, Option<&[u8]>); 7] {
        [
            ("model", self.name("model", self.model.as_ref())),
            ("manufacturer", self.name("manufacturer", self.manufacturer.as_ref())),
            ("serial", self.name("serial", self.serial.as_ref())),
            ("token", self.name("token", self.token.as_ref())),
            ("id", self.id.as_ref().map(KeyId::as_bytes)),
            ("object", text(self.object.as_ref())),
            ("type", text(self.object_type.as_ref())),
        ]
    }

    fn name<'a>(&'a self, attribute: &str, as_text: Option<&'a String>) -> Option<&'a [u8]> {
        bytes_of(&self.non_utf8_names, attribute).or_else(|| text(as_text))
    }

    fn query_attributes(&self) -> [(&'static str, Option<&[u8]>); 3] {
        [
            ("pin-source", text(self.pin_source.as_ref())),
            ("module-name", text(self.module_name.as_ref())),
            ("module-path", text(self.module_path.as_ref())),
        ]
    }

    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), TokenUriError> {
        let attribute = || name.to_owned();
        if name == "id" {
            let twice = self.id.replace(KeyId::from(value)).is_some();
            return if twice { Err(TokenUriError::Twice { attribute: attribute() }) } else { Ok(()) };
        }
        let field = match name {
            "token" => &mut self.token,
            "manufacturer" => &mut self.manufacturer,
            "model" => &mut self.model,
            "serial" => &mut self.serial,
            "object" => &mut self.object,
            "type" => &mut self.object_type,
            "module-path" => &mut self.module_path,
            "module-name" => &mut self.module_name,
            "pin-source" => &mut self.pin_source,
            "pin-value" => return Err(TokenUriError::PinValue),
            // Vendor attributes may be ignored (§2.3). Other unknown attributes may restrict the
            // choice and must not be ignored.
            vendor if vendor.starts_with("x-") => return Ok(()),
            _ => return Err(TokenUriError::Unsupported { attribute: attribute() }),
        };
        if field.is_some() || bytes_of(&self.non_utf8_names, name).is_some() {
            return Err(TokenUriError::Twice { attribute: attribute() });
        }
        let value = match String::from_utf8(value) {
            Ok(value) => value,
            Err(error) if ["token", "manufacturer", "model", "serial"].contains(&name) => {
                self.non_utf8_names.push(NonUtf8Name { attribute: attribute(), bytes: error.into_bytes() });
                return Ok(());
            }
            Err(_) => return Err(TokenUriError::NonUtf8Name { attribute: attribute() }),
        };
        if name == "type" && !OBJECT_TYPES.contains(&value.as_str()) {
            return Err(TokenUriError::Unsupported { attribute: format!("type={value}") });
        }
        *field = Some(value);
        Ok(())
    }
}

fn bytes_of<'a>(names: &'a [NonUtf8Name], attribute: &str) -> Option<&'a [u8]> {
    names.iter().find(|name| name.attribute == attribute).map(|name| name.bytes.as_slice())
}

fn text(text: Option<&String>) -> Option<&[u8]> {
    text.map(String::as_bytes)
}

/// Whether `name` is the module's `module-name`: its file name without a `lib` prefix and `.so`
/// (RFC 7512 §2.4).
fn is_module_name(module: &std::path::Path, name: &str) -> bool {
    let stem = module.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem == name || stem.strip_prefix("lib") == Some(name)
}

impl FromStr for TokenUri {
    type Err = TokenUriError;

    fn from_str(text: &str) -> Result<Self, TokenUriError> {
        // Schemes are case-insensitive (RFC 3986 §3.1).
        let (scheme, rest) = text.split_once(':').ok_or(TokenUriError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("pkcs11") {
            return Err(TokenUriError::Scheme);
        }
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut uri = Self::default();
        let query_names = ["pin-source", "pin-value", "module-name", "module-path"];
        for part in path.split(';').filter(|_| !path.is_empty()) {
            let (name, value) = attribute(part, b":[]@!$'()*+,=&")?;
            if query_names.contains(&name) || OF_SLOT_OR_LIBRARY.contains(&name) {
                return Err(TokenUriError::Unsupported { attribute: name.to_owned() });
            }
            uri.set(name, value)?;
        }
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = attribute(part, b":[]@!$'()*+,=/?|")?;
            if !query_names.contains(&name) && !name.starts_with("x-") {
                return Err(TokenUriError::Unsupported { attribute: name.to_owned() });
            }
            uri.set(name, value)?;
        }
        Ok(uri)
    }
}

/// Splits `name=value` and percent-decodes the value. `also` are the characters that need no
/// encoding besides the unreserved ones of RFC 3986.
fn attribute<'a>(part: &'a str, also: &[u8]) -> Result<(&'a str, Vec<u8>), TokenUriError> {
    let malformed = || TokenUriError::Malformed { part: part.to_owned() };
    let (name, value) = part.split_once('=').ok_or_else(malformed)?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(malformed());
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit));
            let (Some(high), Some(low)) = digits else {
                return Err(TokenUriError::PercentEncoding { attribute: name.to_owned() });
            };
            decoded.push(high << 4 | low);
        } else if is_unreserved(byte) || also.contains(&byte) {
            decoded.push(byte);
        } else {
            return Err(malformed());
        }
    }
    Ok((name, decoded))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

impl fmt::Display for TokenUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pkcs11:")?;
        write_attributes(formatter, &self.path_attributes(), "", ";")?;
        write_attributes(formatter, &self.query_attributes(), "?", "&")
    }
}

fn write_attributes(
    formatter: &mut fmt::Formatter<'_>,
    attributes: &[(&str, Option<&[u8]>)],
    before: &str,
    between: &str,
) -> fmt::Result {
    let mut separator = before;
    for (name, value) in attributes {
        let Some(value) = value else { continue };
        write!(formatter, "{separator}{name}=")?;
        separator = between;
        for byte in *value {
            // An id is percent-encoded throughout (recommended in §2.3).
            if is_unreserved(*byte) && *name != "id" {
                write!(formatter, "{}", char::from(*byte))?;
            } else {
                write!(formatter, "%{byte:02X}")?;
            }
        }
    }
    Ok(())
}

/// The reason why a text is not a PKCS#11 URI, or is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenUriError {
    /// The text does not begin with `pkcs11:`.
    #[error("a PKCS#11 URI begins with `pkcs11:`")]
    Scheme,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("a PKCS#11 URI has an invalid percent-encoding in the attribute {attribute:?}")]
    PercentEncoding {
        /// the attribute's name
        attribute: String,
    },
    /// An attribute that must be text is not UTF-8.
    #[error("the attribute {attribute:?} of a PKCS#11 URI is not UTF-8")]
    NonUtf8Name {
        /// the attribute's name
        attribute: String,
    },
    /// An attribute appears twice.
    #[error("the attribute {attribute:?} appears twice in a PKCS#11 URI")]
    Twice {
        /// the attribute's name
        attribute: String,
    },
    /// An attribute has no `=` or no name, or has a character that must be percent-encoded.
    #[error("the part {part:?} of a PKCS#11 URI is not `name=value`, or has a character that must be percent-encoded")]
    Malformed { part: String },
    /// An unsupported attribute, or one in the wrong component (path or query) of the URI.
    #[error("the attribute {attribute:?} of a PKCS#11 URI is not supported here")]
    Unsupported {
        /// the attribute's name
        attribute: String,
    },
    /// `pin-value`: every process can read a PIN in a command line.
    #[error(
        "a PKCS#11 URI with pin-value is refused: other programs can read it; leave it out to be asked for the PIN"
    )]
    PinValue,
}

#[cfg(test)]
mod tests;
