//! The choice among the usable prompt methods.

use super::*;

fn chosen(method: &str, environment: &PromptEnvironment) -> String {
    match Dialog::choose(&method.parse().unwrap(), environment) {
        Ok(dialog) => dialog.describe(),
        Err(error) => {
            assert!(!error.is_cancelled());
            error.to_string()
        }
    }
}

fn pinentry(test_dir: &TestDir, name: &str, flavor: &str) -> PathBuf {
    test_dir.script(name, &format!("echo OK; read command; printf 'D {flavor}\\nOK\\n'; read bye; echo OK"))
}

#[test]
fn without_a_prompt_method_it_fails_at_once_with_a_remedy() {
    let began = Instant::now();
    let error = chosen("auto", &environment(&[]));
    assert!(began.elapsed() < Duration::from_secs(5));
    for part in [
        "pinentry: neither DISPLAY",
        "askpass: SSH_ASKPASS is not set",
        "terminal: ",
        "in a terminal of its own",
        "agent.toml",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn auto_takes_pinentry_then_askpass_then_the_terminal() {
    let (test_dir, test_terminal) = (TestDir::new(), TestTerminal::new());
    let askpass = test_dir.script("askpass", "echo 123456");
    let variables = [("PATH", test_dir.0.path()), display(), ("SSH_ASKPASS", askpass.as_path())];
    let around = environment(&variables).with_terminal(&test_terminal.path);
    assert_eq!(chosen("auto", &around), format!("askpass {}", askpass.display()));
    let window = |name: &str, kind: &str| {
        format!("pinentry {} ({kind}), terminal {}", test_dir.path(name).display(), test_terminal.path.display())
    };
    pinentry(&test_dir, "pinentry-qt", "qt");
    assert_eq!(chosen("auto", &around), window("pinentry-qt", "qt"));
    pinentry(&test_dir, "pinentry", "gtk2");
    assert_eq!(chosen("auto", &around), window("pinentry", "gtk2"));
    let no_display = environment(&variables[..1]).with_terminal(&test_terminal.path);
    assert_eq!(chosen("auto", &no_display), format!("terminal {}", test_terminal.path.display()));
}

#[test]
fn a_pinentry_needs_a_screen_of_its_kind() {
    let (test_dir, test_terminal) = (TestDir::new(), TestTerminal::new());
    let window = pinentry(&test_dir, "pinentry-qt", "qt");
    let curses = pinentry(&test_dir, "pinentry-curses", "curses");
    let here = |variables: &[(&str, &Path)]| environment(&[&[("PATH", test_dir.0.path())], variables].concat());
    let tty = ("GPG_TTY", test_terminal.path.as_path());
    let at_desk = |environment: PromptEnvironment| environment.with_terminal(&test_terminal.path);
    let on_a_terminal = format!("pinentry {} (curses), terminal {}", curses.display(), test_terminal.path.display());
    assert_eq!(chosen("pinentry", &at_desk(here(&[]))), on_a_terminal, "the pinentry with windows is skipped");
    assert_eq!(chosen(&format!("pinentry:{}", curses.display()), &here(&[tty])), on_a_terminal, "configured by path");
    let auto = chosen("auto", &at_desk(here(&[])));
    assert_eq!(auto, format!("terminal {}", test_terminal.path.display()), "without a window no pinentry is needed");
    assert!(chosen(&format!("pinentry:{}", window.display()), &here(&[tty])).contains("needs a display"));
    let error = chosen(&format!("pinentry:{}", curses.display()), &here(&[display()]));
    assert!(error.contains("none of its own"), "{error}");
    let wayland = ("WAYLAND_DISPLAY", Path::new("wayland-0"));
    assert!(chosen("pinentry", &here(&[wayland])).contains("(qt)"));
    pinentry(&test_dir, "pinentry-qt", "qt:curses");
    assert!(chosen("pinentry", &here(&[display()])).contains("none of its own"), "no window, and no terminal");
}

#[test]
fn a_gpg_tty_that_is_not_a_terminal_is_reported() {
    let test_dir = TestDir::new();
    let method = format!("pinentry:{}", pinentry(&test_dir, "pinentry-curses", "curses").display());
    let error = chosen(&method, &environment(&[("GPG_TTY", Path::new("not a tty"))]));
    assert!(error.contains("GPG_TTY is not a tty, which is not a terminal"), "{error}");
    assert!(chosen(&method, &environment(&[("GPG_TTY", Path::new("/dev/null"))])).contains("it is not a terminal"));
}

#[test]
fn gpg_tty_of_another_shell_is_not_used() {
    let (test_dir, test_terminal) = (TestDir::new(), TestTerminal::new());
    pinentry(&test_dir, "pinentry", "curses");
    let variables = [("PATH", test_dir.0.path()), ("GPG_TTY", test_terminal.path.as_path())];
    for method in ["auto", "pinentry"] {
        for more in [&[][..], &[display()]] {
            let said = chosen(method, &environment(&[&variables[..], more].concat()));
            assert!(
                said.starts_with("cannot prompt ") && !said.contains(&test_terminal.path.display().to_string()),
                "{method}: {said}"
            );
        }
    }
}

#[test]
fn a_false_pinentry_is_detected_before_any_prompt() {
    let test_dir = TestDir::new();
    let around = environment(&[display()]).with_timeout(Duration::from_secs(1));
    for body in
        ["cat", "echo hello", "echo OK; echo hello", "exit 1", "sleep 60", "echo 'ERR 83886355 Unknown command'"]
    {
        let path = test_dir.script("pinentry", body);
        let error = chosen(&format!("pinentry:{}", path.display()), &around);
        assert!(error.starts_with("cannot prompt with pinentry:") && error.contains("agent.toml"), "{body}: {error}");
    }
}

#[test]
fn askpass_asks_where_ssh_would_ask() {
    let test_dir = TestDir::new();
    let askpass = test_dir.script("askpass", "echo 123456");
    let variable = ("SSH_ASKPASS", askpass.as_path());
    let require = |how: &'static str| ("SSH_ASKPASS_REQUIRE", Path::new(how));
    let open = format!("askpass {}", askpass.display());
    assert_eq!(chosen("askpass", &environment(&[variable, display()])), open);
    assert_eq!(chosen("askpass", &environment(&[variable, require("force")])), open);
    assert!(chosen("askpass", &environment(&[variable])).contains("SSH_ASKPASS_REQUIRE=force"));
    assert!(chosen("askpass", &environment(&[variable, display(), require("never")])).contains("is never"));
    assert_eq!(chosen(&format!("askpass:{}", askpass.display()), &environment(&[])), open, "configured by path");
    assert!(chosen("askpass", &environment(&[display()])).contains("SSH_ASKPASS is not set"));
}

#[test]
fn an_unusable_program_or_terminal_is_named() {
    let test_dir = TestDir::new();
    fs::write(test_dir.path("plain"), "").unwrap();
    let around = environment(&[display()]);
    for method in [
        "pinentry:/nonexistent/pinentry".to_owned(),
        "askpass:/nonexistent/askpass".to_owned(),
        format!("askpass:{}", test_dir.path("plain").display()),
        format!("askpass:{}", test_dir.0.path().display()),
        "terminal:/dev/null".to_owned(),
        "terminal:/nonexistent".to_owned(),
        "terminal".to_owned(),
        "fd:9999".to_owned(),
        "command:/nonexistent/ask --now".to_owned(),
        "command:no-such-program-anywhere".to_owned(),
        "command:./ask".to_owned(),
    ] {
        let error = chosen(&method, &around);
        assert!(
            error.starts_with(&format!("cannot prompt with {method}: ")) && error.contains("agent.toml"),
            "{error}"
        );
    }
    assert!(chosen("fd:0", &environment(&[]).with_descriptors(vec![3])).contains("was not open"));
}

#[test]
fn relative_path_directories_are_skipped() {
    let error = chosen("command:Cargo.toml", &environment(&[("PATH", Path::new(".:"))]));
    assert!(error.contains("Cargo.toml is not in PATH"), "{error}");
}
