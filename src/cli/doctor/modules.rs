//! Checks the PKCS#11 modules: how they were found, and whether each loads and answers.

use std::path::PathBuf;

use super::finding::DoctorFinding;
use crate::cli::config::AgentConfiguration;
use crate::cli::context::Context;
use crate::token::{Module, check};

const CONCERN: &str = "module";

/// The modules and the findings about them.
pub struct ModuleReport {
    /// their paths
    pub paths: Vec<PathBuf>,
    /// whether the user named them
    pub are_named: bool,
    /// the modules that loaded
    pub modules: Vec<Module>,
    pub findings: Vec<DoctorFinding>,
}

/// Loads each module that a command would load.
pub fn check(cx: &Context<'_>, configuration: &AgentConfiguration) -> ModuleReport {
    let files = cx.modules_by(configuration);
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
            Err(error) => findings.push(DoctorFinding::of_error(CONCERN, &error.to_string())),
        }
    }
    if files.paths().is_empty() {
        findings.push(DoctorFinding::wrong(
            CONCERN,
            "no module found: no token can be used",
            "install SoftHSM (Debian: apt install softhsm2) or your card's module, or name it with \
             --module or in agent.toml",
        ));
    }
    ModuleReport { paths: files.paths().to_vec(), are_named: files.are_named(), modules, findings }
}

fn slots(module: &Module, origin: &str) -> DoctorFinding {
    let shown = format!("{} ({origin})", module.path().display());
    match module.count_slots() {
        Ok(count) => {
            let (slots, with_token, free) = (count.slots, count.with_token - count.free, count.free);
            let free = if free == 0 { String::new() } else { format!(", {free} free for a new one") };
            DoctorFinding::ok(CONCERN, format!("{shown}: {slots} slots, {with_token} tokens{free}"))
        }
        Err(error) => DoctorFinding::of_error(CONCERN, &error.to_string()),
    }
}
