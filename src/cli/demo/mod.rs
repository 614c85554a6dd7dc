//! `tokenkeep demo`: demonstrates the whole workflow on temporary SoftHSM tokens. Each step runs
//! this program as a user would, in a directory with its own tokens, home and configuration.

mod environment;
mod script;

use std::path::PathBuf;

use clap::ValueHint;
use serde_json::json;

use super::context::Context;
use super::exit::{Exit, Failure};
use environment::DemoEnvironment;

/// Arguments of `tokenkeep demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// Use this directory, new or empty, and keep all files in it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    keep: Option<PathBuf>,
}

/// Runs the demo.
pub fn run(arguments: &DemoArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let mut demo = DemoEnvironment::set(arguments.keep.as_deref(), cx)?;
    if let Err(failure) = script::play(&mut demo) {
        // `Done` means that the reader closed the pipe. After a fault, the files help to find its
        // cause.
        if failure.exit == Exit::Done {
            return Err(failure);
        }
        let place = demo.keep_directory();
        return Err(failure.with_remedy(format!("all files are kept in {}", place.display())));
    }
    let steps = demo.finish();
    let end = match &arguments.keep {
        Some(directory) => format!("All files are kept in {}.", directory.display()),
        None => "The tokens and all other files were removed; --keep DIR keeps them.".to_owned(),
    };
    cx.output.answer(format!("\n{end}"), &json!({ "steps": steps, "kept": arguments.keep }))
}
