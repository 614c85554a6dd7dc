//! The documents are correct: every command line in them runs after the steps that the document
//! describes before it, and every test that they cite exists.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tokenkeep::{authority, keyset};

use crate::support::agent::{Agent, BackgroundAgent};
use crate::support::deployment::Deployment;
use crate::support::machine::{Machine, run};
use crate::support::shared_authority::wait_until_certificates_are_newer;
use crate::support::terminal::Terminal;

use super::walkthrough::{free_addresses, fresh_machine};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, the documents beside it, and all of docs/.
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

/// All text in backticks in a document, outside its code blocks.
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
            // `lib::` begins a unit test; other paths belong to the program.
            let is_word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let is_programs =
                module == "lib" || ["src", "tests"].iter().any(|place| root().join(place).join(module).is_dir());
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

/// The full names of the unit tests.
fn unit_tests() -> Vec<String> {
    let mut names = Vec::new();
    let mut directories = vec![root().join("src")];
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let place = path.strip_prefix(root().join("src")).unwrap().with_extension("");
            let place = place.to_str().unwrap().replace('/', "::");
            let place = place.trim_end_matches("::mod");
            let text = fs::read_to_string(&path).unwrap().replace("#[tokio::test]", "#[test]");
            for after in text.split("#[test]").skip(1) {
                let name = after.split_once("fn ").and_then(|(_, after)| after.split_once('('));
                // In a module `tests` at the end of the file, unless the file is one.
                let inner = if after.starts_with("\nfn ") { "" } else { "tests::" };
                names.extend(name.map(|(name, _)| format!("{place}::{inner}{name}")));
            }
        }
    }
    names
}

