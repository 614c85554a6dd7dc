//! The context of a command: clock, environment, agent.toml, modules, tokens and prompters.

use std::cell::OnceCell;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use jiff::Timestamp;

use super::arguments::{CommonArguments, KeysetArguments};
use super::backend::Backend;
use super::config::{AgentConfiguration, ModuleFiles, ModulePaths};
use super::directories::{configuration_home, directory};
use super::exit::Failure;
use super::expiry;
use super::hidden_keysets::HiddenKeysets;
use super::output::Output;
use super::startup;
use crate::agent::operations::AgentClient;
use crate::agent::{Endpoint, SocketDirectory};
use crate::keyset::{FoundKeyset, KeysetChoice, Tokens, UnreadableToken};
use crate::prompter::{PinSource, Prompter};
use crate::token::KeysetName;

/// The context of a command. Everything is read or loaded at its first use.
pub struct Context<'a> {
    common: CommonArguments,
    pub output: &'a Output,
    configuration: OnceCell<AgentConfiguration>,
}

impl<'a> Context<'a> {
    pub fn new(common: CommonArguments, output: &'a Output) -> Self {
        Self { common, output, configuration: OnceCell::new() }
    }

    /// The current time of the system clock.
    #[allow(clippy::unused_self, reason = "the clock is a part of the context")]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The parsed agent.toml, read once.
    pub fn configuration(&self) -> Result<&AgentConfiguration, Failure> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration);
        }
        let configuration = AgentConfiguration::load(configuration_home().as_deref())?;
        Ok(self.configuration.get_or_init(|| configuration))
    }

    /// Returns true if `--module` was given. An authority's module is in its configuration instead.
    pub fn names_modules(&self) -> bool {
        !self.common.modules.is_empty()
    }

    /// The modules to search for tokens, not loaded yet.
    pub fn modules(&self) -> Result<ModuleFiles, Failure> {
        Ok(self.modules_by(self.configuration()?))
    }

    /// The modules to search if this were the content of agent.toml.
    pub fn modules_by(&self, configuration: &AgentConfiguration) -> ModuleFiles {
        let module_paths = ModulePaths::of_system(configuration_home().as_deref());
        ModuleFiles::find(&self.common.modules, configuration, &module_paths)
    }

    /// Loads the modules to search and returns their tokens. Warns about modules that do not load,
    /// and fails if none does.
    pub fn tokens(&self) -> Result<Tokens, Failure> {
        Ok(Tokens::new(self.modules()?.load(|error| self.output.warning(error))?))
    }

    /// The common options of this process, as arguments for another process of this program.
    pub fn common_arguments(&self) -> Vec<OsString> {
        self.common.as_arguments()
    }

    /// The agent if it runs; `None` if the command line has `--module` or `--no-agent`.
    pub fn agent(&self) -> Result<Option<AgentClient>, Failure> {
        if self.common.no_agent || self.names_modules() {
            return Ok(None);
        }
        Ok(AgentClient::at(&Self::agent_socket())?)
    }

    /// The socket of the agent's API: `$TOKENKEEP_AGENT_API`, else this user's.
    pub fn agent_socket() -> PathBuf {
        directory("TOKENKEEP_AGENT_API").unwrap_or_else(|| SocketDirectory::of_this_user().socket(Endpoint::Api))
    }

    /// The backend for operations on keysets: the agent if it runs, else this process.
    pub fn backend(&self) -> Result<Backend, Failure> {
        match self.agent()? {
            Some(agent) => Ok(Backend::Agent(agent)),
            None => Ok(Backend::Local(self.tokens()?)),
        }
    }

    /// The backend of a command that can do without tokens; `None` if there is none. Warns of an
    /// agent that cannot be used.
    pub fn optional_backend(&self) -> Option<Backend> {
        match self.agent() {
            Ok(Some(agent)) => Some(Backend::Agent(agent)),
            Ok(None) => self.tokens().ok().map(Backend::Local),
            Err(failure) => {
                self.output.warning(failure.message);
                None
            }
        }
    }

    /// The selection of a keyset, with the defaults from the environment and agent.toml.
    pub fn choice(&self, which: &KeysetArguments) -> Result<KeysetChoice, Failure> {
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

    /// Finds the selected keyset; warns if one of its certificates expires soon.
    pub fn keyset(&self, backend: &Backend, which: &KeysetArguments) -> Result<FoundKeyset, Failure> {
        let keyset = backend.choose(&self.choice(which)?)?;
        expiry::warn(&keyset, self.output, self.now());
        Ok(keyset)
    }

    /// Warns about tokens that could not be read.
    pub fn warn_about_tokens(&self, unreadable: &[UnreadableToken]) {
        for token in unreadable {
            let error = token.error.to_string();
            // Most errors name their token already.
            if error.contains(&token.name) {
                self.output.warning(error);
            } else {
                self.output.warning(format_args!("{}: {error}", token.name));
            }
        }
    }

    /// A prompter with these PIN sources. The default is the terminal; for an existing PIN,
    /// agent.toml comes first.
    pub fn prompter(&self, pin: Option<&PinSource>, new_pin: Option<&PinSource>) -> Result<Prompter, Failure> {
        let pin = match pin {
            Some(source) => source.clone(),
            None => self.configuration()?.pin_source.clone().unwrap_or(PinSource::Prompt),
        };
        let new_pin = new_pin.cloned().unwrap_or(PinSource::Prompt);
        let credentials = directory("CREDENTIALS_DIRECTORY");
        Ok(Prompter::new(pin, new_pin).with_credentials(credentials).with_descriptors(startup::descriptors_at_start()))
    }
}
