//! A virtual display, and simulated keyboard input.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::agent::wait_for;
use super::foreign_programs::present;
use super::machine::Machine;
use super::output::Output;

/// An X server without a screen (Xvfb). It is killed when dropped.
pub struct Display {
    server: Child,
    /// The value of `DISPLAY`.
    pub name: String,
}

impl Display {
    /// `None`, and a visible line, if a needed program is missing.
    pub fn open(machine: &Machine) -> Option<Self> {
        if !present("Xvfb") || !present("xdotool") {
            return None;
        }
        let mut command = machine.command("Xvfb");
        command.args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0", "1024x768x24"]);
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        assert!(!number.is_empty(), "Xvfb has no display");
        Some(Self { server, name: format!(":{}", number.trim()) })
    }

    fn xdotool(&self, machine: &Machine, arguments: &[&str]) -> Output {
        let mut command = machine.command("xdotool");
        command.env("DISPLAY", &self.name).args(arguments);
        super::machine::run(command, b"")
    }

    fn window(&self, machine: &Machine, class: &str) -> Option<String> {
        let found = self.xdotool(machine, &["search", "--onlyvisible", "--class", class]).out();
        found.lines().last().map(str::to_owned)
    }

    /// Waits for a window of a program of this class, types the text and presses the last key,
    /// which closes the window.
    pub fn type_into(&self, machine: &Machine, class: &str, text: &str, last: &str) {
        let window = wait_for("a window", || self.window(machine, class));
        self.xdotool(machine, &["windowfocus", "--sync", &window]).ok();
        self.xdotool(machine, &["type", text]).ok();
        self.xdotool(machine, &["key", last]).ok();
        wait_for("the window goes", || (self.window(machine, class).as_ref() != Some(&window)).then_some(()));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
