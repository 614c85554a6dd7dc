//! The files that the worker may read and write, from what is known of PKCS#11 modules.

use std::fs;
use std::path::{Path, PathBuf};

use super::SandboxConfig;
use crate::token;

/// Private data of users and of other processes: not readable.
const PRIVATE: [&str; 5] = ["/proc", "/home", "/root", "/run/user", "/dev"];

/// Devices that modules use: no terminals, no keyboards.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tpm0", "/dev/tpmrm0", "/dev/bus/usb"];

/// The allowed paths. Paths that do not exist have no effect.
#[derive(Debug, Default)]
pub(super) struct PathRules {
    pub(super) read: Vec<PathBuf>,
    /// readable and writable
    pub(super) write: Vec<PathBuf>,
    pub(super) devices: Vec<PathBuf>,
}

impl PathRules {
    pub(super) fn new(sandbox_config: &SandboxConfig, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let mut private: Vec<_> = PRIVATE.iter().map(PathBuf::from).chain(sandbox_config.home.clone()).collect();
        // A home may be a link; its target is as private.
        let leads_to: Vec<_> = private.iter().filter_map(|path| path.canonicalize().ok()).collect();
        private.extend(leads_to);
        let mut path_rules = Self {
            read: Vec::new(),
            write: sandbox_config.allow.clone(),
            devices: DEVICES.iter().map(PathBuf::from).collect(),
        };
        allow_except(Path::new("/"), &private, &mut path_rules.read);
        path_rules.read.extend(sandbox_config.modules.iter().cloned());
        path_rules.write.push(token::lock_directory());
        let home = HomeDirs {
            config: variable("XDG_CONFIG_HOME").or_else(|| in_home(sandbox_config, ".config")),
            cache: variable("XDG_CACHE_HOME").or_else(|| in_home(sandbox_config, ".cache")),
            itself: sandbox_config.home.clone(),
        };
        path_rules.softhsm(&variable, &home);
        path_rules.kryoptic(&variable, &home);
        path_rules.opensc(&variable, &home);
        path_rules.tpm2(&variable, &home);
        path_rules
    }

    /// Paths from softhsm2.conf(5).
    fn softhsm(&mut self, variable: &impl Fn(&str) -> Option<PathBuf>, home: &HomeDirs) {
        let files = [
            variable("SOFTHSM2_CONF"),
            home.itself.as_ref().map(|home| home.join(".config/softhsm2/softhsm2.conf")),
            Some("/etc/softhsm/softhsm2.conf".into()),
            Some("/etc/softhsm2.conf".into()),
        ];
        for file in files.into_iter().flatten() {
            let text = fs::read_to_string(&file).unwrap_or_default();
            self.write.extend(token::softhsm_token_directory(&text));
            self.read.push(file);
        }
    }

    /// A slot's database is a file; SQLite writes its journal into the same directory.
    fn kryoptic(&mut self, variable: &impl Fn(&str) -> Option<PathBuf>, home: &HomeDirs) {
        let files = [
            variable("KRYOPTIC_CONF"),
            home.config.as_ref().map(|config| config.join("kryoptic/token.conf")),
            Some("/usr/local/etc/kryoptic/token.conf".into()),
        ];
        for file in files.into_iter().flatten() {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let databases = token::kryoptic_databases(&text);
            self.write.extend(databases.iter().filter_map(|path| path.parent().map(Path::to_owned)));
            self.read.push(file);
        }
    }

    /// Paths from opensc.conf(5).
    fn opensc(&mut self, variable: &impl Fn(&str) -> Option<PathBuf>, home: &HomeDirs) {
        self.read.extend(variable("OPENSC_CONF"));
        self.read.extend(home.config.as_ref().map(|config| config.join("opensc")));
        self.write.extend(home.cache.as_ref().map(|cache| cache.join("opensc")));
    }

    fn tpm2(&mut self, variable: &impl Fn(&str) -> Option<PathBuf>, home: &HomeDirs) {
        self.write.extend(variable("TPM2_PKCS11_STORE"));
        self.write.extend(home.itself.as_ref().map(|home| home.join(".tpm2_pkcs11")));
    }
}

struct HomeDirs {
    config: Option<PathBuf>,
    cache: Option<PathBuf>,
    itself: Option<PathBuf>,
}

fn in_home(sandbox_config: &SandboxConfig, name: &str) -> Option<PathBuf> {
    Some(sandbox_config.home.as_ref()?.join(name))
}

/// Landlock rules only allow. So to exclude a directory, this lists its siblings and its parents'
/// siblings. It does not follow symbolic links; their targets are listed themselves.
fn allow_except(directory: &Path, private: &[PathBuf], found: &mut Vec<PathBuf>) {
    if private.iter().any(|private| private == directory) {
        return;
    }
    if !private.iter().any(|private| private.starts_with(directory)) {
        found.push(directory.to_owned());
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            allow_except(&entry.path(), private, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(directory: &Path, private: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        let private: Vec<_> = private.iter().map(|name| directory.join(name)).collect();
        allow_except(directory, &private, &mut found);
        let mut found: Vec<_> =
            found.iter().map(|path| path.strip_prefix(directory).unwrap().display().to_string()).collect();
        found.sort();
        found
    }

    #[test]
    fn private_files_are_left_out_and_their_neighbors_are_not() {
        let root = tempfile::tempdir().unwrap();
        for name in ["usr/lib", "proc/1", "data/homes/me", "data/homes/you", "data/more"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("proc", root.path().join("link")).unwrap();
        assert_eq!(list(root.path(), &["proc"]), ["data", "usr"]);
        assert_eq!(list(root.path(), &["proc", "data/homes/me"]), ["data/homes/you", "data/more", "usr"]);
        assert_eq!(list(root.path(), &[]), [""]);
        assert!(list(root.path(), &[""]).is_empty());
    }

    #[test]
    fn write_paths_come_from_the_modules_configuration() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("softhsm2.conf"), "# x\ndirectories.tokendir = /srv/tokens\nlog.level = INFO\n").unwrap();
        fs::write(at("kryoptic.conf"), "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"/srv/k/0.sql\"\n")
            .unwrap();
        let sandbox_config =
            SandboxConfig { home: Some(at("")), allow: vec!["/srv/allowed".into()], ..SandboxConfig::default() };
        let path_rules = PathRules::new(&sandbox_config, |name| match name {
            "SOFTHSM2_CONF" => Some(at("softhsm2.conf")),
            "KRYOPTIC_CONF" => Some(at("kryoptic.conf")),
            "TPM2_PKCS11_STORE" => Some("/srv/tpm".into()),
            _ => None,
        });
        for path in ["/srv/tokens", "/srv/k", "/srv/tpm", "/srv/allowed"] {
            assert!(path_rules.write.contains(&path.into()), "{path} is missing: {:?}", path_rules.write);
        }
        assert!(path_rules.write.contains(&at(".cache/opensc")) && path_rules.read.contains(&at(".config/opensc")));
        assert!(!path_rules.read.contains(&"/proc".into()) && !path_rules.read.contains(&"/".into()));
    }
}
