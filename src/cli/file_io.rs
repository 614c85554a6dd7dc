//! Reads and writes files, stdin and stdout. A file is written atomically: completely or not at
//! all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::spinner;
use super::temporary_file::{self, MAX_IN_MEMORY};

/// Files being written and directories in use, removed when the program is interrupted.
static CLEANUP: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The kind of the bytes. It decides about terminals and file modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text, which a terminal may show.
    Text,
    /// Binary data, which a terminal must not show.
    Binary,
    /// Decrypted content: a new file gets mode 0600, and a terminal shows it only if it is text.
    Decrypted,
}

/// Reads a whole file; `-` or `None` means stdin.
pub fn read(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match file {
        Some(path) if path != Path::new("-") => {
            fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
        }
        _ => {
            let mut bytes = Vec::new();
            if io::stdin().is_terminal() {
                eprintln!("Reading from the terminal; end with Ctrl-D.");
            }
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::fault(format!("cannot read from stdin: {error}")))?;
            Ok(bytes)
        }
    }
}

/// Opens a file with content for an operation; `None` or `-` means stdin. A regular file is opened
/// itself. Anything else, such as a pipe, is copied to a file without a name.
pub fn open_content(file: Option<&Path>) -> Result<File, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("cannot read {}: {error}", name_of_input(file)));
    let mut source = if let Some(path) = to_file(file) {
        File::open(path).map_err(failed)?
    } else {
        if io::stdin().is_terminal() {
            eprintln!("Reading from the terminal; end with Ctrl-D.");
        }
        File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?)
    };
    let is_whole = source.metadata().map_err(failed)?.is_file() && source.stream_position().map_err(failed)? == 0;
    if is_whole {
        return Ok(source);
    }
    let copying = |error: io::Error| Failure::fault(format!("cannot read {}: {error}", name_of_input(file)));
    let mut copy = unnamed_file(None, 0)?;
    let length = io::copy(&mut Read::by_ref(&mut source).take(MAX_IN_MEMORY + 1), &mut copy).map_err(copying)?;
    if length > MAX_IN_MEMORY {
        let mut beginning = std::mem::replace(&mut copy, unnamed_file(None, length)?);
        beginning
            .rewind()
            .and_then(|()| io::copy(&mut beginning, &mut copy))
            .and_then(|_| io::copy(&mut source, &mut copy))
            .map_err(copying)?;
    }
    copy.rewind().map_err(copying)?;
    Ok(copy)
}

/// These bytes as a file without a name.
pub fn content_file(bytes: &[u8]) -> Result<File, Failure> {
    let mut file = unnamed_file(None, bytes.len() as u64)?;
    file.write_all(bytes)
        .and_then(|()| file.rewind())
        .map_err(|error| Failure::fault(format!("cannot write a temporary file: {error}")))?;
    Ok(file)
}

/// A file without a name for this many bytes, which only this user can read. For a file `out` it is
/// in the same directory, otherwise where [`temporary_file::create`] puts it.
pub fn unnamed_file(out: Option<&Path>, size: u64) -> Result<File, Failure> {
    let parent = to_file(out).and_then(Path::parent);
    let directory = parent.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    temporary_file::create(directory, size).map_err(|error| {
        Failure::fault(format!("cannot create a temporary file: {error}"))
            .with_remedy("set TMPDIR to a directory that you can write to")
    })
}

/// The length of a file, in bytes.
pub fn length_of(file: &File) -> Result<u64, Failure> {
    let metadata = file.metadata().map_err(|error| Failure::fault(format!("cannot read the content: {error}")))?;
    Ok(metadata.len())
}

/// The whole content of a file that an operation has written.
pub fn read_back(mut file: File) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::fault(format!("cannot read a temporary file: {error}"));
    let length = file.metadata().map_err(failed)?.len();
    // Allocated at its full size: a growing buffer would leave copies of the content behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

fn name_of_input(file: Option<&Path>) -> String {
    to_file(file).map_or_else(|| "stdin".to_owned(), |path| path.display().to_string())
}

