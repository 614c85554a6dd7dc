//! The architecture rules: imports go down only, between modules and inside them (`sub_layers`),
//! files and lines stay short, every file says what it is for, and a type's name has one meaning.
//!
//! A single crate does not prevent import cycles, so this test reads the source: every path that
//! begins with `crate::` or `tokenkeep::`, in `use` lines and elsewhere, in tests too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/endpoints.rs"]
mod endpoints;
#[path = "architecture/line_width.rs"]
mod line_width;
#[path = "architecture/paths.rs"]
mod paths;
#[path = "architecture/sub_layers.rs"]
mod sub_layers;
#[path = "architecture/token_kinds.rs"]
mod token_kinds;

/// The layer of each module. A module may use modules of lower layers, and itself.
const LAYERS: &[(&str, i8)] = &[
    // Below all layers: even `token` has crash points.
    ("crash_point", -1),
    ("characters", -1),
    ("base64_bytes", -1),
    ("token", 0),
    ("pki", 1),
    ("prompter", 1),
    ("cmp", 2),
    // These two do not exist yet.
    ("est", 2),
    ("ocsp", 2),
    ("smime", 2),
    ("statement", 2),
    ("letter", 2),
    ("transport", 2),
    ("store", 2),
    ("ipc", 2),
    ("authority", 3),
    ("keyset", 3),
    ("service", 4),
    ("agent", 4),
    ("cli", 5),
];

/// File names that do not say what a file is for.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "manager", "helper", "helpers", "misc"];

/// Maximum number of lines in a file; longer ones are split by topic. Test files (`tests.rs`) may
/// be longer.
const MAX_FILE_LINES: usize = 450;

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for import in imports(&text) {
            if let Some(complaint) = complaint(&module_of(&path), &import.module) {
                wrong.push(format!("{}:{}: {complaint}", path.display(), import.line));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    // It documents why it needs unsafe code; the compiler refuses it everywhere else.
    let found: Vec<PathBuf> =
        sources().into_iter().filter(|(_, text)| text.contains("allow(unsafe_code")).map(|(path, _)| path).collect();
    assert!(found.len() == 1 && found.iter().all(|path| path.ends_with("src/token/pkcs11/raw.rs")), "{found:?}");
    assert!(fs::read_to_string("Cargo.toml").unwrap().contains("unsafe_code = \"deny\""));
}

#[test]
fn a_planted_upward_import_is_found() {
    let found = |module: &str, text: &str| {
        imports(text).iter().filter_map(|import| complaint(module, &import.module)).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(found("keyset", "use crate::{token::Pin, pki::name};\n"), "");
    assert_eq!(found("cli", "fn f() { crate::authority::init() }\n"), "");
    assert!(found("token", "use crate::keyset::Keyset;\n").contains("up to"));
    assert!(found("keyset", "use crate::authority::policy;\n").contains("sideways to"));
    assert!(found("cmp", "use crate::{token::{Pin, Token}, smime::sign};\n").contains("sideways to smime"));
    assert!(found("cmp", "use crate::{\n    pki::oid,\n    store::Store,\n};\n").contains("sideways to store"));
    assert!(found("pki", "fn f(x: &crate::letter::Letter) {}\n").contains("up to letter"));
    assert!(found("pki", "use super::super::service::serve;\n").contains("up to service"));
    assert!(found("pki", "use crate::nowhere::thing;\n").contains("nowhere is in no layer"));
    assert_eq!(found("pki", "/// See [`crate::service`].\n// use crate::cli;\n"), "", "comments are not imports");
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| path.file_name().is_some_and(|name| name != "tests.rs"))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(path, lines)| format!("{} has {lines} lines, more than {MAX_FILE_LINES}", path.display()))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn names_say_what_a_file_is_for() {
    for (path, _) in sources() {
        for part in path.components() {
            let part = part.as_os_str().to_string_lossy();
            let stem = part.strip_suffix(".rs").unwrap_or(&part);
            let empty = stem.split('_').find(|word| EMPTY_NAMES.contains(word));
            assert_eq!(empty, None, "{}: a name that says nothing", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not open with a //! paragraph", path.display());
        assert!(!text.starts_with("//! To be written"), "{} does not say what it is for", path.display());
    }
}

#[test]
fn crate_visible_type_names_are_unique() {
    let sources = sources();
    let test_modules: Vec<PathBuf> = sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in &sources {
        if test_modules.iter().any(|module| path == &module.with_extension("rs") || path.starts_with(module)) {
            continue;
        }
        for name in visible_types(text) {
            declared.entry(name).or_default().push(path.display().to_string());
        }
    }
    assert!(declared.len() > 300, "{} types only: were the sources read correctly?", declared.len());
    for name in ["Token", "KeysetError", "Store", "TemporaryKeyPurpose"] {
        assert!(declared.contains_key(name), "{name} was not found");
    }
    let twice: Vec<_> = declared.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(twice.is_empty(), "declared more than once:\n{twice:#?}");
}

#[test]
fn planted_type_declarations_are_found() {
    let text = "pub struct One;\npub(crate) enum Two {}\n    pub(in crate::agent) trait Three {}\nstruct Private;\n\
                pub type Four = u8;\n/// pub struct Comment;\n#[cfg(test)]\npub struct Test {\n    a: u8,\n}\n\
                column_enum! {\n    /// Doc.\n    Five {\n        Six = \"six\",\n    }\n}\n\
                #[cfg(test)]\nmod tests {\n    pub struct Inner;\n}\npub union Seven {}\n";
    assert_eq!(visible_types(text), ["One", "Two", "Three", "Four", "Five", "Seven"]);
    let text = "#[cfg(test)]\nmod tests;\nmod code;\n#[cfg(test)]\npub(crate) mod test_support;\n";
    let files = |path: &str| test_files(Path::new(path), text);
    assert_eq!(files("src/a/mod.rs"), [Path::new("src/a/tests"), Path::new("src/a/test_support")]);
    assert_eq!(files("src/a/b.rs"), [Path::new("src/a/b/tests"), Path::new("src/a/b/test_support")]);
}

/// ureq logs the bodies that it reads to the `log` crate at trace level, and a letter is one of
/// them, so no bridge may forward `log` records to this program's log.
#[test]
fn no_log_bridge_forwards_foreign_records() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"ureq\""), "the lock file was read");
    for bridge in ["tracing-log", "env_logger", "simple_logger", "log4rs", "fern"] {
        assert!(!lock.contains(&format!("name = \"{bridge}\"")), "{bridge} would log letters at trace level");
    }
}

