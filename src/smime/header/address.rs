//! The address in a From field (RFC 5322 §3.4, with its obsolete forms; RFC 6532): the only mailbox
//! according to the grammar, never text that only looks like an address in a display name, a
//! comment or a quoted string.
//!
//! The parser decodes nothing first: an encoded word is an atom like any other. It refuses
//! everything that the grammar does not allow, because two readers could extract two different
//! addresses from it.

use super::structured::after_comment;
use crate::pki::same_address;

/// The reason why a From field does not identify one sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The field has no address.
    #[error("it has no address")]
    None,
    /// The field has more than one address. A group counts as several.
    #[error("it has more than one address")]
    Several,
    /// The field does not follow the grammar.
    #[error("its address cannot be read")]
    Unreadable,
}

/// The only address in a field's value, as `local@domain`. The local part is quoted only if
/// necessary.
pub(in crate::smime) fn one_address(value: &str) -> Result<String, AddressError> {
    let tokens = tokens(value).ok_or(AddressError::Unreadable)?;
    if tokens.is_empty() {
        return Err(AddressError::None);
    }
    let mut mailboxes = tokens.split(|token| *token == Token::Special(','));
    let mut found = None;
    for mailbox in mailboxes.by_ref().filter(|mailbox| !mailbox.is_empty()) {
        if mailbox.contains(&Token::Special(':')) && !is_route(mailbox) || mailbox.contains(&Token::Special(';')) {
            return Err(AddressError::Several);
        }
        if found.replace(mailbox).is_some() {
            // A source route ("<@a,@b:user@c>") has commas too. It is obsolete, and readers
            // interpret it differently.
            return Err(AddressError::Several);
        }
    }
    let mailbox = found.ok_or(AddressError::None)?;
    let is_open = |token: &Token| *token == Token::Special('<');
    match mailbox.iter().position(is_open) {
        None => addr_spec(mailbox),
        Some(open) => {
            let (phrase, rest) = mailbox.split_at_checked(open).ok_or(AddressError::Unreadable)?;
            let is_word = |token: &Token| !matches!(token, Token::Special(special) if *special != '.');
            match rest {
                [_, inside @ .., Token::Special('>')] if phrase.iter().all(is_word) => {
                    if inside.is_empty() {
                        return Err(AddressError::None);
                    }
                    addr_spec(without_route(inside))
                }
                // Some programs repeat the address as an unquoted display name. Two equal addresses
                // count as one.
                [_, inside @ .., Token::Special('>')] => {
                    let (name, address) = (addr_spec(phrase)?, addr_spec(without_route(inside))?);
                    if same_address(&name, &address) { Ok(address) } else { Err(AddressError::Unreadable) }
                }
                _ => Err(AddressError::Unreadable),
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Atom(String),
    Quoted(String),
    /// `[...]`, including the brackets.
    DomainLiteral(String),
    Special(char),
}

fn tokens(value: &str) -> Option<Vec<Token>> {
    let (mut tokens, mut rest) = (Vec::new(), value);
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some((after, has_end)) = after_comment(rest) {
            if !has_end {
                return None;
            }
            rest = after;
            continue;
        }
        let Some(first) = rest.chars().next() else { return Some(tokens) };
        match first {
            '"' => {
                let (text, after) = quoted(rest)?;
                tokens.push(Token::Quoted(text));
                rest = after;
            }
            '[' => {
                let end = rest.find(']')? + 1;
                let (literal, after) = rest.split_at_checked(end)?;
                if literal.chars().skip(1).any(|char| char == '[' || char == '\\' || !is_printable(char)) {
                    return None;
                }
                tokens.push(Token::DomainLiteral(literal.to_owned()));
                rest = after;
            }
            '<' | '>' | ',' | ':' | ';' | '@' | '.' => {
                tokens.push(Token::Special(first));
                rest = rest.get(1..)?;
            }
            _ => {
                let end = rest.find(|char| !is_atext(char)).unwrap_or(rest.len());
                let (atom, after) = rest.split_at_checked(end).filter(|(atom, _)| !atom.is_empty())?;
                tokens.push(Token::Atom(atom.to_owned()));
                rest = after;
            }
        }
    }
}

/// Whether an atom may contain this character (RFC 5322 §3.2.3, RFC 6532 §3.2). U+FFFD, which
/// replaces invalid UTF-8, is allowed here for display names.
fn is_atext(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char);
    }
    !char.is_control()
}

