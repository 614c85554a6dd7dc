//! Sandboxes the worker with Landlock, because PKCS#11 modules are third-party code and clients
//! send arbitrary bytes.
//!
//! The sandbox is entered before any module is loaded, so that threads started by modules are
//! inside, too. Inside it, no program is executed, other processes cannot be inspected (`/proc` is
//! unreadable), home directories cannot be read except for what modules need, and only the
//! locations of tokens, their locks and the agent's sockets can be written. TCP connections,
//! signals to other processes and connections to outside abstract sockets are blocked. The sandbox
//! cannot block connections to named Unix sockets (Linux before 7.1 cannot); pcscd's must stay
//! reachable. An older kernel enforces less: the agent enforces what it can and reports it.

mod path_rules;

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::process_error::AgentProcessError;
use path_rules::PathRules;

/// The newest Landlock ABI that was tested.
const TESTED_ABI: ABI = ABI::V7;

/// The inputs that depend on the user and the configuration.
#[derive(Debug, Default)]
pub struct SandboxConfig {
    /// the PKCS#11 modules that will be loaded
    pub modules: Vec<PathBuf>,
    /// further paths that the modules need (`allow` in agent.toml), readable and writable
    pub allow: Vec<PathBuf>,
    /// the user's home directory
    pub home: Option<PathBuf>,
}

/// Sandboxes the calling thread and all threads it starts later; call it while this is the only
/// thread. Returns a description of what is enforced.
///
/// `variable` reads the environment, which tells modules where their configuration is.
///
/// # Errors
/// [`AgentProcessError::Sandbox`] if the kernel has Landlock and refuses; a kernel without Landlock
/// is no error.
pub fn enter(
    sandbox_config: &SandboxConfig,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<String, AgentProcessError> {
    let path_rules = PathRules::new(sandbox_config, variable);
    restrict(&path_rules).map(|status| describe(&status)).map_err(|error| AgentProcessError::Sandbox(error.to_string()))
}

fn restrict(path_rules: &PathRules) -> Result<RestrictionStatus, RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // Everything except executing programs and creating devices and sockets.
    let write: BitFlags<AccessFs> = AccessFs::from_all(TESTED_ABI)
        & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | IoctlDev});
    let device = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
    Ruleset::default()
        .handle_access(AccessFs::from_all(TESTED_ABI))?
        .handle_access(AccessNet::from_all(TESTED_ABI))?
        .scope(Scope::from_all(TESTED_ABI))?
        .create()?
        .add_rules(path_beneath_rules(&path_rules.read, read))?
        .add_rules(path_beneath_rules(&path_rules.write, write))?
        .add_rules(path_beneath_rules(&path_rules.devices, device))?
        .restrict_self()
}

fn describe(status: &RestrictionStatus) -> String {
    let kernel = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => format!("Landlock {}", effective_abi as i32),
        LandlockStatus::NotEnabled => "Landlock is disabled in the kernel".to_owned(),
        LandlockStatus::NotImplemented => "the kernel has no Landlock".to_owned(),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => kernel,
        RulesetStatus::PartiallyEnforced => format!("{kernel}, partially enforced"),
        RulesetStatus::NotEnforced => format!("not sandboxed: {kernel}"),
    }
}

#[cfg(test)]
mod tests;
