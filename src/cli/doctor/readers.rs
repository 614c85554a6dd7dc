//! Checks pcscd, the daemon for card readers.

use std::env;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::finding::DoctorFinding;

const CONCERN: &str = "pcscd";

/// The socket of pcscd, unless `$PCSCLITE_CSOCK_NAME` names another.
const SOCKET: &str = "/run/pcscd/pcscd.comm";

/// Parts of the file names of modules that need pcscd.
const CARD_MODULES: [&str; 5] = ["opensc", "ykcs11", "onepin", "pcsc", "coolkey"];

/// Checks whether pcscd listens. It must if the user named a module for cards; a module that a
/// package registered with the system may never see a card.
pub fn check(modules: &[PathBuf], are_named: bool) -> Vec<DoctorFinding> {
    let socket = env::var_os("PCSCLITE_CSOCK_NAME").map_or_else(|| PathBuf::from(SOCKET), PathBuf::from);
    let for_cards = modules.iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        CARD_MODULES.iter().any(|card| name.contains(card))
    });
    vec![daemon(&socket, for_cards.filter(|_| are_named).map(PathBuf::as_path))]
}

fn daemon(socket: &Path, needed_by: Option<&Path>) -> DoctorFinding {
    let shown = socket.display();
    // Only connect; request no card.
    let (what, remedy) = match UnixStream::connect(socket) {
        Ok(_) => return DoctorFinding::ok(CONCERN, format!("listens on {shown}")),
        Err(error) if error.kind() == ErrorKind::NotFound => (
            format!("it is not running: {shown} not found"),
            "as root: apt-get install pcscd, or systemctl start pcscd.socket",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => (
            format!("permission denied on {shown}"),
            "log in at this machine, or have pcscd's policy (polkit) allow it",
        ),
        Err(error) => (format!("no process listens on {shown} ({error})"), "as root: systemctl restart pcscd.socket"),
    };
    match needed_by {
        Some(module) => DoctorFinding::wrong(CONCERN, format!("{what}, and {} needs it", module.display()), remedy),
        None => DoctorFinding::note(CONCERN, format!("{what}; only smart cards need it"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::finding::FindingState;
    use super::*;

    #[test]
    fn card_modules_need_pcscd() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("pcscd.comm");
        let module = Path::new("/usr/lib/opensc-pkcs11.so");
        assert_eq!(daemon(&socket, None).state, FindingState::Note);
        assert_eq!(daemon(&socket, Some(module)).state, FindingState::Wrong);
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(daemon(&socket, Some(module)).state, FindingState::Ok);
        drop(listener);
        assert_eq!(daemon(&socket, Some(module)).state, FindingState::Wrong, "a socket that nobody listens on");
    }
}
