//! The compiler enforces that steps cannot be skipped or repeated: each file in
//! `tests/compile_fail/` has lines that must not compile, marked with their error code. Each file
//! is compiled against the library that this test was built with: with one of these lines it must
//! fail there, with the marked code only; without all of them it must compile, so that no unrelated
//! mistake passes the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The beginning of a mark: `//~ E0382`.
const MARK: &str = "//~ ";

#[test]
fn a_certificate_is_not_issued_without_a_permit() {
    check("certificate_without_permit.rs");
}

#[test]
fn a_permit_is_good_once() {
    check("permit_twice.rs");
}

#[test]
fn a_pin_session_permits_one_operation() {
    check("pin_session_twice.rs");
}

#[test]
fn a_key_is_not_delivered_before_it_is_archived() {
    check("unarchived_key_delivered.rs");
}

#[test]
fn every_file_is_checked() {
    let files = fs::read_dir(directory()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let tests = include_str!("compile_fail.rs");
    let forgotten: Vec<_> = files.filter(|file| !tests.contains(&format!("check(\"{file}\")"))).collect();
    assert!(forgotten.is_empty(), "not checked: {forgotten:?}");
}

/// A line number and the code of its error.
type Mistake = (u64, String);

fn check(file: &str) {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    let marked: Vec<Mistake> = (1..).zip(text.lines()).filter_map(|(number, line)| mistake(number, line)).collect();
    assert!(!marked.is_empty(), "{file} has no marked lines");
    // One at a time: the compiler reports some kinds of errors only if there are none of other
    // kinds.
    for (line, code) in &marked {
        let found = mistakes_in(&with_marked_line(&text, Some(*line)));
        assert_eq!(found, [(*line, code.clone())], "{file} should fail at its line {line} (left: what rustc says)");
    }
    let left = mistakes_in(&with_marked_line(&text, None));
    assert!(left.is_empty(), "{file} should compile without its marked lines: {left:?}");
}

/// The text with all marked lines replaced by empty ones, except this one.
fn with_marked_line(text: &str, kept: Option<u64>) -> String {
    let lines = (1..).zip(text.lines());
    lines
        .map(|(number, line)| if line.contains(MARK) && kept != Some(number) { "" } else { line }.to_owned() + "\n")
        .collect()
}

fn mistake(number: u64, line: &str) -> Option<Mistake> {
    line.split_once(MARK).map(|(_, code)| (number, code.trim().to_owned()))
}

/// The compiler's errors for a file: in order, each once.
fn mistakes_in(text: &str) -> Vec<Mistake> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file.rs");
    fs::write(&file, text).unwrap();
    let dependencies = dependencies();
    let output = Command::new(compiler())
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--error-format", "json"])
        .args(["--cap-lints", "allow"])
        .arg("--extern")
        .arg(format!("tokenkeep={}", library(&dependencies).display()))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--out-dir")
        .arg(directory.path())
        .arg(&file)
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    let errors = messages
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("rustc says: {line}")))
        .filter(|message| message["level"] == "error");
    // The last message only counts the others and has no position.
    let mut mistakes: Vec<Mistake> = errors
        .filter_map(|error| {
            let mut spans = error["spans"].as_array()?.iter();
            let place = spans.find(|span| span["is_primary"] == true)?["line_start"].as_u64()?;
            Some((place, error["code"]["code"].as_str().unwrap_or(error["message"].as_str()?).to_owned()))
        })
        .collect();
    mistakes.sort();
    mistakes.dedup();
    assert_eq!(output.status.success(), mistakes.is_empty(), "rustc says: {messages}");
    mistakes
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail")
}

/// The directory of this test's dependencies, which is its own.
fn dependencies() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The library of the last build, which is this test's.
fn library(dependencies: &Path) -> PathBuf {
    let files = fs::read_dir(dependencies).unwrap().map(|file| file.unwrap().path());
    let libraries = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libtokenkeep-") && name.ends_with(".rlib")
    });
    libraries.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).expect("the library is built")
}

/// The compiler of the cargo that runs this test.
fn compiler() -> PathBuf {
    let beside = std::env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
    beside.filter(|compiler| compiler.exists()).unwrap_or_else(|| "rustc".into())
}
