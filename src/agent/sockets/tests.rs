//! Permission to create the sockets, and the only agent of a user.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// A new directory, like a user's.
fn directory() -> (TempDir, SocketDirectory) {
    let home = tempfile::tempdir().unwrap();
    let directory = SocketDirectory(home.path().join("tokenkeep/agent"));
    (home, directory)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn sockets_are_private_and_removed_with_the_agent() {
    let (_home, directory) = directory();
    assert_eq!(directory.state(Endpoint::Ssh), Ok(SocketState::Absent));
    let instance_lock = directory.lock_instance().unwrap();
    let sockets = [Endpoint::Ssh, Endpoint::Api].map(|endpoint| instance_lock.bind(endpoint).unwrap());
    for path in [directory.path(), directory.path().parent().unwrap()] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for endpoint in [Endpoint::Ssh, Endpoint::Api] {
        assert_eq!(mode(&directory.socket(endpoint)), 0o600);
        assert_eq!(directory.state(endpoint), Ok(SocketState::Live));
    }
    assert_eq!(sockets[0].path().unwrap(), directory.socket(Endpoint::Ssh));
    drop(sockets);
    assert_eq!(directory.state(Endpoint::Ssh), Ok(SocketState::Absent));
    assert!(!directory.path().join("ssh.new").exists());
}

#[test]
fn only_one_agent_runs() {
    let (_home, directory) = directory();
    assert_eq!(directory.running(), None);
    let instance_lock = directory.lock_instance().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    assert_eq!(directory.running(), Some(own));
    let error = directory.lock_instance().unwrap_err();
    assert!(error.to_string().contains(&format!("process {own}")), "{error}");
    drop(instance_lock);
    assert_eq!(directory.running(), None, "the process id in the file alone proves nothing");
    directory.lock_instance().unwrap();
}

#[test]
fn a_live_socket_is_never_taken_over() {
    let (_home, directory) = directory();
    let instance_lock = directory.lock_instance().unwrap();
    let path = directory.socket(Endpoint::Ssh);
    let others = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    let error = instance_lock.bind(Endpoint::Ssh).unwrap_err();
    assert!(error.to_string().contains("another program listens on it"), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    drop(others);
}

#[test]
fn a_file_that_is_no_socket_is_kept() {
    let (_home, directory) = directory();
    let instance_lock = directory.lock_instance().unwrap();
    fs::write(directory.socket(Endpoint::Api), "mine").unwrap();
    assert!(directory.state(Endpoint::Api).is_err());
    assert!(instance_lock.bind(Endpoint::Api).is_err());
    assert_eq!(fs::read(directory.socket(Endpoint::Api)).unwrap(), b"mine");
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    for wrong in ["tokenkeep", "tokenkeep/agent"] {
        let (home, directory) = directory();
        directory.prepare().unwrap();
        fs::set_permissions(home.path().join(wrong), Permissions::from_mode(0o750)).unwrap();
        let error = directory.lock_instance().unwrap_err();
        assert!(matches!(error, AgentProcessError::Directory { .. }), "{error}");
        assert!(error.to_string().contains("mode 750"), "{error}");
    }
}

#[test]
fn a_link_in_place_of_the_directory_is_refused() {
    let (home, directory) = directory();
    fs::create_dir_all(home.path().join("elsewhere/agent")).unwrap();
    for path in ["elsewhere", "elsewhere/agent"] {
        fs::set_permissions(home.path().join(path), Permissions::from_mode(0o700)).unwrap();
    }
    symlink(home.path().join("elsewhere"), home.path().join("tokenkeep")).unwrap();
    let error = directory.lock_instance().unwrap_err();
    assert!(error.to_string().contains("it is not a directory"), "{error}");
    assert!(!home.path().join("elsewhere/agent/lock").exists());
}

#[test]
fn a_socket_that_others_can_use_is_reported() {
    let (_home, directory) = directory();
    let instance_lock = directory.lock_instance().unwrap();
    let _socket = instance_lock.bind(Endpoint::Ssh).unwrap();
    fs::set_permissions(directory.socket(Endpoint::Ssh), Permissions::from_mode(0o666)).unwrap();
    let SocketProblem { reason, remedy } = directory.state(Endpoint::Ssh).unwrap_err();
    assert!(reason.contains("666") && remedy.contains("chmod 600"), "{reason}; {remedy}");
}

#[test]
fn a_path_that_is_too_long_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let directory = SocketDirectory(home.path().join("tokenkeep").join("x".repeat(107)));
    let instance_lock = directory.lock_instance().unwrap();
    let error = instance_lock.bind(Endpoint::Ssh).unwrap_err().to_string();
    assert!(error.contains("107 bytes") && error.contains("XDG_RUNTIME_DIR"), "{error}");
}
