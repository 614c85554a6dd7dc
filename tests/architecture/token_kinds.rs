//! Above `token` no code knows the kinds of tokens: none names a PKCS#11 module, a mechanism or an
//! attribute, or compares the name of one. Comments and texts for people may name them.

use super::{sources, test_files, without_tests};

/// The files and directories in which a person configures modules, or reads about them.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("authority/configuration", "`module` in authority.toml names the authority's module"),
    ("agent/sandbox/", "the sandbox permits the files of the configured modules"),
    ("agent/supervisor/", "the crash record counts crashes by module"),
    ("cli/agent.rs", "the worker gets the configured modules as arguments"),
    ("cli/arguments.rs", "`--module`"),
    ("cli/authority.rs", "`--module` is refused"),
    ("cli/completions/known.rs", "loads the configured modules without a warning"),
    ("cli/config.rs", "`modules` in agent.toml"),
    ("cli/context.rs", "loads the configured modules"),
    ("cli/demo/environment.rs", "the demo runs on SoftHSM"),
    ("cli/doctor/", "checks the configured modules"),
    ("cli/man", "the manual names SoftHSM's configuration file"),
    ("cli/token.rs", "warns about tokens that a configured module skips silently"),
    ("cli/token_check.rs", "the child that tries a configured module"),
];

/// The makers of modules whose names only `token` may compare.
const MAKERS: &[&str] = &["softhsm", "kryoptic"];

/// What compares the string literal after it, or before it.
const COMPARISONS_BEFORE: &[&str] = &[
    "==",
    "!=",
    "starts_with(",
    "ends_with(",
    "contains(",
    "strip_prefix(",
    "strip_suffix(",
    "eq_ignore_ascii_case(",
    "find(",
    "split_once(",
];
const COMPARISONS_AFTER: &[&str] = &["==", "!=", "=>", "|"];

/// The words that only `token` may have in its names.
const WORDS: &[&str] = &["module", "modules", "mechanism", "mechanisms", "pkcs11", "softhsm", "kryoptic", "cka", "ckm"];

#[test]
fn above_token_nothing_names_a_module() {
    let sources = sources();
    let tests: Vec<_> = sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let (mut wrong, mut used) = (Vec::new(), Vec::new());
    for (path, text) in &sources {
        let file = path.strip_prefix(super::source_directory()).unwrap().to_string_lossy().into_owned();
        let is_test = tests.iter().any(|test| path == &test.with_extension("rs") || path.starts_with(test));
        if file.starts_with("token/") || is_test {
            continue;
        }
        let names = [kind_names(text), compared_makers(text)].concat();
        match EXCEPTIONS.iter().find(|(exception, _)| file.starts_with(exception)) {
            Some((exception, _)) if !names.is_empty() => used.push(*exception),
            _ => wrong.extend(names.iter().map(|name| format!("src/{file}: {name}"))),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (exception, reason) in EXCEPTIONS {
        assert!(used.contains(exception), "{exception} is no exception any more ({reason})");
    }
}

#[test]
fn a_planted_name_of_a_kind_is_found() {
    assert_eq!(kind_names("use crate::token::{TokenSource, KeyWrapMechanism};\n"), ["KeyWrapMechanism"]);
    assert_eq!(kind_names("fn load_module(path: &Path) {}\n"), ["load_module"]);
    assert_eq!(kind_names("let a = SoftHsmConfiguration::new(SOFTHSM_PATHS);\n").len(), 2);
    assert_eq!(kind_names("let a = \"module.so\"; // a module\nlet b = '\"'; let c = \"\\\"module\";\n"), [""; 0]);
    assert_eq!(kind_names("#[cfg(test)]\nmod tests {\n    use super::Module;\n}\n"), [""; 0]);
}

#[test]
fn a_planted_comparison_with_the_name_of_a_maker_is_found() {
    assert_eq!(compared_makers("if !info.manufacturer.starts_with(\"SoftHSM\") {\n"), ["compares \"SoftHSM\""]);
    assert_eq!(compared_makers("let a = path.contains(\n    // Debian's.\n    \"/softhsm/\",\n);\n").len(), 1);
    assert_eq!(compared_makers("let a = maker == \"Kryoptic\" || \"SoftHSM v2\" != model;\n").len(), 2);
    assert_eq!(compared_makers("match maker {\n    \"SoftHSM project\" => 1,\n    _ => 2,\n}\n").len(), 1);
    assert_eq!(compared_makers("let a = \"https://example.org\"; let b = maker == r#\"SoftHSM\"#;\n").len(), 1);
    assert_eq!(compared_makers("let a = format!(\"only SoftHSM tokens can be erased: {a}\");\n"), [""; 0]);
    assert_eq!(compared_makers("// maker == \"SoftHSM\"\n#[cfg(test)]\nfn f() {\n    a == \"SoftHSM\"\n}\n"), [""; 0]);
}

/// The string literals in the code that name a maker and are compared with something.
fn compared_makers(text: &str) -> Vec<String> {
    let code = without_tests(text).0.join("\n");
    let (code, literals) = code_and_literals(&code);
    let is_compared = |at: usize| {
        let (before, after) = (code[..at].trim_end(), code[at..].trim_start());
        COMPARISONS_BEFORE.iter().any(|comparison| before.ends_with(comparison))
            || COMPARISONS_AFTER.iter().any(|comparison| after.starts_with(comparison))
    };
    let names_a_maker = |literal: &str| MAKERS.iter().any(|maker| literal.to_lowercase().contains(maker));
    let found = literals.iter().filter(|(at, literal)| names_a_maker(literal) && is_compared(*at));
    found.map(|(_, literal)| format!("compares \"{literal}\"")).collect()
}

/// The names in the code that have one of the words.
fn kind_names(text: &str) -> Vec<String> {
    let code = code_and_literals(&without_tests(text).0.join("\n")).0;
    let names = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    names.filter(|name| has_kind_word(name)).map(str::to_owned).collect()
}

/// Whether one of the words of `snake_case`, `UPPER_CASE` or `CamelCase` is among [`WORDS`].
fn has_kind_word(name: &str) -> bool {
    let mut spaced = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && before.is_lowercase()) {
            spaced.push(' ');
        }
        spaced.extend(c.to_lowercase().filter(|c| *c != '_'));
        before = c;
    }
    spaced.split(' ').any(|word| WORDS.contains(&word)) || spaced.replace(' ', "").contains("softhsm")
}

/// The code without its comments and string literals, and the literals, each with its place in that
/// code.
pub fn code_and_literals(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut literals) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(after) = ["'\"'", "'\\\"'"].iter().find_map(|quote| rest.strip_prefix(quote)) {
            // A quotation mark as a character.
            rest = after;
        } else if let Some((literal, after)) = literal_at(rest) {
            literals.push((code.len(), literal.to_owned()));
            rest = after;
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    (code, literals)
}

/// The content of the string literal with which the text begins, and what follows it.
fn literal_at(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('"') {
        let mut is_escaped = false;
        let end = rest.find(|c: char| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        })?;
        return Some((&rest[..end], &rest[end + 1..]));
    }
    let hashes = text.strip_prefix('r')?;
    let rest = hashes.trim_start_matches('#');
    let end = format!("\"{}", &hashes[..hashes.len() - rest.len()]);
    rest.strip_prefix('"')?.split_once(&end)
}