/// Whether an address may contain this character.
fn is_printable(char: char) -> bool {
    !char.is_control() && char != '\u{fffd}'
}

/// Parses a quoted string and returns its text and the rest. A display name may contain invalid
/// UTF-8; an address is checked for it later.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.strip_prefix('"')?.chars());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            char if char.is_control() && char != '\t' => return None,
            char => value.push(char),
        }
    }
}

fn is_route(mailbox: &[Token]) -> bool {
    let colons = mailbox.iter().filter(|token| **token == Token::Special(':')).count();
    let begins = mailbox.windows(2).any(|pair| pair == [Token::Special('<'), Token::Special('@')]);
    colons == 1 && begins
}

/// Skips the `@domain:` before an address (RFC 5322 §4.4).
fn without_route(inside: &[Token]) -> &[Token] {
    if inside.first() != Some(&Token::Special('@')) {
        return inside;
    }
    let colon = inside.iter().position(|token| *token == Token::Special(':'));
    colon.and_then(|colon| inside.get(colon + 1..)).unwrap_or_default()
}

fn addr_spec(tokens: &[Token]) -> Result<String, AddressError> {
    let unreadable = || AddressError::Unreadable;
    let mut sides = tokens.split(|token| *token == Token::Special('@'));
    let (Some(local), Some(domain), None) = (sides.next(), sides.next(), sides.next()) else {
        return Err(unreadable());
    };
    let domain = match domain {
        [Token::DomainLiteral(literal)] => literal.clone(),
        // The dot at the end of a fully qualified domain.
        [words @ .., Token::Special('.')] | words => domain_of(words).ok_or_else(unreadable)?,
    };
    let local = local_part(local).ok_or_else(unreadable)?;
    if local.is_empty() || !local.chars().chain(domain.chars()).all(is_printable) {
        return Err(unreadable());
    }
    if local.split('.').all(|word| word.chars().all(is_atext)) {
        return Ok(format!("{local}@{domain}"));
    }
    let local = local.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!("\"{local}\"@{domain}"))
}

/// Joins atoms that are separated by single dots.
fn domain_of(tokens: &[Token]) -> Option<String> {
    let mut text = String::new();
    for (position, token) in tokens.iter().enumerate() {
        match token {
            Token::Special('.') if position % 2 == 1 => text.push('.'),
            Token::Atom(word) if position % 2 == 0 => text.push_str(word),
            _ => return None,
        }
    }
    (tokens.len() % 2 == 1).then_some(text)
}

