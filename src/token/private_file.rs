//! Directories of one user alone, and small files in the lock directory
//! ([`super::lock_directory`]): token owners, counts of wrong PINs, tried modules. A file that
//! another user could have put there is neither trusted nor written.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::OFlags;
use rustix::process::{geteuid, getpid};

/// Maximum number of bytes read from such a file.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The directory of these files: `$XDG_RUNTIME_DIR/tokenkeep`; if that is not set (cron, `su`),
/// `tokenkeep` in the runtime directory of this user's login shells; else `/tmp/tokenkeep-UID`. It
/// ignores `TMPDIR`, because programs with different values must find each other. It may not exist
/// yet.
pub fn lock_directory() -> PathBuf {
    lock_directory_by(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), Path::new("/run/user"))
}

fn lock_directory_by(named: Option<PathBuf>, of_users: &Path) -> PathBuf {
    let user = geteuid().as_raw();
    if let Some(runtime) = named.filter(|directory| directory.is_dir()) {
        return runtime.join("tokenkeep");
    }
    let own = of_users.join(user.to_string());
    let is_private = |found: &fs::Metadata| found.is_dir() && found.uid() == user && found.mode() & 0o777 == 0o700;
    if fs::symlink_metadata(&own).is_ok_and(|found| is_private(&found)) {
        return own.join("tokenkeep");
    }
    PathBuf::from(format!("/tmp/tokenkeep-{user}"))
}

/// Why a directory is not one of this user alone. Each message is a predicate.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirectoryError {
    /// It is missing, or cannot be created or read.
    #[error("cannot be used ({0})")]
    System(#[from] io::Error),
    #[error("is not a directory")]
    NotADirectory,
    #[error("belongs to another user")]
    AnotherUsers,
    /// Its mode, in this field, admits other users.
    #[error("can be used by others (mode {0:04o})")]
    OpenToOthers(u32),
}

/// Creates the directory if needed, and checks that no other user can put files into it.
pub fn make_private_directory(directory: &Path) -> Result<(), PrivateDirectoryError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => check_private_directory(directory),
    }
}

/// Checks that the directory is this user's, not a link, and that no other user can access it.
pub fn check_private_directory(directory: &Path) -> Result<(), PrivateDirectoryError> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() {
        return Err(PrivateDirectoryError::NotADirectory);
    }
    if found.uid() != geteuid().as_raw() {
        return Err(PrivateDirectoryError::AnotherUsers);
    }
    match found.mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(PrivateDirectoryError::OpenToOthers(mode)),
        _ => Ok(()),
    }
}

/// Opens a file for reading and writing, and creates it if needed. It must be a regular file of
/// this user, not a symbolic link, and not writable by others.
pub(super) fn open(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    open_with(path, &mut options)
}

fn open_with(path: &Path, options: &mut OpenOptions) -> Result<File, String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file =
        options.mode(0o600).custom_flags(flags).open(path).map_err(|error| match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => "it is a symbolic link, which is not followed".to_owned(),
            _ => error.to_string(),
        })?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if found.uid() != geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if found.mode() & 0o022 != 0 {
        return Err("others can write to it".to_owned());
    }
    Ok(file)
}

