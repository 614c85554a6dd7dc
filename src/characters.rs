//! Invisible characters, and characters that mark an address: one list each, used for PINs, names,
//! addresses and terminal output.
//!
//! The list of invisible characters must contain only characters that are shown as nothing, as a
//! blank or as a change of the surrounding text. A few of them are letters or combining marks for
//! Unicode, such as the Hangul filler U+115F and the combining grapheme joiner U+034F. No visible
//! character and no ordinary white space is in the list.

/// Whether the character has no width, fills space without being white space, or changes the
/// direction or the lines of the surrounding text: zero-width characters and joiners, directional
/// marks and embeddings, line and paragraph separators, the soft hyphen, fillers, invisible
/// operators, the byte order mark, tags.
pub fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether the character marks an e-mail address, or looks like one that does: `<`, `>`, `@`, and
/// their small and full-width forms.
pub fn is_address_sign(character: char) -> bool {
    matches!(character, '<' | '>' | '@' | '\u{fe64}' | '\u{fe65}' | '\u{fe6b}' | '\u{ff1c}' | '\u{ff1e}' | '\u{ff20}')
}

#[cfg(test)]
mod tests {
    use super::{is_address_sign, is_invisible};

    #[test]
    fn characters_of_addresses_are_found_in_each_width() {
        for character in "<>@\u{fe64}\u{fe65}\u{fe6b}\u{ff1c}\u{ff1e}\u{ff20}".chars() {
            assert!(is_address_sign(character), "{character:?}");
        }
        assert!(!"aZ é-'.,()[]\"".chars().any(is_address_sign));
    }

    #[test]
    fn visible_characters_are_not_in_the_list() {
        for character in "aZ09 é\u{301}山🧪\u{fe0f}-'…\u{a0}\t\n".chars() {
            assert!(!is_invisible(character), "{character:?}");
        }
        for character in "\u{ad}\u{200b}\u{200d}\u{202e}\u{2060}\u{2069}\u{3164}\u{feff}\u{e0041}".chars() {
            assert!(is_invisible(character), "{character:?}");
        }
    }
}
