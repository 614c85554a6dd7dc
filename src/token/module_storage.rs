//! The configuration files and token directories of known software modules: the key under which the
//! result of a try is remembered ([`super::check`]), and the disk state that explains an unspecific
//! failure.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::softhsm::{self, UnreadableTokenDirectory};

/// Minimum free space in bytes for a write: more than any object with its directory and a copy.
const MIN_FREE_BYTES: u64 = 64 * 1024;

/// `OpenSC`'s configuration file if the environment names none.
const OPENSC_CONF: &str = "/etc/opensc/opensc.conf";

/// p11-kit's configuration file, and the directories with one file per module.
const P11_KIT_CONF: [&str; 3] = ["/etc/pkcs11/pkcs11.conf", "/etc/pkcs11/modules", "/usr/share/p11-kit/modules"];

/// The user's own p11-kit configuration, relative to the configuration directory.
const P11_KIT_OWN: [&str; 2] = ["pkcs11/pkcs11.conf", "pkcs11/modules"];

/// The files of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModuleStorage {
    /// its configuration: files, existing or not, and directories of files
    pub configuration: Vec<PathBuf>,
    /// directories with one subdirectory per token
    pub tokens: Vec<PathBuf>,
    /// directories with one file per token
    pub databases: Vec<PathBuf>,
    /// whether these are the module's own files, and not only those of a module that it may load
    is_private: bool,
}

impl ModuleStorage {
    /// The files of this module, according to the environment. A module with an unknown name may
    /// load a known one.
    pub fn of(module: &Path) -> Self {
        Self::by(module, |name| env::var_os(name).map(PathBuf::from))
    }

    fn by(module: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let name = module.to_string_lossy().to_lowercase();
        let is = |part: &str| name.contains(part);
        // SoftHSM alone treats an empty variable as a file name.
        let softhsm_conf = variable("SOFTHSM2_CONF").map(PathBuf::into_os_string);
        let variable = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
        let home = variable("HOME");
        let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let mut store = Self { is_private: is("softhsm") || is("kryoptic"), ..Self::default() };
        let unknown = !["softhsm", "kryoptic", "opensc", "ykcs11"].into_iter().any(is);
        if (is("softhsm") || unknown)
            && let Some(file) = softhsm::configuration_file(softhsm_conf, home.as_deref())
        {
            let text = fs::read(&file).unwrap_or_default();
            store.tokens.extend(softhsm::softhsm_token_directory(&String::from_utf8_lossy(&text)));
            store.configuration.push(file);
        }
        if is("kryoptic") || unknown {
            let usual = [config.as_ref().map(|config| config.join("kryoptic/token.conf"))];
            if let Some((file, text)) = first_of(variable("KRYOPTIC_CONF"), usual) {
                let databases = kryoptic_databases(&text);
                let mut directories: Vec<_> =
                    databases.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
                directories.dedup();
                store.databases = directories;
                store.configuration.push(file);
            }
        }
        if is("opensc") {
            store.configuration.push(variable("OPENSC_CONF").unwrap_or_else(|| OPENSC_CONF.into()));
        }
        if is("p11-kit") {
            store.configuration.extend(P11_KIT_CONF.map(PathBuf::from));
            let own = config.iter().flat_map(|config| P11_KIT_OWN.map(|name| config.join(name)));
            store.configuration.extend(own);
        }
        store
    }

    /// The reason why nothing can be stored; `None` if nothing is known to prevent it.
    pub fn storage_problem(&self) -> Option<String> {
        let directories = self.own_directories();
        let lacking = |directory: &&PathBuf| {
            let full = statvfs(directory.as_path()).is_ok_and(|space| {
                space.f_bavail.saturating_mul(space.f_frsize) < MIN_FREE_BYTES
                    || (space.f_files > 0 && space.f_favail == 0)
            });
            full || access(directory.as_path(), Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err()
        };
        directories.filter(lacking).map(|directory| describe_directory(directory)).next()
    }

    fn own_directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.tokens.iter().chain(&self.databases).filter(|_| self.is_private)
    }

    /// Free space and permissions of the token directories, which may explain a failed write.
    /// `None` if the directories are unknown.
    pub fn describe_storage(&self) -> Option<String> {
        let descriptions: Vec<String> = self.own_directories().map(|directory| describe_directory(directory)).collect();
        (!descriptions.is_empty()).then(|| descriptions.join("; "))
    }
}

/// The tokens in the module's own token directories that it skips silently.
pub fn unreadable_tokens(module: &Path) -> Vec<UnreadableTokenDirectory> {
    let store = ModuleStorage::of(module);
    let directories = store.tokens.iter().filter(|_| store.is_private);
    directories.flat_map(|directory| softhsm::unreadable_in(directory)).collect()
}

