//! Tests of the control socket with a stub behind it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A socket in its own directory, served by a router that counts and echoes.
struct TestSocket {
    directory: tempfile::TempDir,
    path: PathBuf,
    closing: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    task: tokio::task::JoinHandle<()>,
    requests: Arc<AtomicUsize>,
}

impl TestSocket {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let echo = axum::routing::post(move |body: String| async move {
            counter.fetch_add(1, Ordering::SeqCst);
            body
        });
        let (closing, closed) = watch::channel(false);
        let socket = runtime.block_on(async { ControlSocket::bind(&path) }).unwrap();
        let task = runtime.spawn(socket.accept(Router::new().route(CONTROL_STATEMENTS, echo), closed));
        Self { directory, path, closing, runtime, task, requests }
    }
}

fn bind(path: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ControlSocket::bind(path) }).map(drop).map_err(|error| error.to_string())
}

#[test]
fn the_socket_serves_its_owner_and_is_removed_on_close() {
    let served = TestSocket::new();
    let mode = fs::metadata(&served.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(forward_to(&served.path, b"this").unwrap().as_deref(), Some(&b"this"[..]));
    assert_eq!(served.requests.load(Ordering::SeqCst), 1);
    served.closing.send(true).unwrap();
    served.runtime.block_on(served.task).unwrap();
    assert_eq!(fs::read_dir(served.directory.path()).unwrap().count(), 0, "nothing is left");
    assert_eq!(forward_to(&served.path, b"this").unwrap(), None);
}

#[test]
fn a_live_socket_is_not_taken_over() {
    let served = TestSocket::new();
    assert!(bind(&served.path).unwrap_err().contains("another `authority serve`"));
    assert!(forward_to(&served.path, b"still there").unwrap().is_some());
}

#[test]
fn only_a_stale_socket_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as after a kill");
    assert_eq!(forward_to(&path, b"this").unwrap(), None);
    bind(&path).unwrap();
    assert!(!path.exists(), "the listener removes it");
    fs::write(&path, "mine").unwrap();
    assert!(bind(&path).unwrap_err().contains("not a socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_socket_of_another_process_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = runtime.block_on(async { ControlSocket::bind(&path) }).unwrap();
    let moved = directory.path().join("moved");
    fs::rename(&path, moved).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(socket);
    assert!(path.exists());
}

#[test]
fn an_overlong_socket_path_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x".repeat(MAX_SOCKET_PATH)).join("control.sock");
    let error = bind(&path).unwrap_err();
    assert!(error.contains("107 bytes") && error.contains("shorter `state`"), "{error}");
    assert_eq!(forward_to(&path, b"this").unwrap(), None);
}

#[test]
fn another_user_is_not_the_same_one() {
    let own = rustix::process::geteuid().as_raw();
    assert!(is_own_uid(own) && !is_own_uid(own + 1) && (own == 0 || !is_own_uid(0)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(is_same_user(&one));
    });
}

#[test]
fn a_truncated_response_is_rejected() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd";
    assert_eq!(split(whole), Some((200, &b"abcd"[..])));
    for cut in 0..whole.len() {
        assert_eq!(split(&whole[..cut]), None);
    }
    assert_eq!(split(b"HTTP/1.1 200 OK\r\n\r\nabcd"), None, "no length");
    assert_eq!(split(b"\r\n\r\n"), None);
}