/// Refuses, before any PIN is asked for, what [`write`] would refuse afterwards: binary data to a
/// terminal, or a file in a missing directory.
pub fn check(file: Option<&Path>, content: Content) -> Result<(), Failure> {
    match to_file(file) {
        None if content == Content::Binary && io::stdout().is_terminal() => Err(binary_to_terminal()),
        None => Ok(()),
        Some(path) if path.is_dir() => {
            Err(Failure::usage(format!("cannot write {}: it is a directory", path.display())))
        }
        Some(path) => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => Err(Failure::usage(format!(
                "cannot write {}: directory {} not found",
                path.display(),
                parent.display()
            ))),
            _ => Ok(()),
        },
    }
}

/// Refuses a path that exists or cannot be created, before any work is done for it.
pub fn check_new(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Err(Failure::usage("cannot write this to stdout: name a new file"));
    }
    check(Some(path), Content::Text)?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Failure::usage(format!(
            "cannot write {}: the file exists, and is never overwritten",
            path.display()
        )));
    }
    Ok(())
}

/// Writes all bytes to a file; `-` or `None` means stdout.
pub fn write(file: Option<&Path>, bytes: &[u8], content: Content) -> Result<(), Failure> {
    spinner::clear_spinners();
    let Some(path) = to_file(file) else {
        return to_stdout(bytes, content);
    };
    write_file(path, &mut &*bytes, content)
        .map_err(|error| Failure::fault(format!("cannot write {}: {error}", path.display())))
}

/// Creates a file with mode 0600; never overwrites one.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::fault(format!("cannot write {}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // A partial file is useless. Removing it may work although writing failed.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Removes the unfinished files and directories after an interrupt.
pub fn discard_unfinished() {
    if let Ok(paths) = CLEANUP.lock() {
        for path in paths.iter() {
            // A temporary file that stays does not have the name of the requested file.
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

fn to_file(file: Option<&Path>) -> Option<&Path> {
    file.filter(|path| *path != Path::new("-"))
}

fn to_stdout(bytes: &[u8], content: Content) -> Result<(), Failure> {
    let stdout = io::stdout();
    let shown = stdout.is_terminal();
    if shown && content != Content::Text && !is_text(bytes) {
        return Err(binary_to_terminal());
    }
    let mut stdout = stdout.lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ended()),
        Err(error) => Err(Failure::fault(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Returns true if the bytes are UTF-8 without control characters that could affect a terminal.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
}

fn binary_to_terminal() -> Failure {
    Failure::usage("cannot write binary data to a terminal").with_remedy("name a file with --out, or use --format pem")
}

/// Writes a temporary file in the same directory, syncs it to disk, and renames it to the file's
/// name.
fn write_file(path: &Path, source: &mut dyn Read, content: Content) -> io::Result<()> {
    // Replace the target of a symbolic link, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let existing = fs::metadata(&path).ok();
    if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        // A pipe or a device cannot be replaced atomically.
        return io::copy(source, &mut OpenOptions::new().write(true).open(&path)?).map(drop);
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut neighbour = std::ffi::OsString::from(".");
    neighbour.push(name);
    neighbour.push(format!(".{}.new", std::process::id()));
    let neighbour = path.with_file_name(neighbour);
    let mode = if content == Content::Decrypted { 0o600 } else { 0o666 };
    register_cleanup(&neighbour);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&neighbour).and_then(|mut file: File| {
            if let Some(existing) = &existing {
                file.set_permissions(existing.permissions())?;
            }
            io::copy(source, &mut file)?;
            file.sync_all()?;
            fs::rename(&neighbour, &path)
        });
    if written.is_err() {
        // Report the first error, not the one from the removal.
        let _ = fs::remove_file(&neighbour);
    }
    unregister_cleanup(&neighbour);
    written
}

/// Registers a file or directory for removal when the program is interrupted.
pub fn register_cleanup(path: &Path) {
    if let Ok(mut paths) = CLEANUP.lock() {
        paths.push(path.to_owned());
    }
}

/// Unregisters a file or directory: it is kept.
pub fn unregister_cleanup(path: &Path) {
    if let Ok(mut paths) = CLEANUP.lock() {
        paths.retain(|other| other != path);
    }
}

/// The output of commands that write a message or certificates: writes the bytes and reports the
/// facts. With `--json` and no `--out`, the bytes are in the answer as `data` in base64. Without
/// both, the bytes are the answer, and the facts go to stderr.
pub fn deliver_message(
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
            write(out, bytes, content)?;
            output.answer(facts, &with(value, "out", path.display().to_string()))
        }
        (false, _) => {
            write(out, bytes, content)?;
            output.note(facts);
            Ok(Exit::Done)
        }
    }
}

/// Like [`deliver_message`], with the content of a file that an operation has written: of any
/// size, unless it goes to a terminal or into the answer.
pub fn deliver_file(
    output: &Output,
    out: Option<&Path>,
    mut file: File,
    content: Content,
    facts: &str,
    value: Value,
) -> Result<Exit, Failure> {
    let Some(path) = to_file(out).map(Path::to_owned) else {
        if output.is_json() || io::stdout().is_terminal() {
            return deliver_message(output, out, &read_back(file)?, content, facts, value);
        }
        spinner::clear_spinners();
        let mut stdout = io::stdout().lock();
        return match file.rewind().and_then(|()| io::copy(&mut file, &mut stdout)).and_then(|_| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ended()),
            Err(error) => Err(Failure::fault(format!("cannot write to stdout: {error}"))),
            Ok(()) => {
                output.note(facts);
                Ok(Exit::Done)
            }
        };
    };
    spinner::clear_spinners();
    file.rewind()
        .and_then(|()| write_file(&path, &mut file, content))
        .map_err(|error| Failure::fault(format!("cannot write {}: {error}", path.display())))?;
    if output.is_json() {
        return output.answer(facts, &with(value, "out", path.display().to_string()));
    }
    output.note(facts);
    Ok(Exit::Done)
}