/// The reason why nothing can be stored in this module's token directories; `None` if nothing is
/// known to prevent it.
pub fn lack_of_room(module: &Path) -> Option<String> {
    ModuleStorage::of(module).storage_problem()
}

/// Kryoptic's databases, one per slot.
pub fn kryoptic_databases(configuration: &str) -> Vec<PathBuf> {
    let configuration: toml::Table = configuration.parse().unwrap_or_default();
    let slots = configuration.get("slots").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    slots.iter().filter_map(|slot| slot.get("dbargs")?.as_str()).map(PathBuf::from).collect()
}

/// Pairs of directories that hold the same token. `SoftHSM` ends the process that initializes it
/// with such copies.
pub(super) fn copied_tokens(store: &ModuleStorage) -> Vec<(PathBuf, PathBuf)> {
    let mut known: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    let mut copies = Vec::new();
    for directory in &store.tokens {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut tokens: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        tokens.sort();
        for token in tokens {
            let Some(serial) = softhsm::softhsm_serial(&token.join(softhsm::OBJECT)) else { continue };
            match known.iter().find(|(_, other)| *other == serial) {
                Some((first, _)) => copies.push((first.clone(), token)),
                None => known.push((token, serial)),
            }
        }
    }
    copies
}

/// The named file, else the first default one that exists, and its text.
fn first_of(named: Option<PathBuf>, usual: impl IntoIterator<Item = Option<PathBuf>>) -> Option<(PathBuf, String)> {
    let file = named.or_else(|| usual.into_iter().flatten().find(|path| path.exists()))?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    Some((file, text))
}

fn describe_directory(directory: &Path) -> String {
    let shown = directory.display();
    let found = match fs::metadata(directory) {
        Ok(found) => found,
        Err(error) => return format!("the token directory {shown} cannot be read ({error})"),
    };
    let space = match statvfs(directory) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize) / 1024;
            let no_files = if space.f_files > 0 && space.f_favail == 0 { " and no free inodes" } else { "" };
            format!("{free} KiB free{no_files}")
        }
        Err(error) => format!("free space unknown ({error})"),
    };
    let mode = found.mode() & 0o7777;
    format!("the token directory {shown} has {space}, mode {mode:04o}, owner {}", found.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_directories_come_from_each_modules_configuration() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("softhsm2.conf"), "# x\ndirectories.tokendir = /srv/tokens\nlog.level = INFO\n").unwrap();
        fs::write(at("kryoptic.conf"), "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"/srv/k/0.sql\"\n")
            .unwrap();
        let store = |module: &str| {
            ModuleStorage::by(Path::new(module), |name| match name {
                "SOFTHSM2_CONF" => Some(at("softhsm2.conf")),
                "KRYOPTIC_CONF" => Some(at("kryoptic.conf")),
                "HOME" => Some(at("home")),
                _ => None,
            })
        };
        let softhsm = store("/usr/lib/softhsm/libsofthsm2.so");
        assert_eq!((softhsm.tokens, softhsm.databases), (vec!["/srv/tokens".into()], vec![]));
        let kryoptic = store("/x/libkryoptic_pkcs11.so");
        assert_eq!((kryoptic.tokens, kryoptic.databases), (vec![], vec!["/srv/k".into()]));
        assert_eq!(store("/x/proxy.so").configuration, [at("softhsm2.conf"), at("kryoptic.conf")]);
        assert_eq!(store("/x/opensc-pkcs11.so").configuration, [Path::new(OPENSC_CONF)]);
        let proxy = store("/x/p11-kit-proxy.so").configuration;
        assert!(proxy.contains(&at("softhsm2.conf")) && proxy.contains(&P11_KIT_CONF[1].into()), "{proxy:?}");
        for own in ["pkcs11.conf", "modules"] {
            assert!(proxy.contains(&at("home/.config/pkcs11").join(own)), "{proxy:?}");
        }
    }

    #[test]
    fn missing_space_and_permissions_are_reported() {
        let home = tempfile::tempdir().unwrap();
        let store =
            ModuleStorage { tokens: vec![home.path().to_owned()], is_private: true, ..ModuleStorage::default() };
        let description = store.describe_storage().unwrap();
        assert!(description.contains(&home.path().display().to_string()), "{description}");
        assert!(description.contains(" KiB free, mode 0") && description.contains(", owner "), "{description}");
        let gone =
            ModuleStorage { tokens: vec!["/nowhere/tokens".into()], is_private: true, ..ModuleStorage::default() };
        assert!(gone.storage_problem().is_some() && store.storage_problem().is_none());
        assert!(gone.describe_storage().unwrap().contains("cannot be read"));
        assert_eq!(ModuleStorage::default().describe_storage(), None);
    }
}
