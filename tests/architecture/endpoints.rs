//! The agent's endpoints use keys through the keystore only. A use of a key by another program is
//! no operation, and stays in the worker's own process: no endpoint imports operations or frames.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::paths::{is_path_start, paths_in, resolve, tree};
use super::token_kinds::code_and_literals;
use super::{source_directory, sources, test_files, without_comments, without_tests};

/// The modules of the endpoints.
const ENDPOINTS: &[&str] = &["agent/ssh", "agent/api"];

/// What an endpoint may not import, with all below it.
const FORBIDDEN: &[&str] = &["keyset::ops", "keyset::operation", "agent::operations", "ipc"];

/// What an endpoint may import nevertheless.
const ALLOWED: &[&str] = &["ipc::PeerProcess"];

#[test]
fn endpoints_import_no_operations_and_no_frames() {
    let sources = sources();
    let tests: Vec<_> = sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let is_test = |path: &Path| tests.iter().any(|test| path == test.with_extension("rs") || path.starts_with(test));
    let code: Vec<_> =
        sources.iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| Code::of(path, text)).collect();
    let imports = Imports::of(&code);
    let is_endpoint = |code: &&Code| ENDPOINTS.iter().any(|endpoint| code.module.join("/").starts_with(endpoint));
    let endpoints: Vec<_> = code.iter().filter(is_endpoint).collect();
    assert!(endpoints.len() > 25, "{} files only: were the sources read correctly?", endpoints.len());
    let wrong: Vec<_> = endpoints.iter().flat_map(|code| imports.violations(code)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_planted_import_into_an_endpoint_is_found() {
    let agent =
        "pub mod api;\npub mod operations;\nuse crate::ipc::{Frame, PeerProcess};\npub use operations::serve;\n";
    let keyset = "mod operation;\npub mod ops;\npub use operation::{Inventory, Operation};\npub use ops::ShowToken;\n";
    let found = |text: &str| {
        let file = |path: &str, text: &str| Code::of(&source_directory().join(path), text);
        let endpoint = file("agent/api/decrypt.rs", text);
        let others =
            [("agent/mod.rs", agent), ("keyset/mod.rs", keyset), ("keyset/ops/mod.rs", ""), ("ipc/mod.rs", "")];
        let others = others.map(|(path, text)| file(path, text));
        let operations = file("agent/operations/mod.rs", "");
        let code: Vec<Code> = others.into_iter().chain([operations, endpoint.clone()]).collect();
        Imports::of(&code).violations(&endpoint).join("; ")
    };
    assert_eq!(found("use crate::agent::{Keystore, PeerProcess};\nfn f(peer: &crate::ipc::PeerProcess) {}\n"), "");
    assert_eq!(found("use crate::keyset::{self, KeysetError};\nfn f() { keyset::show(KeyOperation::Sign) }\n"), "");
    assert_eq!(found("/// [`crate::keyset::ops`]\nfn f() -> &'static str { \"run_operation\" }\n"), "");
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    use crate::keyset::ops::ShowToken;\n}\n"), "");
    for (text, forbidden) in [
        ("use crate::keyset::ops::ShowToken;\n", "keyset::ops::ShowToken"),
        ("use crate::{keyset::{FoundKeyset, ops}, token::Pin};\n", "keyset::ops"),
        ("use crate::keyset::{self, FoundKeyset};\nfn f() { keyset::ops::dispatch() }\n", "keyset::ops::dispatch"),
        ("use crate::keyset as k;\nuse k::ops as o;\n", "keyset::ops"),
        ("use crate::keyset::ShowToken;\n", "keyset::ShowToken"),
        ("use crate::keyset::{KeysetError, Inventory as Found};\n", "keyset::Inventory"),
        ("use super::super::operations::serve;\n", "agent::operations::serve"),
        ("use crate::agent::serve;\n", "agent::serve"),
        ("use super::super::Frame;\n", "agent::Frame"),
        ("fn f(frame: &crate::ipc::Frame) {}\n", "ipc::Frame"),
        ("use crate::keyset::*;\n", "keyset::*"),
        ("fn f<O: Operation>(operation: O) {}\n", "Operation"),
        ("fn f(keystore: &Keystore) { keystore.run_operation() }\n", "run_operation"),
    ] {
        assert!(
            found(text).split("; ").any(|name| name.ends_with(&format!(" {forbidden}"))),
            "{text}: {}",
            found(text)
        );
    }
}

