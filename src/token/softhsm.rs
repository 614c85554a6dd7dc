//! SoftHSM's configuration and token directories, for what PKCS#11 does not report: why SoftHSM
//! cannot start, and which directory belongs to a token that is to be removed.
//!
//! SoftHSM returns `CKR_GENERAL_ERROR` for every fault of its configuration.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

/// The commands that make a token directory for a user who has only SoftHSM installed. The
/// directory is the README's. They overwrite no existing file.
const SETUP_COMMAND: &str = "`mkdir -p ~/.config/softhsm2 && mkdir -p -m 700 ~/.local/share/softhsm2/tokens && (set -C \
                          && echo \"directories.tokendir = $HOME/.local/share/softhsm2/tokens\" > \
                          ~/.config/softhsm2/softhsm2.conf) && unset SOFTHSM2_CONF` creates a directory for tokens of \
                          your own";

/// The user's configuration file, relative to the home directory.
const IN_HOME: &str = ".config/softhsm2/softhsm2.conf";

/// The origin of a configuration file that the variable names.
const NAMED: &str = "SOFTHSM2_CONF";

/// A configuration that SoftHSM can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftHsmConfiguration {
    /// the path of the file and its origin
    pub described: String,
    /// the token directory, which has one subdirectory per token
    pub token_directory: PathBuf,
}

/// The reason why SoftHSM cannot start, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftHsmProblem {
    /// the fault, in one sentence
    pub what: String,
    /// the next step
    pub remedy: String,
}

impl SoftHsmConfiguration {
    /// The configuration that SoftHSM uses in this process: `$SOFTHSM2_CONF`, even if it is empty;
    /// else the user's; else the system's.
    pub fn of_this_process() -> Result<Self, SoftHsmProblem> {
        Self::find(env::var_os("SOFTHSM2_CONF"), env::var_os("HOME").map(PathBuf::from).as_deref())
    }

    fn find(named: Option<OsString>, home: Option<&Path>) -> Result<Self, SoftHsmProblem> {
        let origin = match &named {
            Some(named) if named.is_empty() => {
                let what = "SOFTHSM2_CONF is empty, so SoftHSM has no configuration".to_owned();
                return Err(SoftHsmProblem { what, remedy: own_configuration(home) });
            }
            Some(_) => NAMED,
            None => "its default location; SOFTHSM2_CONF is not set",
        };
        match configuration_file(named, home) {
            Some(path) => Self::read(&path, origin, home),
            None => Err(SoftHsmProblem {
                what: "SoftHSM has no configuration: SOFTHSM2_CONF is not set, and neither \
                       ~/.config/softhsm2/softhsm2.conf nor /etc/softhsm/softhsm2.conf is accessible"
                    .to_owned(),
                remedy: SETUP_COMMAND.to_owned(),
            }),
        }
    }

    fn read(path: &Path, origin: &str, home: Option<&Path>) -> Result<Self, SoftHsmProblem> {
        let shown = path.display();
        let described = format!("{shown} ({origin})");
        let text = fs::read(path).map_err(|error| SoftHsmProblem {
            what: format!("SoftHSM's configuration {described} cannot be read: {error}"),
            remedy: match error.kind() {
                ErrorKind::PermissionDenied if origin != NAMED => format!("make it readable for you ({shown})"),
                ErrorKind::PermissionDenied => {
                    format!("make it readable for you; or {}", own_configuration(home))
                }
                ErrorKind::IsADirectory => "name the file, not its directory".to_owned(),
                _ if path.is_relative() => "name the file by its absolute path: a relative one depends on the current \
                                            directory of each program"
                    .to_owned(),
                _ => own_configuration(home),
            },
        })?;
        let Some(tokens) = softhsm_token_directory(&String::from_utf8_lossy(&text)) else {
            return Err(SoftHsmProblem {
                what: format!(
                    "SoftHSM's configuration {described} has no directories.tokendir, so SoftHSM uses its built-in \
                     directory"
                ),
                remedy: format!(
                    "add the line `directories.tokendir = DIRECTORY` to {shown}, with the absolute path of a \
                     directory of your own"
                ),
            });
        };
        let directory = tokens.display();
        let not_ones_own = || {
            format!("`chmod u+rwx {}` if it is yours, else name a directory of your own in {shown}", quoted(&tokens))
        };
        if let Err(error) = fs::read_dir(&tokens) {
            return Err(SoftHsmProblem {
                what: format!("SoftHSM's token directory {directory}, named in {described}, cannot be read: {error}"),
                remedy: match error.kind() {
                    _ if tokens.is_relative() => format!(
                        "name it by its absolute path in {shown}: a relative one depends on the current directory of \
                         each program"
                    ),
                    ErrorKind::NotFound => format!("create it with `mkdir -p -m 700 {}`", quoted(&tokens)),
                    ErrorKind::NotADirectory => format!("name a directory in {shown}"),
                    _ => not_ones_own(),
                },
            });
        }
        if access(&tokens, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
            let what = format!("you may not write to SoftHSM's token directory {directory}, named in {described}");
            return Err(SoftHsmProblem { what, remedy: not_ones_own() });
        }
        Ok(Self { described, token_directory: tokens })
    }