#[test]
fn every_unit_test_that_a_document_cites_exists() {
    let there = unit_tests();
    assert!(there.len() > 200, "{} tests only: is the code read rightly?", there.len());
    let (mut cited, mut missing) = (0, Vec::new());
    for document in documents() {
        for name in quoted(&fs::read_to_string(&document).unwrap()) {
            let filter = name.strip_prefix("cargo test --lib ").or_else(|| name.strip_prefix("lib::"));
            let Some(filter) = filter.filter(|filter| *filter != "NAME") else { continue };
            cited += 1;
            if !there.iter().any(|test| test.contains(filter)) {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(cited > 30, "the documents cite {cited} only: are they read rightly?");
    assert!(missing.is_empty(), "cited, and not there:\n{}", missing.join("\n"));
}

/// The document on enrollment names every crash point, and no other.
#[test]
fn the_enrollment_document_names_every_crash_point() {
    let text = fs::read_to_string(root().join("docs/ENROLLMENT.md")).unwrap();
    let all = [keyset::CRASH_POINTS, authority::CRASH_POINTS].concat();
    let is_of_an_enrollment = |point: &&str| {
        let others =
            ["keyset.statement_", "keyset.deleted_", "authority.init.", "authority.own.", "authority.statement."];
        !others.iter().any(|other| point.starts_with(other))
    };
    let expected: BTreeSet<_> = all.iter().copied().filter(is_of_an_enrollment).map(str::to_owned).collect();
    let is_point = |name: &String| name.starts_with("keyset.") || name.starts_with("authority.");
    let named: BTreeSet<_> = quoted(&text).into_iter().filter(is_point).collect();
    assert_eq!(named, expected);
}

/// How a command line of the documents is run: by a person at a terminal, in a shell in which the
/// earlier lines were typed, or by another test.
enum Execution {
    Here,
    /// Its output must contain this.
    Shows(&'static str),
    /// It keeps running during the others, so its block has a terminal of its own.
    Serves,
    /// Installs the tested program where `cargo install` would.
    Installs,
    /// Covered by another test or by continuous integration.
    TestedBy(&'static str),
}

use Execution::{Here, Installs, Serves, Shows, TestedBy};

/// Every command line in the documents. The test fails for a line that is missing here, and for a
/// line here that no document has.
const COMMANDS: &[(&str, Execution)] = &[
    ("./softhsm-setup.sh && cargo run --release -- demo", TestedBy(".ci/run")),
    ("./softhsm-setup.sh && cargo test", TestedBy(".ci/run")),
    ("cargo install --locked --path .", Installs),
    ("cargo build --release --locked && packaging/deb/build", TestedBy(".ci/run")),
    ("apt-get install ./tokenkeep_*.deb", TestedBy("packaging/deb/try")),
    ("mkdir -p ~/.config/softhsm2 ~/.local/share/softhsm2/tokens", TestedBy("packaging/deb/try")),
    (
        "sed \"s|@TOKENDIR@|$HOME/.local/share/softhsm2/tokens|\" /usr/share/tokenkeep/hsm-config/softhsm2.conf \
         > ~/.config/softhsm2/softhsm2.conf",
        TestedBy("packaging/deb/try"),
    ),
    ("cp -r /usr/share/tokenkeep/hsm-config .", TestedBy("packaging/deb/try")),
    ("eval \"$(./softhsm-setup.sh)\"", Here),
    ("echo 'a message' > message.txt", Here),
    (
        "tokenkeep authority init  --config hsm-config/authority.toml --first-administrator admin@example.org \
         --letter-out admin.letter",
        Here,
    ),
    ("tokenkeep authority serve --config hsm-config/authority.toml", Serves),
    ("tokenkeep enroll --letter admin.letter --keyset admin --level high --new-token", Here),
    ("tokenkeep admin issue user@example.org --name 'Example, User' --keyset admin --letter-out user.letter", Here),
    ("tokenkeep enroll --letter user.letter --level high --new-token", Here),
    ("tokenkeep sign --keyset default message.txt -o signed.p7m && tokenkeep verify signed.p7m", Shows("a message")),
    (
        "tokenkeep encrypt --to user@example.org message.txt -o secret.p7m && \
         tokenkeep decrypt --keyset default secret.p7m",
        Shows("a message"),
    ),
    ("tokenkeep admin recover user@example.org --keyset admin --letter-out recovered.letter", Here),
    ("tokenkeep enroll --letter recovered.letter --keyset second --level high --new-token", Here),
    ("tokenkeep decrypt --keyset second secret.p7m", Shows("a message")),
    ("mkdir -p ~/.local/bin && ln -s \"$(command -v tokenkeep)\" ~/.local/bin/tokenkeep-git-sign", Here),
    ("git config --global gpg.format x509", Here),
    ("git config --global gpg.x509.program tokenkeep-git-sign", Here),
    ("git config --global user.signingkey user@example.org", Here),
    ("git commit -S -m 'A message'", Here),
    ("git log --show-signature", Shows("Signed by")),
    ("mkdir -p ~/.ssh && ssh-add -L | grep ' default ' > ~/.ssh/tokenkeep.pub", Here),
    ("git config --global gpg.format ssh", Here),
    ("git config --global user.signingkey ~/.ssh/tokenkeep.pub", Here),
    ("echo \"user@example.org namespaces=\\\"git\\\" $(cat ~/.ssh/tokenkeep.pub)\" >> ~/.ssh/allowed_signers", Here),
    ("git config --global gpg.ssh.allowedSignersFile ~/.ssh/allowed_signers", Here),
    ("git commit --allow-empty -S -m 'Another message'", Here),
    ("git log --show-signature -1", Shows("Good \"git\" signature")),
    ("eval \"$(tokenkeep agent --env)\"", Here),
    ("tokenkeep agent status", Shows("(live)")),
    ("ssh-add -L", Shows("second ")),
    ("curl --unix-socket \"$TOKENKEEP_AGENT_API\" http://agent/v1/keysets", Shows("\"keyset\":\"second\"")),
    ("tokenkeep agent log-off", Here),
    ("tokenkeep agent stop", Here),
];

/// The command lines in a document's code blocks, fenced or indented, without prompt and comment,
/// with continued lines joined. A block with another language (`toml`, `text`, `rust`) has none.
fn blocks(text: &str) -> Vec<Vec<String>> {
    let mut blocks = vec![Vec::new()];
    let (mut fence, mut in_list, mut blank_before, mut indented) = (None::<String>, false, true, false);
    let mut unfinished = String::new();
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.trim().to_owned()) };
            blocks.push(Vec::new());
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
        if !is_shell {
            blocks.push(Vec::new());
        }
        if !is_shell || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.split("  #").next().unwrap_or(line).trim_end();
        if let Some(begun) = line.strip_suffix('\\') {
            unfinished.push_str(begun.trim_end());
            unfinished.push(' ');
        } else if let Some(block) = blocks.last_mut() {
            block.push(std::mem::take(&mut unfinished) + line);
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

fn blocks_of(document: &Path) -> Vec<Vec<String>> {
    blocks(&fs::read_to_string(document).unwrap())
}

#[test]
fn every_command_in_the_documents_is_run_by_a_test() {
    let written: Vec<_> = documents()
        .into_iter()
        .flat_map(|path| blocks_of(&path).into_iter().flatten().map(move |line| (path.clone(), line)))
        .collect();
    let unknown: Vec<_> = written
        .iter()
        .filter(|(_, line)| !COMMANDS.iter().any(|(command, _)| command == line))
        .map(|(path, line)| format!("{}: {line}", path.display()))
        .collect();
    assert!(unknown.is_empty(), "not in the table of commands that are run:\n{}", unknown.join("\n"));
    let are_typed = [README, AGENT, GIT].map(|name| root().join(name));
    for (command, how) in COMMANDS {
        assert!(written.iter().any(|(_, line)| line == command), "in no document any more: {command}");
        for (path, _) in written.iter().filter(|(_, line)| line == command) {
            let place = match how {
                TestedBy(place) => place,
                Installs | Here | Shows(_) | Serves => {
                    assert!(are_typed.contains(path), "no test runs the commands in {}: {command}", path.display());
                    continue;
                }
            };
            let text = fs::read_to_string(root().join(place)).unwrap();
            // As a command, not in a comment or in output.
            let runs = text.lines().any(|line| !line.trim_start().starts_with("step ") && line.contains(command));
            assert!(runs, "{place} does not run {command}");
        }
    }
}

const README: &str = "README.md";
const AGENT: &str = "docs/AGENT.md";
const GIT: &str = "docs/GIT.md";

/// Types the lines of a document at this terminal, and lines that serve at other terminals, which
/// it returns.
#[track_caller]
fn type_document(machine: &Machine, terminal: &mut Terminal, document: &str) -> Vec<Terminal> {
    let mut serving = Vec::new();
    for block in blocks_of(&root().join(document)) {
        let how_of = |line: &String| COMMANDS.iter().find(|(command, _)| command == line).map(|(_, how)| how);
        let mut own = block.iter().any(|line| matches!(how_of(line), Some(Serves))).then(|| new_terminal(machine));
        for line in &block {
            let here = own.as_mut().unwrap_or(terminal);
            if line.starts_with("tokenkeep enroll ") {
                // A person is slower than this test.
                wait_until_certificates_are_newer();
            }
            let types = |terminal: &mut Terminal| {
                let (code, screen) = terminal.run_line(line, PIN);
                assert_eq!(code, 0, "{document}: {line}\n{screen}");
                screen
            };
            match how_of(line) {
                Some(Here) => drop(types(here)),
                Some(Shows(expected)) => {
                    let screen = types(here);
                    assert!(screen.contains(expected), "{document}: {line} does not show {expected}\n{screen}");
                }
                Some(Serves) => drop(here.type_line(line).expect("PIN").type_line(PIN).expect("Serving")),
                Some(Installs) => {
                    assert_eq!(installed_programs(), ["tokenkeep"]);
                    fs::create_dir_all(machine.file("home/.cargo/bin")).unwrap();
                    symlink(env!("CARGO_BIN_EXE_tokenkeep"), machine.file("home/.cargo/bin/tokenkeep")).unwrap();
                }
                Some(TestedBy(_)) | None => {}
            }
        }
        serving.extend(own);
    }
    serving
}

/// The programs that `cargo install --path .` would install, without the time to build them.
fn installed_programs() -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(root());
    let described: Value = serde_json::from_slice(&run(cargo, b"").ok().stdout).unwrap();
    let targets = described["packages"][0]["targets"].as_array().unwrap().iter();
    let programs = targets.filter(|target| target["kind"][0] == "bin");
    programs.map(|target| target["name"].as_str().unwrap().to_owned()).collect()
}

/// A fresh shell.
fn new_terminal(machine: &Machine) -> Terminal {
    Terminal::shell(machine, "sh")
}

/// The search path of a login shell: rustup's directory for cargo and the user's own directory
/// before the system's. It contains no `tokenkeep`, whatever the tester has.
fn search_path(machine: &Machine) -> String {
    let own = ["home/.cargo/bin", "home/.local/bin"].map(|name| machine.file(name));
    let system = std::env::var_os("PATH").unwrap();
    let system = std::env::split_paths(&system).filter(|directory| !directory.join("tokenkeep").exists());
    std::env::join_paths(own.into_iter().chain(system)).unwrap().into_string().unwrap()
}

#[test]
fn the_commands_in_readme_and_agent_guide_work_as_written() {
    let mut machine = fresh_machine(&free_addresses());
    for variable in ["SOFTHSM2_CONF", "KRYOPTIC_CONF", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
        machine.unset_environment(variable);
    }
    machine.set_environment("PATH", &search_path(&machine));
    // If no line configures SoftHSM, it must not find the tester's tokens.
    fs::create_dir_all(machine.file("home/.config/softhsm2")).unwrap();
    machine.write("home/.config/softhsm2/softhsm2.conf", "directories.tokendir = /nowhere\n");
    let _ended = BackgroundAgent(&machine);
    let mut terminal = new_terminal(&machine);
    let serving = type_document(&machine, &mut terminal, README);
    assert_eq!(serving.len(), 1);
    type_document(&machine, &mut terminal, AGENT);
}

#[test]
fn the_commands_in_the_git_guide_work_as_written() {
    let mut deployment = Deployment::begin();
    deployment.enroll_user();
    let path = format!("{}:{}", search_path(&deployment.machine), deployment.machine.file("bin").display());
    deployment.machine.set_environment("PATH", &path);
    // A committer has this configuration; without a pager the output is visible.
    deployment.machine.set_environment("GIT_PAGER", "cat");
    let mut terminal = new_terminal(&deployment.machine);
    for line in [
        "git config --global user.name 'Example User' && git config --global user.email user@example.org",
        "git init -q repository && cd repository && touch file && git add file",
    ] {
        assert_eq!(terminal.run_line(line, PIN).0, 0);
    }
    // Over SSH the agent prompts, which has no terminal of its own here.
    Agent::configure_with_pin_in(&deployment.machine, "pin1", "");
    let _ended = BackgroundAgent(&deployment.machine);
    type_document(&deployment.machine, &mut terminal, GIT);
    assert!(deployment.machine.file("home/.gitconfig").exists());
    deployment.machine.run("git", &["-C", "repository", "verify-commit", "HEAD"], b"").ok();
}

/// The PIN of every token, since one person runs all examples.
const PIN: &str = Deployment::USER_PIN;
