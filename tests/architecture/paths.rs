//! The paths that a source text names, and the names under which its `use` declarations know them.

use std::collections::BTreeMap;

/// The names that a `mod.rs` exports, with the unit of each.
pub fn exports(mod_rs: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for (at, _) in mod_rs.match_indices("use ") {
        for (path, name) in tree(&mod_rs[at + "use ".len()..]) {
            exported.insert(name, path[0].clone());
        }
    }
    exported
}

/// Every path from the crate's root that the text of this file names, `super` and `self` resolved.
pub fn paths_in(text: &str, file: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            if !is_path_start(text, at) {
                continue;
            }
            found.extend(tree(&text[at..]).into_iter().map(|(path, _)| resolve(path, file)));
        }
    }
    found
}

/// Whether no path that began earlier continues here.
pub fn is_path_start(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// The path from the crate's root, in this file.
pub fn resolve(path: Vec<String>, file: &[&str]) -> Vec<String> {
    let is_from_root = path.first().is_some_and(|first| first == "crate");
    let mut resolved: Vec<String> =
        if is_from_root { Vec::new() } else { file.iter().map(|part| (*part).to_owned()).collect() };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => drop(resolved.pop()),
            _ => resolved.push(part),
        }
    }
    resolved
}

/// The paths of `a::b`, `a::{b, c::d}` or `a::b as c`, each with the name by which it is known.
pub fn tree(text: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    // The paths before each open brace.
    let mut open: Vec<Vec<String>> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        rest = after;
        if !word.is_empty() {
            path.push(word.to_owned());
            if let Some(deeper) = rest.strip_prefix("::").filter(|deeper| !deeper.starts_with('<')) {
                rest = deeper;
                continue;
            }
            let mut name = word.to_owned();
            if let Some(renamed) = rest.trim_start().strip_prefix("as ") {
                let length = renamed.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(renamed.len());
                name.clear();
                name.push_str(&renamed[..length]);
                rest = &renamed[length..];
            }
            found.push((path.clone(), name));
            path = open.last().cloned().unwrap_or_default();
        }
        rest = rest.trim_start();
        match rest.chars().next() {
            Some('{') if word.is_empty() => {
                open.push(path.clone());
            }
            Some(',') if !open.is_empty() => path = open.last().cloned().unwrap_or_default(),
            Some('}') if open.len() > 1 => {
                open.pop();
                path = open.last().cloned().unwrap_or_default();
            }
            _ => return found,
        }
        rest = &rest[1..];
    }
}
