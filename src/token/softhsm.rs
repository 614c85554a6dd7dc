//! SoftHSM's configuration and its tokens' directories, for what PKCS#11 does not tell: why it cannot start, and where a
//! token lies that is to be removed.
//!
//! SoftHSM says `CKR_GENERAL_ERROR` whatever is wrong with its configuration.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// What to type for tokens of one's own, with nothing but SoftHSM installed.
const OWN_TOKENS: &str = "`mkdir -p ~/.config/softhsm2 && mkdir -p -m 700 ~/.local/share/softhsm && echo \
                          \"directories.tokendir = $HOME/.local/share/softhsm\" > ~/.config/softhsm2/softhsm2.conf && unset \
                          SOFTHSM2_CONF` makes a place for tokens of your own";

/// A configuration that SoftHSM can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftHsmConfiguration {
    /// the file, and how SoftHSM comes to take it
    pub described: String,
    /// where the tokens are, a directory each
    pub token_directory: PathBuf,
}

/// Why SoftHSM cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftHsmProblem {
    /// what is wrong, in one sentence
    pub what: String,
    /// what to do
    pub remedy: String,
}

impl SoftHsmConfiguration {
    /// The one that SoftHSM takes in this process: `$SOFTHSM2_CONF`, even if it is empty; else one's own; else the system's.
    pub fn of_this_process() -> Result<Self, SoftHsmProblem> {
        Self::find(env::var_os("SOFTHSM2_CONF"), env::var_os("HOME").map(PathBuf::from).as_deref())
    }

    fn find(named: Option<OsString>, home: Option<&Path>) -> Result<Self, SoftHsmProblem> {
        if named.as_ref().is_some_and(|named| named.is_empty()) {
            return Err(problem("SOFTHSM2_CONF is set to nothing, so SoftHSM has no configuration".to_owned()));
        }
        if let Some(named) = named {
            return Self::read(Path::new(&named), "SOFTHSM2_CONF");
        }
        let own = home.map(|home| home.join(".config/softhsm2/softhsm2.conf"));
        let usual = [own, Some("/etc/softhsm/softhsm2.conf".into()), Some("/etc/softhsm2.conf".into())];
        match usual.into_iter().flatten().find(|path| path.exists()) {
            Some(path) => Self::read(&path, "its usual place; SOFTHSM2_CONF is not set"),
            None => Err(problem(
                "SoftHSM has no configuration: SOFTHSM2_CONF is not set, and neither ~/.config/softhsm2/softhsm2.conf nor \
                 /etc/softhsm/softhsm2.conf can be seen"
                    .to_owned(),
            )),
        }
    }

    fn read(path: &Path, origin: &str) -> Result<Self, SoftHsmProblem> {
        let described = format!("{} ({origin})", path.display());
        let text = fs::read_to_string(path)
            .map_err(|error| problem(format!("SoftHSM's configuration {described} cannot be read: {error}")))?;
        let tokens = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == "directories.tokendir")
            .map(|(_, value)| PathBuf::from(value.trim()));
        let Some(tokens) = tokens else {
            return Err(problem(format!("SoftHSM's configuration {described} has no directories.tokendir")));
        };
        let shown = tokens.display();
        if let Err(error) = fs::read_dir(&tokens) {
            let what = format!("SoftHSM's token directory {shown}, which {described} names, cannot be read: {error}");
            return Err(match error.kind() {
                std::io::ErrorKind::NotFound => {
                    SoftHsmProblem { what, remedy: format!("`mkdir -p -m 700 {shown}` makes it") }
                }
                _ => problem(what),
            });
        }
        if access(&tokens, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
            return Err(problem(format!(
                "you may not write to SoftHSM's token directory {shown}, which {described} names"
            )));
        }
        Ok(Self { described, token_directory: tokens })
    }

    /// The directory of the token with this serial number, if exactly one has it. (A copied directory is a second one.)
    pub fn directory_of(&self, serial: &str) -> Result<PathBuf, String> {
        let shown = self.token_directory.display();
        let entries =
            fs::read_dir(&self.token_directory).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            // An attribute's bytes stand in the file as they are.
            let content = fs::read(directory.path().join("token.object")).unwrap_or_default();
            if !serial.is_empty() && content.windows(serial.len()).any(|bytes| bytes == serial.as_bytes()) {
                found.push(directory.path());
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(directory), true) => Ok(directory),
            (Some(_), false) => Err(format!("two directories in {shown} are of a token with this serial number")),
            (None, _) => Err(format!("no directory in {shown} is of a token with this serial number")),
        }
    }
}

fn problem(what: String) -> SoftHsmProblem {
    SoftHsmProblem { what, remedy: OWN_TOKENS.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_softhsm_cannot_start_with_is_told_with_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("softhsm2.conf");
        let find = || SoftHsmConfiguration::find(Some(path.clone().into()), None);
        let problem = |text: &str| {
            let problem = find().unwrap_err();
            assert!(problem.what.contains(text) && problem.what.contains(path.to_str().unwrap()), "{problem:?}");
            problem.remedy
        };
        assert!(problem("cannot be read").contains(".config/softhsm2/softhsm2.conf"));
        fs::write(&path, "log.level = INFO\n").unwrap();
        problem("no directories.tokendir");
        let tokens = home.path().join("tokens");
        fs::write(&path, format!("# ours\ndirectories.tokendir = {}\n", tokens.display())).unwrap();
        assert!(problem("token directory").contains(&format!("mkdir -p -m 700 {}", tokens.display())));
        fs::create_dir(&tokens).unwrap();
        assert_eq!(find().unwrap().token_directory, tokens);

        assert!(SoftHsmConfiguration::find(Some(OsString::new()), None).unwrap_err().what.contains("nothing"));
        fs::create_dir_all(home.path().join(".config/softhsm2")).unwrap();
        fs::rename(&path, home.path().join(".config/softhsm2/softhsm2.conf")).unwrap();
        assert_eq!(SoftHsmConfiguration::find(None, Some(home.path())).unwrap().token_directory, tokens);
    }

    #[test]
    fn a_tokens_directory_is_found_by_its_serial_number_and_a_copied_one_is_no_answer() {
        let tokens = tempfile::tempdir().unwrap();
        let configuration =
            SoftHsmConfiguration { described: String::new(), token_directory: tokens.path().to_owned() };
        assert!(configuration.directory_of("0123456789abcdef").unwrap_err().contains("no directory"));
        for name in ["one", "other"] {
            fs::create_dir(tokens.path().join(name)).unwrap();
        }
        fs::write(tokens.path().join("one/token.object"), b"\x00\x100123456789abcdef\x00").unwrap();
        assert_eq!(configuration.directory_of("0123456789abcdef").unwrap(), tokens.path().join("one"));
        assert!(configuration.directory_of("").is_err());
        fs::copy(tokens.path().join("one/token.object"), tokens.path().join("other/token.object")).unwrap();
        assert!(configuration.directory_of("0123456789abcdef").unwrap_err().contains("two directories"));
    }
}
