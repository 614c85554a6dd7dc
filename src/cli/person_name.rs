//! Writes a name from a certificate, with the certificate's addresses, into a sentence or into
//! git's status line. Nothing in the name can be taken for an address, for another name, or for the
//! rest of the sentence.

use crate::characters::is_address_sign;
use crate::prompter::showable;

/// Maximum length of an unquoted name, in characters; longer names are quoted.
const LONGEST_PLAIN_NAME: usize = 64;

/// The name and the addresses: `Alice Example <alice@example.org>`, `"Dr. Alice"
/// <alice@example.org>`.
pub fn named_with_addresses(name: &str, emails: &[String]) -> String {
    match emails {
        [] => named(name),
        emails => format!("{} <{}>", named(name), showable(&emails.join(", "))),
    }
}

/// A name of letters, digits, spaces, hyphens and apostrophes unchanged; any other name in
/// quotation marks.
pub fn named(name: &str) -> String {
    let shown = showable(name);
    let is_plain = |char: char| char.is_alphanumeric() || is_mark(char) || " -'\u{2019}".contains(char);
    let begins_and_ends = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || is_mark(char));
    if shown.chars().all(is_plain)
        && begins_and_ends(shown.chars().next())
        && begins_and_ends(shown.chars().next_back())
        && shown.chars().count() <= LONGEST_PLAIN_NAME
        && !shown.contains("  ")
    {
        return shown;
    }
    format!("\"{}\"", shown.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns true if the character is a combining mark (U+0300 to U+036F).
fn is_mark(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}')
}

/// The name with U+FFFD for each character that git or its user could take for part of an address
/// or for the end of a field: git shows the rest of the line as the signer's name.
pub fn without_addresses(name: &str) -> String {
    let is_taken = |char: char| is_address_sign(char) || char == '"';
    showable(name).chars().map(|char| if is_taken(char) { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_passes_for_an_address_or_for_other_text() {
        let plain = ["Alice Example", "Jürgen Größenwahn-Łąka", "山田 太郎", "O'Neil", "Alice 2", "Ju\u{308}rgen"];
        for name in plain {
            assert_eq!(named(name), name);
        }
        for name in [
            "Boss <boss@example.org>",
            "boss@example.org",
            "Boss\u{ff20}example",
            "Example, Alice",
            "Alice. Signed by Boss",
            "Alice: the signature",
            " Alice",
            "Alice -",
            "",
            "A  B",
            "👩\u{200d}🔬",
            "a\nb",
        ] {
            let shown = named(name);
            assert!(shown.starts_with('"') && shown.ends_with('"') && !shown.contains('\n'), "{shown}");
        }
        assert_eq!(named("a\" <b@c>"), "\"a\\\" <b@c>\"");
        assert_eq!(named("a\\"), "\"a\\\\\"");
        assert!(named(&"a".repeat(65)).starts_with('"'));
        let emails = ["a@example.org".to_owned(), "b@example.org".to_owned()];
        assert_eq!(named_with_addresses("A B", &emails), "A B <a@example.org, b@example.org>");
        assert_eq!(named_with_addresses("B <b@x>", &emails[..1]), "\"B <b@x>\" <a@example.org>");
        assert_eq!(without_addresses("a\u{fe64}b\u{fe65}"), "a\u{fffd}b\u{fffd}");
        let git = without_addresses("Boss <boss@example.org>\u{200b}\n[GNUPG:] GOODSIG");
        assert!(!git.contains(['<', '>', '@', '\n', '\u{200b}']), "{git}");
    }
}
