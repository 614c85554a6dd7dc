//! Debian's pinentries, at a pseudo-terminal named by `$GPG_TTY`.

use super::*;

struct PinentryTerminal {
    test_terminal: TestTerminal,
    dialog: Dialog,
}

impl PinentryTerminal {
    fn new(program: &str, terminal_kind: &str, timeout: Duration) -> Self {
        let test_terminal = TestTerminal::new();
        let variables =
            [("GPG_TTY", test_terminal.path.as_path()), ("TERM", Path::new(terminal_kind)), ("LC_ALL", Path::new("C"))];
        let method: PromptMethod = format!("pinentry:/usr/bin/{program}").parse().unwrap();
        let dialog = Dialog::choose(&method, &environment(&variables).with_timeout(timeout)).unwrap();
        Self { test_terminal, dialog }
    }

    /// Prompts while a user answers each prompt with the next keys.
    fn ask<T: Send>(&mut self, answers: &[(&str, &str)], action: impl FnOnce(&Dialog) -> T + Send) -> T {
        let dialog = &self.dialog;
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| action(dialog));
            for (prompt, keys) in answers {
                self.test_terminal.until(prompt);
                // The prompt appears a moment before the echo is switched off.
                std::thread::sleep(Duration::from_millis(200));
                self.test_terminal.press(keys);
            }
            asking.join().unwrap()
        })
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn pinentry_tty_asks() {
    let mut at = PinentryTerminal::new("pinentry-tty", "dumb", LONG);
    let warned = PromptRequest { warning: Some("The next wrong PIN locks it.".to_owned()), ..ask() };
    let shown = [("locks it.", ""), ("keyset \"Jürgen\"", ""), ("PIN:", "123456\r")];
    assert_eq!(at.ask(&shown, |dialog| dialog.pin(&warned)).unwrap().as_str(), "123456");
    let error = at.ask(&[("PIN:", "\x04")], |dialog| dialog.pin(&ask())).unwrap_err();
    assert!(matches!(error, PrompterError::Cancelled { .. }), "{error}");
}

#[test]
fn pinentry_tty_confirms() {
    let mut at = PinentryTerminal::new("pinentry-tty", "dumb", LONG);
    for (keys, yes) in [("y", true), ("n", false)] {
        assert_eq!(at.ask(&[("Sign?", ""), ("? ", keys)], |dialog| dialog.confirm(&question())).unwrap(), yes);
    }
    let error = at.ask(&[("Sign?", ""), ("? ", "c")], |dialog| dialog.confirm(&question())).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn pinentry_curses_asks_and_confirms() {
    let mut at = PinentryTerminal::new("pinentry-curses", "xterm", LONG);
    let pin = at.ask(&[("Jürgen", ""), ("Cancel", "123456\r")], |dialog| dialog.pin(&ask()));
    assert_eq!(pin.unwrap().as_str(), "123456");
    let error = at.ask(&[("Cancel", "12\t\t\r")], |dialog| dialog.pin(&ask())).unwrap_err();
    assert!(matches!(error, PrompterError::Cancelled { .. }), "{error}");
    assert!(at.ask(&[("Sign?", ""), ("Cancel", "\r")], |dialog| dialog.confirm(&question())).unwrap());
    assert!(!at.ask(&[("Sign?", ""), ("Cancel", "\t\r")], |dialog| dialog.confirm(&question())).unwrap());
}

#[test]
fn a_pinentry_that_nobody_answers_ends() {
    for (program, kind) in [("pinentry-tty", "dumb"), ("pinentry-curses", "xterm")] {
        let mut at = PinentryTerminal::new(program, kind, Duration::from_secs(3));
        let error = at.ask(&[], |dialog| dialog.pin(&ask())).unwrap_err();
        assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{program}: {error}");
        // pinentry-curses ignores its own timeout once a key was pressed.
        let error = at.ask(&[("PIN:", "1")], |dialog| dialog.pin(&ask())).unwrap_err();
        assert!(matches!(error, PrompterError::NobodyAnswered { .. }), "{program}: {error}");
    }
}

#[test]
fn input_typed_ahead_is_not_read_as_a_pin() {
    let mut at = PinentryTerminal::new("pinentry-curses", "xterm", LONG);
    at.test_terminal.press("987654\r");
    at.test_terminal.until("987654");
    let pin = at.ask(&[("Cancel", "123456\r")], |dialog| dialog.pin(&ask()));
    assert_eq!(pin.unwrap().as_str(), "123456");
}
