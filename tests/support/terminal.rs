//! A person at a terminal: `tokenkeep` on a pseudo-terminal (made by `script`, which Debian always
//! has); reads and answers its prompts.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::machine::Machine;

/// Maximum time until a prompt appears.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A running `tokenkeep` on a terminal.
pub struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Receiver<Vec<u8>>,
    /// Everything shown so far.
    shown: String,
    /// The position in `shown` up to which text was expected.
    read: usize,
}

impl Terminal {
    pub fn tokenkeep(machine: &Machine, arguments: &[&str]) -> Self {
        let line = std::iter::once(env!("CARGO_BIN_EXE_tokenkeep"))
            .chain(arguments.iter().copied())
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect::<Vec<_>>()
            .join(" ");
        Self::shell(machine, &line)
    }

    /// A shell command line, with `tokenkeep` in the path.
    pub fn shell(machine: &Machine, line: &str) -> Self {
        let mut child = machine
            // What runs here ends with its terminal, also when the tests themselves run under
            // `nohup`.
            .command("env")
            .args(["--default-signal=HUP", "script", "-q", "-e", "-f", "-c", line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = child.stdin.take();
        Self { child, keyboard, screen, shown: String::new(), read: 0 }
    }

    /// Waits until this text appears after the previously expected text.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> &mut Self {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(at) = self.shown[self.read..].find(text) {
                self.read += at + text.len();
                return self;
            }
            assert!(self.read_more(end), "\"{text}\" did not appear; the terminal shows:\n{}", self.shown);
        }
    }

    /// Types this PIN at every PIN prompt, until the program ends.
    pub fn answering_pins(mut self, pin: &str) -> Self {
        let end = Instant::now() + TIMEOUT;
        while self.read_more(end) {
            self.answer_pin(pin);
        }
        self
    }

    /// Types a line into the running shell, and this PIN at every PIN prompt, until the line has
    /// ended. Returns its exit code and the text shown meanwhile.
    #[track_caller]
    pub fn run_line(&mut self, line: &str, pin: &str) -> (i32, String) {
        let end = Instant::now() + TIMEOUT;
        let begin = self.shown.len();
        // The echo of the typed line has no number after `ended`.
        self.type_line(&format!("{line}; printf '\\nended %s\\n' \"$?\""));
        loop {
            let code = |line: &str| line.strip_prefix("ended ")?.strip_suffix("\r\n")?.parse().ok();
            if let Some(code) = self.shown[begin..].split_inclusive('\n').find_map(code) {
                self.read = self.shown.len();
                return (code, self.shown[begin..].to_owned());
            }
            assert!(self.read_more(end), "\"{line}\" did not end; the terminal shows:\n{}", self.shown);
            self.answer_pin(pin);
        }
    }

    /// Waits for more output; false if no more comes.
    fn read_more(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(bytes) = self.screen.recv_timeout(left) else { return false };
        self.shown.push_str(&String::from_utf8_lossy(&bytes));
        true
    }

    /// Types the PIN if the last line is a PIN prompt.
    fn answer_pin(&mut self, pin: &str) {
        let line = self.shown[self.read..].rsplit('\n').next().unwrap_or_default();
        if line.contains("PIN") && line.trim_end().ends_with(':') {
            self.read = self.shown.len();
            self.type_line(pin);
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> &mut Self {
        self.press(&format!("{line}\n"))
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) -> &mut Self {
        self.press("\x03")
    }

    /// Presses Ctrl-D at the beginning of a line.
    pub fn end_of_input(&mut self) -> &mut Self {
        self.press("\x04")
    }

    /// Presses these keys. Enter is `\r` for a program that reads keys instead of lines.
    pub fn press(&mut self, keys: &str) -> &mut Self {
        // The prompt appears a moment before the program switches off the echo and reads.
        std::thread::sleep(Duration::from_millis(150));
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(keys.as_bytes()).unwrap();
        keyboard.flush().unwrap();
        self
    }

    /// Waits for the end. Returns the exit code and everything that was shown.
    pub fn finish(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        drop(self.keyboard.take());
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(2)) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        (status.code().unwrap_or(-1), std::mem::take(&mut self.shown))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
