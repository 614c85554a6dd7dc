//! SoftHSM's configuration: without one that it can read, all it says is `CKR_GENERAL_ERROR`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::finding::Finding;
use crate::cli::surroundings::directory;

const CONCERN: &str = "SoftHSM";

const REMEDY: &str = "run ./softhsm-setup.sh, and set SOFTHSM2_CONF as it says";

/// The configuration that SoftHSM would take, if one of these modules is SoftHSM.
pub fn look(modules: &[PathBuf]) -> Vec<Finding> {
    if !modules.iter().any(|path| path.to_string_lossy().contains("softhsm")) {
        return Vec::new();
    }
    let named = env::var_os("SOFTHSM2_CONF").map(PathBuf::from);
    let own = directory("HOME").map(|home| home.join(".config/softhsm2/softhsm2.conf"));
    let usual = [own, Some("/etc/softhsm/softhsm2.conf".into()), Some("/etc/softhsm2.conf".into())];
    let path = named.clone().or_else(|| usual.into_iter().flatten().find(|path| path.exists()));
    vec![match path {
        None => Finding::wrong(CONCERN, "it has no configuration", REMEDY),
        Some(path) => configuration(&path, if named.is_some() { "SOFTHSM2_CONF" } else { "its usual place" }),
    }]
}

fn configuration(path: &Path, found: &str) -> Finding {
    let shown = format!("{} ({found})", path.display());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Finding::wrong(CONCERN, format!("its configuration {shown}: {error}"), REMEDY),
    };
    let tokens = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "directories.tokendir")
        .map(|(_, value)| PathBuf::from(value.trim()));
    let Some(tokens) = tokens else {
        return Finding::wrong(CONCERN, format!("{shown} has no directories.tokendir"), REMEDY);
    };
    if !tokens.is_dir() {
        let what = format!("{shown}: the token directory {} is not there", tokens.display());
        return Finding::wrong(CONCERN, what, REMEDY);
    }
    if access(&tokens, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("{shown}: you may not write to the token directory {}", tokens.display());
        return Finding::wrong(CONCERN, what, "run ./softhsm-setup.sh --user for tokens of your own");
    }
    Finding::ok(CONCERN, format!("{shown}, tokens in {}", tokens.display()))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_configuration_that_softhsm_could_not_use_is_told() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("softhsm2.conf");
        let state = || configuration(&path, "SOFTHSM2_CONF").state;
        assert_eq!(state(), State::Wrong);
        fs::write(&path, "log.level = INFO\n").unwrap();
        assert_eq!(state(), State::Wrong);
        let tokens = home.path().join("tokens");
        fs::write(&path, format!("# ours\ndirectories.tokendir = {}\n", tokens.display())).unwrap();
        assert_eq!(state(), State::Wrong);
        fs::create_dir(&tokens).unwrap();
        assert_eq!(state(), State::Ok);
        assert!(look(&["/usr/lib/opensc-pkcs11.so".into()]).is_empty());
    }
}