/// Joins words that are separated by dots. Some providers issued addresses with adjacent dots or a
/// final dot.
fn local_part(tokens: &[Token]) -> Option<String> {
    let mut text = String::new();
    let mut after_word = false;
    for token in tokens {
        match token {
            Token::Special('.') => text.push('.'),
            Token::Atom(word) | Token::Quoted(word) if !after_word => text.push_str(word),
            _ => return None,
        }
        after_word = !matches!(token, Token::Special(_));
    }
    text.chars().any(|char| char != '.').then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_says_which_address_it_is() {
        for value in [
            "alice@example.org",
            "<alice@example.org>",
            "Alice Example <alice@example.org>",
            "\"Example, Alice\" <alice@example.org>",
            "alice@example.org (Alice <mallory@example.net>)",
            "Alice (mallory@example.net, (nested)) <alice@example.org>",
            "\"mallory@example.net\" <alice@example.org>",
            "\"mallory@example.net>\\\" , x\" <alice@example.org>",
            "=?utf-8?q?mallory=40example=2Enet?= <alice@example.org>",
            "Alice Q. Example\t<alice@example.org>",
            "Älice <alice@example.org>",
            "\"\u{fffd}lice\" <alice@example.org>",
            "\u{fffd}lice Example <alice@example.org>",
            "\"alice\"@example.org",
            "alice @ example.org",
            "alice(x)@(y)example.(z)org",
            "< alice@example.org >",
            "<@relay.example.net:alice@example.org>",
            ", alice@example.org,",
            "alice@example.org.",
            "alice@example.org <alice@example.org>",
            "Alice@Example.org <alice@example.org>",
        ] {
            assert_eq!(one_address(value).as_deref(), Ok("alice@example.org"), "{value}");
        }
        for (value, address) in [
            ("\"a b\"@example.org", "\"a b\"@example.org"),
            ("\"a@b\"@example.org", "\"a@b\"@example.org"),
            ("\"alice@example.org \"@example.net", "\"alice@example.org \"@example.net"),
            ("a.\"b\".c@example.org", "a.b.c@example.org"),
            ("alice@[192.0.2.1]", "alice@[192.0.2.1]"),
            ("=?utf-8?q?alice=40example=2Eorg=3E?=@example.net", "=?utf-8?q?alice=40example=2Eorg=3E?=@example.net"),
            ("jürgen@example.org", "jürgen@example.org"),
            ("alice..b@example.org", "alice..b@example.org"),
            ("alice.@example.org", "alice.@example.org"),
            ("j@bücher.example.", "j@bücher.example"),
        ] {
            assert_eq!(one_address(value).as_deref(), Ok(address), "{value}");
        }
    }

    #[test]
    fn no_address_and_several_are_distinct_errors() {
        for value in [
            "alice@example.org, bob@example.org",
            "Alice <alice@example.org>, Bob <bob@example.org>",
            "Example, Alice <alice@example.org>",
            "friends: alice@example.org, bob@example.org;",
            "friends: alice@example.org;",
            "undisclosed-recipients:;",
            "<@a.example,@b.example:alice@example.org>",
        ] {
            assert_eq!(one_address(value), Err(AddressError::Several), "{value}");
        }
        for value in ["", "  ", "(alice@example.org)", ",", "<>", "Alice <>"] {
            assert_eq!(one_address(value), Err(AddressError::None), "{value}");
        }
    }

    #[test]
    fn ambiguous_addresses_are_refused() {
        for value in [
            "alice",
            "Alice Example",
            "\"alice@example.org\"",
            "alice@example.org <mallory@example.net>",
            "alice@example.org mallory@example.net",
            "<alice@example.org> <mallory@example.net>",
            "<alice@example.org> mallory@example.net",
            "<alice@example.org",
            "alice@example.org>",
            "alice@@example.org",
            "alice@example.org@example.net",
            "alice@",
            "@example.org",
            "..@example.org",
            "alice..@example..org",
            "alice@example..org",
            "alice@example.org..",
            "alice@.",
            "alice@[192.0.2.1].",
            "\"alice\" x@example.org",
            "\"alice@example.org",
            "(alice@example.org",
            "alice@example.org (a (b)",
            "alice@\"example.org\"",
            "alice\u{0}@example.org",
            "alice\u{fffd}@example.org",
            "alice@example\u{fffd}.org",
            "\"alice\u{fffd}\"@example.org",
            "\"\"@example.org",
            "alice\\@example.org",
            "<@relay:>",
        ] {
            assert_eq!(one_address(value), Err(AddressError::Unreadable), "{value}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

        #[test]
        fn parsed_addresses_round_trip(value in "[a-c@<>\"(),.:;\\\\ ü\\[\\]]{0,24}") {
            if let Ok(address) = one_address(&value) {
                proptest::prop_assert_eq!(one_address(&address), Ok(address.clone()));
            }
        }
    }
}
