//! Tests of the control socket with a stub for the authority.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as BlockingListener;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::client::{check_at, forward_to};
use super::*;
use crate::ipc::{self, IpcMessage};
use crate::service::DRAIN_TIMEOUT;
use crate::service::tests::running::FakeAuthority;

/// A socket in its own directory, served for the stub.
struct TestSocket {
    directory: tempfile::TempDir,
    path: PathBuf,
    closing: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    task: tokio::task::JoinHandle<()>,
    release: Sender<()>,
}

impl TestSocket {
    fn new() -> Self {
        let (directory, path) = path();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (closing, closed) = watch::channel(false);
        let (release, released) = channel();
        let server = ControlServer { authority: Arc::new(FakeAuthority::new(released)), workers: BlockingPool::new() };
        let socket = runtime.block_on(async { ControlSocket::bind(&path) }).unwrap();
        let task = runtime.spawn(socket.accept(server, closed));
        Self { directory, path, closing, runtime, task, release }
    }

    fn connect(&self) -> BlockingStream {
        let stream = BlockingStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends these bytes and the end of the connection, and returns what arrives.
    fn speak(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        let mut answer = Vec::new();
        // A server that has closed the connection does not read everything.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn serves(&self) -> bool {
        forward_to(&self.path, b"this").unwrap().unwrap() == b"response to the file this"
    }
}

fn path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    (directory, path)
}

fn bind(path: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ControlSocket::bind(path) }).map(drop).map_err(|error| error.to_string())
}

/// The bytes of a frame of this build.
fn frame(message: &impl Serialize, payload: &[u8]) -> Vec<u8> {
    let (one, mut other) = BlockingStream::pair().unwrap();
    ipc::send(&one, message, payload, &[]).unwrap();
    drop(one);
    let mut bytes = Vec::new();
    other.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Answers one call at this path with these bytes, and returns the error of the client.
fn error_after(answer: &[u8]) -> String {
    let (_directory, path) = path();
    let listener = BlockingListener::bind(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            // As the server does: the whole call is read before the reply.
            Exchange::new(Arc::new(stream.try_clone().unwrap())).receive_call::<ControlCall>().unwrap();
            stream.write_all(answer).unwrap();
        });
        forward_to(&path, b"this").unwrap_err().to_string()
    })
}

