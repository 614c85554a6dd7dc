//! Host names and addresses for TLS server certificates.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::PkiError;

/// The identity that a TLS client compares with (RFC 9525): a DNS name (lower case, ASCII, no
/// wildcard) or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, e.g. `authority.example.org`.
    Dns(String),
    /// An IP address, e.g. `127.0.0.1` or `::1`.
    Ip(IpAddr),
}

impl FromStr for Host {
    type Err = PkiError;

    /// Accepts an IPv6 address with or without its URL brackets.
    fn from_str(text: &str) -> Result<Self, PkiError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            Ok(Self::Ip(address))
        } else if is_dns_name(text) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(PkiError::Host(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Whether the text is a host name (RFC 1123 §2.1): labels of letters, digits and inner hyphens,
/// each up to 63 characters, 253 in all. One label is enough.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_ip_addresses_are_distinct() {
        assert_eq!("Localhost".parse::<Host>().unwrap(), Host::Dns("localhost".into()));
        assert_eq!("127.0.0.1".parse::<Host>().unwrap().to_string(), "127.0.0.1");
        assert_eq!("[::1]".parse::<Host>().unwrap(), Host::Ip("::1".parse().unwrap()));
    }

    #[test]
    fn unmatchable_host_names_are_refused() {
        for text in ["", "*.example.org", "exa mple.org", "a..b", "host:8830", "-a", "bücher.example"] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }
}