/// The code of one file, without comments and tests.
#[derive(Clone)]
struct Code {
    /// the path of its module in the crate
    module: Vec<String>,
    text: String,
}

impl Code {
    fn of(path: &Path, text: &str) -> Self {
        let inside = path.strip_prefix(source_directory()).unwrap().with_extension("");
        let parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
        let module = parts.filter(|part| !["mod", "lib", "main"].contains(&part.as_str())).collect();
        Self { module, text: without_comments(&without_tests(text).0.join("\n")) }
    }

    fn file(&self) -> Vec<&str> {
        self.module.iter().map(String::as_str).collect()
    }
}

/// What each name means that a `use` declaration of the crate makes.
struct Imports(BTreeMap<Vec<String>, Vec<String>>);

impl Imports {
    fn of(code: &[Code]) -> Self {
        let modules: BTreeSet<&[String]> = code.iter().map(|code| code.module.as_slice()).collect();
        let mut imports = BTreeMap::new();
        for Code { module, text } in code {
            for (at, _) in text.match_indices("use ").filter(|(at, _)| is_path_start(text, *at)) {
                for (mut path, mut name) in tree(&text[at + "use ".len()..]) {
                    if name == "self" {
                        path.pop();
                        name = path.last().cloned().unwrap_or_default();
                    }
                    let is_from_root =
                        ["crate", "self", "super"].iter().any(|root| path.first().is_some_and(|first| first == root));
                    let below = [module.as_slice(), &path[..1.min(path.len())]].concat();
                    let path = if is_from_root || modules.contains(below.as_slice()) {
                        resolve(path, &module.iter().map(String::as_str).collect::<Vec<_>>())
                    } else {
                        // A name that this file imports, or another crate.
                        [module.as_slice(), &path].concat()
                    };
                    imports.insert([module.as_slice(), &[name]].concat(), path);
                }
            }
        }
        Self(imports)
    }

    /// What the file names that an endpoint may not import.
    fn violations(&self, code: &Code) -> Vec<String> {
        let mut paths = paths_in(&code.text, &code.file());
        // The paths that begin with a name which this file imports.
        let own = self.0.iter().map(|(name, target)| (name.strip_prefix(&code.module[..]), target));
        for (name, target) in own {
            let Some([name]) = name else { continue };
            let begin = format!("{name}::");
            for (at, _) in code.text.match_indices(&begin).filter(|(at, _)| is_path_start(&code.text, *at)) {
                paths.extend(tree(&code.text[at..]).into_iter().map(|(path, _)| [&target[..], &path[1..]].concat()));
            }
        }
        let paths = paths.into_iter().filter(|path| self.is_forbidden(path)).map(|path| path.join("::"));
        let (code_words, _) = code_and_literals(&code.text);
        let words = code_words.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let words = words.filter(|word| *word == "run_operation" || word.starts_with("Operation")).map(str::to_owned);
        let file = code.module.join("/");
        paths.chain(words).map(|name| format!("src/{file}.rs names {name}")).collect()
    }

    /// Whether the path, or what it is an import of, is forbidden. A glob could name anything.
    fn is_forbidden(&self, path: &[String]) -> bool {
        let mut path = path.to_vec();
        // An import of an import of an import: the crate has no longer chain.
        for _ in 0..8 {
            let joined = path.join("::");
            if ALLOWED.contains(&joined.as_str()) {
                return false;
            }
            let is_below = |forbidden: &&str| joined == **forbidden || joined.starts_with(&format!("{forbidden}::"));
            if FORBIDDEN.iter().any(is_below) || joined.ends_with('*') {
                return true;
            }
            let imported = |length: &usize| self.0.get(&path[..*length]).map(|target| (*length, target));
            let Some((length, target)) = (1..=path.len()).find_map(|length| imported(&length)) else { return false };
            path = [target, &path[length..]].concat();
        }
        false
    }
}
