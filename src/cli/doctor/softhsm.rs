//! Checks SoftHSM's configuration: without a readable one, SoftHSM only returns
//! `CKR_GENERAL_ERROR`.

use std::path::PathBuf;

use super::finding::DoctorFinding;
use crate::token::SoftHsmConfiguration;

const CONCERN: &str = "SoftHSM";

/// Checks the configuration that SoftHSM would use, if one of these modules is SoftHSM.
pub fn check(modules: &[PathBuf]) -> Vec<DoctorFinding> {
    if !modules.iter().any(|path| path.to_string_lossy().contains("softhsm")) {
        return Vec::new();
    }
    vec![match SoftHsmConfiguration::of_this_process() {
        Ok(found) => {
            DoctorFinding::ok(CONCERN, format!("{}, tokens in {}", found.described, found.token_directory.display()))
        }
        Err(problem) => DoctorFinding::wrong(CONCERN, problem.what, problem.remedy),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_modules_need_no_configuration_of_softhsm() {
        assert!(check(&["/usr/lib/opensc-pkcs11.so".into()]).is_empty());
    }
}
