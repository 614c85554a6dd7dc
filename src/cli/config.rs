//! `agent.toml`, and which PKCS#11 modules to load: those of `--module`, else of agent.toml, else
//! those registered with p11-kit, else SoftHSM in its usual directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

use super::exit::Failure;
use crate::prompter::{PinSource, PromptMethod};
use crate::token::{KeysetName, TokenError, TokenSource, untrusted_file_reason};

/// The settings in `agent.toml` (`hsm-config/agent.toml` has a comment on each key).
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfiguration {
    #[serde(default)]
    pub modules: Vec<NamedModule>,
    #[serde(default, deserialize_with = "from_text")]
    pub keyset: Option<KeysetName>,
    #[serde(default, deserialize_with = "from_text")]
    pub pin_source: Option<PinSource>,
    /// how the agent prompts
    #[serde(default, deserialize_with = "from_text")]
    pub prompter: Option<PromptMethod>,
    /// time after which an unanswered prompt of the agent counts as cancelled
    #[serde(default, deserialize_with = "from_duration")]
    pub prompter_timeout: Option<Duration>,
    /// idle time after which a session of the agent ends
    #[serde(default, deserialize_with = "from_duration")]
    pub idle_timeout: Option<Duration>,
    /// further paths that the agent's modules may read and write
    #[serde(default)]
    pub allow: Vec<PathBuf>,
}

/// A module in agent.toml: a path, or a path with settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a module is a path, or { path = \"…\" }")]
pub enum NamedModule {
    Path(PathBuf),
    With(ModuleSettings),
}

/// The agent's settings for one module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSettings {
    path: PathBuf,
    /// ignored: earlier versions gave such a module a worker of its own
    #[serde(default)]
    isolate: bool,
}

impl NamedModule {
    fn path(&self) -> &PathBuf {
        match self {
            Self::Path(path) => path,
            Self::With(settings) => &settings.path,
        }
    }

    fn is_isolated(&self) -> bool {
        matches!(self, Self::With(settings) if settings.isolate)
    }
}

fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Parses `30m`, `8h` or `90s`; at least one second.
fn from_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    match duration.filter(|duration| *duration >= Duration::from_secs(1)) {
        Some(duration) => Ok(Some(duration)),
        None => {
            Err(serde::de::Error::custom(format!("invalid duration {text:?}; write e.g. \"30m\", \"8h\" or \"90s\"")))
        }
    }
}

impl AgentConfiguration {
    /// Reads `tokenkeep/agent.toml` in this directory. A missing file means the defaults; an
    /// invalid one is refused.
    pub fn load(directory: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = directory.map(|directory| directory.join("tokenkeep/agent.toml")) else {
            return Ok(Self::default());
        };
        if let Some(reason) = untrusted_file_reason(&path) {
            let (reason, remedy) =
                reason.rsplit_once("; ").unwrap_or((&reason, "make yourself its owner, and close it to others"));
            let what = format!("cannot use the configuration {}: {reason}", path.display());
            return Err(Failure::usage(what).with_remedy(remedy));
        }
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// The modules with `isolate = true`, which has no effect any more.
    pub fn isolated(&self) -> impl Iterator<Item = &Path> {
        self.modules.iter().filter(|module| module.is_isolated()).map(|module| module.path().as_path())
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            Failure::usage(format!("cannot use the configuration {}, line {line}: {}", path.display(), error.message()))
        })
    }
}

/// The directories in which modules are found.
#[derive(Debug)]
pub struct ModulePaths {
    /// p11-kit's directories of `*.module` files, the most specific first: a file hides later ones
    /// of the same name
    pub registered: Vec<PathBuf>,
    /// directories to search for a module that is named without one
    pub libraries: Vec<PathBuf>,
    /// the usual paths of SoftHSM
    pub softhsm: Vec<PathBuf>,
}

impl ModulePaths {
    /// The directories of this system.
    pub fn of_system(configuration_home: Option<&Path>) -> Self {
        let mut registered: Vec<_> = configuration_home.map(|home| home.join("pkcs11/modules")).into_iter().collect();
        registered.extend(["/etc/pkcs11/modules", "/usr/share/p11-kit/modules"].map(PathBuf::from));
        let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"].map(PathBuf::from);
        let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let multiarch = multiarch.filter(|path| path.to_string_lossy().contains("-linux-"));
        let roots: Vec<_> = roots.into_iter().chain(multiarch).collect();
        Self {
            registered,
            libraries: roots.iter().map(|root| root.join("pkcs11")).chain(roots.clone()).collect(),
            softhsm: ["softhsm", "pkcs11", ""]
                .iter()
                .flat_map(|below| roots.iter().map(move |root| root.join(below).join("libsofthsm2.so")))
                .collect(),
        }
    }