    /// The directory of the token with this serial number. An error if there is none or more than
    /// one (a copied directory is a second one).
    pub fn directory_of(&self, serial: &str) -> Result<PathBuf, String> {
        let shown = self.token_directory.display();
        let entries =
            fs::read_dir(&self.token_directory).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if softhsm_serial(&directory.path().join(OBJECT)).is_some_and(|own| own == serial.as_bytes()) {
                found.push(directory.path());
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(directory), true) => Ok(directory),
            (Some(_), false) => Err(format!("two directories in {shown} hold a token with this serial number")),
            (None, _) => Err(format!("no directory in {shown} holds a token with this serial number")),
        }
    }
}

/// The remedy that leads to the user's own configuration, which may exist already. Ordinary users
/// mostly cannot use the system's.
fn own_configuration(home: Option<&Path>) -> String {
    match home.map(|home| home.join(IN_HOME)).filter(|own| own.exists()) {
        Some(own) => format!("`unset SOFTHSM2_CONF` lets SoftHSM use {}, which exists", own.display()),
        None => SETUP_COMMAND.to_owned(),
    }
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The file that SoftHSM uses: the named one, whatever it is, else the first default one that
/// exists.
pub(super) fn configuration_file(named: Option<OsString>, home: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return (!named.is_empty()).then(|| named.into());
    }
    let own = home.map(|home| home.join(IN_HOME));
    let usual = [own, Some("/etc/softhsm/softhsm2.conf".into()), Some("/etc/softhsm2.conf".into())];
    usual.into_iter().flatten().find(|path| path.exists())
}

/// `directories.tokendir` of softhsm2.conf(5), parsed like SoftHSM: a line ends at `#`, a value
/// ends at the next `=`, and the last one counts.
pub fn softhsm_token_directory(configuration: &str) -> Option<PathBuf> {
    let value = |line: &str| {
        let line = line.split(['#', '\r']).next()?;
        let mut parts = line.split('=').filter(|part| !part.is_empty());
        let (name, value) = (parts.next()?.trim(), parts.next()?.trim());
        (name == "directories.tokendir" && !value.is_empty()).then(|| PathBuf::from(value))
    };
    configuration.lines().filter_map(value).next_back()
}

/// The file with the token's own attributes, in its directory.
pub(super) const OBJECT: &str = "token.object";

/// The serial number in a token's own object file.
pub(super) fn softhsm_serial(object: &Path) -> Option<Vec<u8>> {
    serial_in(&fs::read(object).ok()?)
}

/// The value of `CKA_OS_TOKENSERIAL` (0x8000534a). An object file is a list of attributes: type,
/// kind (3: bytes), length (8 bytes each, big endian) and value. This searches for the attribute
/// without parsing the others.
fn serial_in(bytes: &[u8]) -> Option<Vec<u8>> {
    const SERIAL: [u8; 16] = [0, 0, 0, 0, 0x80, 0, 0x53, 0x4a, 0, 0, 0, 0, 0, 0, 0, 3];
    let at = bytes.windows(SERIAL.len()).position(|window| window == SERIAL)? + SERIAL.len();
    let length = u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    let length = usize::try_from(length).ok().filter(|length| (1..=64).contains(length))?;
    bytes.get(at + 8..at + 8 + length).map(<[u8]>::to_vec)
}

/// A token in a token directory that its module skips silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableTokenDirectory {
    pub directory: PathBuf,
    /// the fault
    pub why: String,
    /// the next step
    pub remedy: String,
}

