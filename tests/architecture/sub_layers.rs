//! The imports inside a directory, between its files and subdirectories (its *units*): in every
//! directory they make no circle, and where layers are listed here, they go to lower layers only.
//!
//! A file and a subdirectory of the same name are one unit; the files in it are checked among
//! themselves as those of their own directory. Imports between a directory's `mod.rs` and its units
//! are not counted: `mod.rs` is above all units, but a unit may use what is declared there. Tests
//! are not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::{exports, paths_in};
use super::{rust_files_under, source_directory, without_comments, without_tests};

/// The layers of each checked directory under `src`, from the bottom up.
const SUB_LAYERS: &[(&str, &[&[&str]])] = &[
    (
        "agent",
        &[
            &[
                "client_connection",
                "error",
                "process_error",
                "prompt_answer",
                "question",
                "spin_reader",
                "wiped_buffer",
            ],
            &["link", "prompt_text", "requester", "sandbox", "sockets"],
            &["keystore", "supervisor"],
            // The endpoints.
            &["api", "operations", "ssh"],
            &["worker"],
        ],
    ),
    (
        "agent/keystore",
        &[
            &["cached_signer", "clock", "events", "hidden", "pass_phrase"],
            &["agent_prompter", "identity", "sessions"],
            &["key_cache"],
            // What the keystore does, by responsibility.
            &["recovered_source", "rescan"],
            &["key_use", "listing", "presence"],
        ],
    ),
    (
        "agent/ssh",
        &[
            &["error", "framing", "wire"],
            &["error_log", "smartcard", "ssh_key", "sshsig", "user_auth"],
            &["provider", "signature_kind"],
            &["key_blob"],
            &["session_bind", "signed_data"],
            &["bindings", "request"],
            &["connection"],
        ],
    ),
    (
        "agent/api",
        &[&["bytes", "error"], &["bodies", "http"], &["decrypt", "keysets", "routes"], &["events", "sessions", "sign"]],
    ),
    ("agent/supervisor", &[&["module_crashes", "programs"], &["prompt_queue"], &["running_worker"]]),
    (
        "keyset",
        &[
            &["no_pin", "operation_observer", "subject"],
            &["error", "purpose"],
            // What is on a token.
            &["index", "unreadable_token"],
            &["found_keyset", "removal", "unusable_sources", "wrong_pin_limit"],
            &["holder", "summary", "token_access", "user_prompter"],
            // Which tokens there are, and which one is meant.
            &["checkpoint", "find", "show"],
            &["cached_tokens", "choose", "erase"],
            &["operation", "trust", "unlock"],
            &["enroll", "recipient", "signing"],
            &["command_response", "decryption", "signed_command"],
            &["ops"],
        ],
    ),
    (
        "keyset/enroll",
        &[
            &["letter_check", "reply", "session", "so_pin"],
            &["finish", "install", "person_check", "request", "rollback"],
            &["stored", "target"],
            &["run"],
        ],
    ),
    (
        "authority",
        &[
            &["addition_notices", "audit_state", "configuration", "delays", "reference_locks"],
            &["error"],
            &["rejection", "token_keys"],
            &["authenticate", "policy", "seal"],
            &["verify"],
            // The audit log and the verified reading of the database.
            &["audit", "records", "temporary_key"],
            &["letter_orders", "log_verifier", "expiry", "search"],
            // The steps of an enrollment.
            &["decide"],
            &["certify"],
            &["archive", "service_certificates"],
            &["key_archive", "opening", "reply"],
            &["letters"],
            // What the authority does.
            &["administer", "check", "enroll", "init"],
        ],
    ),
    (
        "cmp",
        &[
            &["certificate", "error", "oid", "possession", "status", "with_der"],
            &["utf8_pairs"],
            &["certificate_request"],
            &["delivery", "general"],
            &["certificate_response", "header"],
            &["confirmation", "key_recovery"],
            &["message"],
            &["protection", "request"],
            &["reply"],
        ],
    ),
    (
        "token",
        &[
            // What tokens and keys are, without a token.
            &["keyset_name", "pin", "private_file", "softhsm", "token_id"],
            &["authorization", "error", "module_storage", "algorithm"],
            &["key_id", "owner_lock", "pin_queue", "signature", "token_info"],
            &["check", "objects", "public_key", "uri", "wrong_pins"],
            &["delivery", "key_description"],
            &["capabilities", "oaep"],
            // The kinds of tokens.
            &["pkcs11"],
            // The two parties' tokens, and what they do with them.
            &["authority_token", "user_token"],
            &["fast_signer", "pin_session", "source"],
            &["enrollment", "pin_lease"],
        ],
    ),
    (
        "token/pkcs11",
        &[
            &["key_attributes", "key_handles", "login_state", "mechanisms"],
            &["module_state", "return_values", "slot_info", "templates"],
            &["always_authenticate", "raw", "sessions"],
            &["call_counts"],
            // A loaded module.
            &["module", "signing_pool"],
            &["fresh_process", "probe", "responsiveness", "slots"],
            // An open token, and its operations.
            &["token"],
            &["key_lookup", "key_wrap", "keys", "objects", "presence", "stored_objects"],
            &["archive", "marks", "transfer"],
            &["log_in"],
            &["key_use"],
            &["pooled_signer"],
            // The tokens behind a module.
            &["source"],
            &["check_child", "provisioning"],
        ],
    ),
];

