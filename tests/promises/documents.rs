//! What the documents say is so: every command line in them is run, every test they cite exists.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::machine::Machine;
use crate::support::terminal::Terminal;

use super::story::{free_addresses, fresh_machine};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, what stands beside it, and all of docs/.
fn documents() -> Vec<PathBuf> {
    let mut directories = vec![root().join("docs")];
    let mut found = Vec::new();
    let is_document = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    found.extend(entries(root()).into_iter().filter(|path| is_document(path)));
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            if path.is_dir() {
                directories.push(path);
            } else if is_document(&path) {
                found.push(path);
            }
        }
    }
    found
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

/// Everything between backticks in a document, outside its code blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            quoted.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    quoted
}

#[test]
fn every_test_that_a_document_cites_exists() {
    let modules: Vec<_> = entries(&root().join("tests/promises"))
        .into_iter()
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), fs::read_to_string(&path).ok()?)))
        .collect();
    let main = fs::read_to_string(root().join("tests/promises/main.rs")).unwrap();
    let (mut cited, mut missing) = (0, Vec::new());
    for document in documents() {
        for name in quoted(&fs::read_to_string(&document).unwrap()) {
            let Some((module, test)) = name.split_once("::") else { continue };
            // Other paths are the program's own.
            let is_word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let is_programs = ["src", "tests"].iter().any(|place| root().join(place).join(module).is_dir());
            if !is_word(module) || !(is_word(test) || test == "*") || is_programs {
                continue;
            }
            cited += 1;
            let source = modules.iter().find(|(name, _)| name == module).map(|(_, text)| text.as_str());
            let there = source.is_some_and(|text| test == "*" || text.contains(&format!("#[test]\nfn {test}()")))
                && main.contains(&format!("\nmod {module};"));
            if !there {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(cited > 20, "the documents cite {cited} tests only: are they read rightly?");
    assert!(missing.is_empty(), "cited, and not there:\n{}", missing.join("\n"));
}

/// How a command line of the documents is run.
enum How {
    /// In the documents' own machine, in the order in which it stands there, by a person at a terminal.
    Here,
    /// The same, and it goes on while the others run.
    Serves,
    /// By another test, or by continuous integration itself.
    Elsewhere(&'static str),
}

use How::{Elsewhere, Here, Serves};

/// Every command line in the documents. One that is not here fails the test, and so does one here that is in none.
const COMMANDS: &[(&str, How)] = &[
    ("./softhsm-setup.sh && cargo run --release -- demo", Elsewhere("story::demo_tells_the_story_and_exits_0")),
    ("./softhsm-setup.sh && cargo test", Elsewhere(".ci/run")),
    (
        "tokenkeep authority init  --config hsm-config/authority.toml --first-administrator admin@example.org --letter-out admin.letter",
        Here,
    ),
    ("tokenkeep authority serve --config hsm-config/authority.toml", Serves),
    ("tokenkeep enroll --letter admin.letter --keyset admin --level high --new-token", Here),
    ("tokenkeep admin issue user@example.org --name 'Example, User' --keyset admin --letter-out user.letter", Here),
    ("tokenkeep enroll --letter user.letter --level high --new-token", Here),
    ("tokenkeep sign --keyset default message.txt -o signed.p7m && tokenkeep verify signed.p7m", Here),
    (
        "tokenkeep encrypt --to user@example.org message.txt -o secret.p7m && tokenkeep decrypt --keyset default secret.p7m",
        Here,
    ),
    ("tokenkeep admin recover user@example.org --keyset admin --letter-out recovered.letter", Here),
    ("tokenkeep enroll --letter recovered.letter --keyset second --level high --new-token", Here),
    ("tokenkeep decrypt --keyset second secret.p7m", Here),
    ("ln -s \"$(command -v tokenkeep)\" ~/.local/bin/tokenkeep-git-sign", Elsewhere(GIT)),
    ("git config --global gpg.format x509", Elsewhere(GIT)),
    ("git config --global gpg.x509.program tokenkeep-git-sign", Elsewhere(GIT)),
    ("git config --global user.signingkey user@example.org", Elsewhere(GIT)),
    ("git commit -S -m 'A message'", Elsewhere(GIT)),
    ("git log --show-signature", Elsewhere(GIT)),
    ("eval \"$(tokenkeep agent --env)\"", Here),
    ("tokenkeep agent status", Here),
    ("tokenkeep agent log-off", Here),
    ("tokenkeep agent stop", Here),
    // It needs the variable that `eval` sets in its own shell.
    ("ssh-add -L", Elsewhere("prompters::askpass_is_told_who_asks_what_for_and_with_what")),
];

/// With a repository, and a keyset that signs in it.
const GIT: &str = "git_signing::a_signed_commit_is_good_and_a_changed_one_is_bad";

/// The lines of a document's code blocks, fenced or indented, that are commands: without prompt and comment, lines
/// that go on on the next joined. In a block that says it is no shell's (`toml`, `text`, `rust`), none is.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let (mut fence, mut in_list, mut blank_before, mut indented) = (None::<String>, false, true, false);
    let mut unfinished = String::new();
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.trim().to_owned()) };
            continue;
        }
        // Four spaces make a block after a blank line or a heading, but not inside a list.
        indented = line.starts_with("    ") && (indented || blank_before) && !in_list;
        in_list = (in_list && (line.is_empty() || line.starts_with(' ')))
            || line.starts_with("- ")
            || line.starts_with("1. ");
        blank_before = line.trim().is_empty() || line.starts_with('#');
        let is_shell = match &fence {
            Some(language) => ["", "sh", "shell", "bash", "console"].contains(&language.as_str()),
            None => indented,
        };
        let line = line.trim().trim_start_matches("$ ");
        if !is_shell || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.split("  #").next().unwrap_or(line).trim_end();
        if let Some(begun) = line.strip_suffix('\\') {
            unfinished.push_str(begun.trim_end());
            unfinished.push(' ');
        } else {
            commands.push(std::mem::take(&mut unfinished) + line);
        }
    }
    commands
}

