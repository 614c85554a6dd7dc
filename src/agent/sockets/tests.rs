//! Who may create the sockets, and what they may replace.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use tempfile::TempDir;

use super::*;

/// A new directory, like a user's.
fn directory() -> (TempDir, Directory) {
    let home = tempfile::tempdir().unwrap();
    let directory = Directory(home.path().join("tokenkeep/agent"));
    (home, directory)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn sockets_and_their_directory_are_the_users_alone_and_go_with_the_agent() {
    let (_home, directory) = directory();
    assert_eq!(directory.state(Door::Ssh), State::Absent);
    let claim = directory.claim().unwrap();
    let sockets = [Door::Ssh, Door::Api].map(|door| claim.bind(door).unwrap());
    for path in [directory.path(), directory.path().parent().unwrap()] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for door in [Door::Ssh, Door::Api] {
        assert_eq!(mode(&directory.socket(door)), 0o600);
        assert_eq!(directory.state(door), State::Live);
    }
    assert_eq!(sockets[0].path().unwrap(), directory.socket(Door::Ssh));
    drop(sockets);
    assert_eq!(directory.state(Door::Ssh), State::Absent);
    assert!(!directory.path().join("ssh.new").exists());
}

#[test]
fn there_is_one_agent() {
    let (_home, directory) = directory();
    assert_eq!(directory.running(), None);
    let claim = directory.claim().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    assert_eq!(directory.running(), Some(own));
    let error = directory.claim().unwrap_err();
    assert!(error.to_string().contains(&format!("process {own}")), "{error}");
    drop(claim);
    assert_eq!(directory.running(), None, "the process id in the file alone proves nothing");
    directory.claim().unwrap();
}

#[test]
fn a_stale_socket_is_taken_over() {
    let (_home, directory) = directory();
    let claim = directory.claim().unwrap();
    drop(UnixListener::bind(directory.socket(Door::Ssh)).unwrap());
    fs::set_permissions(directory.socket(Door::Ssh), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(directory.state(Door::Ssh), State::Stale);
    let socket = claim.bind(Door::Ssh).unwrap();
    UnixStream::connect(directory.socket(Door::Ssh)).unwrap();
    socket.listener.accept().unwrap();
}

#[test]
fn a_live_socket_is_never_taken_over() {
    let (_home, directory) = directory();
    let claim = directory.claim().unwrap();
    let path = directory.socket(Door::Ssh);
    let others = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let before = inode(&path).unwrap();
    let error = claim.bind(Door::Ssh).unwrap_err();
    assert!(error.to_string().contains("another program listens on it"), "{error}");
    assert_eq!(inode(&path).unwrap(), before);
    drop(others);
}

#[test]
fn one_whose_queue_is_full_is_live() {
    let (_home, directory) = directory();
    directory.prepare().unwrap();
    let path = directory.socket(Door::Api);
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let _waiting: Vec<_> = (0..2).map(|_| knock(&path)).collect();
    assert_eq!(directory.state(Door::Api), State::Live);
}

#[test]
fn what_is_no_socket_stays() {
    let (_home, directory) = directory();
    let claim = directory.claim().unwrap();
    fs::write(directory.socket(Door::Api), "mine").unwrap();
    assert!(matches!(directory.state(Door::Api), State::Wrong(_)));
    assert!(claim.bind(Door::Api).is_err());
    assert_eq!(fs::read(directory.socket(Door::Api)).unwrap(), b"mine");
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    for wrong in ["tokenkeep", "tokenkeep/agent"] {
        let (home, directory) = directory();
        directory.prepare().unwrap();
        fs::set_permissions(home.path().join(wrong), Permissions::from_mode(0o750)).unwrap();
        let error = directory.claim().unwrap_err();
        assert!(matches!(error, BrokerError::Directory { .. }), "{error}");
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
    let error = directory.claim().unwrap_err();
    assert!(error.to_string().contains("it is not a directory"), "{error}");
    assert!(!home.path().join("elsewhere/agent/lock").exists());
}

#[test]
fn a_socket_that_others_can_use_is_said_to_be_wrong() {
    let (_home, directory) = directory();
    let claim = directory.claim().unwrap();
    let _socket = claim.bind(Door::Ssh).unwrap();
    fs::set_permissions(directory.socket(Door::Ssh), Permissions::from_mode(0o666)).unwrap();
    let State::Wrong(Trouble { reason, remedy }) = directory.state(Door::Ssh) else { panic!("nothing is wrong") };
    assert!(reason.contains("666") && remedy.contains("chmod 600"), "{reason}; {remedy}");
}

#[test]
fn anothers_socket_in_its_place_stays() {
    let (_home, directory) = directory();
    let claim = directory.claim().unwrap();
    let path = directory.socket(Door::Ssh);
    let socket = claim.bind(Door::Ssh).unwrap();
    fs::rename(&path, path.with_extension("moved")).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn a_path_that_is_too_long_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let directory = Directory(home.path().join("tokenkeep").join("x".repeat(LONGEST_PATH)));
    let claim = directory.claim().unwrap();
    assert!(claim.bind(Door::Ssh).is_err());
}
