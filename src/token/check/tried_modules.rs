//! Remembers the modules that were tried. Each module is tried once in a process of its own, per
//! module file and configuration. The result is stored in the lock directory; later commands only
//! compare file and configuration.
//!
//! Only a module that *ends* the process that loads it, or never finishes loading, is refused here.
//! Every other fault appears when the module is loaded.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{CheckOutcome, CheckQuestion, CheckRequest, TokenCheckReport};
use crate::token::TokenError;
use crate::token::module_storage::ModuleStorage;
use crate::token::private_file::{self, lock_directory};

/// Format version of the file.
const VERSION: u32 = 2;

/// Maximum number of remembered results.
const MAX_REMEMBERED: usize = 64;

/// Seconds for which a crash or a timeout is remembered. The cause (a library, a device, a server
/// of the module) may be gone afterwards.
const BAD_FOR: u64 = 10 * 60;

/// Seconds for which a module that did not load in time is remembered, after the time limit:
/// another program may have held the card.
const SLOW_FOR: u64 = 60;

/// Number of processes that a module ends before it is refused.
const ROUNDS: usize = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TriedModules {
    version: u32,
    modules: Vec<TriedModule>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TriedModule {
    module: PathBuf,
    /// device, inode, size and modification time of each of the module's files
    identity: String,
    /// the end of the process that loaded it
    end: End,
    /// time of the try, in seconds since 1970
    at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    /// the process could use the module
    Well,
    /// the module reported an error
    Said,
    /// the module ended the process; how
    Died(String),
    /// the module was not loaded after this number of seconds
    LoadTookTooLong(u64),
    /// the process did not end
    TookTooLong,
}

impl TriedModule {
    /// Whether this result is still valid.
    fn counts_at(&self, now: u64) -> bool {
        match self.end {
            End::Well | End::Said => true,
            End::Died(_) | End::TookTooLong => self.is_younger_at(now, BAD_FOR),
            // The try itself took that long.
            End::LoadTookTooLong(seconds) => self.is_younger_at(now, SLOW_FOR.saturating_add(seconds)),
        }
    }

    fn is_younger_at(&self, now: u64, seconds: u64) -> bool {
        now.checked_sub(self.at).is_some_and(|age| age < seconds)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Refuses a module that ends the process that loads it, or never finishes loading. Tries it in a
/// process of its own unless the result is remembered.
pub(in crate::token) fn refuse_crashing_module(module: &Path) -> Result<(), TokenError> {
    refuse_crashing_module_by(module, &remembered_in(), now(), || {
        let request = CheckRequest { module: module.to_owned(), question: CheckQuestion::Load {} };
        super::ask(&request, None)
    })
}

/// Whether the module ends each process that loads it, or never finishes loading. It is tried in a
/// process of its own if it or its configuration has changed.
pub fn is_refused(module: &Path) -> bool {
    refuse_crashing_module(module).is_err()
}

/// Whether a process has used this very module file successfully before. The configuration and the
/// tokens may have been different then, so the result only says that a child can use the file as
/// such.
pub(in crate::token) fn has_been_well(module: &Path) -> bool {
    has_been_well_by(module, &remembered_in())
}

fn has_been_well_by(module: &Path, file: &Path) -> bool {
    let now = identity_of(module);
    let is_same_module = |tried: &TriedModule| tried.module == module && tried.identity.split('|').next() == Some(&now);
    read(file).iter().any(|tried| is_same_module(tried) && tried.end == End::Well)
}

/// Forgets the result for this module: the next load tries it again.
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

fn refuse_crashing_module_by(
    module: &Path,
    file: &Path,
    now: u64,
    ask: impl Fn() -> Option<CheckOutcome>,
) -> Result<(), TokenError> {
    let store = ModuleStorage::of(module);
    let before = identity(module, &store);
    let mut known = read(file);
    let is_known = |tried: &&TriedModule| tried.module == module && tried.identity == before && tried.counts_at(now);
    if let Some(tried) = known.iter().find(is_known) {
        return refuse_by(module, &tried.end, &store);
    }
    let mut end = End::Said;
    for _ in 0..ROUNDS {
        end = match ask() {
            Some(CheckOutcome::Answered(TokenCheckReport::Well {})) => End::Well,
            Some(CheckOutcome::Answered(_)) => End::Said,
            Some(CheckOutcome::Died(how)) => End::Died(how),
            Some(CheckOutcome::LoadTookTooLong(seconds)) => End::LoadTookTooLong(seconds),
            Some(CheckOutcome::TookTooLong(_)) => End::TookTooLong,
            // The result is unknown: accept the module.
            Some(CheckOutcome::Unknown(_)) | None => return Ok(()),
        };
        if !matches!(end, End::Died(_)) {
            break;
        }
    }
    // A change during the try may have caused or removed the fault: do not remember the result.
    if identity(module, &store) == before {
        let is_of_now = |tried: &TriedModule| {
            tried.module != module || tried.identity.split('|').nth(1) != before.split('|').nth(1)
        };
        known.retain(is_of_now);
        known.push(TriedModule { module: module.to_owned(), identity: before, end: end.clone(), at: now });
        remember(file, known);
    }
    refuse_by(module, &end, &store)
}

/// A module that was loaded and took too long afterwards is not refused: its state is unknown.
fn refuse_by(module: &Path, end: &End, store: &ModuleStorage) -> Result<(), TokenError> {
    match end {
        End::Died(how) => {
            let reason = format!("it ends the program that loads it ({how}), so it is not loaded");
            Err(refused(module, reason, copied_token(store).unwrap_or_else(|| remedy("", "ten minutes"))))
        }
        End::LoadTookTooLong(seconds) => {
            let reason = format!("a check process still waited for it after {seconds} seconds, so it is not loaded");
            Err(refused(module, reason, remedy("end the program that has the card, if there is one; or ", "a minute")))
        }
        End::Well | End::Said | End::TookTooLong => Ok(()),
    }
}

fn read(file: &Path) -> Vec<TriedModule> {
    let text = private_file::read(file).unwrap_or_default();
    let known = serde_json::from_str::<TriedModules>(&text).ok();
    known.filter(|known| known.version == VERSION).map(|known| known.modules).unwrap_or_default()
}

fn remember(file: &Path, mut modules: Vec<TriedModule>) {
    let surplus = modules.len().saturating_sub(MAX_REMEMBERED);
    modules.drain(..surplus);
    let known = TriedModules { version: VERSION, modules };
    let written = serde_json::to_string(&known).map_err(|error| error.to_string());
    if let Err(reason) = written.and_then(|text| private_file::write(file, &text)) {
        // The module is then tried again next time.
        tracing::debug!(reason, file = %file.display(), "cannot remember which modules were tried");
    }
}

/// The module, the names of its configuration files, and the state of these files; for a directory
/// also of each file in it.
fn identity(module: &Path, store: &ModuleStorage) -> String {
    let names: Vec<String> = store.configuration.iter().map(|path| path.display().to_string()).collect();
    let mut files = Vec::new();
    for path in &store.configuration {
        files.push(identity_of(path));
        let mut within: Vec<PathBuf> =
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        within.sort();
        files.extend(within.iter().map(|path| identity_of(path)));
    }
    files.extend(store.tokens.iter().map(|path| identity_of(path)));
    format!("{}|{}|{}", identity_of(module), names.join(","), files.join(","))
}

fn identity_of(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(found) => format!(
            "{}:{}:{}:{}.{:09}",
            found.dev(),
            found.ino(),
            // The modification time of a directory covers its size.
            if found.is_dir() { 0 } else { found.size() },
            found.mtime(),
            found.mtime_nsec()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => "absent".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn refused(module: &Path, reason: String, remedy: String) -> TokenError {
    TokenError::Source { path: module.to_owned(), reason, remedy }
}

fn remedy(first: &str, after: &str) -> String {
    format!(
        "{first}reinstall it, or leave it out (list the others as `modules` in agent.toml or with --module); \
         then run `tokenkeep doctor` to try it again (other commands retry after {after} or when its files change)"
    )
}

/// `SoftHSM` ends the process if two of its token directories hold the same token.
fn copied_token(store: &ModuleStorage) -> Option<String> {
    let copies = super::super::module_storage::copied_tokens(store);
    let (first, second) = copies.into_iter().next()?;
    Some(format!(
        "two directories hold the same token, {} and {}: move the copy out of the token directory",
        first.display(),
        second.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;

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
            self.load_at(1000, outcome)
        }

        fn load_at(&self, now: u64, outcome: &CheckOutcome) -> (Result<(), TokenError>, usize) {
            self.asked.set(0);
            let result = refuse_crashing_module_by(&self.module, &self.file(), now, || {
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
        CheckOutcome::Answered(TokenCheckReport::Well {})
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
        assert!(matches!(trial.load(&well()), (Err(_), 0)), "the crash was not remembered");
        // A corrupt record is ignored.
        fs::write(trial.file(), "{").unwrap();
        assert!(matches!(trial.load(&well()), (Ok(()), 1)));
        // So is a record that others could have written.
        fs::set_permissions(trial.file(), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(trial.load(&well()), (Ok(()), 1)));
    }

    #[test]
    fn an_unknown_outcome_is_neither_reported_nor_stored() {
        let trial = Trial::new();
        assert!(matches!(trial.load(&CheckOutcome::Unknown("no process".into())), (Ok(()), 1)));
        assert!(matches!(trial.load(&died()), (Err(_), ROUNDS)));
    }

    #[test]
    fn a_crashed_or_slow_module_is_retried_later_without_waiting() {
        let trial = Trial::new();
        let (result, _) = trial.load_at(1000, &died());
        assert!(result.unwrap_err().to_string().contains("`tokenkeep doctor` to try it again"));
        assert!(matches!(trial.load_at(1000 + BAD_FOR - 1, &well()), (Err(_), 0)));
        assert!(matches!(trial.load_at(1000 + BAD_FOR, &well()), (Ok(()), 1)), "it is refused forever");
        assert!(matches!(trial.load_at(999, &well()), (Ok(()), 0)), "a good result was not remembered");

        let trial = Trial::new();
        assert!(matches!(trial.load_at(1000, &CheckOutcome::TookTooLong(30)), (Ok(()), 1)));
        assert!(matches!(trial.load_at(1001, &well()), (Ok(()), 0)), "it waited thirty seconds again");
        assert!(matches!(trial.load_at(1000 + BAD_FOR, &well()), (Ok(()), 1)));
        // A clock that was set back does not extend the validity.
        assert!(matches!(trial.load_at(1000, &died()), (Ok(()), 0)));
    }

    #[test]
    fn a_module_that_never_loads_is_refused_without_waiting() {
        let trial = Trial::new();
        let hangs = CheckOutcome::LoadTookTooLong(30);
        let (result, asked) = trial.load_at(1000, &hangs);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("after 30 seconds") && error.contains("doctor") && asked == 1, "{error}");
        assert!(error.contains("end the program that has the card") && error.contains("after a minute"), "{error}");
        // One minute after the thirty seconds that the try took.
        assert!(matches!(trial.load_at(1089, &well()), (Err(_), 0)), "it waited thirty seconds again");
        assert!(matches!(trial.load_at(1090, &well()), (Ok(()), 1)), "it is refused too long");
    }

    #[test]
    fn a_changed_configuration_has_the_module_tried_again() {
        let trial = Trial::new();
        let at = |name: &str| trial.home.path().join(name);
        let mut store = ModuleStorage::default();
        store.configuration = vec![at("one.conf")];
        store.tokens = vec![at("tokens")];
        let now = || identity(&trial.module, &store);
        let mut seen = vec![now()];
        let mut is_another = |what: &str| {
            let now = now();
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        fs::write(at("one.conf"), "of this length").unwrap();
        is_another("it was made");
        let then = fs::metadata(at("one.conf")).unwrap().modified().unwrap();
        fs::write(at("one.conf"), "of another length").unwrap();
        fs::File::options().write(true).open(at("one.conf")).unwrap().set_modified(then).unwrap();
        is_another("its size");
        fs::File::options().write(true).open(at("one.conf")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        is_another("its time");
        fs::write(at("two.conf"), "of another length").unwrap();
        fs::File::options().write(true).open(at("two.conf")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::rename(at("two.conf"), at("one.conf")).unwrap();
        is_another("its inode");
        fs::create_dir(at("tokens")).unwrap();
        is_another("the token directory");
        store.configuration.push(at("modules"));
        let now = || identity(&trial.module, &store);
        fs::create_dir(at("modules")).unwrap();
        fs::write(at("modules/one.module"), "module: one.so").unwrap();
        let before = now();
        let directory = fs::metadata(at("modules")).unwrap().modified().unwrap();
        fs::write(at("modules/one.module"), "module: another.so").unwrap();
        assert_eq!(fs::metadata(at("modules")).unwrap().modified().unwrap(), directory);
        assert_ne!(now(), before, "a file in a directory of modules");
        let mut other = store.clone();
        other.configuration = vec![at("three.conf")];
        assert!(!seen.contains(&identity(&trial.module, &other)), "its name");
    }

    #[test]
    fn a_good_trial_is_remembered_despite_a_new_configuration() {
        let trial = Trial::new();
        let was_well = || has_been_well_by(&trial.module, &trial.file());
        assert!(!was_well());
        let failed = CheckOutcome::Answered(TokenCheckReport::ModuleFailed("no".into()));
        trial.load(&failed).0.unwrap();
        assert!(!was_well(), "it said that it could not be used");
        fs::write(trial.file(), "{}").unwrap();
        trial.load(&well()).0.unwrap();
        assert!(was_well());
        fs::write(&trial.module, "another module").unwrap();
        assert!(!was_well());
    }
}