#[test]
fn every_command_in_the_documents_runs() {
    let written: Vec<_> = documents()
        .into_iter()
        .flat_map(|path| {
            commands(&fs::read_to_string(&path).unwrap()).into_iter().map(move |line| (path.clone(), line))
        })
        .collect();
    let unknown: Vec<_> = written
        .iter()
        .filter(|(_, line)| !COMMANDS.iter().any(|(command, _)| command == line))
        .map(|(path, line)| format!("{}: {line}", path.display()))
        .collect();
    assert!(unknown.is_empty(), "not in the table of commands that are run:\n{}", unknown.join("\n"));
    for (command, how) in COMMANDS {
        assert!(written.iter().any(|(_, line)| line == command), "in no document any more: {command}");
        if let Elsewhere(place) = how {
            let file =
                place.split_once("::").map_or((*place).to_owned(), |(file, _)| format!("tests/promises/{file}.rs"));
            let text = fs::read_to_string(root().join(file)).unwrap();
            let what = place.split_once("::").map_or(*command, |(_, test)| test);
            assert!(text.contains(what), "{place} does not run {command}");
        }
    }

    let machine = fresh_machine(&free_addresses());
    let _ended = AgentEnds(&machine);
    machine.write("message.txt", "a message\n");
    let mut serving = Vec::new();
    for (_, line) in &written {
        let Some((command, how)) = COMMANDS.iter().find(|(command, _)| command == line) else { continue };
        match how {
            Here => {
                let (code, screen) = Terminal::shell(&machine, command).answering_pins(PIN).finish();
                assert_eq!(code, 0, "$ {command}\n{screen}");
            }
            Serves => {
                let mut terminal = Terminal::shell(&machine, command);
                terminal.expect("PIN").type_line(PIN).expect("Serving");
                serving.push(terminal);
            }
            Elsewhere(_) => {}
        }
    }
    assert!(!serving.is_empty());
}

/// Ends the agent that a document has started, should its own line not have done so.
struct AgentEnds<'a>(&'a Machine);

impl Drop for AgentEnds<'_> {
    fn drop(&mut self) {
        self.0.tokenkeep(&["agent", "stop"]);
    }
}

/// Every token's PIN: one person tries all of it out.
const PIN: &str = "one-for-all-1234";
