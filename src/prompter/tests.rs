//! Usable and refused PIN sources, and a user at a pseudo-terminal.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::token::PinError;

fn file_with(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pin");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

fn pin_of(source: PinSource) -> Result<Pin, PrompterError> {
    Prompter::new(source, PinSource::Prompt).with_terminal("/nonexistent").pin("token \"x\"")
}

/// Returns the error of a file source with this content.
fn refusal(content: &[u8]) -> String {
    let (_directory, path) = file_with(content, 0o600);
    pin_of(PinSource::File(path)).unwrap_err().to_string()
}

#[test]
fn sources_are_read_as_they_are_written() {
    for text in ["prompt", "file:authority.pin", "file:/a:b", "fd:7", "credential:pin"] {
        assert_eq!(text.parse::<PinSource>().unwrap().to_string(), text);
    }
}

#[test]
fn an_unknown_source_is_refused_without_repeating_it() {
    for text in
        ["", "12345678", "prompt:", "file:", "fd:", "fd:-1", "fd:x", "credential:", "credential:../x", "env:PIN"]
    {
        assert!(text.parse::<PinSource>().is_err(), "{text}");
    }
    assert!(!"12345678".parse::<PinSource>().unwrap_err().to_string().contains("12345678"));
    assert!(!"pin:12345678".parse::<PinSource>().unwrap_err().to_string().contains("12345678"));
}

#[test]
fn a_file_gives_its_only_line() {
    for content in ["geheim 1", "geheim 1\n", "geheim 1\r\n"] {
        let (_directory, path) = file_with(content.as_bytes(), 0o600);
        assert_eq!(pin_of(PinSource::File(path)).unwrap().as_str(), "geheim 1");
    }
    let (_directory, path) = file_with(&[b'7'; 255], 0o400);
    assert_eq!(pin_of(PinSource::File(path)).unwrap().as_str().len(), 255);
}

#[test]
fn a_file_that_others_can_read_is_refused_with_the_remedy() {
    for mode in [0o640, 0o604, 0o620, 0o666] {
        let (_directory, path) = file_with(b"12345678\n", mode);
        let error = pin_of(PinSource::File(path.clone())).unwrap_err();
        assert!(matches!(error, PrompterError::ReadableByOthers { .. }), "{mode:o}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
}

#[test]
fn files_without_a_pin_are_refused_with_the_reason() {
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"\n").contains("empty"));
    assert!(refusal(b"1234\n5678\n").contains("more than one line"));
    assert!(refusal(b"\n1234\n").contains("more than one line"));
    assert!(refusal(&[b'7'; 256]).contains("longer than 255 bytes"));
    assert!(refusal(b"1234\xff").contains("UTF-8"));
    assert!(refusal(b"12\t34").contains("control character"));
    assert!(!refusal(b"1234\n5678\n").contains("1234"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = pin_of(PinSource::File(directory.path().join("absent"))).unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("no such file"), "{error}");
    let error = pin_of(PinSource::File(directory.path().to_owned())).unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
}

#[test]
fn a_descriptor_gives_one_line_after_another() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"12345678\nabcdefgh\n").unwrap();
    drop(writer);
    let source = PinSource::Descriptor(reader.as_raw_fd().try_into().unwrap());
    let prompter = Prompter::new(source.clone(), source);
    assert_eq!(prompter.pin("x").unwrap().as_str(), "12345678");
    assert_eq!(prompter.new_pin("x", None).unwrap().as_str(), "abcdefgh");
    assert!(prompter.pin("x").unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_descriptor_that_is_not_open_is_refused() {
    assert!(matches!(pin_of(PinSource::Descriptor(9_999)), Err(PrompterError::Source { .. })));
}

#[test]
fn a_credential_is_looked_for_where_systemd_put_it() {
    let (directory, _path) = file_with(b"12345678\n", 0o440);
    let source: PinSource = "credential:pin".parse().unwrap();
    let prompter = Prompter::new(source.clone(), PinSource::Prompt);
    assert!(prompter.pin("x").unwrap_err().to_string().contains("CREDENTIALS_DIRECTORY"));
    let prompter = prompter.with_credentials(Some(directory.path().to_owned()));
    assert_eq!(prompter.pin("x").unwrap().as_str(), "12345678");
}

#[test]
fn without_a_terminal_the_error_names_the_remedy() {
    let prompter = Prompter::new(PinSource::Prompt, PinSource::Prompt).with_terminal("/dev/null");
    assert!(!prompter.is_attended());
    let error = prompter.pin("x").unwrap_err();
    assert!(error.to_string().contains("--pin-source"), "{error}");
    assert!(!error.is_cancelled());
    assert!(matches!(prompter.confirm("Really?"), Err(PrompterError::NoTerminal { .. })));
    prompter.say("nobody hears this");
}

const RULE: Option<PinRule> = Some(PinRule { min: 4, max: 8 });

/// A pseudo-terminal (created by `script`) with a simulated user.
pub(super) struct TestTerminal {
    script: Child,
    pub(super) path: PathBuf,
    screen: mpsc::Receiver<u8>,
}

impl TestTerminal {
    pub(super) fn new() -> Self {
        let mut script = Command::new("script")
            .args(["-q", "-f", "-c", "tty; exec sleep 60", "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = script.stdout.take().unwrap();
        let (sender, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut byte = [0];
            while let Ok(1) = output.read(&mut byte) {
                if sender.send(byte[0]).is_err() {
                    return;
                }
            }
        });
        let mut test_terminal = Self { script, path: PathBuf::new(), screen };
        test_terminal.path = PathBuf::from(test_terminal.until("\n").trim());
        test_terminal
    }

    /// Reads the screen up to and including this text.
    pub(super) fn until(&self, text: &str) -> String {
        let mut shown = Vec::new();
        while !shown.ends_with(text.as_bytes()) {
            match self.screen.recv_timeout(Duration::from_secs(20)) {
                Ok(byte) => shown.push(byte),
                Err(end) => panic!("{end}: {text:?} did not appear, but {:?}", String::from_utf8_lossy(&shown)),
            }
        }
        String::from_utf8(shown).unwrap()
    }

    pub(super) fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Asks for a PIN or a new one, while the user answers each prompt with the next keys.
    fn ask(&mut self, new: bool, answers: &[(&str, &str)]) -> (Result<Pin, PrompterError>, String) {
        let prompter = Prompter::new(PinSource::Prompt, PinSource::Prompt).with_terminal(&self.path);
        assert!(prompter.is_attended());
        let asking = std::thread::spawn(move || if new { prompter.new_pin("it", RULE) } else { prompter.pin("it") });
        let mut shown = String::new();
        for (prompt, keys) in answers {
            shown += &self.until(prompt);
            self.press(keys);
        }
        let answer = asking.join().unwrap();
        shown.extend(self.screen.try_iter().map(char::from));
        (answer, shown)
    }

    fn confirm(&mut self, keys: &str) -> Result<bool, PrompterError> {
        let prompter = Prompter::new(PinSource::Prompt, PinSource::Prompt).with_terminal(&self.path);
        let asking = std::thread::spawn(move || prompter.confirm("Sign?"));
        self.until("Sign? [y/N] ");
        self.press(keys);
        asking.join().unwrap()
    }
}

impl Drop for TestTerminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_person_types_a_pin_and_it_is_not_shown() {
    let mut test_terminal = TestTerminal::new();
    let (pin, shown) = test_terminal.ask(false, &[("PIN of it: ", "geh-1\n")]);
    assert_eq!(pin.unwrap().as_str(), "geh-1");
    assert!(!shown.contains("geh"), "{shown}");
}

#[test]
fn keys_that_correct_are_obeyed() {
    let mut test_terminal = TestTerminal::new();
    let (pin, _) = test_terminal.ask(false, &[("PIN of it: ", "wrong\x15éü\x7f\x1b[A12\x1bOB\x1b[3~3\r")]);
    assert_eq!(pin.unwrap().as_str(), "é123");
}

#[test]
fn interrupt_end_of_input_and_an_empty_line_cancel() {
    let mut test_terminal = TestTerminal::new();
    for keys in ["\x03", "12\x03", "\x04", "\n"] {
        let (pin, _) = test_terminal.ask(false, &[("PIN of it: ", keys)]);
        assert!(pin.unwrap_err().is_cancelled(), "{keys:?}");
    }
}

#[test]
fn a_new_pin_is_typed_twice() {
    let mut test_terminal = TestTerminal::new();
    let (pin, _) = test_terminal
        .ask(true, &[("New PIN for it (4 to 8 characters): ", "12345678\n"), ("Repeat the new PIN: ", "12345678\n")]);
    assert_eq!(pin.unwrap().as_str(), "12345678");
}

#[test]
fn a_new_pin_that_differs_is_asked_for_again_and_then_given_up() {
    let mut test_terminal = TestTerminal::new();
    let different = [("New PIN for it (4 to 8 characters): ", "12345678\n"), ("Repeat the new PIN: ", "12345679\n")];
    let same = [("New PIN for it (4 to 8 characters): ", "abcdefgh\n"), ("Repeat the new PIN: ", "abcdefgh\n")];
    let (pin, shown) = test_terminal.ask(true, &[different, same].concat());
    assert_eq!(pin.unwrap().as_str(), "abcdefgh");
    assert!(shown.contains("differ"), "{shown}");
    let (pin, _) = test_terminal.ask(true, &[different, different, different].concat());
    assert!(matches!(pin, Err(PrompterError::Differ)));
}

#[test]
fn the_rule_for_a_new_pin_is_shown_and_checked_at_first_entry() {
    let mut test_terminal = TestTerminal::new();
    let asked = "New PIN for it (4 to 8 characters): ";
    let right = [(asked, "12345678\n"), ("Repeat the new PIN: ", "12345678\n")];
    let (pin, shown) = test_terminal.ask(true, &[&[(asked, "123\n"), (asked, "123456789\n")][..], &right].concat());
    assert_eq!(pin.unwrap().as_str(), "12345678");
    assert_eq!(shown.matches("takes PINs of 4 to 8 characters").count(), 2, "{shown}");
    let (pin, _) = test_terminal.ask(true, &[(asked, "1234\u{200b}\n"), (asked, "123\n"), (asked, "1\n")]);
    assert!(matches!(pin, Err(PrompterError::NotAPin(PinError::Length(_)))));
    let (_directory, path) = file_with(b"123\n", 0o600);
    let prompter = Prompter::new(PinSource::Prompt, PinSource::File(path));
    assert!(prompter.new_pin("it", RULE).unwrap_err().to_string().contains("4 to 8 characters"));
}

#[test]
fn cancelling_the_second_entry_cancels() {
    let mut test_terminal = TestTerminal::new();
    let (pin, _) = test_terminal
        .ask(true, &[("New PIN for it (4 to 8 characters): ", "12345678\n"), ("Repeat the new PIN: ", "\x03")]);
    assert!(pin.unwrap_err().is_cancelled());
}

#[test]
fn only_yes_is_a_yes() {
    let mut test_terminal = TestTerminal::new();
    for (keys, yes) in [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("yy\n", false)] {
        assert_eq!(test_terminal.confirm(keys).unwrap(), yes, "{keys:?}");
    }
    for keys in ["\x03", "\x04", "y\x03"] {
        assert!(test_terminal.confirm(keys).unwrap_err().is_cancelled(), "{keys:?}");
    }
}

#[test]
fn a_label_cannot_paint_over_the_prompt() {
    assert_eq!(showable("a\x1b[2Kb\r\u{202e}"), "a\u{fffd}[2Kb\u{fffd}\u{fffd}");
    for unseen in ["\u{2028}", "\u{2029}", "\u{200b}", "\u{200d}", "\u{200f}", "\u{61c}", "\u{feff}", "\u{2066}"] {
        assert_eq!(showable(&format!("a{unseen}b")), "a\u{fffd}b", "{unseen:?}");
    }
    assert_eq!(showable("Jürgen 🧪 山田 \u{2010}"), "Jürgen 🧪 山田 \u{2010}");
}
