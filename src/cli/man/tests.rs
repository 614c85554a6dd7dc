//! Each page has its sections, and they are true: pages and commands that they name exist, lines
//! fit, and groff renders them without a warning.

use std::collections::BTreeMap;
use std::process::{Command as Process, Stdio};

use clap::{CommandFactory, Parser};

use super::*;
use crate::cli::Cli;

/// Programs in examples that are not this one.
const OTHERS: &[&str] = &["cd", "git", "ln", "man", "mkdir", "runuser", "ssh-add", "systemctl", "xss-lock"];

fn pages() -> BTreeMap<String, String> {
    fn add(command: &clap::Command, parent: Option<&clap::Command>, pages: &mut BTreeMap<String, String>) {
        pages.insert(page_name(command).to_owned(), render(command, parent).unwrap());
        visible(command).for_each(|subcommand| add(subcommand, Some(command), pages));
    }
    let mut pages = BTreeMap::new();
    add(&built(Cli::command()), None, &mut pages);
    pages
}

/// The lines of a page between this heading and the next one.
fn section<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let begins = [format!(".SH {heading}"), format!(".SH \"{heading}\"")];
    let lines = page.lines().skip_while(|line| !begins.iter().any(|begin| begin == line)).skip(1);
    lines.take_while(|line| !line.starts_with(".SH ")).collect()
}

/// The example's commands: continued lines joined, and what a shell would run in parts.
fn commands(lines: &[&str]) -> Vec<String> {
    let text = lines.join("\n").replace("\\\n", " ");
    let lines = text.lines().flat_map(|line| line.split(" && "));
    let mut commands: Vec<String> =
        lines.map(|line| line.split(" > ").next().unwrap_or_default().trim().to_owned()).collect();
    for command in &mut commands {
        if let Some((_, inner)) = command.split_once("eval \"$(") {
            *command = inner.trim_end_matches([')', '"']).to_owned();
        }
        if let Some((_, rest)) = command.split_once("tokenkeep -- ") {
            *command = rest.trim().to_owned();
        }
        if let Some(rest) = command.strip_prefix("env ") {
            *command = rest.trim().split_once(' ').unwrap().1.trim().to_owned();
        }
    }
    commands
}

/// Splits as a shell does, with single quotes only.
fn split_words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let marked: String =
        parts.map(|(index, part)| if index % 2 == 1 { part.replace(' ', "\u{1}") } else { part.to_owned() }).collect();
    marked.split_whitespace().map(|word| word.replace('\u{1}', " ")).collect()
}

#[test]
fn each_command_has_a_page_with_all_sections() {
    let pages = pages();
    assert!(pages.len() > 40, "{:?}", pages.keys());
    for (name, page) in &pages {
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "EXAMPLES", "SEE ALSO"] {
            assert!(!section(page, heading).is_empty(), "{name} has no {heading}:\n{page}");
        }
        assert!(page.is_ascii(), "{name} has characters that groff takes for Latin-1");
    }
    let unknown: Vec<_> =
        PAGES.into_iter().flatten().map(|page| page.name).filter(|name| !pages.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "entries without a command: {unknown:?}");
    let mut names: Vec<_> = PAGES.into_iter().flatten().map(|page| page.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), pages.len(), "two entries have one name");
}

#[test]
fn pages_name_only_pages_that_exist() {
    let pages = pages();
    for (name, page) in &pages {
        let line = section(page, "SEE ALSO").join(" ").replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
        let named: Vec<_> = line.split(", ").collect();
        assert!(named.len() > 1 || name != "tokenkeep", "{name}: {line}");
        for other in named {
            let (page, number) = other.trim().strip_suffix(')').and_then(|other| other.split_once('(')).unwrap();
            assert!(!page.is_empty() && number.starts_with(|c: char| c.is_ascii_digit()), "{name}: {other}");
            assert!(!page.starts_with("tokenkeep") || pages.contains_key(page), "{name} names {other}");
            assert_ne!(page, name.as_str(), "{name} names itself");
        }
    }
}

#[test]
fn examples_of_the_pages_are_understood() {
    for page in PAGES.into_iter().flatten() {
        let own = page.name.replace('-', " ");
        let mut shows_itself = false;
        for (purpose, lines) in page.examples {
            assert!(purpose.ends_with(':') && !lines.is_empty(), "{}: {purpose}", page.name);
            for line in *lines {
                assert!(line.chars().count() <= 69, "{}: too wide for 80 columns: {line}", page.name);
            }
            for command in commands(lines) {
                let words = split_words(&command);
                if words[0] == "tokenkeep" {
                    if let Err(error) = Cli::try_parse_from(&words) {
                        panic!("{}: {command}\n{error}", page.name);
                    }
                } else {
                    assert!(OTHERS.contains(&words[0].as_str()), "{}: {command}", page.name);
                }
                let shown = command.replace('-', " ");
                shows_itself |= shown.contains(&own) || lines.iter().any(|line| line.replace('-', " ").contains(&own));
            }
        }
        // `keyset list` and `token list` show the short form.
        assert!(shows_itself || page.name.ends_with("-list"), "{} does not show its command", page.name);
    }
}

#[test]
fn exit_statuses_are_those_of_the_program() {
    let pages = pages();
    let all: Vec<_> = entry("tokenkeep").unwrap().exits.iter().map(|(exit, _)| *exit).collect();
    let help = Cli::command().get_after_help().unwrap().to_string();
    let in_help: Vec<i32> =
        help.split([':', ',']).filter_map(|part| part.split_whitespace().next()?.parse::<i32>().ok()).collect();
    assert_eq!(all.iter().map(|exit| exit.code()).collect::<Vec<_>>(), in_help, "as --help lists them");
    for page in PAGES.into_iter().flatten() {
        let codes: Vec<_> = page.exits.iter().map(|(exit, _)| exit.code()).collect();
        assert!(codes.is_sorted_by(|one, next| one < next), "{}: {codes:?}", page.name);
        assert!(page.exits.iter().all(|(exit, _)| all.contains(exit)), "{}", page.name);
        assert_eq!(codes[0], 0, "{}", page.name);
        let shown = section(&pages[page.name], "EXIT STATUS").join("\n");
        assert!(codes.iter().all(|code| shown.contains(&format!("\\fB{code}\\fR"))), "{}: {shown}", page.name);
        assert!(page.name == "tokenkeep" || shown.contains("see \\fBtokenkeep\\fR(1) for all"), "{shown}");
    }
}

#[test]
fn groff_renders_the_pages_in_80_columns() {
    let groff = |page: &str| {
        let mut child = Process::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-rLL=80n", "-P-cbou"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        io::Write::write_all(&mut child.stdin.take().unwrap(), page.as_bytes()).unwrap();
        Some(child.wait_with_output().unwrap())
    };
    for (name, page) in pages() {
        // Without groff, check for lines that it would break or complain of: lines without spaces.
        for line in page.lines().filter(|line| !line.starts_with('.')) {
            let longest = line.split([' ', ',']).map(|word| word.replace('\\', "").chars().count()).max();
            assert!(longest.unwrap_or_default() <= 66, "{name}: {line}");
        }
        assert!(!page.lines().any(|line| line.starts_with('\'')), "{name} has an unknown request");
        let Some(output) = groff(&page) else { continue };
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaints.is_empty() && output.status.success(), "{name}: {complaints}");
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        for (_, lines) in entry(&name).unwrap().examples {
            for line in *lines {
                assert!(text.contains(line), "{name} does not show {line}\n{text}");
            }
        }
    }
}
