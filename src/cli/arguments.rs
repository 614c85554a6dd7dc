//! Options that several commands share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};

use crate::keyset::TokenSelector;
use crate::prompter::PinSource;
use crate::smime::MessageFormat;
use crate::token::KeysetName;

/// Options of every command.
#[derive(Debug, Default, Args)]
pub struct CommonArguments {
    /// Print one JSON value on stdout; errors are one JSON value on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Log to stderr; -vv logs each step, -vvv everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// PKCS#11 module to load (may be repeated)
    ///
    /// Default: the modules in agent.toml, else the modules registered with p11-kit, else SoftHSM.
    /// An authority's module is in its configuration.
    #[arg(long = "module", global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub modules: Vec<PathBuf>,
    /// Open tokens in this process, not through the agent
    ///
    /// --module implies this option. Tokens that a running agent holds cannot be opened here.
    #[arg(long, global = true)]
    pub no_agent: bool,
}

impl CommonArguments {
    /// These options as command-line arguments, with absolute paths.
    pub fn as_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-v".into(); self.verbose.into()];
        if self.json {
            arguments.push("--json".into());
        }
        for module in &self.modules {
            arguments.push("--module".into());
            arguments.push(std::path::absolute(module).unwrap_or_else(|_| module.clone()).into());
        }
        arguments
    }
}

/// Input and output of a message.
#[derive(Debug, Args)]
pub struct MessageFiles {
    /// File to read; - is stdin [default: stdin]
    #[arg(value_name = "FILE", conflicts_with = "input", value_hint = ValueHint::FilePath)]
    positional: Option<PathBuf>,
    /// Alternative to FILE
    #[arg(long = "in", value_name = "FILE", value_hint = ValueHint::FilePath)]
    input: Option<PathBuf>,
    /// File to write; - is stdout [default: stdout]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

impl MessageFiles {
    pub fn input(&self) -> Option<&Path> {
        self.positional.as_deref().or(self.input.as_deref())
    }

    pub fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

/// Selects a keyset.
#[derive(Debug, Args)]
pub struct KeysetArguments {
    /// Keyset to use
    ///
    /// Default: the only keyset; else $TOKENKEEP_KEYSET; else `keyset` in agent.toml; else the
    /// newest, if all belong to one person at one authority.
    #[arg(long, value_name = "NAME")]
    pub keyset: Option<KeysetName>,
    /// Token of the keyset: PKCS#11 URI, serial number or label
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<TokenSelector>,
}

/// Source of an existing PIN.
#[derive(Debug, Args)]
pub struct PinArguments {
    /// Source of the PIN: prompt, file:PATH, fd:N or credential:NAME
    ///
    /// Default: for the PIN of a keyset `pin_source` in agent.toml, otherwise a prompt.
    #[arg(long, value_name = "SOURCE")]
    pub pin_source: Option<PinSource>,
}

/// Source of a new PIN.
#[derive(Debug, Args)]
pub struct NewPinArguments {
    /// Source of the new PIN: prompt, file:PATH, fd:N or credential:NAME
    ///
    /// At a prompt the PIN is typed twice. Default: prompt.
    #[arg(long, value_name = "SOURCE")]
    pub new_pin_source: Option<PinSource>,
}

/// Overrides the authority's addresses in the letter or the keyset.
#[derive(Debug, Args)]
pub struct AuthorityUrls {
    /// HTTP URL of the authority [default: from the letter or keyset]
    #[arg(long = "authority", value_name = "URL", value_hint = ValueHint::Url)]
    pub http: Option<String>,
    /// HTTPS URL of the authority [default: from the letter or keyset]
    #[arg(long = "authority-https", value_name = "URL", value_hint = ValueHint::Url)]
    pub https: Option<String>,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArgument {
    /// binary
    Der,
    /// text with BEGIN and END lines
    Pem,
    /// MIME message for mail programs
    Smime,
}

impl From<FormatArgument> for MessageFormat {
    fn from(name: FormatArgument) -> Self {
        match name {
            FormatArgument::Der => Self::Der,
            FormatArgument::Pem => Self::Pem,
            FormatArgument::Smime => Self::Smime,
        }
    }
}