    /// Modules registered with p11-kit, except those that only hold trust anchors.
    fn registered_modules(&self) -> Vec<PathBuf> {
        let mut names = Vec::new();
        let mut modules = Vec::new();
        for directory in &self.registered {
            let mut files: Vec<_> = fs::read_dir(directory)
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "module"))
                .collect();
            files.sort();
            for file in files {
                let name = file.file_name().map(ToOwned::to_owned);
                if names.contains(&name) {
                    continue;
                }
                names.push(name);
                let text = fs::read_to_string(&file).unwrap_or_default();
                modules.extend(module_of(&text).and_then(|module| self.locate(&module)));
            }
        }
        modules
    }

    fn locate(&self, module: &Path) -> Option<PathBuf> {
        if module.is_absolute() {
            return module.exists().then(|| module.to_owned());
        }
        self.libraries.iter().map(|directory| directory.join(module)).find(|path| path.exists())
    }
}

/// The `module:` of a p11-kit module configuration (pkcs11.conf(5)), if it applies to this program.
fn module_of(text: &str) -> Option<PathBuf> {
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    let names_us = |list: &str| list.split([',', ' ']).any(|program| program == "tokenkeep");
    if field("trust-policy") == Some("yes")
        || field("disable-in").is_some_and(names_us)
        || field("enable-in").is_some_and(|list| !names_us(list))
        || field("remote").is_some()
    {
        return None;
    }
    field("module").filter(|module| !module.is_empty()).map(PathBuf::from)
}

/// The modules to search for tokens, not loaded yet.
#[derive(Debug)]
pub struct ModuleFiles {
    paths: Vec<PathBuf>,
    /// true if the user named them; otherwise they were only registered with the system
    named: bool,
    /// The source of their names, for messages.
    origin: &'static str,
}

impl ModuleFiles {
    /// The modules in `named`, else in agent.toml, else registered with p11-kit, else SoftHSM.
    pub fn find(named: &[PathBuf], configuration: &AgentConfiguration, module_paths: &ModulePaths) -> Self {
        let configured = configuration.modules.iter().map(|module| module.path().clone()).collect();
        for (paths, origin) in [(named.to_vec(), "--module"), (configured, "agent.toml")] {
            if !paths.is_empty() {
                return Self { paths, named: true, origin };
            }
        }
        let paths = module_paths.registered_modules();
        if !paths.is_empty() {
            return Self { paths, named: false, origin: "registered with p11-kit" };
        }
        let usual = module_paths.softhsm.iter().find(|path| path.exists()).cloned();
        Self { paths: usual.into_iter().collect(), named: false, origin: "the usual path of SoftHSM" }
    }

    /// The source of their names, for messages.
    pub fn origin(&self) -> &'static str {
        self.origin
    }

    /// Returns true if the user named them; otherwise they were only registered with the system.
    pub fn are_named(&self) -> bool {
        self.named
    }

    /// Their paths.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// All modules except these files, by whichever path.
    #[must_use]
    pub fn without(&self, others: &[PathBuf]) -> Self {
        let file = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let others: Vec<PathBuf> = others.iter().map(file).collect();
        let paths = self.paths.iter().filter(|path| !others.contains(&file(path))).cloned().collect();
        Self { paths, ..*self }
    }

    /// Loads the modules. If at least one loads, the errors of the others go to `warn`.
    pub fn load(&self, warn: impl FnMut(&TokenError)) -> Result<Vec<TokenSource>, Failure> {
        let (modules, errors) = self.load_each();
        if modules.is_empty() {
            return Err(errors.into_iter().next().map_or_else(no_module, Failure::from));
        }
        errors.iter().for_each(warn);
        Ok(modules)
    }

    /// The modules that load, and the errors of the others.
    pub fn load_each(&self) -> (Vec<TokenSource>, Vec<TokenError>) {
        let (mut modules, mut errors) = (Vec::new(), Vec::new());
        for path in &self.paths {
            match TokenSource::load(path) {
                Ok(module) => modules.push(module),
                Err(error) => errors.push(error),
            }
        }
        (modules, errors)
    }
}

