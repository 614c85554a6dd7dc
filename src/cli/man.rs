//! `tokenkeep man`: manual pages. NAME to SUBCOMMANDS come from the definitions that parse the
//! command line; EXIT STATUS, FILES, EXAMPLES and SEE ALSO from the [`page`]s, which are in a table
//! or beside their command.

mod account_pages;
mod authority_pages;
mod keyset_pages;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::exit::{Exit, Failure};
use super::man_page::{Page, status_text};
use super::output;

/// All pages.
const PAGES: [&[Page]; 5] =
    [account_pages::PAGES, authority_pages::PAGES, keyset_pages::PAGES, super::admin::PAGES, super::keyset::PAGES];

/// Arguments of `tokenkeep man`.
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// Write the pages of all commands to this directory
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the pages: `tokenkeep.1`, `tokenkeep-keyset.1`, `tokenkeep-keyset-list.1` …
pub fn run(arguments: &ManArguments, command: clap::Command) -> Result<Exit, Failure> {
    let command = built(command);
    let Some(directory) = &arguments.out else {
        let page = render(&command, None)
            .map_err(|error| Failure::fault(format!("cannot create the manual page: {error}")))?;
        output::print(&mut io::stdout().lock(), page.trim_end())?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(directory)
        .and_then(|()| write_all(&command, None, directory))
        .map_err(|error| Failure::fault(format!("cannot write manual pages to {}: {error}", directory.display())))?;
    Ok(Exit::Done)
}

/// `help` needs no page of its own. `build` names the subcommands after their parents.
fn built(command: clap::Command) -> clap::Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

fn write_all(command: &clap::Command, parent: Option<&clap::Command>, directory: &Path) -> io::Result<()> {
    let file = directory.join(format!("{}.1", page_name(command)));
    fs::write(file, render(command, parent)?)?;
    visible(command).try_for_each(|subcommand| write_all(subcommand, Some(command), directory))
}

fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set())
}

/// `tokenkeep-keyset-list`
fn page_name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The table's entry for a command.
fn entry(name: &str) -> Option<&'static Page> {
    PAGES.into_iter().flatten().find(|page| page.name == name)
}

/// A page in the language of man(7), in ASCII.
fn render(command: &clap::Command, parent: Option<&clap::Command>) -> io::Result<String> {
    let (name, version) = (page_name(command), command.get_version().unwrap_or_default());
    let man = Man::new(command.clone());
    // Option names must not be hyphenated, and lines of options not be stretched.
    let mut page = format!(".TH {name} 1 \"\" \"tokenkeep {version}\" \"User Commands\"\n.nh\n.ad l\n").into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    notes(&mut roff, command);
    if let Some(entry) = entry(name) {
        exit_status(&mut roff, entry);
        files(&mut roff, entry);
        examples(&mut roff, entry);
        see_also(&mut roff, entry, command, parent);
    }
    roff.to_writer(&mut page)?;
    Ok(ascii(&String::from_utf8_lossy(&page)))
}

/// The text after the options of `--help`, without what has a section of its own.
fn notes(roff: &mut Roff, command: &clap::Command) {
    let text = command.get_after_long_help().or_else(|| command.get_after_help());
    let text = text.map(ToString::to_string).unwrap_or_default();
    let has_section = |line: &&str| ["Exit codes:", "Example:", "Examples:"].iter().any(|head| line.starts_with(head));
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty() && !has_section(line)).collect();
    if !lines.is_empty() {
        roff.control("SH", ["NOTES"]);
        roff.text([roman(lines.join("\n"))]);
    }
}

fn exit_status(roff: &mut Roff, page: &Page) {
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in page.exits {
        let meaning = if meaning.is_empty() { status_text(*exit) } else { meaning };
        term(roff, [bold(exit.code().to_string())], meaning);
    }
    if page.name != "tokenkeep" {
        roff.control("PP", []);
        roff.text([roman("These are usual for this command; see "), bold("tokenkeep"), roman("(1) for all.")]);
    }
}

fn files(roff: &mut Roff, page: &Page) {
    roff.control("SH", ["FILES"]);
    for file in page.files {
        term(roff, [italic(file.path)], file.purpose);
    }
}

fn examples(roff: &mut Roff, page: &Page) {
    roff.control("SH", ["EXAMPLES"]);
    for (index, (purpose, lines)) in page.examples.iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*purpose)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in *lines {
            roff.text([bold(*line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

/// The page of the program, the pages around this one, then those of the table.
fn see_also(roff: &mut Roff, page: &Page, command: &clap::Command, parent: Option<&clap::Command>) {
    roff.control("SH", ["SEE ALSO"]);
    let around = parent.map(page_name).into_iter().chain(visible(command).map(page_name));
    let mut names: Vec<(&str, &str)> = Vec::new();
    for name in ["tokenkeep"].into_iter().chain(around).chain(page.see_also.iter().copied()) {
        let (name, section) = name.trim_end_matches(')').split_once('(').unwrap_or((name, "1"));
        if name != page.name && !names.contains(&(name, section)) {
            names.push((name, section));
        }
    }
    let mut line: Vec<Inline> = Vec::new();
    for (name, section) in names {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(name), roman(format!("({section})"))]);
    }
    roff.text(line);
}

fn term(roff: &mut Roff, head: [Inline; 1], text: &str) {
    roff.control("TP", []);
    roff.text(head);
    roff.text([roman(text)]);
}

/// Other characters as groff's escapes: without preconv(1) it takes a page for Latin-1.
fn ascii(page: &str) -> String {
    let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    page.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests;
