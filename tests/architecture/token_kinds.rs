//! Above `token` no code knows the kinds of tokens: none names a PKCS#11 module, a mechanism or an
//! attribute. Comments and texts for people may.

use super::{sources, test_files, without_comments, without_tests};

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
        let names = kind_names(text);
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

/// The names in the code that have one of the words.
fn kind_names(text: &str) -> Vec<String> {
    let code = without_texts(&without_comments(&without_tests(text).0.join("\n")));
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

/// The code without its string literals.
fn without_texts(code: &str) -> String {
    let mut kept = String::new();
    let mut characters = code.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            // A quotation mark as a character.
            '\'' if characters.peek() == Some(&'"') => drop(characters.next()),
            '"' => {
                while let Some(c) = characters.next() {
                    match c {
                        '\\' => drop(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            c => kept.push(c),
        }
    }
    kept
}
