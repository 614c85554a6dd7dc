//! Describes the program of a process, for prompts. The description is a hint, not a proof of
//! identity: a process chooses its own command line, and may have run another program before.

use std::fs;
use std::path::Path;

use crate::prompter::showable;

/// Maximum length of the command line shown, in characters.
const MAX_COMMAND_LINE_CHARS: usize = 120;

/// For example `/usr/bin/ssh (process 4711: ssh git@example.org)`; `None` if the process is
/// unknown.
pub(super) fn describe(pid: i32) -> Option<String> {
    describe_in(Path::new("/proc"), pid)
}

fn describe_in(proc: &Path, pid: i32) -> Option<String> {
    if pid <= 0 {
        return None;
    }
    let directory = proc.join(pid.to_string());
    let program = fs::read_link(directory.join("exe")).ok().map(|path| path.to_string_lossy().into_owned());
    // `exe` is unreadable if the process has made itself undumpable, as ssh-agent does; its name in
    // `comm` is not.
    let program = program.or_else(|| Some(fs::read_to_string(directory.join("comm")).ok()?.trim_end().to_owned()))?;
    let arguments = fs::read(directory.join("cmdline")).unwrap_or_default();
    let arguments: Vec<_> = arguments
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    let command = shortened(&arguments.join(" "));
    let process = if command.is_empty() { format!("process {pid}") } else { format!("process {pid}: {command}") };
    Some(showable(&format!("{program} ({process})")))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_COMMAND_LINE_CHARS {
        return text.to_owned();
    }
    text.chars().take(MAX_COMMAND_LINE_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn this_process_is_described() {
        let own = i32::try_from(std::process::id()).unwrap();
        let name = describe(own).unwrap();
        assert!(name.starts_with(std::env::current_exe().unwrap().to_str().unwrap()), "{name}");
        assert!(name.contains(&format!("(process {own}")), "{name}");
    }

    #[test]
    fn invalid_process_ids_have_no_description() {
        assert_eq!(describe(0), None);
        assert_eq!(describe(-1), None);
        assert_eq!(describe(i32::MAX), None);
    }

    #[test]
    fn a_description_is_short_and_without_control_characters() {
        let proc = tempfile::tempdir().unwrap();
        let process = proc.path().join("7");
        fs::create_dir(&process).unwrap();
        symlink("/tmp/\u{1b}[2Jssh\n", process.join("exe")).unwrap();
        fs::write(process.join("cmdline"), format!("ssh\0{}\0", "x".repeat(5000))).unwrap();
        let name = describe_in(proc.path(), 7).unwrap();
        assert!(!name.contains(['\u{1b}', '\n']), "{name}");
        assert!(name.chars().count() < 200 && name.contains("xx…"), "{name}");
    }

    #[test]
    fn an_undumpable_process_is_described_by_its_name() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("7")).unwrap();
        fs::write(proc.path().join("7/comm"), "ssh-agent\n").unwrap();
        assert_eq!(describe_in(proc.path(), 7).unwrap(), "ssh-agent (process 7)");
    }
}
