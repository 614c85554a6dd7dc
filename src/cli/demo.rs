//! To be filled in.

use super::exit::{Exit, Failure};
use super::surroundings::Surroundings;
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub fn run(_command: &Arguments, _around: &Surroundings<'_>) -> Result<Exit, Failure> {
    Err(Failure::fault("cannot do this yet"))
}
