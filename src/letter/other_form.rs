//! What a mail program or an editor has made of a letter, where it is no longer the text that was written: told with what to
//! do, never guessed, since a letter holds a secret and decides whose keys are made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::LetterError;

/// The letter's bytes as text.
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, LetterError> {
    if bytes.starts_with(b"\xff\xfe\0\0")
        || bytes.starts_with(b"\0\0\xfe\xff")
        || matches!(bytes, [0, 0, 0, ..] | [_, 0, 0, 0, ..])
    {
        return Err(LetterError::OtherForm {
            found: "UTF-32 text",
            remedy: "save it as UTF-8 (in an editor: Save As, encoding UTF-8), or `iconv -f UTF-32 -t UTF-8`",
        });
    }
    let zeros: usize = bytes.iter().map(|byte| usize::from(*byte == 0)).sum();
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || zeros > bytes.len() / 4 {
        return Err(LetterError::OtherForm {
            found: "UTF-16 text",
            remedy: "save it as UTF-8 (in an editor: Save As, encoding UTF-8), or `iconv -f UTF-16 -t UTF-8`",
        });
    }
    std::str::from_utf8(bytes).map_err(|_| LetterError::NotText)
}

/// What the text is, if it is a letter in another form. `fields` are the names before the colons of
/// each letter.
pub(super) fn of_text(text: &str, fields: &[&str]) -> Option<LetterError> {
    if has_lines_joined(text, fields) {
        return Some(LetterError::OtherForm {
            found: "a letter whose lines were joined",
            remedy: "begin a line of its own with each field again (\"User:\", \"E-mail:\", ...), or ask for the letter as an \
                     attached file",
        });
    }
    if is_base64(text, fields) {
        return Some(LetterError::OtherForm {
            found: "base64, as mails are encoded on their way",
            remedy: "save the letter from the mail program as text or as an attachment, or `base64 -d`",
        });
    }
    if let Some(found) = word_processors(text) {
        return Some(found);
    }
    if is_hexadecimal(text, fields) {
        return Some(LetterError::OtherForm {
            found: "hexadecimal digits",
            remedy: "ask for the letter as a text file, or `xxd -r -p`",
        });
    }
    let has_tag = |tag: &str| text.as_bytes().windows(tag.len()).any(|part| part.eq_ignore_ascii_case(tag.as_bytes()));
    let is_html = ["<html", "<br", "<div", "<p>"].into_iter().any(has_tag);
    is_html.then_some(LetterError::OtherForm { found: "HTML", remedy: "save the letter as plain text" })
}

/// What word processors, and mail programs that write like them, make of a letter.
fn word_processors(text: &str) -> Option<LetterError> {
    if text.trim_start().starts_with("{\\rtf") {
        return Some(LetterError::OtherForm { found: "RTF", remedy: "save the letter as plain text (UTF-8)" });
    }
    let is_no_break_space = |character| matches!(character, '\u{a0}' | '\u{2007}' | '\u{202f}');
    let is_dash = |character| matches!(character, '\u{2010}'..='\u{2015}' | '\u{2212}');
    // A name may well have them.
    let mut lines =
        text.lines().filter(|line| ["Reference", "Temporary", "Valid"].iter().any(|name| line.contains(name)));
    if text.contains(is_no_break_space) {
        return Some(LetterError::OtherForm {
            found: "a letter with no-break spaces, as word processors write them",
            remedy: "replace them by ordinary spaces, or ask for the letter as an attached file",
        });
    }
    lines.any(|line| line.contains(is_dash)).then_some(LetterError::OtherForm {
        found: "a letter with typographic dashes, as word processors write them",
        remedy: "replace them by hyphens (-), or ask for the letter as an attached file",
    })
}

/// Is it the letter's octets in hexadecimal?
fn is_hexadecimal(text: &str, fields: &[&str]) -> bool {
    // What grows leaves copies behind: each buffer has its size from the beginning.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut decoded = Zeroizing::new(vec![0; digits.len() / 2]);
    hex::decode_to_slice(digits.as_slice(), &mut decoded).is_ok() && has_fields(&decoded, fields)
}

/// Are there the names of at least two fields? Looked for where they lie: a copy would hold the
/// temporary key too. In UTF-16 each letter has a zero beside it.
fn has_fields(octets: &[u8], fields: &[&str]) -> bool {
    let wide = |name: &str| name.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>();
    let has = |wanted: &[u8]| octets.windows(wanted.len()).any(|part| part == wanted);
    // The last zero of the last letter may be that of the colon.
    let has_field = |name: &&&str| has(name.as_bytes()) || wide(name).strip_suffix(&[0]).is_some_and(has);
    fields.iter().filter(has_field).count() >= 2
}

/// Are several fields behind others in one line?
fn has_lines_joined(text: &str, fields: &[&str]) -> bool {
    let behind_another = |line: &str| {
        let names = fields.iter().filter(|name| line.match_indices(&format!("{name}:")).any(|(at, _)| at > 0));
        names.count()
    };
    text.lines().map(behind_another).max().unwrap_or_default() >= 2
}

/// Is there a block of base64 that holds a letter?
fn is_base64(text: &str, fields: &[&str]) -> bool {
    let is_part = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    let mut block = Zeroizing::new(String::with_capacity(text.len()));
    block.extend(text.lines().filter(is_part).map(str::trim));
    // Room for each group of four characters, begun ones too: the decoder never asks for more.
    let mut decoded = Zeroizing::new(Vec::with_capacity(block.len().div_ceil(4) * 3));
    STANDARD.decode_vec(block.as_bytes(), &mut decoded).is_ok() && has_fields(&decoded, fields)
}