#[test]
fn imports_inside_a_module_go_down_only() {
    let mut wrong = Vec::new();
    for (directory, layers) in SUB_LAYERS {
        let code = ModuleCode::read(directory);
        let listed: BTreeSet<&str> = layers.iter().flat_map(|units| units.iter().copied()).collect();
        assert_eq!(listed, code.units.iter().map(String::as_str).collect(), "the units of src/{directory}");
        for (path, text) in &code.files {
            wrong.extend(code.complaints(layers, path, text));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_directory_has_an_import_circle() {
    let mut circles = Vec::new();
    for root in [source_directory(), source_directory().with_file_name("benches/agent")] {
        for directory in directories_under(&root) {
            let circle = ModuleCode::read_directory(&root, &directory).circle();
            circles.extend(circle.map(|units| format!("{}: {units}", root.join(&directory).display())));
        }
    }
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn a_planted_import_circle_is_found() {
    let code = |pin_rs: &str| ModuleCode {
        directory: vec!["token".to_owned()],
        units: ["error", "pin", "user_token"].map(str::to_owned).into(),
        exported: exports("pub use user_token::Token;\n"),
        files: [("user_token", "use super::pin::Pin;\nuse super::error::E;\n"), ("pin", pin_rs)]
            .map(|(unit, text)| (vec!["token".to_owned(), unit.to_owned()], text.to_owned()))
            .into(),
    };
    assert_eq!(code("use super::error::E;\n").circle(), None);
    assert_eq!(code("use crate::token::Token;\n").circle().as_deref(), Some("pin -> user_token, user_token -> pin"));
}

#[test]
fn a_planted_import_inside_a_module_is_found() {
    let layers: &[&[&str]] = &[&["error", "pin"], &["pkcs11"], &["user_token"]];
    let code = ModuleCode {
        directory: vec!["token".to_owned()],
        units: ["error", "pin", "pkcs11", "user_token"].map(str::to_owned).into(),
        exported: exports("pub use error::{TokenError};\npub(super) use user_token::{Token, Key as TokenKey};\n"),
        files: Vec::new(),
    };
    let found = |file: &str, text: &str| code.complaints(layers, &file.split('/').collect::<Vec<_>>(), text).join("; ");
    assert_eq!(found("token/user_token", "use super::{TokenError, pkcs11::{self, Objects}};\n"), "");
    assert_eq!(found("token/pkcs11/log_in", "use super::keys::Keys;\nuse crate::token::TokenError;\n"), "");
    assert_eq!(found("token/pkcs11", "use crate::{pki::name, token::pin::Pin};\n"), "", "other modules");
    assert!(found("token/pkcs11/log_in", "use crate::token::{TokenError, Token};\n").contains("up to user_token"));
    assert!(found("token/pkcs11/log_in", "use super::super::TokenKey;\n").contains("up to user_token"));
    assert!(found("token/pin", "fn f() -> super::TokenError {}\n").contains("sideways to error"));
    assert!(
        found("token/pin", "use crate::{pki::name, token::{\n    error::x,\n    pkcs11::y,\n}};\n")
            .contains("up to pkcs11")
    );
}

/// The code of one directory.
struct ModuleCode {
    /// the module's path in the crate
    directory: Vec<String>,
    units: BTreeSet<String>,
    /// the unit of each name that the directory's `mod.rs` exports
    exported: BTreeMap<String, String>,
    /// the module path of each file, and its code
    files: Vec<(Vec<String>, String)>,
}

impl ModuleCode {
    fn read(directory: &str) -> Self {
        Self::read_directory(&source_directory(), Path::new(directory))
    }

    /// Reads a directory of the crate whose root module is in `root`.
    fn read_directory(crate_root: &Path, directory: &Path) -> Self {
        let root = crate_root.join(directory);
        let module_files = ["mod.rs", "lib.rs", "main.rs"].map(|name| root.join(name));
        let mut module_files = module_files.into_iter().chain([root.with_extension("rs")]);
        let mod_rs = module_files.find_map(|file| fs::read_to_string(file).ok()).unwrap();
        let tests = without_tests(&mod_rs).1;
        let names = fs::read_dir(&root).unwrap().map(|entry| unit_name(&entry.unwrap().path()));
        let is_unit = |name: &String| !["mod", "lib", "main"].contains(&name.as_str()) && !tests.contains(name);
        let units = names.filter(is_unit).collect();
        let mut files = Vec::new();
        for (path, text) in rust_files_under(&root) {
            let inside = path.strip_prefix(crate_root).unwrap().with_extension("");
            let module: Vec<String> =
                inside.iter().map(|part| part.to_string_lossy().into_owned()).filter(|part| part != "mod").collect();
            let depth = directory.iter().count();
            let is_test = module.iter().skip(depth).any(|part| part.ends_with("tests") || tests.contains(part));
            if module.len() > depth && !is_test {
                files.push((module, without_comments(&without_tests(&text).0.join("\n"))));
            }
        }
        let directory = directory.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        Self { directory, units, exported: exports(&without_comments(&without_tests(&mod_rs).0.join("\n"))), files }
    }

    /// The imports that lead back to where they begin.
    fn circle(&self) -> Option<String> {
        let mut imports = BTreeSet::new();
        for (file, text) in &self.files {
            let own = &file[self.directory.len()];
            imports.extend(self.imports(file, text).into_iter().map(|(unit, _)| (own.clone(), unit)));
        }
        let mut reached = imports.clone();
        loop {
            let next = |(own, unit): &(String, String)| {
                let further = imports.iter().filter(|(importing, _)| importing == unit);
                further.map(|(_, imported)| (own.clone(), imported.clone())).collect::<Vec<_>>()
            };
            let further: BTreeSet<_> = reached.iter().flat_map(next).collect();
            if further.is_subset(&reached) {
                break;
            }
            reached.extend(further);
        }
        imports.retain(|(own, unit)| reached.contains(&(unit.clone(), own.clone())));
        let imports: Vec<String> = imports.iter().map(|(own, unit)| format!("{own} -> {unit}")).collect();
        (!imports.is_empty()).then(|| imports.join(", "))
    }

    /// The other units that this file imports, each with the path that names it.
    fn imports<S: AsRef<str>>(&self, file: &[S], text: &str) -> Vec<(String, Vec<String>)> {
        let file: Vec<&str> = file.iter().map(AsRef::as_ref).collect();
        let own = file[self.directory.len()];
        let mut found = Vec::new();
        for path in paths_in(text, &file) {
            let Some(name) = path.strip_prefix(&self.directory[..]).and_then(|rest| rest.first()) else { continue };
            let unit = if self.units.contains(name) { Some(name) } else { self.exported.get(name) };
            if let Some(unit) = unit.filter(|unit| *unit != own) {
                found.push((unit.clone(), path));
            }
        }
        found
    }

    fn complaints<S: AsRef<str>>(&self, layers: &[&[&str]], file: &[S], text: &str) -> Vec<String> {
        let own = file[self.directory.len()].as_ref();
        let layer = |unit: &str| layers.iter().position(|units| units.contains(&unit));
        let mut found = Vec::new();
        for (unit, path) in self.imports(file, text) {
            let way = match layer(&unit).cmp(&layer(own)) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => "sideways",
                std::cmp::Ordering::Greater => "up",
            };
            let file = file.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/");
            found.push(format!("src/{file}.rs: {own} reaches {way} to {unit} ({})", path.join("::")));
        }
        found
    }
}

/// The directories with Rust files under this one, and itself, by their paths inside it.
fn directories_under(root: &Path) -> BTreeSet<PathBuf> {
    let files = rust_files_under(root);
    files.iter().map(|(path, _)| path.parent().unwrap().strip_prefix(root).unwrap().to_owned()).collect()
}

fn unit_name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}
