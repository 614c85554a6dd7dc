//! `tokenkeep demo`: the whole story on throw-away SoftHSM tokens, told step by step. Each step is this program itself,
//! started as a person would start it, in a directory with tokens, home and configuration of its own.

mod stage;
mod story;

use std::path::PathBuf;

use clap::ValueHint;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::surroundings::Surroundings;
use stage::Stage;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Use this directory (new or empty) and leave everything in it for a look afterwards
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    keep: Option<PathBuf>,
}

/// Tells the story.
pub fn run(arguments: &Arguments, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let mut stage = Stage::set(arguments.keep.as_deref(), around)?;
    if let Err(failure) = story::tell(&mut stage) {
        // Nobody reads it any more, or something is broken: that is worth a look.
        if failure.exit == Exit::Done {
            return Err(failure);
        }
        let place = stage.leave();
        return Err(failure.with_remedy(format!("everything is left for a look in {}", place.display())));
    }
    let steps = stage.finish();
    let end = match &arguments.keep {
        Some(directory) => format!("Everything is left for a look in {}.", directory.display()),
        None => "The tokens and everything else were thrown away; --keep DIR leaves them for a look.".to_owned(),
    };
    around.screen.answer(format!("\n{end}"), &json!({ "steps": steps, "kept": arguments.keep }))
}
