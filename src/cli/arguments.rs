//! Options that several verbs have, once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};

use crate::keyset::TokenSelector;
use crate::prompter::PinSource;
use crate::smime::Format;
use crate::token::KeysetName;

/// Options of every verb.
#[derive(Debug, Default, Args)]
pub struct Common {
    /// Answer with one JSON value; an error is one on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Tell on stderr what happens; twice: each step; three times: everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// PKCS#11 module to look for tokens in (may be repeated) [default: agent.toml, else p11-kit's registered modules,
    /// else SoftHSM; an authority's is in its configuration]
    #[arg(long = "module", global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub modules: Vec<PathBuf>,
    /// Open the tokens in this process, not through the agent (`tokenkeep agent`); those that an agent holds stay its own.
    /// So does --module
    #[arg(long, global = true)]
    pub no_agent: bool,
}

impl Common {
    /// As they are typed, files by their absolute paths.
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

/// Where a message comes from and goes to.
#[derive(Debug, Args)]
pub struct Files {
    /// File to read; - is stdin [default: stdin]
    #[arg(value_name = "FILE", conflicts_with = "input", value_hint = ValueHint::FilePath)]
    positional: Option<PathBuf>,
    /// The same as FILE
    #[arg(long = "in", value_name = "FILE", value_hint = ValueHint::FilePath)]
    input: Option<PathBuf>,
    /// File to write; - is stdout [default: stdout]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

impl Files {
    pub fn input(&self) -> Option<&Path> {
        self.positional.as_deref().or(self.input.as_deref())
    }

    pub fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

/// Which keyset is meant.
#[derive(Debug, Args)]
pub struct WhichKeyset {
    /// The keyset [default: the only one; else $TOKENKEEP_KEYSET; else agent.toml; else the newest, where all are one
    /// person's at one authority]
    #[arg(long, value_name = "NAME")]
    pub keyset: Option<KeysetName>,
    /// Its token: PKCS#11 URI, serial number or label
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<TokenSelector>,
}

/// Where an existing PIN comes from.
#[derive(Debug, Args)]
pub struct ExistingPin {
    /// Where the PIN comes from: prompt, file:PATH, fd:N or credential:NAME [default: for keysets what agent.toml says;
    /// else prompt]
    #[arg(long, value_name = "SOURCE")]
    pub pin_source: Option<PinSource>,
}

/// Where a new PIN comes from.
#[derive(Debug, Args)]
pub struct NewPin {
    /// Where the new PIN comes from: prompt (typed twice), file:PATH, fd:N or credential:NAME [default: prompt]
    #[arg(long, value_name = "SOURCE")]
    pub new_pin_source: Option<PinSource>,
}

/// Other addresses of the authority than the letter or the keyset has.
#[derive(Debug, Args)]
pub struct AuthorityAt {
    /// The authority's http address [default: the one in the letter or keyset]
    #[arg(long = "authority", value_name = "URL", value_hint = ValueHint::Url)]
    pub http: Option<String>,
    /// The authority's https address [default: the one in the letter or keyset]
    #[arg(long = "authority-https", value_name = "URL", value_hint = ValueHint::Url)]
    pub https: Option<String>,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// binary
    Der,
    /// text between BEGIN and END lines
    Pem,
    /// a MIME message, as mail programs read it
    Smime,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Der => Self::Der,
            FormatName::Pem => Self::Pem,
            FormatName::Smime => Self::Smime,
        }
    }
}