/// Maximum age of an incomplete token that another program may still be making.
const PROVISIONING_LOCK: Duration = Duration::from_millis(100);

/// The unreadable tokens of this token directory.
pub(super) fn unreadable_in(directory: &Path) -> Vec<UnreadableTokenDirectory> {
    let mut tokens = tokens_in(directory);
    tokens.retain(|token| unreadable(token).is_some());
    if !tokens.is_empty() {
        std::thread::sleep(PROVISIONING_LOCK);
    }
    tokens.iter().filter_map(|token| unreadable(token)).collect()
}

fn tokens_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut tokens: Vec<PathBuf> = directories.map(|entry| entry.path()).collect();
    tokens.sort();
    tokens
}

fn unreadable(token: &Path) -> Option<UnreadableTokenDirectory> {
    let restore = || "restore its files from a backup, or move the directory out of the token directory".to_owned();
    let (why, remedy) = match fs::read(token.join(OBJECT)) {
        Ok(bytes) if serial_in(&bytes).is_some() => return None,
        Ok(bytes) if bytes.is_empty() => (format!("its {OBJECT} is empty, as after a full disk"), restore()),
        Ok(_) => (format!("its {OBJECT} contains no serial number"), restore()),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named_as_a_token(token) => return None,
        Err(error) if error.kind() == ErrorKind::NotFound => (format!("it has no {OBJECT}"), restore()),
        Err(error) => {
            let owner = fs::metadata(token)
                .map_or_else(|_| " an unknown user".to_owned(), |found| format!(" user {}", found.uid()));
            let shown = quoted(token);
            (
                format!("its {OBJECT} cannot be read ({error}; the directory belongs to{owner})"),
                format!("`chmod -R u+rwX {shown}`, or, if another user made it, `sudo chown -R \"$USER\" {shown}`"),
            )
        }
    };
    Some(UnreadableTokenDirectory { directory: token.to_owned(), why, remedy })
}

