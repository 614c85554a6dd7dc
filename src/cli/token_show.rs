//! `tokenkeep token show`: one token, the states of its PINs, and what it can do. No PIN is asked
//! for.

use std::fmt::Display;

use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::line_of;
use super::terminal_prompter::pin_state_text;
use crate::keyset::ops::ShowToken;
use crate::keyset::{TokenSelector, TokenSummary};
use crate::prompter::showable;
use crate::token::{Capabilities, PinState, TokenFlags, TokenInfo, TokenUri};

/// Arguments of `token show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "No PIN is asked for. If another process uses the token, its capabilities are not shown.\n\n\
                  Example: tokenkeep token show default")]
pub struct TokenShowArguments {
    /// Token to show: PKCS#11 URI, serial number or label
    token: TokenSelector,
}

/// Shows the token.
pub fn run(arguments: TokenShowArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let details = cx.backend()?.query(ShowToken { token: arguments.token })?;
    let capabilities = match details.capabilities {
        Ok(capabilities) => Some(capabilities),
        Err(unreadable) => {
            cx.warn_about_tokens(&[unreadable]);
            None
        }
    };
    let (token, flags) = (details.token, details.flags);
    cx.output.answer(text(&token, flags, capabilities.as_ref()), &value(&token, flags, capabilities.as_ref()))
}

fn text(token: &TokenInfo, flags: TokenFlags, capabilities: Option<&Capabilities>) -> String {
    let mut lines = vec![
        format!("Token {}", showable(&token.label)),
        field("serial", &token.serial),
        field("manufacturer", &token.manufacturer),
        field("model", &token.model),
        field("module", &token.source.display().to_string()),
        field("URI", &TokenUri::of(token).to_string()),
        field("PIN", pin_state_text(token.pin_state)),
        field("SO PIN", pin_state_text(flags.so_pin_state)),
    ];
    for (is_set, what) in [
        (token.write_protected, "it is write-protected"),
        (flags.pin_to_be_changed, "a PIN must be changed first"),
        (flags.pin_at_the_reader, "the PIN is typed at the reader"),
    ] {
        if is_set {
            lines.push(field("note", what));
        }
    }
    if let Some(capabilities) = capabilities {
        let arrival = match capabilities.key_arrival() {
            Ok(arrival) => arrival.to_string(),
            Err(lacks) => format!("not possible: the token lacks {lacks}"),
        };
        lines.extend([
            field("PIN length", &format!("{} to {} bytes", capabilities.pin.min, capabilities.pin.max)),
            field("signs with", &list(&capabilities.signing)),
            field("decrypts with", &list(&capabilities.decryption)),
            field("RSA-OAEP with", &list(&capabilities.oaep)),
            field("key delivery", &arrival),
        ]);
    }
    lines.join("\n")
}

fn field(heading: &str, value: &str) -> String {
    line_of(&format!("  {heading}"), &showable(value), 15)
}

fn list<T: Display>(all: &[T]) -> String {
    if all.is_empty() { "nothing".to_owned() } else { names(all).join(", ") }
}

fn names<T: Display>(all: &[T]) -> Vec<String> {
    all.iter().map(T::to_string).collect()
}

/// A token as `token show` shows it.
#[derive(Serialize)]
struct ShownToken<'a> {
    #[serde(flatten)]
    summary: TokenSummary<'a>,
    so_pin_state: PinState,
    pin_to_be_changed: bool,
    pin_at_the_reader: bool,
    capabilities: Option<Value>,
}

fn value(token: &TokenInfo, flags: TokenFlags, capabilities: Option<&Capabilities>) -> Value {
    json!(ShownToken {
        summary: TokenSummary::of(token),
        so_pin_state: flags.so_pin_state,
        pin_to_be_changed: flags.pin_to_be_changed,
        pin_at_the_reader: flags.pin_at_the_reader,
        capabilities: capabilities.map(|capabilities| json!({
            "pin_bytes": { "min": capabilities.pin.min, "max": capabilities.pin.max },
            "signing": names(&capabilities.signing),
            "decryption": names(&capabilities.decryption),
            "oaep": names(&capabilities.oaep),
            "key_arrival": capabilities.key_arrival().ok().map(|arrival| arrival.to_string()),
        })),
    })
}
