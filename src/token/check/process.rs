//! Starts the child: this program again, with the question on stdin and the answer on stdout.

use std::env;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zeroize::Zeroizing;

use super::progress::{Noted, Progress};
use super::{CHECK_COMMAND, CheckOutcome, CheckRequest, CheckRunner, one_line, progress};
use crate::token::Pin;

/// Time limit of a child: a module with card readers reads every card when it is initialized.
const CHILD_TIMEOUT: Duration = Duration::from_secs(30);

/// Kept bytes at the end of the child's output.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// Maximum length in characters of the quoted line of the child's stderr.
const MAX_STDERR_TAIL: usize = 200;

/// Starts a child for each question.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckProcess;

impl CheckRunner for CheckProcess {
    fn run(&self, request: &CheckRequest, pin: Option<&Pin>) -> CheckOutcome {
        run(Command::new(this_program()).arg(CHECK_COMMAND), request, pin, CHILD_TIMEOUT)
            .unwrap_or_else(|error| CheckOutcome::Unknown(error.to_string()))
    }
}

fn run(
    command: &mut Command,
    request: &CheckRequest,
    pin: Option<&Pin>,
    timeout: Duration,
) -> std::io::Result<CheckOutcome> {
    // These variables are meant for this process only.
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let head = serde_json::to_vec(request)?;
    // Allocated at full size: it never grows, so no copy of the PIN is left in freed memory.
    let mut question = Zeroizing::new(Vec::with_capacity(head.len() + 1 + Pin::MAX_BYTES));
    question.extend_from_slice(&head);
    question.push(b'\n');
    question.extend_from_slice(pin.map(Pin::as_str).unwrap_or_default().as_bytes());
    if let Some(mut stdin) = child.stdin.take() {
        // If the child has already ended, the result below says so.
        let _ = stdin.write_all(&question);
    }
    let (stdout, stderr_tail) = (Listened::to(child.stdout.take()), Listened::to(child.stderr.take()));
    let mut listened = [stdout, stderr_tail];
    let status = wait(&mut child, &mut listened, timeout)?;
    let [stdout, stderr_tail] = listened;
    let (progress, stderr_tail) = (stdout.noted.progress(), stderr_tail.into_text());
    Ok(match (status, (progress, progress::read(&stdout.into_text()))) {
        (None, (Progress::Begun, _)) => CheckOutcome::LoadTookTooLong(timeout.as_secs()),
        (None, _) => CheckOutcome::TookTooLong(timeout.as_secs()),
        (Some(_), (_, Some(report))) => CheckOutcome::Answered(report),
        (Some(status), (Progress::None, None)) => CheckOutcome::Unknown(how(status, &stderr_tail)),
        (Some(status), (_, None)) => CheckOutcome::Died(how(status, &stderr_tail)),
    })
}

/// Waits for the child to end, and reads its streams meanwhile so that it never blocks on a full
/// pipe. Kills it at the time limit, and returns no status then; the child's progress words tell
/// whether it was loading the module.
fn wait(child: &mut Child, listened: &mut [Listened; 2], timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // It may have ended in the meantime.
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        let timeout = Timespec::try_from(left).ok();
        let streams = listened.iter().filter_map(|stream| stream.open.as_ref());
        let mut waited: Vec<_> = streams.map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        waited.push(PollFd::new(&handle, PollFlags::IN));
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_ended = waited.last().is_some_and(|handle| !handle.revents().is_empty());
        for stream in &mut *listened {
            stream.listen();
        }
        if has_ended {
            // Read the rest. A process that the module started may still hold the write end: do not
            // wait for it.
            for stream in &mut *listened {
                stream.listen();
            }
            return child.wait().map(Some);
        }
    }
}

/// One stream of a child: the end of its output and the progress words in it. The rest is
/// discarded.
struct Listened {
    open: Option<OwnedFd>,
    noted: Noted,
    last: Vec<u8>,
}

/// Maximum number of bytes read from one stream before the others are looked at.
const AT_ONCE: usize = 1024 * 1024;

impl Listened {
    fn to(stream: Option<impl Into<OwnedFd>>) -> Self {
        let open = stream.map(Into::into);
        if let Some(stream) = &open
            && let Ok(flags) = fcntl_getfl(stream)
        {
            let _ = fcntl_setfl(stream, flags | OFlags::NONBLOCK);
        }
        Self { open, noted: Noted::default(), last: Vec::new() }
    }

