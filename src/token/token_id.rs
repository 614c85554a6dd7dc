//! The identity of a token: what makes two descriptions descriptions of the same token.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name of a token that is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonUtf8Name {
    /// the attribute of a PKCS#11 URI: `token`, `serial`, `manufacturer`, `model`
    pub attribute: String,
    pub bytes: Vec<u8>,
}

/// The identity of a token, opaque above this layer. It is displayed as label and serial number.
///
/// It consists of manufacturer, model, serial number and label, as the token reports them. No one
/// of them is enough: a serial number is unique per manufacturer and model at best, and may be
/// empty; a label is free text. A token that was initialized again with another label is another
/// token, because nothing of the old one is left. The way to the token is no part of its identity:
/// two modules may show the same token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenId {
    label: String,
    serial: String,
    manufacturer: String,
    model: String,
    // Two different names may look alike once they are text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    non_utf8_names: Vec<NonUtf8Name>,
}

impl TokenId {
    /// The names are label, serial number, manufacturer and model.
    pub(super) fn new(names: [String; 4], non_utf8_names: Vec<NonUtf8Name>) -> Self {
        let [label, serial, manufacturer, model] = names;
        Self { label, serial, manufacturer, model, non_utf8_names }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "token {:?} (serial {})", self.label, self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenInfo;
    use crate::token::test_support::a_card;

    #[test]
    fn each_of_the_four_names_tells_tokens_apart() {
        let token = a_card();
        let text = || "other".to_owned();
        for other in [
            TokenInfo { label: text(), ..a_card() },
            TokenInfo { serial: text(), ..a_card() },
            TokenInfo { manufacturer: text(), ..a_card() },
            TokenInfo { model: text(), ..a_card() },
            TokenInfo {
                non_utf8_names: vec![NonUtf8Name { attribute: "token".into(), bytes: vec![0xff] }],
                ..a_card()
            },
        ] {
            assert_ne!(token.id(), other.id(), "{other:?}");
        }
        let elsewhere = TokenInfo { source: "/other.so".into(), write_protected: true, ..a_card() };
        assert_eq!(token.id(), elsewhere.id());
        assert_eq!(token.id().to_string(), token.name().to_string());
    }

    #[test]
    fn it_travels_as_json() {
        let id = a_card().id();
        assert_eq!(serde_json::from_str::<TokenId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }
}