/// Whether the name is a UUID, as SoftHSM names token directories.
fn is_named_as_a_token(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let parts: Vec<usize> = name.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && name.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Whether tokens of this manufacturer (`C_GetTokenInfo`) are directories of `SoftHSM`, whichever
/// module shows them: p11-kit's proxy shows SoftHSM's tokens, too.
pub(super) fn is_soft_token(manufacturer: &str) -> bool {
    manufacturer.starts_with("SoftHSM")
}

/// Removes the token with this serial number from the disk of this process's `SoftHSM`, with
/// everything on it.
///
/// # Errors
/// The reason why it is still there, or not completely.
pub(super) fn remove_soft_token(serial: &str) -> Result<(), String> {
    let configuration =
        SoftHsmConfiguration::of_this_process().map_err(|problem| format!("{}; {}", problem.what, problem.remedy))?;
    let directory = configuration.directory_of(serial)?;
    fs::remove_dir_all(&directory)
        .map_err(|error| format!("cannot remove {}: {error}; the rest is not a complete token", directory.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_softhsm_startup_problem_has_a_remedy() {
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

        assert!(SoftHsmConfiguration::find(Some(OsString::new()), None).unwrap_err().what.contains("is empty"));
        fs::create_dir_all(home.path().join(".config/softhsm2")).unwrap();
        fs::rename(&path, home.path().join(".config/softhsm2/softhsm2.conf")).unwrap();
        assert_eq!(SoftHsmConfiguration::find(None, Some(home.path())).unwrap().token_directory, tokens);
    }

    /// A token's own object file, reduced to the parts that are read.
    fn object(serial: &[u8]) -> Vec<u8> {
        let head = b"\0\0\0\0\x80\0SI\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04mine".as_slice();
        let of_serial = b"\0\0\0\0\x80\0SJ\0\0\0\0\0\0\0\x03".as_slice();
        [head, of_serial, &u64::try_from(serial.len()).unwrap().to_be_bytes(), serial].concat()
    }

    #[test]
    fn a_remedy_fits_its_cause_and_writes_over_nothing() {
        let home = tempfile::tempdir().unwrap();
        let find = |named: &str| SoftHsmConfiguration::find(Some(named.into()), Some(home.path())).unwrap_err();
        let own = home.path().join(IN_HOME);
        for named in ["", "/no/such/softhsm2.conf"] {
            let remedy = find(named).remedy;
            assert!(remedy.contains("set -C") && remedy.contains(".local/share/softhsm2/tokens"), "{remedy}");
        }
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "directories.tokendir = /srv\n").unwrap();
        for named in ["", "/no/such/softhsm2.conf"] {
            let remedy = find(named).remedy;
            assert!(remedy.starts_with("`unset SOFTHSM2_CONF` lets") && !remedy.contains('>'), "{remedy}");
        }
        assert!(find("softhsm2.conf").remedy.contains("absolute path"), "a relative one");
        assert!(find(home.path().to_str().unwrap()).remedy.contains("name the file"), "a directory");
        let file = home.path().join("its.conf");
        let with_text = |text: String| {
            fs::write(&file, text).unwrap();
            find(file.to_str().unwrap())
        };
        let none = with_text("# directories.tokendir = /srv\n".to_owned());
        assert!(none.what.contains("no directories.tokendir") && none.remedy.contains("its.conf"), "{none:?}");
        assert!(with_text("directories.tokendir = tokens\n".to_owned()).remedy.contains("absolute path"));
        let apart = with_text(format!("directories.tokendir = {}/it's here\n", home.path().display()));
        assert!(apart.remedy.starts_with("create it with `mkdir -p -m 700 '"), "{apart:?}");
        assert!(apart.remedy.ends_with("/it'\\''s here'`"), "{apart:?}");
    }

    #[test]
    fn the_token_directory_is_the_one_that_softhsm_reads() {
        for (text, directory) in [
            ("directories.tokendir = /a\n", Some("/a")),
            ("  directories.tokendir=/a b  # ours\n", Some("/a b")),
            ("directories.tokendir = /a\ndirectories.tokendir = /b\r\n", Some("/b")),
            ("directories.tokendir = /a=b\n", Some("/a")),
            ("# directories.tokendir = /a\n", None),
            ("directories.tokendir =\nlog.level = INFO\n", None),
            ("directories.tokendirs = /a\n", None),
        ] {
            assert_eq!(softhsm_token_directory(text), directory.map(PathBuf::from), "{text:?}");
        }
    }

    #[test]
    fn a_token_that_softhsm_passes_over_is_named() {
        let tokens = tempfile::tempdir().unwrap();
        let at = |name: &str| tokens.path().join(name);
        let token = "11111111-2222-3333-4444-555555555555";
        for name in [token, "lost+found"] {
            fs::create_dir(at(name)).unwrap();
        }
        let why = || unreadable_in(tokens.path()).into_iter().map(|token| token.why).collect::<Vec<_>>();
        assert_eq!(why(), ["it has no token.object"]);
        for (content, said) in [(Vec::new(), Some("empty")), (vec![7; 99], Some("serial")), (object(b"4711"), None)] {
            fs::write(at(token).join(OBJECT), content).unwrap();
            assert_eq!(why().len(), usize::from(said.is_some()));
            assert!(said.is_none_or(|said| why()[0].contains(said)), "{:?}", why());
        }
        fs::set_permissions(at(token), fs::Permissions::from_mode(0o000)).unwrap();
        // Root can read it anyway.
        if !rustix::process::geteuid().is_root() {
            let found = unreadable_in(tokens.path());
            assert!(found[0].remedy.contains("chmod -R u+rwX"), "{found:?}");
        }
        fs::set_permissions(at(token), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_token_directory_is_found_by_serial_unless_copied() {
        let tokens = tempfile::tempdir().unwrap();
        let configuration =
            SoftHsmConfiguration { described: String::new(), token_directory: tokens.path().to_owned() };
        assert!(configuration.directory_of("0123456789abcdef").unwrap_err().contains("no directory"));
        for name in ["one", "other"] {
            fs::create_dir(tokens.path().join(name)).unwrap();
        }
        fs::write(tokens.path().join("one/token.object"), object(b"0123456789abcdef")).unwrap();
        assert!(configuration.directory_of("456789abcdef").is_err(), "a part of the serial number matched");
        assert_eq!(configuration.directory_of("0123456789abcdef").unwrap(), tokens.path().join("one"));
        assert!(configuration.directory_of("").is_err());
        fs::copy(tokens.path().join("one/token.object"), tokens.path().join("other/token.object")).unwrap();
        assert!(configuration.directory_of("0123456789abcdef").unwrap_err().contains("two directories"));
    }
}
