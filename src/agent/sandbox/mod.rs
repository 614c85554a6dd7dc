//! Shuts the worker in (Landlock): PKCS#11 modules are other people's code, and clients' bytes come from anywhere.
//!
//! It is entered before any module is loaded, so that threads that modules start are inside, too. From then on nothing is
//! executed, no other process is looked at (`/proc` is not readable), no home directory is read but for what the modules
//! need there, nothing is written but where tokens, their locks and these sockets lie, no TCP connection is made, and no
//! process outside gets a signal or is spoken to over an abstract socket. What it does not stop (Linux before 7.1 cannot):
//! connecting to a socket that has a name in the file system; pcscd's must be reached. An older kernel can do less; what it
//! can is done, and said.

mod places;

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::broker::BrokerError;
use places::Places;

/// The newest kernel interface that this was tried on.
const TRIED: ABI = ABI::V7;

/// What differs between users and configurations.
#[derive(Debug, Default)]
pub struct Shelter {
    /// the modules that will be loaded
    pub modules: Vec<PathBuf>,
    /// what the modules need besides (`allow` in agent.toml): read and written
    pub allow: Vec<PathBuf>,
    /// the user's home directory
    pub home: Option<PathBuf>,
}

/// Shuts this thread in, and all that it starts; to be called while it is the only one. Says what was achieved.
///
/// `variable` reads the environment, in which modules are told where their configuration is.
///
/// # Errors
/// [`BrokerError::Sandbox`] if the kernel has Landlock and refuses; not if it has none.
pub fn enter(shelter: &Shelter, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<String, BrokerError> {
    let places = Places::new(shelter, variable);
    restrict(&places).map(|status| describe(&status)).map_err(|error| BrokerError::Sandbox(error.to_string()))
}

fn restrict(places: &Places) -> Result<RestrictionStatus, RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // Everything but running programs and making devices and sockets.
    let write: BitFlags<AccessFs> =
        AccessFs::from_all(TRIED) & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | IoctlDev});
    let device = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
    Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?
        .add_rules(path_beneath_rules(&places.read, read))?
        .add_rules(path_beneath_rules(&places.write, write))?
        .add_rules(path_beneath_rules(&places.devices, device))?
        .restrict_self()
}

fn describe(status: &RestrictionStatus) -> String {
    let kernel = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => format!("Landlock {}", effective_abi as i32),
        LandlockStatus::NotEnabled => "the kernel's Landlock is switched off".to_owned(),
        LandlockStatus::NotImplemented => "the kernel has no Landlock".to_owned(),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => kernel,
        RulesetStatus::PartiallyEnforced => format!("{kernel}, which can only do a part"),
        RulesetStatus::NotEnforced => format!("not shut in: {kernel}"),
    }
}

#[cfg(test)]
mod tests;