    /// Reads what is available.
    fn listen(&mut self) {
        let mut taken = 0;
        let mut part = [0; 16 * 1024];
        while taken < AT_ONCE
            && let Some(stream) = &self.open
        {
            match rustix::io::read(stream, &mut part) {
                Ok(0) => self.open = None,
                Ok(count) => {
                    taken += count;
                    self.take(part.get(..count).unwrap_or_default());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.open = None,
            }
        }
    }

    fn take(&mut self, part: &[u8]) {
        self.noted.take(part);
        self.last.extend_from_slice(part);
        if let Some(surplus) = self.last.len().checked_sub(2 * MAX_OUTPUT_BYTES) {
            self.last.drain(..surplus + MAX_OUTPUT_BYTES);
        }
    }

    fn into_text(self) -> String {
        String::from_utf8_lossy(&self.last).into_owned()
    }
}

fn how(status: ExitStatus, stderr_tail: &str) -> String {
    let end = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("by signal {signal}{}", name_of(signal)),
        (None, code) => format!("with exit code {}", code.unwrap_or_default()),
    };
    let words = stderr_tail.lines().rev().find(|line| !line.trim().is_empty());
    match words.map(|line| one_line(line, MAX_STDERR_TAIL)) {
        Some(words) => format!("{end}, saying {words:?}"),
        None => end,
    }
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        _ => "",
    }
}

/// The file of this program, or `/proc/self/exe` if that file was replaced (by an upgrade).
pub fn this_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    let inode = |path: &PathBuf| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    env::current_exe().ok().filter(|path| inode(path).is_some() && inode(path) == inode(&running)).unwrap_or(running)
}

#[cfg(test)]
mod tests {
    use super::super::{CheckQuestion, TokenCheckReport};
    use super::*;

    fn outcome(script: &str) -> CheckOutcome {
        outcome_within(CHILD_TIMEOUT, script)
    }

    fn outcome_within(timeout: Duration, script: &str) -> CheckOutcome {
        let request = CheckRequest { module: "/m.so".into(), question: CheckQuestion::Load {} };
        let pin = Pin::new("geheim-4711".to_owned()).unwrap();
        run(Command::new("sh").args(["-c", script]), &request, Some(&pin), timeout).unwrap()
    }

    #[test]
    fn a_hung_child_is_killed_and_its_phase_is_known() {
        let second = Duration::from_secs(1);
        assert_eq!(outcome_within(second, "exec sleep 60"), CheckOutcome::TookTooLong(1));
        assert_eq!(outcome_within(second, "echo begun; exec sleep 60"), CheckOutcome::LoadTookTooLong(1));
        assert_eq!(
            outcome_within(second, "echo begun; echo; echo loaded; exec sleep 60"),
            CheckOutcome::TookTooLong(1)
        );
        let talk = "head -c 300000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo";
        let script = format!("echo begun; {talk}; echo loaded; {talk}; exec sleep 60");
        assert_eq!(outcome_within(second * 2, &script), CheckOutcome::TookTooLong(2), "the progress word was lost");
    }

    #[test]
    fn each_end_of_a_child_is_recognized() {
        assert_eq!(outcome("echo begun; echo '{\"well\":{}}'"), CheckOutcome::Answered(TokenCheckReport::Well {}));
        let died = |text: &str| CheckOutcome::Died(text.to_owned());
        assert_eq!(outcome("echo begun; exit 0"), died("with exit code 0"));
        let assertion = outcome("echo begun; echo 'Assertion failed' >&2; kill -ABRT $$");
        assert_eq!(assertion, died("by signal 6 (SIGABRT), saying \"Assertion failed\""));
        // If the child never reached the module, the module is not blamed.
        assert!(matches!(outcome("exit 1"), CheckOutcome::Unknown(_)));
        // Text that a module prints is not an answer.
        assert_eq!(
            outcome("echo begun; echo a module was here; echo '{\"well\":{}}'"),
            outcome("echo begun; echo '{\"well\":{}}'")
        );
    }

    #[test]
    fn a_childs_answer_is_the_last_line_of_its_output() {
        let started = Instant::now();
        let talk = "head -c 2000000 /dev/zero | tr '\\0' 'x' | fold -w 99";
        let well = outcome(&format!("echo begun; {talk}; {talk} >&2; echo; echo '{{\"well\":{{}}}}'"));
        assert_eq!(well, CheckOutcome::Answered(TokenCheckReport::Well {}));
        let CheckOutcome::Died(how) = outcome(&format!("echo begun; {talk} >&2; echo >&2; echo at last >&2; exit 3"))
        else {
            panic!("it did not die");
        };
        assert!(how.ends_with("exit code 3, saying \"at last\""), "{how}");
        assert!(started.elapsed() < CHILD_TIMEOUT, "the output was not read");
        // A process that the module started keeps stderr open: it is not waited for.
        assert_eq!(outcome("echo begun; sleep 20 & echo '{\"well\":{}}'"), well);
        assert!(started.elapsed() < CHILD_TIMEOUT / 2, "it waited for a process that the module started");
    }

    #[test]
    fn the_pin_comes_by_stdin_and_is_in_no_argument() {
        let directory = tempfile::tempdir().unwrap();
        let seen = directory.path().join("seen");
        outcome(&format!("cat > {0}; tr '\\0' '\\n' < /proc/$$/cmdline > {0}.line; env > {0}.env", seen.display()));
        let text = |end: &str| fs::read_to_string(format!("{}{end}", seen.display())).unwrap();
        assert!(text("").ends_with("\ngeheim-4711"));
        assert!(!text(".line").contains("geheim") && !text(".env").contains("geheim"));
    }
}
