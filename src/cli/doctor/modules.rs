//! Checks the PKCS#11 modules: how they were found, whether each loads and answers, and the
//! configuration of SoftHSM.

use std::path::PathBuf;

use super::finding::DoctorFinding;
use crate::cli::config::AgentConfiguration;
use crate::cli::context::Context;
use crate::token::{SoftHsmConfiguration, TokenSource, check};

const CONCERN: &str = "module";
const SOFTHSM: &str = "SoftHSM";

/// The modules and the findings about them.
pub struct ModuleReport {
    /// their paths
    pub paths: Vec<PathBuf>,
    /// whether the user named them
    pub are_named: bool,
    /// the modules that loaded
    pub modules: Vec<TokenSource>,
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
        match TokenSource::load(path) {
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

fn slots(module: &TokenSource, origin: &str) -> DoctorFinding {
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

/// Checks the configuration that SoftHSM would use, if one of these modules is SoftHSM. Without a
/// readable one, SoftHSM only returns `CKR_GENERAL_ERROR`.
pub fn check_softhsm(modules: &[PathBuf]) -> Vec<DoctorFinding> {
    if !modules.iter().any(|path| path.to_string_lossy().contains("softhsm")) {
        return Vec::new();
    }
    vec![match SoftHsmConfiguration::of_this_process() {
        Ok(found) => {
            DoctorFinding::ok(SOFTHSM, format!("{}, tokens in {}", found.described, found.token_directory.display()))
        }
        Err(problem) => DoctorFinding::wrong(SOFTHSM, problem.what, problem.remedy),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_modules_need_no_configuration_of_softhsm() {
        assert!(check_softhsm(&["/usr/lib/opensc-pkcs11.so".into()]).is_empty());
    }
}
