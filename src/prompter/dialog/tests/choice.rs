//! Which prompt methods are usable.

use super::*;

fn chosen(way: &str, environment: &Environment) -> String {
    match Dialog::choose(&way.parse().unwrap(), environment) {
        Ok(dialog) => dialog.describe(),
        Err(error) => {
            assert!(!error.is_cancelled());
            error.to_string()
        }
    }
}

/// A pinentry of this flavor.
fn pinentry(place: &Place, name: &str, flavor: &str) -> PathBuf {
    place.script(name, &format!("echo OK; read command; printf 'D {flavor}\\nOK\\n'; read bye; echo OK"))
}

#[test]
fn where_nobody_can_be_asked_that_is_said_at_once_with_the_remedy() {
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
    let (place, desk) = (Place::new(), Desk::new());
    let askpass = place.script("askpass", "echo 123456");
    let variables = [("PATH", place.0.path()), display(), ("SSH_ASKPASS", askpass.as_path())];
    let around = environment(&variables).with_terminal(&desk.path);
    assert_eq!(chosen("auto", &around), format!("askpass {}", askpass.display()));
    let window = |name: &str, kind: &str| {
        format!("pinentry {} ({kind}), terminal {}", place.path(name).display(), desk.path.display())
    };
    pinentry(&place, "pinentry-qt", "qt");
    assert_eq!(chosen("auto", &around), window("pinentry-qt", "qt"));
    pinentry(&place, "pinentry", "gtk2");
    assert_eq!(chosen("auto", &around), window("pinentry", "gtk2"));
    let no_display = environment(&variables[..1]).with_terminal(&desk.path);
    assert_eq!(chosen("auto", &no_display), format!("terminal {}", desk.path.display()));
}

#[test]
fn a_pinentry_needs_a_screen_of_its_kind() {
    let (place, desk) = (Place::new(), Desk::new());
    let window = pinentry(&place, "pinentry-qt", "qt");
    let curses = pinentry(&place, "pinentry-curses", "curses");
    let here = |variables: &[(&str, &Path)]| environment(&[&[("PATH", place.0.path())], variables].concat());
    let tty = ("GPG_TTY", desk.path.as_path());
    let at_desk = |environment: Environment| environment.with_terminal(&desk.path);
    let on_a_terminal = format!("pinentry {} (curses), terminal {}", curses.display(), desk.path.display());
    assert_eq!(chosen("pinentry", &at_desk(here(&[]))), on_a_terminal, "the pinentry with windows is skipped");
    assert_eq!(chosen(&format!("pinentry:{}", curses.display()), &here(&[tty])), on_a_terminal, "configured by path");
    let auto = chosen("auto", &at_desk(here(&[])));
    assert_eq!(auto, format!("terminal {}", desk.path.display()), "without a window no pinentry is needed");
    assert!(chosen(&format!("pinentry:{}", window.display()), &here(&[tty])).contains("needs a display"));
    let error = chosen(&format!("pinentry:{}", curses.display()), &here(&[display()]));
    assert!(error.contains("none of its own"), "{error}");
    let wayland = ("WAYLAND_DISPLAY", Path::new("wayland-0"));
    assert!(chosen("pinentry", &here(&[wayland])).contains("(qt)"));
    pinentry(&place, "pinentry-qt", "qt:curses");
    assert!(chosen("pinentry", &here(&[display()])).contains("none of its own"), "no window, and no terminal");
}

#[test]
fn a_gpg_tty_that_is_no_terminal_is_said_to_be_none() {
    let place = Place::new();
    let way = format!("pinentry:{}", pinentry(&place, "pinentry-curses", "curses").display());
    let error = chosen(&way, &environment(&[("GPG_TTY", Path::new("not a tty"))]));
    assert!(error.contains("GPG_TTY is not a tty, which is not a terminal"), "{error}");
    assert!(chosen(&way, &environment(&[("GPG_TTY", Path::new("/dev/null"))])).contains("it is not a terminal"));
}

#[test]
fn a_terminal_that_gpg_tty_names_is_another_shells_and_nobody_is_asked_there() {
    let (place, desk) = (Place::new(), Desk::new());
    pinentry(&place, "pinentry", "curses");
    let variables = [("PATH", place.0.path()), ("GPG_TTY", desk.path.as_path())];
    for way in ["auto", "pinentry"] {
        for more in [&[][..], &[display()]] {
            let said = chosen(way, &environment(&[&variables[..], more].concat()));
            assert!(
                said.starts_with("cannot prompt ") && !said.contains(&desk.path.display().to_string()),
                "{way}: {said}"
            );
        }
    }
}

#[test]
fn a_program_that_is_no_pinentry_is_found_out_before_anybody_is_asked() {
    let place = Place::new();
    let around = environment(&[display()]).with_patience(Duration::from_secs(1));
    for body in
        ["cat", "echo hello", "echo OK; echo hello", "exit 1", "sleep 60", "echo 'ERR 83886355 Unknown command'"]
    {
        let path = place.script("pinentry", body);
        let error = chosen(&format!("pinentry:{}", path.display()), &around);
        assert!(error.starts_with("cannot prompt with pinentry:") && error.contains("agent.toml"), "{body}: {error}");
    }
}

#[test]
fn askpass_asks_where_ssh_would_ask() {
    let place = Place::new();
    let askpass = place.script("askpass", "echo 123456");
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
fn what_is_not_there_is_named() {
    let place = Place::new();
    fs::write(place.path("plain"), "").unwrap();
    let around = environment(&[display()]);
    for way in [
        "pinentry:/nonexistent/pinentry".to_owned(),
        "askpass:/nonexistent/askpass".to_owned(),
        format!("askpass:{}", place.path("plain").display()),
        format!("askpass:{}", place.0.path().display()),
        "terminal:/dev/null".to_owned(),
        "terminal:/nonexistent".to_owned(),
        "terminal".to_owned(),
        "fd:9999".to_owned(),
        "command:/nonexistent/ask --now".to_owned(),
        "command:no-such-program-anywhere".to_owned(),
        "command:./ask".to_owned(),
    ] {
        let error = chosen(&way, &around);
        assert!(error.starts_with(&format!("cannot prompt with {way}: ")) && error.contains("agent.toml"), "{error}");
    }
    assert!(chosen("fd:0", &environment(&[]).with_descriptors(vec![3])).contains("was not open"));
}

#[test]
fn directories_of_path_that_depend_on_where_one_stands_are_passed_over() {
    let error = chosen("command:Cargo.toml", &environment(&[("PATH", Path::new(".:"))]));
    assert!(error.contains("Cargo.toml is not in PATH"), "{error}");
}
