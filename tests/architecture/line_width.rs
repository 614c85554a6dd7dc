//! Code fits into 120 columns, comments and prose into 100.

use std::fs;
use std::path::{Path, PathBuf};

use super::rust_files_under;

/// Maximum width of a line of code, in characters (`max_width` in `rustfmt.toml`, which leaves long
/// strings alone).
const MAX_CODE_WIDTH: usize = 120;

/// Maximum width of a line of prose or of a comment, in characters.
const MAX_PROSE_WIDTH: usize = 100;

#[test]
fn code_fits_into_120_columns() {
    let files = rust_files();
    let wide: Vec<_> = files.iter().flat_map(|(path, text)| located(path, wide_code(text))).collect();
    assert!(wide.is_empty(), "wider than {MAX_CODE_WIDTH} columns:\n{}", wide.join("\n"));
}

#[test]
fn prose_fits_into_100_columns() {
    let comments = rust_files().into_iter().map(|(path, text)| located(&path, wide_comments(&text)));
    let documents = documents().into_iter().map(|(path, text)| located(&path, wide_markdown(&text)));
    let wide: Vec<_> = comments.chain(documents).flatten().collect();
    assert!(wide.is_empty(), "wider than {MAX_PROSE_WIDTH} columns:\n{}", wide.join("\n"));
}

#[test]
fn planted_wide_code_is_found() {
    let (fits, wide) = ("ü".repeat(120), "ü".repeat(121));
    assert_eq!(wide_code(&format!("{fits}\n{wide}\n\n    {fits}\n")), [(2, 121), (4, 124)]);
    assert_eq!(wide_code(&format!("    //! | {wide} |\n")), [], "a comment");
}

#[test]
fn planted_wide_prose_is_found() {
    // 97 and 106 columns.
    let fits = format!("{} end", "ü".repeat(93));
    let wide = format!("{fits} and more");
    assert_eq!(wide_comments(&format!("// {fits}\n//! {fits}\n    /// {fits}\n")), [(2, 101), (3, 105)]);
    assert_eq!(wide_comments(&format!("fn f() {{}} // {wide}\n")), [], "code");
    // The last line is indented, but continues the item.
    let markdown = format!("# Title\n{fits}\n{wide}\n- {wide}\n    {wide}\n");
    assert_eq!(wide_markdown(&markdown), [(3, 106), (4, 108), (5, 110)]);
    for aside in ["| {} |", "{} https://example.org/", "\n    {}", "```\n{}\n```", "~~~ text\n\n{}\n~~~"] {
        let markdown = aside.replace("{}", &wide);
        let comment = format!("    /// {}\n", markdown.replace('\n', "\n    /// "));
        assert_eq!(wide_markdown(&markdown), [], "{markdown}");
        assert_eq!(wide_comments(&comment), [], "{comment}");
        // What follows is prose again.
        let after = |text: &str| text.lines().count() + 2;
        assert_eq!(wide_markdown(&format!("{markdown}\n\n{wide}\n")), [(after(&markdown), 106)]);
        assert_eq!(wide_comments(&format!("{comment}\n// {wide}\n")), [(after(&comment), 109)]);
    }
    let word = "w".repeat(101);
    for unbreakable in [word.clone(), format!("- {word}"), format!("10. [two words]({word})."), format!("  {word}")] {
        assert_eq!(wide_markdown(&unbreakable), [], "{unbreakable}");
    }
    for breakable in [format!("a {word}"), format!("[a]({word}) or [b]({word})"), format!("[a]({word}) or b")] {
        assert_eq!(wide_markdown(&breakable).len(), 1, "{breakable}");
    }
}

/// Number and width of each line that is too wide for code.
fn wide_code(text: &str) -> Vec<(usize, usize)> {
    wider_than(MAX_CODE_WIDTH, text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with("//")))
}

/// Number and width of each comment line (`//`, `///`, `//!`) that is too wide for prose.
fn wide_comments(text: &str) -> Vec<(usize, usize)> {
    let mut wide = Vec::new();
    let mut prose = Prose::default();
    for (line, number) in text.lines().zip(1..) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            prose = Prose::default();
            continue;
        };
        let comment = comment.strip_prefix(['/', '!']).unwrap_or(comment);
        if prose.must_fit(comment.strip_prefix(' ').unwrap_or(comment)) {
            wide.extend(wider_than(MAX_PROSE_WIDTH, [(line, number)]));
        }
    }
    wide
}

/// Number and width of each line of a Markdown document that is too wide for prose.
fn wide_markdown(text: &str) -> Vec<(usize, usize)> {
    let mut prose = Prose::default();
    wider_than(MAX_PROSE_WIDTH, text.lines().zip(1..).filter(|(line, _)| prose.must_fit(line)))
}

fn wider_than<'a>(columns: usize, lines: impl IntoIterator<Item = (&'a str, usize)>) -> Vec<(usize, usize)> {
    let widths = lines.into_iter().map(|(line, number)| (number, line.chars().count()));
    widths.filter(|(_, width)| *width > columns).collect()
}

/// `file:line: columns` of each line.
fn located(path: &Path, lines: Vec<(usize, usize)>) -> Vec<String> {
    lines.into_iter().map(|(number, width)| format!("{}:{number}: {width} columns", path.display())).collect()
}

/// Where in Markdown text the next line is.
#[derive(Default)]
struct Prose {
    in_fence: bool,
    in_paragraph: bool,
}

impl Prose {
    /// Whether the next line is prose that could be broken: no code block, no table row, no URL,
    /// and more than one word or link.
    fn must_fit(&mut self, line: &str) -> bool {
        let text = line.trim_start();
        if text.starts_with("```") || text.starts_with("~~~") {
            self.in_fence = !self.in_fence;
            self.in_paragraph = false;
            return false;
        }
        // Indented lines are code, unless they continue a paragraph.
        let is_code = self.in_fence || (line.starts_with("    ") && !self.in_paragraph);
        self.in_paragraph = !is_code && !text.is_empty();
        !is_code && !text.starts_with('|') && !text.contains("://") && !is_one_word_or_link(text)
    }
}

/// Whether a line, apart from the mark of a list, is one word or one Markdown link.
fn is_one_word_or_link(text: &str) -> bool {
    let text = match text.split_once(' ') {
        Some((mark, rest)) if mark == "-" || mark == "*" || mark.trim_end_matches('.').parse::<u32>().is_ok() => rest,
        _ => text,
    };
    let is_link = text.starts_with('[')
        && text.trim_end_matches(['.', ',', ';', ':']).ends_with(')')
        && text.matches("](").count() == 1;
    is_link || !text.trim_end().contains(' ')
}

/// Every Rust file of the program, its tests, benchmarks, examples and fuzz targets, with its text.
fn rust_files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directories = ["src", "tests", "benches", "examples", "fuzz/fuzz_targets"];
    let all: Vec<_> =
        directories.iter().map(|directory| (directory, rust_files_under(&root.join(directory)))).collect();
    for (directory, files) in &all {
        assert!(!files.is_empty(), "{directory} has no Rust file");
    }
    all.into_iter().flat_map(|(_, files)| files).collect()
}

/// Every Markdown file at the top and under `docs`, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.starts_with(root.join("docs")) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    for name in ["README.md", "docs/ARCHITECTURE.md", "docs/adr/0014-short-lived-checks.md"] {
        assert!(files.iter().any(|(path, _)| *path == root.join(name)), "{name} was not found");
    }
    files.sort();
    files
}
