//! id-regInfo-utf8Pairs (RFC 4211 §7.1): names and values in one string, e.g.
//! `keyset?default%level?high%`.

use std::fmt;
use std::str::FromStr;

use super::CmpError;

/// Names and values, in order. The encoding has `?` between name and value and `%` after each pair.
/// Within a name or a value these are escaped as `%3f` and `%25`. No other escape exists, so
/// `%address?…` begins a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Utf8Pairs(Vec<(String, String)>);

impl Utf8Pairs {
    /// The name of the keyset, chosen by the user.
    pub const KEYSET: &'static str = "keyset";
    /// The security level, chosen by the user: `high`, `medium` or `low`.
    pub const LEVEL: &'static str = "level";

    /// Adds a pair.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The value of the first pair with this name. ([`Utf8Pairs::from_str`] refuses a repeated
    /// name.)
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Display for Utf8Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, "{}?{}%", escaped(name), escaped(value)))
    }
}

/// Parses pairs. It refuses a pair without `?`, with two of them, or without a name, and a repeated
/// name.
impl FromStr for Utf8Pairs {
    type Err = CmpError;

    fn from_str(text: &str) -> Result<Self, CmpError> {
        let mut pairs = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (pair, behind) = next_pair(rest);
            rest = behind;
            let (name, value) = pair.split_once('?').ok_or(CmpError::Malformed("a pair in utf8Pairs has no `?`"))?;
            if value.contains('?') || name.is_empty() {
                return Err(CmpError::Malformed("a pair in utf8Pairs has two `?` or no name"));
            }
            let name = unescaped(name);
            if pairs.value(&name).is_some() {
                return Err(CmpError::Malformed("a name is repeated in utf8Pairs"));
            }
            pairs.0.push((name, unescaped(value)));
        }
        Ok(pairs)
    }
}

/// Splits the text at the first `%` that does not begin an escape.
fn next_pair(text: &str) -> (&str, &str) {
    let end = text.match_indices('%').map(|(at, _)| at).find(|at| {
        let behind = text.get(at + 1..at + 3).unwrap_or_default();
        behind != "25" && !behind.eq_ignore_ascii_case("3f")
    });
    match end {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, ""),
    }
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('?', "%3f")
}

fn unescaped(text: &str) -> String {
    text.replace("%3f", "?").replace("%3F", "?").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_written_as_rfc_4211_shows() {
        let pairs = Utf8Pairs::default().with("keyset", "default").with("level", "high");
        assert_eq!(pairs.to_string(), "keyset?default%level?high%");
        let odd = Utf8Pairs::default().with("keyset", "100% sure?");
        assert_eq!(odd.to_string(), "keyset?100%25 sure%3f%");
        assert_eq!(odd.to_string().parse::<Utf8Pairs>().unwrap(), odd);
    }

    #[test]
    fn other_encodings_are_read() {
        let pairs: Utf8Pairs = "%3fname?a%2525%address?b%3F".parse().unwrap();
        assert_eq!(pairs.value("?name"), Some("a%25"));
        assert_eq!(pairs.value("address"), Some("b?"), "the last % may be missing, and %ad is not an escape");
        assert_eq!(pairs.value("name"), None);
        assert_eq!("".parse::<Utf8Pairs>().unwrap(), Utf8Pairs::default());
    }

    #[test]
    fn malformed_pairs_are_refused() {
        for text in ["keyset", "keyset%", "%", "?value%", "a?b?c%", "a?b%%", "a?b%a?c%"] {
            assert!(text.parse::<Utf8Pairs>().is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_value_survives(keyset in "\\PC{0,40}|[%?253fF]{0,12}", level in "[a-z]{1,8}") {
            let pairs = Utf8Pairs::default().with("keyset", &keyset).with("level", &level);
            let read: Utf8Pairs = pairs.to_string().parse().unwrap();
            prop_assert_eq!(read.value("keyset"), Some(keyset.as_str()));
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn parsed_pairs_round_trip(text in "[a%?253f]{0,24}") {
            if let Ok(pairs) = text.parse::<Utf8Pairs>() {
                prop_assert_eq!(pairs.to_string().parse::<Utf8Pairs>().unwrap(), pairs);
            }
        }
    }
}
