//! The owner lock: one process owns a token, and a lock file named for the module and the serial
//! number tells which.
//!
//! Two processes that log in to one token at the same time mostly fail with `CKR_GENERAL_ERROR`, so
//! they take turns. The lock belongs to the open file, so it ends with the process in every case.
//! The content of the file only tells others which process they wait for.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::private_file::{self, lock_directory, make_private_directory};
use super::{TokenError, TokenName};

/// Time limit of the wait for another owner.
pub(super) const OWNER_TIMEOUT: Duration = Duration::from_secs(5);

/// Delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(25);

/// Maximum number of bytes read from a lock file.
const MAX_FILE_BYTES: u64 = 400;

/// The owner information that other processes see; unset for an ordinary program.
static OWNER: OnceLock<TokenOwner> = OnceLock::new();

/// The owner of a token, and what a waiting process can do. Each text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// program and process id
    pub name: String,
    /// the next step for a refused process: completes "it is in use by …; "
    pub remedy: String,
    /// whether the owner is an authority, which has a token of its own that no user's command can
    /// mean
    pub is_authority: bool,
}

/// The third line of an authority's lock file.
const AUTHORITY: &str = "authority";

impl TokenOwner {
    /// Sets the owner information of this process. Call it once, before the first token is owned.
    pub fn register(self) {
        // The first setting wins.
        let _ = OWNER.set(self);
    }

    fn of_this_process() -> Self {
        OWNER.get().cloned().unwrap_or_else(|| {
            let program = std::env::current_exe().ok();
            let program = program.as_deref().and_then(Path::file_name).unwrap_or(OsStr::new("a program"));
            Self {
                name: format!("{} (process {})", program.to_string_lossy(), std::process::id()),
                remedy: WAIT_REMEDY.to_owned(),
                is_authority: false,
            }
        })
    }

    /// Registers this process as an authority: users' commands skip its tokens and do not wait for
    /// them.
    pub fn register_authority() {
        Self { is_authority: true, ..Self::of_this_process() }.register();
    }

    fn read(text: &str) -> Self {
        let mut lines = text.lines().map(str::trim);
        let mut line = |unsaid: &str| lines.next().filter(|line| !line.is_empty()).unwrap_or(unsaid).to_owned();
        let (name, remedy) = (line("another process"), line(WAIT_REMEDY));
        Self { name, remedy, is_authority: line("") == AUTHORITY }
    }
}

/// The next step while a program holds a token for one operation.
const WAIT_REMEDY: &str = "wait until it ends, or stop it";

/// Ownership of a token; dropping it releases the token.
#[derive(Debug)]
pub(super) struct OwnerLock {
    file_name: String,
    file: Option<File>,
}

impl Drop for OwnerLock {
    /// Unlocks the file, and does not only close it: a child that another thread is just starting
    /// has a copy of the descriptor until its `exec`, and with it the lock.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Closing the file is the fallback.
            let _ = file.unlock();
        }
    }
}

impl OwnerLock {
    /// Takes ownership, and waits up to 5 s for another owner to end.
    pub(super) fn acquire(module: &Path, token: &TokenName) -> Result<Self, TokenError> {
        Self::acquire_within(module, token, OWNER_TIMEOUT)
    }

    /// For a child that only reads: its parent holds the lock, so the child takes none.
    pub(super) fn held_by_parent() -> Self {
        Self { file_name: String::new(), file: None }
    }

    /// Like [`Self::acquire`], with this timeout.
    pub(super) fn acquire_within(module: &Path, token: &TokenName, timeout: Duration) -> Result<Self, TokenError> {
        Self::acquire_in(&lock_directory(), module, token, timeout)
    }

    fn acquire_in(directory: &Path, module: &Path, token: &TokenName, timeout: Duration) -> Result<Self, TokenError> {
        make_private_directory(directory)
            .map_err(|error| TokenError::LockDirectory { path: directory.to_owned(), reason: error.to_string() })?;
        let file_name = file_name(module, &token.serial);
        let path = directory.join(&file_name);
        let failed = |error: std::io::Error| refused(token, &path, error.to_string());
        let mut file = private_file::open(&path).map_err(|reason| refused(token, &path, reason))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < timeout => std::thread::sleep(RETRY_DELAY),
                Err(TryLockError::WouldBlock) => {
                    let TokenOwner { name: owner, remedy, .. } = owner(&mut file);
                    return Err(TokenError::Owned { token: token.clone(), owner, remedy });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        write_owner(&mut file).map_err(failed)?;
        Ok(Self { file_name, file: Some(file) })
    }

    /// Whether it also covers this token: the file is named for a serial number, which tokens may
    /// share.
    pub(super) fn is_of(&self, module: &Path, token: &TokenName) -> bool {
        self.file_name == file_name(module, &token.serial)
    }
}

/// Whether an authority owns this token now. It does not wait and writes nothing.
pub(super) fn is_used_by_authority(module: &Path, token: &TokenName) -> bool {
    is_authority_token_in(&lock_directory(), module, token)
}

fn is_authority_token_in(directory: &Path, module: &Path, token: &TokenName) -> bool {
    let Ok(mut file) = File::open(directory.join(file_name(module, &token.serial))) else { return false };
    // The content of the file counts only while the lock is held.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) && owner(&mut file).is_authority
}

/// For example `libsofthsm2.so-1a2b3c4d.lock`. Bytes other than letters, digits, dot, hyphen and
/// underscore become `%` and two hexadecimal digits.
fn file_name(module: &Path, serial: &str) -> String {
    let module = module.file_name().unwrap_or(OsStr::new("module")).to_string_lossy();
    let mut name = String::new();
    for byte in module.bytes().chain(*b"-").chain(serial.bytes()) {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push('%');
            name += &hex::encode([byte]);
        }
    }
    name + ".lock"
}

