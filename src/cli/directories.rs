//! The user's directories, from the environment (XDG Base Directory Specification).

use std::env;
use std::path::PathBuf;

/// An absolute path from the environment; relative ones are ignored (XDG Base Directory
/// Specification).
pub fn directory(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `$XDG_STATE_HOME`, else `~/.local/state`.
pub fn state_home() -> Option<PathBuf> {
    directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))
}

/// `$XDG_CONFIG_HOME`, else `~/.config`.
pub fn configuration_home() -> Option<PathBuf> {
    directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")))
}
