//! To be filled in.

use super::exit::{Exit, Failure};
use super::surroundings::Surroundings;
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Init,
}
pub fn run(_command: Command, _around: &Surroundings<'_>) -> Result<Exit, Failure> {
    Err(Failure::fault("cannot do this yet"))
}
