//! Checks the PKCS#11 modules: how they were found, and whether each loads and answers.

use std::path::PathBuf;

use super::finding::Finding;
use crate::cli::config::AgentConfiguration;
use crate::cli::surroundings::Surroundings;
use crate::token::{Module, check};

const CONCERN: &str = "module";

/// The modules and the findings about them.
pub struct Found {
    /// their paths
    pub paths: Vec<PathBuf>,
    /// whether the user named them
    pub are_named: bool,
    /// the modules that loaded
    pub modules: Vec<Module>,
    pub findings: Vec<Finding>,
}

/// Loads each module that a command would load.
pub fn look(around: &Surroundings<'_>, configuration: &AgentConfiguration) -> Found {
    let files = around.modules_by(configuration);
    let (mut modules, mut findings) = (Vec::new(), Vec::new());
    for path in files.paths() {
        // Try the module again, whatever is recorded about it.
        if let Ok(file) = path.canonicalize() {
            check::forget_tried_module(&file);
        }
        match Module::load(path) {
            Ok(module) => {
                findings.push(slots(&module, files.origin()));
                modules.push(module);
            }
            Err(error) => findings.push(Finding::of_error(CONCERN, &error.to_string())),
        }
    }
    if files.paths().is_empty() {
        findings.push(Finding::wrong(
            CONCERN,
            "no module found: no token can be used",
            "install SoftHSM (Debian: apt install softhsm2) or your card's module, or name it with \
             --module or in agent.toml",
        ));
    }
    Found { paths: files.paths().to_vec(), are_named: files.are_named(), modules, findings }
}

fn slots(module: &Module, origin: &str) -> Finding {
    let shown = format!("{} ({origin})", module.path().display());
    match module.count_slots() {
        Ok(count) => {
            let (slots, with_token, free) = (count.slots, count.with_token - count.free, count.free);
            let free = if free == 0 { String::new() } else { format!(", {free} free for a new one") };
            Finding::ok(CONCERN, format!("{shown}: {slots} slots, {with_token} tokens{free}"))
        }
        Err(error) => Finding::of_error(CONCERN, &error.to_string()),
    }
}
