//! `tokenkeep token` and `tokenkeep tokens`: list and show tokens without a PIN, and erase soft
//! tokens.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::backend::Backend;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::hidden_keysets::HiddenKeysets;
use super::interrupt;
use super::table::TableColumn;
use super::terminal_prompter::pin_state_text;
use super::token_show::{self, TokenShowArguments};
use crate::keyset::{Erasure, TokenSelector, TokenSummary};
use crate::prompter::showable;
use crate::token::{self, SoftHsmConfiguration, TokenInfo, UnreadableTokenDirectory};

/// Subcommands of `tokenkeep token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List the present tokens and their keysets
    List(TokenListArguments),
    /// Show a token, the states of its PINs, and what it can do
    Show(TokenShowArguments),
    /// Permanently remove a soft token and everything on it
    Erase(EraseArguments),
}

/// `token list` has no options of its own.
#[derive(Debug, clap::Args)]
pub struct TokenListArguments {}

/// Arguments of `token erase`.
#[derive(Debug, clap::Args)]
#[command(after_help = "For a soft token whose PIN is lost: no PIN is asked for. The token's keys are lost, and mail \
                  encrypted to them can be read only after a recovery. Only SoftHSM tokens can be erased, but no \
                  authority's token, and none that an agent or another tokenkeep process holds.\n\n\
                  Example: tokenkeep token erase default")]
pub struct EraseArguments {
    /// Token to erase: PKCS#11 URI, serial number or label
    token: TokenSelector,
    /// Erase without asking if the token has this serial number (for scripts)
    #[arg(long, value_name = "SERIAL")]
    yes_erase: Option<String>,
}

/// Runs the subcommand.
pub fn run(command: TokenCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    match command {
        TokenCommand::List(arguments) => list(&arguments, cx),
        TokenCommand::Show(arguments) => token_show::run(arguments, cx),
        TokenCommand::Erase(arguments) => erase(&arguments, cx),
    }
}

/// Runs in this process, never through the agent: a token that the agent holds is not erased.
fn erase(arguments: &EraseArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let tokens = cx.tokens()?;
    let erasure = Erasure::begin(&tokens, &tokens.token(&arguments.token)?)?;
    let info = erasure.token().clone();
    let keysets: Vec<_> = erasure.keysets().iter().map(|keyset| keyset.name.as_str().to_owned()).collect();
    let typed = match &arguments.yes_erase {
        Some(serial) => serial.clone(),
        None => ask_for_serial(&info, &keysets)?,
    };
    if typed.trim() != info.serial {
        let why = format!("not erased: the token {:?} has another serial number", info.label);
        return Err(Failure::new(Exit::Refused, why));
    }
    interrupt::set_message(format!("interrupted while {} was being erased; run the same command again", info.name()));
    erasure.erase()?;
    let hidden = HiddenKeysets::of_this_user();
    for keyset in hidden.list()?.into_iter().filter(|keyset| keyset.serial == info.serial) {
        hidden.set(&keyset, false)?;
    }
    cx.output.answer(
        format!("Erased {}.", info.name()),
        &json!({ "label": info.label, "serial": info.serial, "erased": true, "keysets": keysets }),
    )
}

/// Asks for the serial number as the confirmation. Only a terminal can give it.
fn ask_for_serial(info: &TokenInfo, keysets: &[String]) -> Result<String, Failure> {
    let nobody = || {
        Failure::usage("not erased: no terminal to confirm the serial number")
            .with_remedy(format!("--yes-erase {} erases this token without asking", info.serial))
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| nobody())?;
    let lost = match keysets {
        [] => "It holds no keyset.".to_owned(),
        names => format!("The keys of {} will be lost permanently.", names.join(", ")),
    };
    let question = format!("Erase {}? {lost}\nType its serial number to erase it: ", info.name());
    let shown = question.split('\n').map(showable).collect::<Vec<_>>().join("\n");
    terminal.write_all(shown.as_bytes()).and_then(|()| terminal.flush()).map_err(|_| nobody())?;
    interrupt::set_message(format!("not erased: interrupted; {} is unchanged", info.name()));
    let mut line = String::new();
    BufReader::new(terminal).take(1_024).read_line(&mut line).map_err(|_| nobody())?;
    Ok(line)
}

/// Lists tokens.
pub fn list(_arguments: &TokenListArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let backend = cx.backend()?;
    let infos = backend.tokens()?;
    let (keysets, unreadable) = backend.keysets()?;
    cx.warn_about_tokens(&unreadable);
    warn_about_storage(cx, &backend)?;
    let on = |token: &TokenInfo| -> Vec<String> {
        keysets
            .iter()
            .filter(|keyset| keyset.token.id() == token.id())
            .map(|keyset| keyset.name.as_str().to_owned())
            .collect()
    };
    let rows = infos
        .iter()
        .map(|token| {
            vec![
                token.label.clone(),
                token.serial.clone(),
                token.model.clone(),
                pin_state_text(token.pin_state).to_owned(),
                on(token).join(", "),
                source_name(&token.source),
            ]
        })
        .collect();
    let listed = |token| ListedToken { summary: TokenSummary::of(token), keysets: on(token) };
    let value: Vec<_> = infos.iter().map(listed).collect();
    let columns = [
        TableColumn::whole("label"),
        TableColumn::whole("serial"),
        TableColumn::omitted_if_same("model"),
        TableColumn::whole("PIN"),
        TableColumn::shortened("keysets"),
        TableColumn::omitted_if_same("module"),
    ];
    cx.output.table(&columns, rows, "No token is present.", &json!(value))
}

/// A token as `token list` shows it.
#[derive(Serialize)]
struct ListedToken<'a> {
    #[serde(flatten)]
    summary: TokenSummary<'a>,
    /// the names of the keysets on it
    keysets: Vec<String>,
}

/// Warns about tokens that a module skips silently, and about SoftHSM's configuration. The
/// configuration of the agent's SoftHSM is not known here.
fn warn_about_storage(cx: &Context<'_>, backend: &Backend) -> Result<(), Failure> {
    let modules = cx.modules()?;
    for unreadable in modules.paths().iter().flat_map(|path| token::unreadable_tokens(path)) {
        let UnreadableTokenDirectory { directory, why, remedy } = unreadable;
        cx.output.warning(format_args!("the token in {} cannot be used: {why}; {remedy}", directory.display()));
    }
    let has_softhsm = modules.paths().iter().any(|path| path.to_string_lossy().contains("softhsm"));
    if has_softhsm
        && matches!(backend, Backend::Local(_))
        && let Err(problem) = SoftHsmConfiguration::of_this_process()
    {
        cx.output.warning(format_args!("{}; {}", problem.what, problem.remedy));
    }
    Ok(())
}

/// The name of a token's source, without its directory; `--json` has all of it.
pub fn source_name(source: &Path) -> String {
    source.file_name().unwrap_or(source.as_os_str()).to_string_lossy().into_owned()
}
