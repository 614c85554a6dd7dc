//! What a command finds around it: the clock, the environment, agent.toml, modules and tokens, the person.

use std::cell::OnceCell;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use jiff::Timestamp;

use super::arguments::{Common, WhichKeyset};
use super::config::{AgentConfiguration, ModuleFiles, ModulePlaces};
use super::descriptors;
use super::desk::Desk;
use super::exit::Failure;
use super::expiry;
use super::hidden_keysets::HiddenKeysets;
use super::screen::Screen;
use crate::agent::client::Agent;
use crate::agent::{Directory, Door};
use crate::keyset::{FoundKeyset, KeysetChoice, Tokens};
use crate::prompter::{PinSource, Prompter};
use crate::token::KeysetName;

/// What is around a command. Nothing is read or loaded before a command asks for it.
pub struct Surroundings<'a> {
    common: Common,
    pub screen: &'a Screen,
    configuration: OnceCell<AgentConfiguration>,
}

impl<'a> Surroundings<'a> {
    pub fn new(common: Common, screen: &'a Screen) -> Self {
        Self { common, screen, configuration: OnceCell::new() }
    }

    /// Now.
    #[allow(clippy::unused_self, reason = "the clock is a part of the surroundings")]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// agent.toml.
    pub fn configuration(&self) -> Result<&AgentConfiguration, Failure> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration);
        }
        let configuration = AgentConfiguration::load(configuration_home().as_deref())?;
        Ok(self.configuration.get_or_init(|| configuration))
    }

    /// Was a module named (`--module`)? An authority's is in its configuration.
    pub fn names_modules(&self) -> bool {
        !self.common.modules.is_empty()
    }

    /// The modules that are to be looked through, not loaded yet.
    pub fn modules(&self) -> Result<ModuleFiles, Failure> {
        Ok(self.modules_by(self.configuration()?))
    }

    /// The same, if this were agent.toml.
    pub fn modules_by(&self, configuration: &AgentConfiguration) -> ModuleFiles {
        let places = ModulePlaces::of_system(configuration_home().as_deref());
        ModuleFiles::find(&self.common.modules, configuration, &places)
    }

    /// The tokens in these modules, which are loaded now.
    pub fn load(&self, modules: &ModuleFiles) -> Result<Tokens, Failure> {
        let mut left_out = Vec::new();
        let modules = modules.load(|error| {
            self.screen.warning(error);
            left_out.push(error.clone());
        })?;
        Ok(Tokens::new(modules).leaving_out(left_out))
    }

    /// The tokens in the modules that are to be looked through.
    pub fn tokens(&self) -> Result<Tokens, Failure> {
        self.load(&self.modules()?)
    }

    /// The options of every verb as this process got them, for another process of this program.
    pub fn common_arguments(&self) -> Vec<OsString> {
        self.common.as_arguments()
    }

    /// The agent when it runs, unless the command line names modules or says otherwise.
    pub fn agent(&self) -> Result<Option<Agent>, Failure> {
        if self.common.no_agent || self.names_modules() {
            return Ok(None);
        }
        let socket = directory("TOKENKEEP_AGENT_API").unwrap_or_else(|| Directory::of_this_user().socket(Door::Api));
        Ok(Agent::at(&socket)?)
    }

    /// Who does the acts with keysets: the agent, else this process.
    pub fn desk(&self) -> Result<Desk, Failure> {
        match self.agent()? {
            Some(agent) => Ok(Desk::There(agent)),
            None => Ok(Desk::Here(self.tokens()?)),
        }
    }

    /// Which keyset is meant, with the defaults of environment and agent.toml.
    pub fn choice(&self, which: &WhichKeyset) -> Result<KeysetChoice, Failure> {
        let from_environment = match env::var("TOKENKEEP_KEYSET") {
            Ok(name) if !name.is_empty() => Some(name.parse::<KeysetName>().map_err(|error| {
                Failure::usage(format!("cannot use the keyset name in $TOKENKEEP_KEYSET: {error}"))
            })?),
            _ => None,
        };
        let default = match from_environment {
            Some(name) => Some(name),
            None => self.configuration()?.keyset.clone(),
        };
        let hidden = HiddenKeysets::of_this_user().list()?;
        Ok(KeysetChoice { name: which.keyset.clone(), token: which.token.clone(), default, hidden })
    }

    /// The one keyset that is meant.
    pub fn keyset(&self, desk: &Desk, which: &WhichKeyset) -> Result<FoundKeyset, Failure> {
        let keyset = desk.choose(&self.choice(which)?)?;
        expiry::warn(&keyset, self.screen, self.now());
        Ok(keyset)
    }

    /// Who gives PINs: these sources, else agent.toml's for existing ones, else the terminal.
    pub fn prompter(&self, pin: Option<&PinSource>, new_pin: Option<&PinSource>) -> Result<Prompter, Failure> {
        let pin = match pin {
            Some(source) => source.clone(),
            None => self.configuration()?.pin_source.clone().unwrap_or(PinSource::Prompt),
        };
        let new_pin = new_pin.cloned().unwrap_or(PinSource::Prompt);
        let credentials = directory("CREDENTIALS_DIRECTORY");
        Ok(Prompter::new(pin, new_pin).with_credentials(credentials).with_descriptors(descriptors::at_start()))
    }
}

/// A path that the environment names; relative ones are none (XDG Base Directory Specification).
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