/// The text of the file; `None` if it does not exist or cannot be trusted.
pub(super) fn read(path: &Path) -> Option<String> {
    let directory = path.parent()?;
    make_private_directory(directory).ok()?;
    let file = open_with(path, OpenOptions::new().read(true)).ok()?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Replaces the file atomically.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    let directory = path.parent().ok_or("it has no parent directory")?;
    make_private_directory(directory).map_err(|error| format!("its directory {error}"))?;
    let name = path.file_name().unwrap_or(OsStr::new("file")).to_string_lossy();
    let new = directory.join(format!("{name}.{}.new", getpid().as_raw_nonzero()));
    // A leftover of an earlier process with the same ID.
    let _ = fs::remove_file(&new);
    let written = open_with(&new, OpenOptions::new().write(true).create_new(true))
        .and_then(|mut file| file.write_all(text.as_bytes()).map_err(|error| error.to_string()))
        .and_then(|()| fs::rename(&new, path).map_err(|error| error.to_string()));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// The reason why another user controls this file: it or its directory belongs to a user other than
/// this one and root, or others can write to it. `None` if no other user does. The text is the
/// reason and, after `; `, the next step.
///
/// In a directory with the sticky bit (such as `/tmp`) others cannot replace this user's files. A
/// group of this user alone (the user private groups of Debian and Fedora, with umask 002) does not
/// count as others.
pub fn untrusted_file_reason(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for (path, is_directory) in [(path, false), (directory, true)] {
        // Loading a missing file reports it.
        let Ok(found) = fs::metadata(path) else { continue };
        let what = if is_directory { "its directory" } else { "it" };
        if found.uid() != geteuid().as_raw() && found.uid() != 0 {
            let owner = found.uid();
            return Some(format!(
                "{what} belongs to another user (user {owner}); use it as that user, or copy it to a directory of \
                 your own"
            ));
        }
        let is_sticky = is_directory && found.mode() & 0o1000 != 0;
        let by_group = found.mode() & 0o020 != 0 && !is_of_this_user_alone(found.gid());
        if (by_group || found.mode() & 0o002 != 0) && !is_sticky {
            return Some(format!(
                "others can write to {what} (mode {:04o}); `chmod go-w {}`",
                found.mode() & 0o7777,
                path.display()
            ));
        }
    }
    None
}

/// Whether this is the user's private group: the primary one, with the user's name and no other
/// member.
fn is_of_this_user_alone(group: u32) -> bool {
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    user.zip(group).is_some_and(|(user, group)| is_private_group(&user, &group))
}

fn is_private_group(user: &User, group: &Group) -> bool {
    group.gid == user.gid && group.name == user.name && group.mem.iter().all(|member| *member == user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn private_directory() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        home
    }

    #[test]
    fn a_written_file_is_readable_by_its_owner_only() {
        let home = private_directory();
        let path = home.path().join("file");
        assert_eq!(read(&path), None);
        for text in ["a text", "another"] {
            write(&path, text).unwrap();
            assert_eq!(read(&path).as_deref(), Some(text));
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn only_a_directory_of_this_user_alone_is_private() {
        let home = private_directory();
        let at = |name: &str| home.path().join(name);
        make_private_directory(&at("new")).unwrap();
        assert_eq!(fs::metadata(at("new")).unwrap().mode() & 0o7777, 0o700);
        make_private_directory(&at("new")).unwrap();
        for (mode, is_private) in [(0o750, false), (0o701, false), (0o1777, false), (0o500, true)] {
            fs::set_permissions(at("new"), fs::Permissions::from_mode(mode)).unwrap();
            match check_private_directory(&at("new")) {
                Err(PrivateDirectoryError::OpenToOthers(found)) => assert!(!is_private && found == mode, "{mode:o}"),
                other => assert!(is_private && other.is_ok(), "{mode:o}: {other:?}"),
            }
        }
        symlink(home.path(), at("link")).unwrap();
        fs::write(at("file"), "").unwrap();
        for name in ["link", "file"] {
            let error = make_private_directory(&at(name)).unwrap_err();
            assert!(matches!(error, PrivateDirectoryError::NotADirectory), "{name}: {error}");
        }
        for missing in ["none", "none/below"] {
            let error = check_private_directory(&at(missing)).unwrap_err();
            assert!(matches!(error, PrivateDirectoryError::System(_)), "{missing}: {error}");
        }
        assert!(matches!(make_private_directory(&at("none/below")), Err(PrivateDirectoryError::System(_))));
    }

    #[test]
    fn a_link_is_never_followed() {
        let home = private_directory();
        let (target, link) = (home.path().join("target"), home.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        assert_eq!(read(&link), None);
        assert!(open(&link).unwrap_err().contains("symbolic link"));
        write(&link, "mine").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious", "the link was replaced, not followed");
    }

    #[test]
    fn a_file_that_others_can_write_or_replace_is_reported() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("module.so");
        fs::write(&path, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let is_reported = || untrusted_file_reason(&path).is_some();
        mode(home.path(), 0o755);
        // A group of this user alone does not count as others.
        let by_group = !is_of_this_user_alone(fs::metadata(home.path()).unwrap().gid());
        for (file, expected) in [(0o644, false), (0o664, by_group), (0o646, true), (0o666, true), (0o755, false)] {
            mode(&path, file);
            assert_eq!(is_reported(), expected, "{file:o}");
        }
        for (directory, expected) in [(0o775, by_group), (0o757, true), (0o1777, false), (0o700, false)] {
            mode(home.path(), directory);
            assert_eq!(is_reported(), expected, "{directory:o}");
        }
        assert_eq!(untrusted_file_reason(Path::new("/nowhere/module.so")), None);
    }

    #[test]
    fn a_private_group_has_the_users_name_and_no_other_member() {
        let mut user = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        user.name = "ada".into();
        user.gid = Gid::from_raw(1000);
        let group = |name: &str, gid: u32, members: &[&str]| {
            let mut group = Group::from_gid(Gid::from_raw(0)).unwrap().unwrap();
            group.name = name.into();
            group.gid = Gid::from_raw(gid);
            group.mem = members.iter().map(ToString::to_string).collect();
            is_private_group(&user, &group)
        };
        assert!(group("ada", 1000, &[]) && group("ada", 1000, &["ada"]));
        assert!(!group("users", 1000, &[]), "a shared group");
        assert!(!group("ada", 1000, &["ada", "bob"]), "another member");
        assert!(!group("ada", 1001, &[]), "it is not the primary one");
    }

    #[test]
    fn programs_share_a_directory_without_a_runtime_directory() {
        let home = tempfile::tempdir().unwrap();
        let user = geteuid().as_raw();
        let own = home.path().join(user.to_string());
        let mode = |mode| fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
        let found = |named: Option<&Path>| lock_directory_by(named.map(Path::to_owned), home.path());
        let last = PathBuf::from(format!("/tmp/tokenkeep-{user}"));
        assert_eq!(found(None), last);
        fs::create_dir(&own).unwrap();
        mode(0o700);
        assert_eq!(found(None), own.join("tokenkeep"));
        assert_eq!(found(Some(&own)), found(None), "a login shell and a cron job");
        assert_eq!(found(Some(home.path())), home.path().join("tokenkeep"), "XDG_RUNTIME_DIR comes first");
        for named in ["", "/no/such/directory"] {
            assert_eq!(found(Some(Path::new(named))), own.join("tokenkeep"), "{named:?}");
        }
        mode(0o750);
        assert_eq!(found(None), last, "others can use it");
        fs::remove_dir(&own).unwrap();
        symlink(home.path(), &own).unwrap();
        assert_eq!(found(None), last, "a link");
    }

    #[test]
    fn a_file_that_others_could_have_written_is_ignored() {
        let home = private_directory();
        let path = home.path().join("file");
        write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert_eq!(read(&path), None);
        assert!(open(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(read(&path), None);
        assert!(write(&path, "more").is_err());
    }
}