fn write_owner(file: &mut File) -> std::io::Result<()> {
    let TokenOwner { name, remedy, is_authority } = TokenOwner::of_this_process();
    file.set_len(0)?;
    file.rewind()?;
    // One write: others may read the file at any moment.
    let kind = if is_authority { AUTHORITY } else { "" };
    file.write_all(format!("{name}\n{remedy}\n{kind}\n").as_bytes())
}

fn owner(file: &mut File) -> TokenOwner {
    let mut text = String::new();
    // An unreadable file gives the defaults.
    let _ = file.rewind().and_then(|()| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    TokenOwner::read(&text)
}

fn refused(token: &TokenName, path: &Path, reason: String) -> TokenError {
    TokenError::LockFile { token: token.clone(), path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SOON: Duration = Duration::from_millis(60);

    fn token(serial: &str) -> TokenName {
        TokenName { label: "a token".into(), serial: serial.into() }
    }

    #[test]
    fn a_second_owner_waits_and_names_the_first() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("locks");
        let module = Path::new("/usr/lib/module.so");
        let first = OwnerLock::acquire_in(&directory, module, &token("1"), SOON).unwrap();
        let error = OwnerLock::acquire_in(&directory, module, &token("1"), SOON).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        OwnerLock::acquire_in(&directory, module, &token("2"), SOON).unwrap();
        // A child that was just started still has the file: the token is free all the same.
        let copy = first.file.as_ref().unwrap().try_clone().unwrap();
        drop(first);
        OwnerLock::acquire_in(&directory, module, &token("1"), SOON).unwrap();
        drop(copy);
    }

    #[test]
    fn another_process_is_named() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("locks");
        make_private_directory(&directory).unwrap();
        let path = directory.join(file_name(Path::new("module.so"), "7"));
        std::fs::write(&path, "someone (process 42)").unwrap();
        let mut other = std::process::Command::new("flock").arg(&path).args(["sleep", "5"]).spawn().unwrap();
        let started = Instant::now();
        let error = loop {
            match OwnerLock::acquire_in(&directory, Path::new("module.so"), &token("7"), Duration::ZERO) {
                Err(error) => break error,
                Ok(lock) => {
                    drop(lock);
                    std::fs::write(&path, "someone (process 42)").unwrap();
                    assert!(started.elapsed() < OWNER_TIMEOUT, "flock never took the lock");
                    std::thread::sleep(RETRY_DELAY);
                }
            }
        };
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(error.to_string().contains("someone (process 42)"), "{error}");
    }

    #[test]
    fn an_incomplete_owner_record_gets_defaults() {
        let owner = |name: &str, remedy: &str| TokenOwner {
            name: name.to_owned(),
            remedy: remedy.to_owned(),
            is_authority: false,
        };
        assert_eq!(TokenOwner::read(""), owner("another process", WAIT_REMEDY));
        assert_eq!(TokenOwner::read("someone (process 42)"), owner("someone (process 42)", WAIT_REMEDY));
        assert_eq!(TokenOwner::read("someone (process 42)\nask it\nmore"), owner("someone (process 42)", "ask it"));
        assert!(TokenOwner::read("someone (process 42)\nask it\nauthority\n").is_authority);
    }

    #[test]
    fn a_token_is_an_authoritys_only_while_that_has_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("locks");
        let module = Path::new("module.so");
        let is_authority_token = || is_authority_token_in(&directory, module, &token("7"));
        assert!(!is_authority_token(), "there is no lock at all");
        let users = OwnerLock::acquire_in(&directory, module, &token("7"), SOON).unwrap();
        assert!(!is_authority_token());
        drop(users);
        let path = directory.join(file_name(module, "7"));
        std::fs::write(&path, "tokenkeep (process 42)\nwait\nauthority\n").unwrap();
        assert!(!is_authority_token(), "nobody holds the lock");
        let held = File::open(&path).unwrap();
        held.lock().unwrap();
        assert!(is_authority_token());
    }

    #[test]
    fn a_directory_that_others_can_use_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
        let error = OwnerLock::acquire_in(home.path(), Path::new("m.so"), &token("1"), SOON).unwrap_err();
        assert!(matches!(error, TokenError::LockDirectory { .. }), "{error}");
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(home.path(), &link).unwrap();
        assert!(OwnerLock::acquire_in(&link, Path::new("m.so"), &token("1"), SOON).is_err());
    }

    #[test]
    fn a_symlinked_lock_file_is_refused_and_its_target_untouched() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("locks");
        make_private_directory(&directory).unwrap();
        let precious = home.path().join("precious");
        std::fs::write(&precious, "a text").unwrap();
        std::os::unix::fs::symlink(&precious, directory.join(file_name(Path::new("m.so"), "1"))).unwrap();
        let error = OwnerLock::acquire_in(&directory, Path::new("m.so"), &token("1"), SOON).unwrap_err();
        assert!(matches!(&error, TokenError::LockFile { reason, .. } if reason.contains("symbolic link")), "{error}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "a text");
    }

    #[test]
    fn a_serial_number_cannot_leave_the_directory() {
        assert_eq!(file_name(Path::new("/lib/m.so"), "../x y"), "m.so-..%2fx%20y.lock");
    }
}
