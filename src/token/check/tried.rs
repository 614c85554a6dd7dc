//! Which modules were tried: each once, in a process of its own, for a file and a configuration; remembered in the
//! directory of locks, so that later commands only look whether both are still the same.
//!
//! Only a module that *ends* the process which loads it is refused here. What else is wrong with one it says itself when it
//! is loaded.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CheckOutcome, CheckQuestion, CheckRequest};
use crate::token::TokenError;
use crate::token::private_file::{self, lock_directory};
use crate::token::stores::Store;

/// The form of the file.
const VERSION: u32 = 1;

/// Of so many modules and configurations it is remembered.
const MOST: usize = 64;

/// How often a module must have ended a process before it is said of it.
const ROUNDS: usize = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    version: u32,
    modules: Vec<Tried>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    module: PathBuf,
    /// the module's files: device, inode, size and time of change of each
    identity: String,
    /// how it ended the process that loaded it; none: it did not
    died: Option<String>,
}

/// Refuses a module that ends the process which loads it. Asks a process of its own, unless it is known.
pub(in crate::token) fn must_survive(module: &Path) -> Result<(), TokenError> {
    must_survive_by(module, &remembered_in(), || {
        let request = CheckRequest { module: module.to_owned(), question: CheckQuestion::Load {} };
        super::ask(&request, None)
    })
}

/// Does it end each process that loads it? Asked of a process of its own when it, or its configuration, has changed.
pub fn is_refused(module: &Path) -> bool {
    must_survive(module).is_err()
}

/// Forgets what is known of it: it is tried again when it is loaded next.
pub fn forget(module: &Path) {
    let file = remembered_in();
    let mut known = read(&file);
    let before = known.len();
    known.retain(|tried| tried.module != module);
    if known.len() != before {
        remember(&file, known);
    }
}

fn remembered_in() -> PathBuf {
    lock_directory().join("modules-tried.json")
}

fn must_survive_by(module: &Path, file: &Path, ask: impl Fn() -> Option<CheckOutcome>) -> Result<(), TokenError> {
    let store = Store::of(module);
    let before = identity(module, &store);
    let mut known = read(file);
    if let Some(tried) = known.iter().find(|tried| tried.module == module && tried.identity == before) {
        return tried.died.as_ref().map_or(Ok(()), |how| Err(refused(module, how, &store)));
    }
    let mut died = None;
    for _ in 0..ROUNDS {
        match ask() {
            Some(CheckOutcome::Answered(_)) => {
                died = None;
                break;
            }
            Some(CheckOutcome::Died(how)) => died = Some(how),
            // Nothing is known of it, and nothing is said.
            Some(CheckOutcome::Unknown(_)) | None => return Ok(()),
        }
    }
    // What was changed while it was tried may be what ended it, or not any more.
    if identity(module, &store) == before {
        let is_of_now =
            |tried: &Tried| tried.module != module || tried.identity.split('|').nth(1) != before.split('|').nth(1);
        known.retain(is_of_now);
        known.push(Tried { module: module.to_owned(), identity: before, died: died.clone() });
        remember(file, known);
    }
    died.map_or(Ok(()), |how| Err(refused(module, &how, &store)))
}

fn read(file: &Path) -> Vec<Tried> {
    let text = private_file::read(file).unwrap_or_default();
    let known = serde_json::from_str::<Remembered>(&text).ok();
    known.filter(|known| known.version == VERSION).map(|known| known.modules).unwrap_or_default()
}

fn remember(file: &Path, mut modules: Vec<Tried>) {
    let surplus = modules.len().saturating_sub(MOST);
    modules.drain(..surplus);
    let known = Remembered { version: VERSION, modules };
    let written = serde_json::to_string(&known).map_err(|error| error.to_string());
    if let Err(reason) = written.and_then(|text| private_file::write(file, &text)) {
        // Then it is tried again the next time.
        tracing::debug!(reason, file = %file.display(), "cannot remember which modules were tried");
    }
}

