//! Selects the keyset and token of an operation, before any login. Ambiguous choices are refused
//! with a list of the candidates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::token::{KeysetName, TokenError, TokenInfo, TokenUri, TokenUriError};

use super::find::Listing;
use super::holder::newest_of_one_person;
use super::{FoundKeyset, KeysetError, Tokens, UnreadableToken};

/// A user's name for a token: PKCS#11 URI, serial number, or label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TokenSelector {
    /// `pkcs11:…` (RFC 7512)
    Uri(Box<TokenUri>),
    /// a serial number or a label; must match exactly
    SerialOrLabel(String),
}

impl FromStr for TokenSelector {
    type Err = TokenUriError;

    fn from_str(text: &str) -> Result<Self, TokenUriError> {
        if text.starts_with("pkcs11:") {
            text.parse().map(Box::new).map(Self::Uri)
        } else {
            Ok(Self::SerialOrLabel(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TokenSelector {
    type Error = TokenUriError;

    fn try_from(text: String) -> Result<Self, TokenUriError> {
        text.parse()
    }
}

/// The name as the user typed it.
impl From<TokenSelector> for String {
    fn from(selector: TokenSelector) -> Self {
        match selector {
            TokenSelector::Uri(uri) => uri.to_string(),
            TokenSelector::SerialOrLabel(text) => text,
        }
    }
}

/// The user's selection of a keyset, and the configured defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KeysetChoice {
    /// `--keyset`
    pub name: Option<KeysetName>,
    /// `--token`
    pub token: Option<TokenSelector>,
    /// `$TOKENKEEP_KEYSET`, else the default in agent.toml: used if several keysets exist and
    /// `name` is `None`
    pub default: Option<KeysetName>,
    /// keysets hidden on this machine (`keyset forget`): selected only by name
    pub hidden: Vec<KeysetRef>,
}

/// A keyset, identified by its name and its token's serial number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetRef {
    /// the keyset's name
    pub keyset: KeysetName,
    /// the token's serial number
    pub serial: String,
}

impl KeysetRef {
    /// Reads the keysets that are hidden on this machine (`keyset forget`) from a JSON file. A
    /// missing file is an empty list.
    ///
    /// # Errors
    /// The reason why the file cannot be read or parsed.
    pub fn read_hidden(file: &std::path::Path) -> Result<Vec<Self>, String> {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns whether this identifies the given keyset.
    pub fn is(&self, keyset: &FoundKeyset) -> bool {
        self.keyset == keyset.name && self.serial == keyset.token.serial
    }

    /// The identifier of this keyset.
    pub fn of(keyset: &FoundKeyset) -> Self {
        Self { keyset: keyset.name.clone(), serial: keyset.token.serial.clone() }
    }
}

impl KeysetChoice {
    /// Selects exactly this keyset.
    pub fn exactly(keyset: &FoundKeyset) -> Self {
        let token = TokenSelector::Uri(Box::new(TokenUri::of(&keyset.token)));
        Self { name: Some(keyset.name.clone()), token: Some(token), ..Self::default() }
    }

    /// Returns whether the keyset is hidden and `name` does not select it.
    pub(super) fn hides(&self, keyset: &FoundKeyset) -> bool {
        self.name.is_none() && self.hidden.iter().any(|hidden| hidden.is(keyset))
    }
}

impl Tokens {
    /// Selects one keyset: the named one; else the only one; else the default; else the newest, if
    /// all belong to one person at one authority. Refuses any other case with a list.
    pub fn choose(&self, choice: &KeysetChoice) -> Result<FoundKeyset, KeysetError> {
        if choice.name.is_none() && choice.token.is_none() {
            self.unusable_sources().require_none_lost()?;
        }
        let (keysets, unreadable_tokens) = self.look(choice)?;
        pick(keysets, choice, &unreadable_tokens)
    }

    /// Reads the keysets on the selected tokens. Returns also the tokens that could not be read.
    pub(super) fn look(&self, choice: &KeysetChoice) -> Result<Listing<FoundKeyset>, KeysetError> {
        match &choice.token {
            Some(selector) => self.keysets_on(&self.token(selector)?),
            None => self.keysets_and(choice.name.as_ref().or(choice.default.as_ref())),
        }
    }

    /// The one token that the selector matches.
    pub fn token(&self, selector: &TokenSelector) -> Result<TokenInfo, KeysetError> {
        one_token(self.list()?, selector)
    }

    /// The selected token, else the only one present.
    pub fn token_or_only(&self, selector: Option<&TokenSelector>) -> Result<TokenInfo, KeysetError> {
        if let Some(selector) = selector {
            return self.token(selector);
        }
        self.unusable_sources().require_none_lost()?;
        match <[TokenInfo; 1]>::try_from(self.list()?) {
            Ok([token]) => Ok(token),
            Err(none) if none.is_empty() => Err(KeysetError::NoSuchToken {
                selector: "with the PIN".to_owned(),
                found: "no token is present".to_owned(),
            }),
            Err(several) => Err(KeysetError::Ambiguous {
                what: "token",
                candidates: list_or(&several, |token| token.name().to_string(), ""),
                remedy: "name it by its serial number or label".to_owned(),
            }),
        }
    }
}

impl TokenSelector {
    pub(super) fn matches(&self, token: &TokenInfo) -> bool {
        match self {
            Self::Uri(uri) => uri.matches(token),
            Self::SerialOrLabel(text) => token.serial == *text || token.label == *text,
        }
    }
}

impl fmt::Display for TokenSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => write!(formatter, "{uri}"),
            Self::SerialOrLabel(text) => write!(formatter, "{text:?}"),
        }
    }
}

/// Refuses an ambiguous selector: anyone can choose a token's label, and a PIN tried on the wrong
/// token costs a try.
pub(super) fn one_token(tokens: Vec<TokenInfo>, selector: &TokenSelector) -> Result<TokenInfo, KeysetError> {
    let present = list_or(&tokens, |token| token.name().to_string(), "no token is present");
    let fitting: Vec<TokenInfo> = tokens.into_iter().filter(|token| selector.matches(token)).collect();
    match <[TokenInfo; 1]>::try_from(fitting) {
        Ok([token]) => Ok(token),
        Err(none) if none.is_empty() => {
            Err(KeysetError::NoSuchToken { selector: selector.to_string(), found: present })
        }
        Err(several) => Err(KeysetError::Ambiguous {
            what: "token",
            candidates: list_or(&several, |token| format!("{} of {}", token.name(), token.source.display()), ""),
            remedy: "name it by its serial number, `--token SERIAL`".to_owned(),
        }),
    }
}

fn pick(
    keysets: Vec<FoundKeyset>,
    choice: &KeysetChoice,
    unreadable_tokens: &[UnreadableToken],
) -> Result<FoundKeyset, KeysetError> {
    let found = describe_found(&keysets, unreadable_tokens);
    let fitting: Vec<FoundKeyset> = match (&choice.name, &choice.default) {
        (Some(name), _) => keysets.into_iter().filter(|keyset| keyset.name == *name).collect(),
        (None, Some(name)) if keysets.len() > 1 => keysets.into_iter().filter(|keyset| keyset.name == *name).collect(),
        (None, _) => newest_alone(without_hidden(keysets, choice)),
    };
    let missing = || match choice.name.as_ref().or(choice.default.as_ref()) {
        Some(name) => in_use(name, unreadable_tokens)
            .unwrap_or_else(|| KeysetError::NoSuchKeyset { name: name.to_string(), found: found.clone() }),
        None if choice.hidden.is_empty() => KeysetError::NoKeyset { found: found.clone() },
        None => KeysetError::NoKeyset {
            found: format!(
                "{found}; hidden keysets are selected only by name: `tokenkeep keysets --all` lists them, `tokenkeep \
                 keyset forget --undo NAME` shows one again"
            ),
        },
    };
    match <[FoundKeyset; 1]>::try_from(fitting) {
        Ok([keyset]) => Ok(keyset),
        Err(none) if none.is_empty() => Err(missing()),
        Err(several) => {
            let same_name = choice.name.is_some() || choice.default.is_some();
            Err(KeysetError::Ambiguous {
                what: "keyset",
                candidates: list_or(&several, FoundKeyset::described, ""),
                remedy: if same_name { "add `--token SERIAL`" } else { "add `--keyset NAME`" }.to_owned(),
            })
        }
    }
}

/// Removes hidden keysets, unless a token was named that has no others.
fn without_hidden(keysets: Vec<FoundKeyset>, choice: &KeysetChoice) -> Vec<FoundKeyset> {
    let (hidden, shown): (Vec<_>, Vec<_>) = keysets.into_iter().partition(|keyset| choice.hides(keyset));
    if shown.is_empty() && choice.token.is_some() { hidden } else { shown }
}

/// Reduces the keysets of one person at one authority to the newest; other lists stay as they are.
fn newest_alone(mut keysets: Vec<FoundKeyset>) -> Vec<FoundKeyset> {
    match newest_of_one_person(keysets.iter()) {
        Some(place) if keysets.len() > 1 => vec![keysets.swap_remove(place)],
        _ => keysets,
    }
}

/// Reports that another program uses the token made for a keyset of this name: the keyset exists,
/// but cannot be read.
pub(super) fn in_use(name: &KeysetName, unreadable_tokens: &[UnreadableToken]) -> Option<KeysetError> {
    unreadable_tokens.iter().find_map(|unreadable| match &unreadable.error {
        KeysetError::Token(error @ TokenError::Owned { token, .. }) if token.label == name.as_str() => {
            Some(KeysetError::Token(error.clone()))
        }
        _ => None,
    })
}

/// Lists the keysets found and the tokens that could not be read, for an error message.
pub(super) fn describe_found(keysets: &[FoundKeyset], unreadable_tokens: &[UnreadableToken]) -> String {
    let mut text = match keysets {
        [] => "no keyset is on the tokens that are present".to_owned(),
        some => format!("found {}", list_or(some, FoundKeyset::described, "")),
    };
    for unreadable in unreadable_tokens {
        text.push_str("; not read: ");
        text.push_str(&unreadable.error.to_string());
    }
    text
}

pub(super) fn list_or<T>(items: &[T], describe: impl Fn(&T) -> String, none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { items.iter().map(describe).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests;
