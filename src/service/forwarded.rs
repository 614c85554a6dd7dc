//! Determines the source of a request that a proxy forwards: the `Forwarded` header (RFC 7239),
//! trusted only from configured proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, header};

use crate::authority::Networks;

/// The source of a request on a connection from `peer`: `peer` itself, unless it is one of
/// `proxies`. Then the source is the rightmost address in `Forwarded` that is not a proxy: that
/// address wrote the entries to its left, which may be forged. For an unreadable header, or an
/// address that the proxy hides, the proxy is the source.
pub(super) fn source_of(peer: IpAddr, headers: &HeaderMap, proxies: &Networks) -> IpAddr {
    let peer = peer.to_canonical();
    if !proxies.contains(peer) {
        return peer;
    }
    let mut hops = Vec::new();
    for value in headers.get_all(header::FORWARDED) {
        let Some(more) = value.to_str().ok().and_then(hops_of) else { return peer };
        hops.extend(more);
    }
    for hop in hops.into_iter().rev() {
        match hop {
            Some(address) if proxies.contains(address) => {}
            Some(address) => return address,
            None => return peer,
        }
    }
    peer
}

/// Returns the `for` of each element of one header (RFC 7239 §4), `None` for an element without an
/// address. Returns `None` if the header is malformed.
fn hops_of(value: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut elements = Vec::new();
    let mut rest = value.trim_matches(WHITESPACE);
    while !rest.is_empty() {
        let (element, after) = element(rest)?;
        elements.push(element);
        rest = after;
    }
    Some(elements)
}

const WHITESPACE: [char; 2] = [' ', '\t'];

/// Parses one element; returns it and the text after its comma.
fn element(mut rest: &str) -> Option<(Option<IpAddr>, &str)> {
    let mut address = None;
    let mut has_for = false;
    loop {
        let (name, value, after) = pair(rest)?;
        if name.eq_ignore_ascii_case("for") {
            // §4: each parameter occurs at most once.
            if has_for {
                return None;
            }
            has_for = true;
            address = match node(&value)? {
                Node::Address(found) => Some(found),
                Node::Hidden => None,
            };
        }
        let after = after.trim_start_matches(WHITESPACE);
        if after.is_empty() {
            return Some((address, after));
        }
        if let Some(next) = after.strip_prefix(',') {
            let next = next.trim_start_matches(WHITESPACE);
            // An element must follow a comma.
            return if next.is_empty() { None } else { Some((address, next)) };
        }
        rest = after.strip_prefix(';')?.trim_start_matches(WHITESPACE);
    }
}

/// Parses `token "=" ( token / quoted-string )`; returns it and the text after it.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_at_checked(text.find(|c| !is_token(c))?)?;
    let rest = rest.strip_prefix('=')?;
    if name.is_empty() {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (value, after) = rest.split_at_checked(end)?;
        return (!value.is_empty()).then(|| (name, value.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name, value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Whether the character may be in a token (RFC 9110 §5.6.2).
fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// The node at the other end of a hop (§6).
enum Node {
    Address(IpAddr),
    /// `unknown` or an obfuscated identifier.
    Hidden,
}

/// Parses a node (§6): `unknown`, an obfuscated identifier with a leading underscore, or an address
/// with or without a port.
fn node(text: &str) -> Option<Node> {
    if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
        return Some(Node::Hidden);
    }
    let address: IpAddr = if let Some(inside) = text.strip_prefix('[') {
        let (inside, port) = inside.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        inside.parse::<Ipv6Addr>().ok()?.into()
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| !is_port(port)) {
            return None;
        }
        host.parse::<Ipv4Addr>().ok()?.into()
    };
    Some(Node::Address(address.to_canonical()))
}

/// Whether the text is a port (§6.3): digits or an obfuscated port.
fn is_port(text: &str) -> bool {
    let hidden = text.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.chars().all(is_token));
    hidden || ((1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::authority::Configuration;

    const PROXY: &str = "10.0.0.1";

    fn proxies() -> Networks {
        let text = "name = \"a\"\n[token]\nlabel = \"a\"\n[listen]\nproxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\n";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authority.toml");
        std::fs::write(&file, text).unwrap();
        let environment = crate::authority::EnvironmentPaths { home: Some("/home/x".into()), ..Default::default() };
        Configuration::load(&file, &environment).unwrap().listen.proxies
    }

    fn source(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::FORWARDED, HeaderValue::from_str(line).unwrap());
        }
        source_of(peer.parse().unwrap(), &headers, &proxies()).to_string()
    }

    #[test]
    fn only_a_configured_proxy_is_trusted() {
        assert_eq!(source("192.0.2.9", &["for=198.51.100.7"]), "192.0.2.9");
        assert_eq!(source(PROXY, &["for=198.51.100.7"]), "198.51.100.7");
        assert_eq!(source("::ffff:10.0.0.1", &["for=198.51.100.7"]), "198.51.100.7");
        assert_eq!(source(PROXY, &[]), PROXY);
    }

    #[test]
    fn the_rightmost_address_outside_the_proxies_is_the_source() {
        assert_eq!(source(PROXY, &["for=203.0.113.1, for=198.51.100.7"]), "198.51.100.7");
        assert_eq!(source(PROXY, &["for=203.0.113.1, for=198.51.100.7, for=10.3.2.1"]), "198.51.100.7");
        assert_eq!(source(PROXY, &["for=203.0.113.1", "for=198.51.100.7", "for=\"[2001:db8::1]:80\""]), "198.51.100.7");
        assert_eq!(source(PROXY, &["for=10.3.2.1"]), PROXY, "all are proxies");
    }

    #[test]
    fn every_form_of_rfc_7239_is_read() {
        for (line, expected) in [
            ("For=\"198.51.100.7:4711\"", "198.51.100.7"),
            ("for=198.51.100.7;proto=http;by=203.0.113.43", "198.51.100.7"),
            ("proto=https ; FOR=198.51.100.7 ; host=\"a,b;c\\\"d\"", "198.51.100.7"),
            ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17"),
            ("for=\"[::ffff:198.51.100.7]\"", "198.51.100.7"),
            ("for=\"198.51.100.7:_port\"", "198.51.100.7"),
        ] {
            assert_eq!(source(PROXY, &[line]), expected, "{line}");
        }
    }

    #[test]
    fn a_hidden_or_malformed_hop_makes_the_proxy_the_source() {
        for line in [
            "for=unknown",
            "for=_hidden",
            "for=\"_SEVKISEK\"",
            "for=203.0.113.1, for=_hidden",
            "proto=http",
            "for=",
            "for",
            "198.51.100.7",
            "for=198.51.100.7,",
            "for=198.51.100.7;",
            "for=198.51.100.7 for=203.0.113.1",
            "for=\"198.51.100.7",
            "for=2001:db8:cafe::17",
            "for=\"2001:db8:cafe::17\"",
            "for=\"[198.51.100.7]\"",
            "for=198.51.100.7;for=203.0.113.1",
            "for=198.51.100.256",
            "for=\"198.51.100.7:port\"",
            "for=example.org",
            "for=198.51.100.7, ,for=203.0.113.1",
        ] {
            assert_eq!(source(PROXY, &[line]), PROXY, "{line}");
        }
        // One unreadable line is enough, at any position.
        assert_eq!(source(PROXY, &["=", "for=198.51.100.7"]), PROXY);
    }
}