#[test]
fn the_socket_serves_its_owner_and_is_removed_on_close() {
    let served = TestSocket::new();
    let mode = fs::metadata(&served.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(served.serves());
    assert_eq!(check_at(&served.path).unwrap().unwrap().users, 3);
    served.closing.send(true).unwrap();
    served.runtime.block_on(served.task).unwrap();
    assert_eq!(fs::read_dir(served.directory.path()).unwrap().count(), 0, "nothing is left");
    assert_eq!(forward_to(&served.path, b"this").unwrap(), None);
    assert_eq!(check_at(&served.path).unwrap(), None);
}

#[test]
fn a_live_socket_is_not_taken_over() {
    let served = TestSocket::new();
    assert!(bind(&served.path).unwrap_err().contains("another `authority serve`"));
    assert!(served.serves());
}

#[test]
fn only_a_stale_socket_is_taken_over() {
    let (_directory, path) = path();
    drop(BlockingListener::bind(&path).unwrap());
    assert!(path.exists(), "as after a kill");
    assert_eq!(forward_to(&path, b"this").unwrap(), None);
    bind(&path).unwrap();
    assert!(!path.exists(), "the listener removes it");
    fs::write(&path, "mine").unwrap();
    assert!(bind(&path).unwrap_err().contains("not a socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn an_overlong_socket_path_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x".repeat(107)).join("control.sock");
    let error = bind(&path).unwrap_err();
    assert!(error.contains("107 bytes") && error.contains("shorter `state`"), "{error}");
    assert_eq!(forward_to(&path, b"this").unwrap(), None);
}

#[test]
fn refusals_and_faults_keep_their_words() {
    let served = TestSocket::new();
    let forged = forward_to(&served.path, b"forged").unwrap_err();
    assert!(matches!(&forged, ServiceError::Unverified(reason) if reason == "it is forged"), "{forged}");
    for (statement, said) in [(&b"fault"[..], "the database is locked"), (b"panic", "internal error; see")] {
        let fault = forward_to(&served.path, statement).unwrap_err();
        assert!(matches!(fault, ServiceError::Control { .. }) && fault.to_string().contains(said), "{fault}");
    }
    assert!(served.serves(), "serving continues");
}

#[test]
fn a_call_that_is_too_long_is_refused() {
    let served = TestSocket::new();
    let longest = vec![b'x'; limits::MAX_BODY_BYTES];
    assert!(forward_to(&served.path, &longest).unwrap().is_some());
    let long = [&longest[..], b"x"].concat();
    let error = forward_to(&served.path, &long).unwrap_err().to_string();
    assert!(error.contains("longer than 262144 bytes"), "{error}");
    // A client that sends it anyway gets nothing.
    let call = IpcMessage::<_, ()>::Call { number: 1, call: ControlCall::Answer };
    let head = &frame(&call, &long[..8])[..16];
    let length = u32::try_from(long.len()).unwrap().to_be_bytes();
    assert_eq!(served.speak(&[&head[..12], &length, b"message"].concat()), b"");
    assert!(served.serves());
}

#[test]
fn another_build_gets_no_answer_but_the_build() {
    let served = TestSocket::new();
    let build = &frame(&(), b"")[..8];
    // A frame of another build, and the request of a command that still spoke HTTP.
    for call in [&b"\0another\0\0\0\x02\0\0\0\0{}"[..], b"POST /control/statements HTTP/1.1\r\n\r\n"] {
        assert_eq!(served.speak(call), [build, &[0; 8]].concat());
    }
    assert!(served.serves());
}

#[test]
fn garbage_and_truncated_calls_get_nothing() {
    let served = TestSocket::new();
    let call = IpcMessage::<_, ()>::Call { number: 1, call: ControlCall::Answer };
    let whole = frame(&call, b"this");
    for length in 0..whole.len() {
        assert_eq!(served.speak(&whole[..length]), b"", "{length} bytes");
    }
    assert!(served.speak(&whole).ends_with(b"response to the file this"));
    for garbage in [frame(&"no call", b""), frame(&IpcMessage::<(), ()>::Notify(()), b""), vec![0; 16]] {
        assert!(!served.speak(&garbage).ends_with(b"this"));
    }
    assert!(served.serves());
}

#[test]
fn a_serve_of_another_version_must_be_restarted() {
    // Of another build, and one that still speaks HTTP.
    for answer in [&b"\0another\0\0\0\0\0\0\0\0"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let error = error_after(answer);
        assert!(error.contains("another build") && error.contains("restart it"), "{error}");
    }
}

#[test]
fn a_truncated_response_is_rejected() {
    let whole = frame(&IpcMessage::<(), _>::Reply { number: 1, reply: ControlReply::Response }, b"response");
    for length in 0..whole.len() {
        let error = error_after(&whole[..length]);
        assert!(error.contains("closed the connection") && error.contains("see its log"), "{error}");
    }
    let report = ControlReply::Report(DatabaseCheckReport::default());
    let error = error_after(&frame(&IpcMessage::<(), _>::Reply { number: 1, reply: report }, b""));
    assert!(error.contains("answered another call"), "{error}");
}

#[test]
fn stopping_waits_for_a_running_call_and_for_no_idle_one() {
    let served = TestSocket::new();
    let _idle = served.connect();
    let path = served.path.clone();
    let running = thread::spawn(move || forward_to(&path, b"wait").unwrap());
    thread::sleep(Duration::from_millis(300));
    served.closing.send(true).unwrap();
    thread::sleep(Duration::from_millis(100));
    assert!(!served.task.is_finished() && !served.path.exists());
    let begin = Instant::now();
    served.release.send(()).unwrap();
    assert_eq!(running.join().unwrap().unwrap(), b"response to the file wait");
    served.runtime.block_on(served.task).unwrap();
    assert!(begin.elapsed() < DRAIN_TIMEOUT / 2, "{:?}", begin.elapsed());
}

#[test]
fn only_some_connections_are_open_at_a_time() {
    let served = TestSocket::new();
    let idle: Vec<_> = (0..limits::MAX_CONTROL_CONNECTIONS).map(|_| served.connect()).collect();
    let error = forward_to(&served.path, b"this").unwrap_err().to_string();
    assert!(error.contains("closed the connection"), "{error}");
    drop(idle);
    let again = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(20));
        forward_to(&served.path, b"this").is_ok()
    });
    assert!(again);
}