fn with(mut value: Value, name: &str, member: String) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert(name.to_owned(), Value::String(member));
    }
    value
}

/// Refuses what [`deliver_message`] would refuse, before any PIN is asked for.
pub fn check_message(output: &Output, out: Option<&Path>, content: Content) -> Result<(), Failure> {
    let in_json = output.is_json() && out.is_none_or(|path| path == Path::new("-"));
    if in_json { Ok(()) } else { check(out, content) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(Some(&path), b"one", Content::Decrypted).unwrap();
        assert_eq!(mode(&path), 0o600, "only the owner can read decrypted content");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(Some(&path), b"two", Content::Decrypted).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"two".to_vec(), 0o640));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_new_file_is_private_and_overwrites_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_new(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(write_new(&path, b"two").unwrap_err().message.contains("exists"));
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn a_file_behind_a_link_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(Some(&link), b"new", Content::Binary).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_device_is_written_directly() {
        write(Some(Path::new("/dev/null")), b"gone", Content::Binary).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_full_disk_is_reported() {
        let failure = write(Some(Path::new("/dev/full")), b"too much", Content::Binary).unwrap_err();
        assert!(failure.message.contains("/dev/full") && failure.message.contains("space"), "{}", failure.message);
    }

    #[test]
    fn an_unwritable_file_is_refused_before_any_prompt() {
        let directory = tempfile::tempdir().unwrap();
        assert!(check(Some(directory.path()), Content::Binary).unwrap_err().message.contains("is a directory"));
        let nowhere = directory.path().join("no/file");
        assert!(check(Some(&nowhere), Content::Binary).unwrap_err().message.contains("not found"));
        assert!(check(Some(&directory.path().join("file")), Content::Binary).is_ok());
    }

    #[test]
    fn control_characters_are_not_text() {
        assert!(is_text("Grüße\n\tund so weiter\r\n".as_bytes()));
        assert!(!is_text(b"\x1b[2J"));
        assert!(!is_text(b"\xff\xfe"));
    }
}
