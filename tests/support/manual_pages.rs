//! The manual pages that `tokenkeep man` writes, and the entries in their sections.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::Machine;
use super::output::Output;
use super::search::files;

/// The text of each page, by its name, such as `tokenkeep-keyset-list`.
pub struct ManualPages(BTreeMap<String, String>);

impl ManualPages {
    /// Writes the pages to the machine's directory `man`, and reads them.
    pub fn read(machine: &Machine) -> Self {
        machine.tokenkeep(&["man", "--out", "man"]).ok();
        let paths = files(&machine.file("man")).into_iter();
        let read = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), text)
        };
        Self(paths.map(read).collect())
    }

    /// Fails the test unless the page of the command lists the exit code of the output.
    #[track_caller]
    pub fn assert_lists_exit_code(&self, arguments: &[&str], output: &Output) {
        let mut page = "tokenkeep".to_owned();
        for argument in arguments.iter().skip_while(|argument| argument.starts_with('-')) {
            let longer = format!("{page}-{argument}");
            if !self.0.contains_key(&longer) {
                break;
            }
            page = longer;
        }
        let listed = entries(&self.0[&page], "EXIT STATUS");
        assert!(listed.contains(&output.code().to_string()), "{page}(1) lists {listed:?}\n{output}");
    }

    /// The paths in FILES of all pages.
    pub fn files(&self) -> BTreeSet<String> {
        self.0.values().flat_map(|page| entries(page, "FILES")).collect()
    }
}

/// The tagged entries of a section, without formatting.
fn entries(page: &str, heading: &str) -> BTreeSet<String> {
    let begins = [format!(".SH {heading}"), format!(".SH \"{heading}\"")];
    let lines = page.lines().skip_while(|line| !begins.iter().any(|begin| begin == line)).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with(".SH ")).collect();
    let tags = lines.windows(2).filter(|pair| pair[0] == ".TP").map(|pair| pair[1]);
    tags.map(|tag| ["\\fB", "\\fI", "\\fR", "\\"].iter().fold(tag.to_owned(), |tag, escape| tag.replace(escape, "")))
        .collect()
}
