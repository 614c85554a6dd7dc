//! The output of the four message commands: to a file, to stdout, or in JSON.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::exit::{Exit, Failure};
use super::file_io::{self, Content};
use super::output::Output;

/// Writes the bytes and reports the facts. With `--json` and no `--out`, the bytes are in the
/// answer as `data` in base64. Without both, the bytes are the answer, and the facts go to stderr.
pub fn deliver(
    output: &Output,
    out: Option<&Path>,
    bytes: &[u8],
    content: Content,
    facts: &str,
    value: Value,
) -> Result<Exit, Failure> {
    let to_file = out.filter(|path| *path != Path::new("-"));
    match (output.is_json(), to_file) {
        (true, None) => output.answer(facts, &with(value, "data", STANDARD.encode(bytes))),
        (true, Some(path)) => {
            file_io::write(out, bytes, content)?;
            output.answer(facts, &with(value, "out", path.display().to_string()))
        }
        (false, _) => {
            file_io::write(out, bytes, content)?;
            output.note(facts);
            Ok(Exit::Done)
        }
    }
}

fn with(mut value: Value, name: &str, member: String) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert(name.to_owned(), Value::String(member));
    }
    value
}

/// Refuses what [`deliver`] would refuse, before any PIN is asked for.
pub fn check(output: &Output, out: Option<&Path>, content: Content) -> Result<(), Failure> {
    let in_json = output.is_json() && out.is_none_or(|path| path == Path::new("-"));
    if in_json { Ok(()) } else { file_io::check(out, content) }
}
