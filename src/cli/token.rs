//! `tokenkeep tokens`: which tokens are there, without any PIN.

use clap::Subcommand;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::person::pin_state;
use super::surroundings::Surroundings;
use crate::keyset::{FoundKeyset, TokenTrouble};
use crate::token::{TokenInfo, TokenUri};

/// What the command line says.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the tokens that are present, and the keysets on them
    List(ListArguments),
}

/// `token list` has no options of its own.
#[derive(Debug, clap::Args)]
pub struct ListArguments {}

/// Lists tokens.
pub fn list(_arguments: &ListArguments, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let desk = around.desk()?;
    let infos = desk.tokens()?;
    let (keysets, troubles) = desk.keysets()?;
    warn(around, &troubles);
    let on = |token: &TokenInfo| -> Vec<String> {
        keysets.iter().filter(|keyset| is_on(keyset, token)).map(|keyset| keyset.name.as_str().to_owned()).collect()
    };
    let rows = infos
        .iter()
        .map(|token| {
            vec![
                token.label.clone(),
                token.serial.clone(),
                token.model.clone(),
                pin_state(token.pin_state).to_owned(),
                on(token).join(", "),
                token.module.display().to_string(),
            ]
        })
        .collect();
    let value: Vec<_> = infos
        .iter()
        .map(|token| {
            json!({
                "label": token.label,
                "serial": token.serial,
                "manufacturer": token.manufacturer,
                "model": token.model,
                "pin_state": pin_state(token.pin_state),
                "write_protected": token.write_protected,
                "keysets": on(token),
                "module": token.module.display().to_string(),
                "uri": TokenUri::of(token).to_string(),
            })
        })
        .collect();
    let headings = ["label", "serial", "model", "PIN", "keysets", "module"];
    around.screen.table(&headings, rows, "No token is present.", &value)
}

/// Says which tokens could not be looked at.
pub fn warn(around: &Surroundings<'_>, troubles: &[TokenTrouble]) {
    for trouble in troubles {
        let error = trouble.error.to_string();
        // Most errors say themselves which token they are about.
        if error.contains(&trouble.place) {
            around.screen.warning(error);
        } else {
            around.screen.warning(format_args!("{}: {error}", trouble.place));
        }
    }
}

fn is_on(keyset: &FoundKeyset, token: &TokenInfo) -> bool {
    keyset.token.module == token.module && keyset.token.serial == token.serial && keyset.token.label == token.label
}
