//! E-mail addresses that certificates can contain.
//!
//! A certificate's rfc822Name is ASCII (RFC 5280 §4.2.1.6). A local part beyond ASCII would require
//! `SmtpUTF8Mailbox` (RFC 9598), which today's mail programs do not match with a From field. It is
//! refused here with the reason, before a person gets an unusable certificate. A domain beyond
//! ASCII has an ASCII form (`xn--…`), which the error requests.

use std::fmt;
use std::str::FromStr;

use super::{PkiError, domain};

/// An ASCII addr-spec of at most 254 characters, with its domain in lower case. The certificate
/// search compares with `Eq`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The address: the local part as given, the domain in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two addresses belong to the same person, compared without regard to case.
    pub fn matches(&self, other: &str) -> bool {
        same_address(&self.0, other)
    }
}

/// Whether two addresses are the same. The comparison ignores ASCII case, in the local part too,
/// because no two people of an authority differ only in case. It uses the canonical spelling of
/// domains, and local parts without quotation marks.
pub fn same_address(one: &str, other: &str) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    // Plain addresses have no other spelling, except for case.
    let is_plain = |address: &str| address.is_ascii() && !address.ends_with('.') && !address.starts_with('"');
    if is_plain(one) && is_plain(other) {
        return false;
    }
    normal_form(one).is_some_and(|one| normal_form(other) == Some(one))
}

/// The local part and the domain, each in its canonical spelling.
pub(super) fn normal_form(address: &str) -> Option<(String, String)> {
    let (local, domain) = address.rsplit_once('@')?;
    let local = match local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => local.to_owned(),
    };
    // Case is folded only in ASCII. Beyond it, different letters share a lower case: U+212A becomes
    // k.
    Some((local.to_ascii_lowercase(), domain::normal_form(domain)?))
}

impl FromStr for EmailAddress {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, PkiError> {
        let refuse = |reason| PkiError::Email { address: text.chars().take(80).collect(), reason };
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| refuse("it has no @"))?;
        if !domain.is_ascii() {
            return Err(refuse("its domain is not ASCII: write the domain in its xn-- form"));
        }
        if !local.is_ascii() {
            return Err(refuse(
                "the part before the @ is not ASCII, which mail programs do not match in certificates: use an ASCII \
                 address",
            ));
        }
        if text.len() > 254 || local.len() > 64 {
            return Err(refuse("it is too long (64 characters before the @, 254 in all)"));
        }
        if local.is_empty() || !local.split('.').all(is_atom) {
            return Err(refuse(
                "the part before the @ must be letters, digits, and !#$%&'*+/=?^_`{|}~- with single dots between",
            ));
        }
        if !super::host::is_dns_name(domain) {
            return Err(refuse("the part after the @ is not a domain name"));
        }
        Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase())))
    }
}

/// Whether the text is an atom (RFC 5322 §3.2.3): one or more atext. Quoted local parts are
/// refused, because programs do not match them in certificates.
fn is_atom(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte))
}

/// Whether a text in another issuer's certificate is plainly one mailbox: no white space outside
/// quotation marks, no separators of addresses, no invisible characters. Letters beyond ASCII are
/// accepted (RFC 9598), and so are a quoted local part and an address literal (RFC 5321 §4.1.2,
/// §4.1.3).
pub(super) fn is_mailbox(text: &str) -> bool {
    let is_plain = |char: char| {
        !char.is_whitespace()
            && !super::name::is_control(char)
            && !super::name::is_blank(char)
            && !"\",:;<>()[]\\@".contains(char)
    };
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_local = match local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.chars().all(|char| is_plain(char) || char == ' '),
        None => local.chars().all(is_plain),
    };
    let is_domain = match domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.chars().all(|char| char.is_ascii_alphanumeric() || ".:".contains(char)),
        None => domain.chars().all(is_plain),
    };
    text.len() <= 320 && !["", "\"\""].contains(&local) && !["", "[]"].contains(&domain) && is_local && is_domain
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for EmailAddress {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for EmailAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for EmailAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        text.parse::<EmailAddress>().map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn ordinary_addresses_are_read_with_their_domain_lowered() {
        assert_eq!(parse("User.Name+tag@Example.ORG").unwrap(), "User.Name+tag@example.org");
        assert_eq!(parse("o'neil@xn--bcher-kva.example").unwrap(), "o'neil@xn--bcher-kva.example");
        assert_eq!(parse("root@localhost").unwrap(), "root@localhost");
    }

    #[test]
    fn upper_and_lower_case_make_no_difference() {
        assert!(same_address("user@example.org", "User@EXAMPLE.org"));
        assert!(!same_address("user@example.org", "user@example.org.example.com"));
        assert!(!same_address("user@example.org", "other@example.org"));
        for (one, other) in [
            ("j@bücher.example", "j@xn--bcher-kva.example"),
            ("j@bücher.example", "J@XN--BCHER-KVA.example."),
            ("user@example.org.", "user@example.org"),
            ("user@example\u{3002}org", "user@example.org"),
            ("\"user\"@example.org", "user@example.org"),
        ] {
            assert!(same_address(one, other) && same_address(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("user@example.org..", "user@example.org"),
            ("user@bücher.example", "user@bucher.example"),
            ("\"user \"@example.org", "user@example.org"),
            ("\u{212a}@example.org", "k@example.org"),
        ] {
            assert!(!same_address(one, other) && !same_address(other, one), "{one} {other}");
        }
    }

    #[test]
    fn only_a_single_plain_mailbox_is_an_address() {
        for text in ["a@b", "User.Name+tag@Example.ORG", "用户@例子.example", "o'neil@xn--bcher-kva.example"]
            .into_iter()
            .chain(["\"a b\"@c", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "a..b@c"])
        {
            assert!(is_mailbox(text), "{text:?}");
        }
        for text in [
            "",
            "a",
            "@b",
            "a@",
            "a@b,c@d",
            "a@b, c@d",
            "a@b\0.evil.example",
            "a@b\n",
            "a@b\r\nFrom: c@d",
            "a@b> <c@d",
            "a b@c",
            "a@b@c",
            "\"a,c\"@b",
            "\"a@c\"@b",
            "\"a\\\"\"@b",
            "\"\"@b",
            "a@[b,c]",
            "a@[]",
            "a@b\u{202e}",
            "a@b\u{200b}",
            "a@b;c@d",
            "a(c)@b",
        ] {
            assert!(!is_mailbox(text), "{text:?}");
        }
        assert!(!is_mailbox(&format!("{}@b", "a".repeat(400))));
    }

    #[test]
    fn non_ascii_addresses_are_refused_with_a_remedy() {
        assert!(parse("jürgen@example.org").unwrap_err().contains("before the @ is not ASCII"));
        assert!(parse("user@bücher.example").unwrap_err().contains("xn--"));
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for text in [
            "",
            "@",
            "user",
            "user@",
            "@example.org",
            "a..b@example.org",
            ".a@example.org",
            "a b@example.org",
            "\"a b\"@example.org",
            "user@example.org\n",
            "user@-example.org",
            "user@exam_ple.org",
            "User <user@example.org>",
            "a@b@example.org",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&format!("{}@example.org", "a".repeat(65))).is_err());
        assert!(parse(&format!("a@{}example.org", "abcdefgh.".repeat(40))).is_err());
    }
}