fn no_module() -> Failure {
    Failure::absent("cannot find a PKCS#11 module")
        .with_remedy("install SoftHSM (Debian: apt install softhsm2), or name a module with --module or in agent.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AgentConfiguration, Failure> {
        AgentConfiguration::parse(Path::new("agent.toml"), text)
    }

    #[test]
    fn the_shipped_file_sets_nothing() {
        let shipped = parse(include_str!("../../hsm-config/agent.toml")).unwrap();
        assert!(shipped.modules.is_empty() && shipped.keyset.is_none() && shipped.pin_source.is_none());
    }

    #[test]
    fn every_key_of_the_shipped_file_is_known() {
        let keys: Vec<_> = include_str!("../../hsm-config/agent.toml")
            .lines()
            .filter_map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")))
            .collect();
        let configuration = parse(&keys.join("\n")).unwrap();
        assert_eq!(configuration.keyset.unwrap().as_str(), "default");
        assert_eq!(configuration.pin_source, Some(PinSource::Prompt));
        let modules = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/libykcs11.so"];
        assert_eq!(configuration.modules, modules.map(|path| NamedModule::Path(path.into())));
        assert_eq!(configuration.prompter, Some(PromptMethod::Auto));
        assert_eq!(configuration.prompter_timeout, Some(Duration::from_mins(5)));
        assert_eq!(configuration.idle_timeout, Some(Duration::from_mins(30)));
        assert_eq!(configuration.allow.len(), 1);
    }

    #[test]
    fn isolate_is_read_and_ignored() {
        let text = "modules = [\"/a.so\", { path = \"/b.so\", isolate = true }, { path = \"/c.so\" }]";
        let configuration = parse(text).unwrap();
        let module_paths = ModulePaths { registered: Vec::new(), libraries: Vec::new(), softhsm: Vec::new() };
        let all = ModuleFiles::find(&[], &configuration, &module_paths);
        assert_eq!(all.paths(), ["/a.so", "/b.so", "/c.so"].map(PathBuf::from));
        assert_eq!(configuration.isolated().collect::<Vec<_>>(), [Path::new("/b.so")]);
        assert_eq!(all.without(&["/b.so".into()]).paths(), ["/a.so", "/c.so"].map(PathBuf::from));
        let table = parse("[[modules]]\npath = \"/b.so\"\nisolate = true\n").unwrap();
        assert_eq!(table.isolated().count(), 1);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        for (text, reason) in [
            ("keyset = \"a\"\nkeysets = 1\n", "line 2: unknown field `keysets`"),
            ("\n\npin_source = \"paper\"\n", "line 3"),
            ("pin_source = \"123456\"\n", "line 1"),
            ("prompter = \"123456\"\n", "line 1"),
            ("idle_timeout = \"soon\"\n", "line 1: invalid duration \"soon\""),
            ("prompter_timeout = \"0s\"\n", "line 1"),
            ("idle_timeout = \"-5m\"\n", "line 1"),
            ("idle_timeout = \"0s\"\n", "line 1"),
            ("modules = \n", "line 1"),
            ("modules = [1]\n", "line 1: a module is a path, or {"),
            ("modules = [{ path = \"/m.so\", isolated = true }]\n", "line 1: a module is a path, or {"),
            ("modules = [{ isolate = true }]\n", "line 1: a module is a path, or {"),
            ("keyset = \"\"\n", "line 1"),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(failure.message.contains(reason), "{text:?}: {}", failure.message);
            assert!(!failure.message.contains("123456"), "a possible PIN is not repeated: {}", failure.message);
        }
    }

    #[test]
    fn no_file_is_no_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert!(AgentConfiguration::load(Some(directory.path())).unwrap().keyset.is_none());
        assert!(AgentConfiguration::load(None).unwrap().keyset.is_none());
    }

    #[test]
    fn registered_modules_are_found_without_the_trust_ones() {
        assert_eq!(module_of("# comment\nmodule: /usr/lib/a.so\npriority: 1\n"), Some("/usr/lib/a.so".into()));
        assert_eq!(module_of("module: p11-kit-trust.so\ntrust-policy: yes\n"), None);
        assert_eq!(module_of("module: a.so\ndisable-in: firefox, tokenkeep\n"), None);
        assert_eq!(module_of("module: a.so\nenable-in: firefox\n"), None);
        assert_eq!(module_of("module: a.so\nenable-in: firefox tokenkeep\n"), Some("a.so".into()));
        assert_eq!(module_of("remote: |ssh host p11-kit remote a.so\n"), None);
        assert_eq!(module_of("module:\n"), None, "an empty name switches a module off");
    }

    #[test]
    fn the_first_file_of_a_name_hides_the_later_ones() {
        let directory = tempfile::tempdir().unwrap();
        let (own, system) = (directory.path().join("own"), directory.path().join("system"));
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&system).unwrap();
        for library in ["a.so", "b.so", "c.so"] {
            fs::write(directory.path().join(library), "").unwrap();
        }
        fs::write(system.join("one.module"), "module: a.so\n").unwrap();
        fs::write(system.join("two.module"), "module: b.so\n").unwrap();
        fs::write(system.join("gone.module"), "module: /nowhere/x.so\n").unwrap();
        fs::write(own.join("one.module"), format!("module: {}\n", directory.path().join("c.so").display())).unwrap();
        let module_paths = ModulePaths {
            registered: vec![own, system],
            libraries: vec![directory.path().to_owned()],
            softhsm: Vec::new(),
        };
        let found: Vec<_> =
            module_paths.registered_modules().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(found, ["c.so", "b.so"]);
    }

    #[test]
    fn no_module_at_all_gets_a_remedy() {
        let module_paths = ModulePaths { registered: Vec::new(), libraries: Vec::new(), softhsm: Vec::new() };
        let failure = ModuleFiles::find(&[], &AgentConfiguration::default(), &module_paths).load(|_| {}).unwrap_err();
        assert!(failure.remedy.unwrap().contains("softhsm2"));
    }
}
