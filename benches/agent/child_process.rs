//! Programs that a benchmark starts.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// A child process that is terminated when this is dropped.
pub struct ChildGuard(pub Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Waits until a process listens on the socket.
pub fn wait_for(socket: &Path) {
    let end = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "no process listens at {}", socket.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