#[test]
fn every_module_has_a_layer() {
    for (path, _) in sources() {
        let module = module_of(&path);
        assert!(
            ["main", "lib"].contains(&module.as_str()) || layer(&module).is_some(),
            "{}: the module {module} is in no layer",
            path.display()
        );
    }
}

/// The violation of an import from one module to another, if any.
fn complaint(from: &str, to: &str) -> Option<String> {
    let Some(target) = layer(to) else {
        return Some(format!("{to} is in no layer"));
    };
    match layer(from) {
        Some(own) if target > own => Some(format!("{from} reaches up to {to}")),
        Some(own) if target == own && from != to => Some(format!("{from} reaches sideways to {to}")),
        // Down, or within one module; main.rs and lib.rs (in no layer) are above all.
        _ => None,
    }
}

fn layer(module: &str) -> Option<i8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// `src/cmp/header.rs` → `cmp`; `src/crash_point.rs` → `crash_point`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(source_directory()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}

struct Import {
    module: String,
    line: usize,
}

/// Every module that the text names by a path from the crate's root.
fn imports(text: &str) -> Vec<Import> {
    let code = without_comments(text);
    let mut found = Vec::new();
    for root in ["crate::", "tokenkeep::", "super::super::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for module in first_names(&code[at + root.len()..]) {
                // Two levels up need not be the root: only a name of a module counts there.
                if root == "super::super::" && layer(&module).is_none() {
                    continue;
                }
                found.push(Import { module, line });
            }
        }
    }
    found
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| match line.find("//") {
        // A `//` inside a string, as in a URL, hides nothing: no path follows it.
        Some(comment) => &line[..comment],
        None => line,
    });
    code.collect::<Vec<_>>().join("\n")
}

/// The first name of each path in `a::b` or `{a::{b, c}, d::e}`.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return name_at(rest).into_iter().collect();
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expecting = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            c if c.is_whitespace() => {}
            _ if expecting => {
                names.extend(name_at(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty() && name != "self").then_some(name)
}

/// The text without its items under `#[cfg(test)]`, and the names of the files that such items
/// declare as modules.
fn without_tests(text: &str) -> (Vec<&str>, Vec<String>) {
    let (mut code, mut modules) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push(line);
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let Some(item) = lines.find(|line| !line.trim_start().starts_with(['#', '/'])) else { break };
        if let Some((_, name)) = item.strip_suffix(';').and_then(|item| item.split_once("mod ")) {
            modules.push(name.to_owned());
        }
        if !item.ends_with(';') && !item.ends_with('}') {
            let end = format!("{indent}}}");
            lines.find(|line| *line == end || *line == format!("{end};") || *line == format!("{indent});"));
        }
    }
    (code, modules)
}

/// The paths, without `.rs`, of the test modules that a file declares.
fn test_files(path: &Path, text: &str) -> Vec<PathBuf> {
    let is_root = path.file_name().is_some_and(|name| ["mod.rs", "lib.rs", "main.rs"].iter().any(|root| name == *root));
    let directory = if is_root { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    without_tests(text).1.iter().map(|name| directory.join(name)).collect()
}

/// The names of the types, traits and aliases that a file declares for other modules.
fn visible_types(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_column_enum = false;
    for line in without_tests(text).0 {
        let line = line.trim_start();
        if line.starts_with("column_enum! {") {
            // The macro of `src/store/columns.rs`: `Name { Variant = "word", … }`.
            in_column_enum = true;
        } else if in_column_enum && line.ends_with(" {") {
            names.extend(name_at(line));
            in_column_enum = false;
        }
        let Some(rest) = line.strip_prefix("pub") else { continue };
        let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
        let declared = ["struct ", "enum ", "trait ", "type ", "union "]
            .iter()
            .find_map(|kind| rest.trim_start().strip_prefix(kind));
        names.extend(declared.and_then(name_at));
    }
    names
}

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file under `src`, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let files = rust_files_under(&source_directory());
    assert!(files.len() > 10, "the source was found");
    files
}

fn rust_files_under(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        // A crate of its own, without its dependencies' code.
        if directory.ends_with("tests/kryoptic") {
            continue;
        }
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}
