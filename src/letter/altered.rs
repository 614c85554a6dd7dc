//! Detects letters that a mail program or an editor has encoded or reformatted, and names the
//! remedy. It never guesses the original, because a letter holds a secret and determines whose keys
//! are made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::LetterError;

/// The letter's bytes as UTF-8 text, or an error that names UTF-16 or UTF-32.
pub(super) fn decode_text(bytes: &[u8]) -> Result<&str, LetterError> {
    if bytes.starts_with(b"\xff\xfe\0\0")
        || bytes.starts_with(b"\0\0\xfe\xff")
        || matches!(bytes, [0, 0, 0, ..] | [_, 0, 0, 0, ..])
    {
        return Err(LetterError::Altered {
            found: "UTF-32 text",
            remedy: "save it as UTF-8 (in an editor: Save As, encoding UTF-8), or `iconv -f UTF-32 -t UTF-8`",
        });
    }
    let zeros: usize = bytes.iter().map(|byte| usize::from(*byte == 0)).sum();
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || zeros > bytes.len() / 4 {
        return Err(LetterError::Altered {
            found: "UTF-16 text",
            remedy: "save it as UTF-8 (in an editor: Save As, encoding UTF-8), or `iconv -f UTF-16 -t UTF-8`",
        });
    }
    std::str::from_utf8(bytes).map_err(|_| LetterError::NotUtf8)
}

/// Detects a letter in another form; `None` if the text is not recognized. `fields` are the field
/// names before the colons.
pub(super) fn detect_altered_letter(text: &str, fields: &[&str]) -> Option<LetterError> {
    if has_lines_joined(text, fields) {
        return Some(LetterError::Altered {
            found: "a letter whose lines were joined",
            remedy: "start each field on a line of its own (\"User:\", \"E-mail:\", ...), or ask for the letter as an \
                     attached file",
        });
    }
    if is_base64(text, fields) {
        return Some(LetterError::Altered {
            found: "base64, the transfer encoding of a mail",
            remedy: "save the letter from the mail program as text or as an attachment, or decode it with `base64 -d`",
        });
    }
    if let Some(found) = word_processors(text) {
        return Some(found);
    }
    if is_hexadecimal(text, fields) {
        return Some(LetterError::Altered {
            found: "hexadecimal digits",
            remedy: "ask for the letter as a text file, or decode it with `xxd -r -p`",
        });
    }
    let has_tag = |tag: &str| text.as_bytes().windows(tag.len()).any(|part| part.eq_ignore_ascii_case(tag.as_bytes()));
    let is_html = ["<html", "<br", "<div", "<p>"].into_iter().any(has_tag);
    is_html.then_some(LetterError::Altered { found: "HTML", remedy: "save the letter as plain text" })
}

/// Detects RTF, no-break spaces and typographic dashes, which word processors and some mail
/// programs write.
fn word_processors(text: &str) -> Option<LetterError> {
    if text.trim_start().starts_with("{\\rtf") {
        return Some(LetterError::Altered { found: "RTF", remedy: "save the letter as plain text (UTF-8)" });
    }
    let is_no_break_space = |character| matches!(character, '\u{a0}' | '\u{2007}' | '\u{202f}');
    let is_dash = |character| matches!(character, '\u{2010}'..='\u{2015}' | '\u{2212}');
    // A name may contain such dashes: only these fields are checked.
    let mut lines =
        text.lines().filter(|line| ["Reference", "Temporary", "Valid"].iter().any(|name| line.contains(name)));
    if text.contains(is_no_break_space) {
        return Some(LetterError::Altered {
            found: "a letter with no-break spaces, as word processors write them",
            remedy: "replace them with ordinary spaces, or ask for the letter as an attached file",
        });
    }
    lines.any(|line| line.contains(is_dash)).then_some(LetterError::Altered {
        found: "a letter with typographic dashes, as word processors write them",
        remedy: "replace them with hyphens (-), or ask for the letter as an attached file",
    })
}

/// Whether the text is a letter's octets in hexadecimal.
fn is_hexadecimal(text: &str, fields: &[&str]) -> bool {
    // A buffer that grows leaves copies of the secret behind: each one gets its final size at the
    // start.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut decoded = Zeroizing::new(vec![0; digits.len() / 2]);
    hex::decode_to_slice(digits.as_slice(), &mut decoded).is_ok() && has_fields(&decoded, fields)
}

/// Whether at least two field names occur, in UTF-8 or UTF-16. It searches in place, because a copy
/// would hold the temporary key too.
fn has_fields(octets: &[u8], fields: &[&str]) -> bool {
    let wide = |name: &str| name.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>();
    let has = |wanted: &[u8]| octets.windows(wanted.len()).any(|part| part == wanted);
    // In UTF-16 each letter has a zero beside it. The last letter's zero may belong to the colon.
    let has_field = |name: &&&str| has(name.as_bytes()) || wide(name).strip_suffix(&[0]).is_some_and(has);
    fields.iter().filter(has_field).count() >= 2
}

/// Whether several fields follow others on one line.
fn has_lines_joined(text: &str, fields: &[&str]) -> bool {
    let behind_another = |line: &str| {
        let names = fields.iter().filter(|name| line.match_indices(&format!("{name}:")).any(|(at, _)| at > 0));
        names.count()
    };
    text.lines().map(behind_another).max().unwrap_or_default() >= 2
}

/// Whether a block of base64 decodes to a letter.
fn is_base64(text: &str, fields: &[&str]) -> bool {
    let is_part = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    let mut block = Zeroizing::new(String::with_capacity(text.len()));
    block.extend(text.lines().filter(is_part).map(str::trim));
    // The capacity covers each group of four characters, incomplete ones too: the decoder never
    // reallocates.
    let mut decoded = Zeroizing::new(Vec::with_capacity(block.len().div_ceil(4) * 3));
    STANDARD.decode_vec(block.as_bytes(), &mut decoded).is_ok() && has_fields(&decoded, fields)
}
