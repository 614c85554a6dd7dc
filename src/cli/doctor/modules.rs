//! PKCS#11 modules: which there are, how they were found, and whether each can be loaded and asked.

use std::path::PathBuf;

use super::finding::Finding;
use crate::cli::config::AgentConfiguration;
use crate::cli::surroundings::Surroundings;
use crate::token::{Module, check};

const CONCERN: &str = "module";

/// The modules, and what was found.
pub struct Found {
    /// where they lie
    pub paths: Vec<PathBuf>,
    /// has somebody named them?
    pub are_named: bool,
    /// those that could be loaded
    pub modules: Vec<Module>,
    pub findings: Vec<Finding>,
}

/// Loads each module that a command would load.
pub fn look(around: &Surroundings<'_>, configuration: &AgentConfiguration) -> Found {
    let files = around.modules_by(configuration);
    let (mut modules, mut findings) = (Vec::new(), Vec::new());
    for path in files.paths() {
        // Tried anew, whatever is remembered of it.
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
            "there is none: no token can be used",
            "install SoftHSM (Debian: apt install softhsm2) or your card's module, or name it with --module or in agent.toml",
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
