//! Writes a letter that the authority answered.

use std::path::Path;

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::file_io::{self, Content};
use crate::letter::Letter;

/// The file for the letter; `None` is stdout. It is checked before any PIN is asked for: a new
/// letter voids the user's earlier one even if it cannot be written.
pub(super) fn new_file(out: Option<&Path>) -> Result<Option<&Path>, Failure> {
    let out = out.filter(|path| *path != Path::new("-"));
    out.map_or(Ok(()), file_io::check_new)?;
    Ok(out)
}

/// Writes the letter to its file, or prints it; `remedy_if_lost` says how to get it again.
pub(super) fn write_letter(
    text: &str,
    out: Option<&Path>,
    remedy_if_lost: &str,
    cx: &Context<'_>,
) -> Result<Exit, Failure> {
    let letter = Letter::parse(text)?;
    if let Some(path) = out {
        letter.write_new(path).map_err(|error| Failure::from(error).with_remedy(remedy_if_lost))?;
    } else if !cx.output.is_json() {
        file_io::write(None, text.as_bytes(), Content::Text)?;
        return Ok(Exit::Done);
    }
    let lines = format!(
        "{} for {} <{}>, valid until {}.\nDeliver it confidentially.",
        out.map_or_else(String::new, |path| format!("Wrote {}: a letter", path.display())),
        letter.user_name,
        letter.email,
        letter.expires,
    );
    cx.output.answer(
        lines,
        &json!({
            "reference": letter.reference.as_str(),
            "temporary_key": String::from_utf8_lossy(letter.temporary_key.cmp_secret()),
            "expires": letter.expires.to_string(),
            "email": letter.email,
            "name": letter.user_name,
            "letter": out.map(|path| path.display().to_string()),
            "text": out.is_none().then_some(text),
        }),
    )
}
