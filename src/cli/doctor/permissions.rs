//! Checks directories and files that must belong to the user and be closed to others.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::DoctorFinding;
use crate::cli::config::AgentConfiguration;
use crate::prompter::PinSource;
use crate::token::{self, PrivateDirectoryError};

/// Checks the runtime directory, the directory of the tokens' locks, and the file with the PIN.
pub fn check(configuration: &AgentConfiguration) -> Vec<DoctorFinding> {
    let named = env::var_os("XDG_RUNTIME_DIR").filter(|named| !named.is_empty()).map(PathBuf::from);
    let mut findings = vec![runtime_directory(named.as_deref())];
    findings.push(directory("locks", &token::lock_directory()));
    if let Some(PinSource::File(path)) = &configuration.pin_source {
        findings.push(pin_file(path));
    }
    findings
}

fn runtime_directory(named: Option<&Path>) -> DoctorFinding {
    let concern = "runtime";
    match named {
        Some(path) if path.is_dir() => directory(concern, path),
        Some(path) => DoctorFinding::wrong(
            concern,
            format!("XDG_RUNTIME_DIR is {}, which is not a directory", path.display()),
            format!("log in again, or unset it to use {}", token::lock_directory().display()),
        ),
        None => DoctorFinding::note(
            concern,
            format!("XDG_RUNTIME_DIR is not set: locks and sockets are in {}", token::lock_directory().display()),
            "programs in sessions that set it find them only if it names the parent of that \
             directory",
        ),
    }
}

/// Checks a directory that must be closed to other users, if it exists.
fn directory(concern: &'static str, path: &Path) -> DoctorFinding {
    let shown = path.display();
    match token::check_private_directory(path) {
        Ok(()) => DoctorFinding::ok(concern, shown.to_string()),
        Err(PrivateDirectoryError::System(error)) if error.kind() == ErrorKind::NotFound => {
            DoctorFinding::ok(concern, format!("{shown}: does not exist yet, created when needed"))
        }
        Err(error @ PrivateDirectoryError::OpenToOthers(_)) => DoctorFinding::wrong(
            concern,
            format!("{shown} {error}"),
            format!("check who put what into {shown}, then chmod 700 {shown}"),
        ),
        Err(error) => DoctorFinding::wrong(concern, format!("{shown} {error}"), "remove it, or set XDG_RUNTIME_DIR"),
    }
}

fn pin_file(path: &Path) -> DoctorFinding {
    let concern = "PIN file";
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => DoctorFinding::wrong(concern, format!("{shown}: {error}"), "correct `pin_source` in agent.toml"),
        Ok(found) if !found.is_file() => {
            DoctorFinding::wrong(concern, format!("{shown} is not a file"), "correct `pin_source` in agent.toml")
        }
        Ok(found) if found.mode() & 0o077 != 0 => DoctorFinding::wrong(
            concern,
            format!("{shown} can be read by others (mode {:04o}), and is refused", found.mode() & 0o7777),
            format!("chmod 600 {shown}; change the PIN if somebody may have read it (`tokenkeep pin change`)"),
        ),
        Ok(_) => DoctorFinding::ok(concern, shown.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::finding::FindingState;
    use super::*;

    #[test]
    fn files_accessible_to_others_are_wrong() {
        let home = tempfile::tempdir().unwrap();
        let set = |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
        set(0o700);
        assert_eq!(directory("x", home.path()).state, FindingState::Ok);
        assert_eq!(directory("x", &home.path().join("none")).state, FindingState::Ok);
        set(0o770);
        let finding = directory("x", home.path());
        assert!(finding.state == FindingState::Wrong && finding.remedy.unwrap().contains("chmod 700"));
        set(0o700);
        symlink(home.path(), home.path().join("link")).unwrap();
        assert_eq!(directory("x", &home.path().join("link")).state, FindingState::Wrong);
        assert_eq!(runtime_directory(Some(&home.path().join("none"))).state, FindingState::Wrong);
        assert_eq!(runtime_directory(None).state, FindingState::Note);
        assert_eq!(pin_file(home.path()).state, FindingState::Wrong);
    }
}