/// The module, then its configuration by name, then how that is now.
fn identity(module: &Path, store: &Store) -> String {
    let names: Vec<String> = store.configuration.iter().map(|path| path.display().to_string()).collect();
    let files = store.configuration.iter().chain(&store.tokens);
    let files: Vec<String> = files.map(|path| identity_of(path)).collect();
    format!("{}|{}|{}", identity_of(module), names.join(","), files.join(","))
}

fn identity_of(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(found) => format!(
            "{}:{}:{}:{}.{:09}",
            found.dev(),
            found.ino(),
            // A directory's size says nothing that its time does not.
            if found.is_dir() { 0 } else { found.size() },
            found.mtime(),
            found.mtime_nsec()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => "absent".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn refused(module: &Path, how: &str, store: &Store) -> TokenError {
    let remedy = copied_token(store).unwrap_or_else(|| {
        "install it anew, or leave it out: `modules` in agent.toml, or --module, names the others".to_owned()
    });
    TokenError::Module {
        path: module.to_owned(),
        reason: format!("it ends the program that loads it ({how}), so it is not loaded"),
        remedy,
    }
}

/// `SoftHSM` ends the process when two of its token directories hold the same token.
fn copied_token(store: &Store) -> Option<String> {
    let copies = super::super::stores::copied_tokens(store);
    let (first, second) = copies.into_iter().next()?;
    Some(format!(
        "two directories hold the same token, {} and {}: move the copy to a place outside of the token directory",
        first.display(),
        second.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;

    use super::super::CheckReport;
    use super::*;

    struct Trial {
        home: tempfile::TempDir,
        module: PathBuf,
        asked: Cell<usize>,
    }

    impl Trial {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
            let module = home.path().join("opensc-of-a-test.so");
            fs::write(&module, "a module").unwrap();
            Self { home, module, asked: Cell::new(0) }
        }

        fn file(&self) -> PathBuf {
            self.home.path().join("tried.json")
        }

        fn load(&self, outcome: &CheckOutcome) -> (Result<(), TokenError>, usize) {
            self.asked.set(0);
            let result = must_survive_by(&self.module, &self.file(), || {
                self.asked.set(self.asked.get() + 1);
                Some(outcome.clone())
            });
            (result, self.asked.get())
        }
    }

    fn died() -> CheckOutcome {
        CheckOutcome::Died("by signal 6 (SIGABRT)".to_owned())
    }

    fn well() -> CheckOutcome {
        CheckOutcome::Answered(CheckReport::Well {})
    }

    #[test]
    fn a_module_is_tried_once_for_a_file() {
        let trial = Trial::new();
        assert!(matches!(trial.load(&well()), (Ok(()), 1)));
        assert!(matches!(trial.load(&died()), (Ok(()), 0)));
        fs::write(&trial.module, "another module").unwrap();
        let (result, asked) = trial.load(&died());
        let error = result.unwrap_err().to_string();
        assert!(error.contains("opensc-of-a-test.so") && error.contains("SIGABRT") && asked == ROUNDS, "{error}");
        assert!(matches!(trial.load(&well()), (Err(_), 0)), "that it ends its process is remembered, too");
        // A corrupt record is none.
        fs::write(trial.file(), "{").unwrap();
        assert!(matches!(trial.load(&well()), (Ok(()), 1)));
        // Nor is one that others could have written.
        fs::set_permissions(trial.file(), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(trial.load(&well()), (Ok(()), 1)));
    }

    #[test]
    fn of_what_is_not_known_nothing_is_said_or_remembered() {
        let trial = Trial::new();
        assert!(matches!(trial.load(&CheckOutcome::Unknown("no process".into())), (Ok(()), 1)));
        assert!(matches!(trial.load(&died()), (Err(_), ROUNDS)));
    }
}
