//! The keysets, tokens and addresses that can be read on this machine without a PIN.
//!
//! A running agent is asked; otherwise this process loads the modules itself. It does not connect
//! to the sockets of an agent that is not running: with socket activation that would start one.

use std::ffi::OsStr;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap_complete::engine::CompletionCandidate;

use crate::agent::{Endpoint, SocketDirectory};
use crate::cli::arguments::CommonArguments;
use crate::cli::backend::Backend;
use crate::cli::context::Context;
use crate::cli::hidden_keysets::HiddenKeysets;
use crate::cli::output::Output;
use crate::keyset::{self, CertificateUse, FoundKeyset, KeysetRef, Tokens};
use crate::prompter::showable;
use crate::token::{TokenInfo, TokenUri};

/// Time for which a person waits after Tab. A module that needs longer has no candidates.
const TIMEOUT: Duration = Duration::from_millis(900);

/// The tokens and keysets that are present, and the hidden keysets.
#[derive(Debug, Default)]
struct KnownNames {
    tokens: Vec<TokenInfo>,
    keysets: Vec<FoundKeyset>,
    hidden: Vec<KeysetRef>,
}

/// The names of keysets that are not hidden, or of all.
pub fn keyset_names(with_hidden: bool) -> Vec<CompletionCandidate> {
    let known = known();
    let shown = known.keysets.iter().filter(|keyset| with_hidden || !HiddenKeysets::is_hidden(&known.hidden, keyset));
    let present = shown.map(|keyset| keyset.name.as_str().to_owned());
    let absent = known.hidden.iter().filter(|_| with_hidden).map(|hidden| hidden.keyset.as_str().to_owned());
    candidates(present.chain(absent))
}

/// The labels of tokens; serial numbers where a label is not the only one, or if one is being
/// typed; PKCS#11 URIs if one is being typed.
pub fn tokens(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let tokens = &known().tokens;
    if typed.len() > 1 && ("pkcs11:".starts_with(&*typed) || typed.starts_with("pkcs11:")) {
        let uris = tokens.iter().map(|token| TokenUri::of(token).to_string());
        return candidates(uris.filter(|uri| uri.starts_with(&*typed)));
    }
    let is_unique = |label: &str| !label.is_empty() && tokens.iter().filter(|other| other.label == label).count() == 1;
    let names = tokens.iter().flat_map(|token| {
        let serial = (!typed.is_empty() || !is_unique(&token.label)).then_some(&token.serial);
        is_unique(&token.label).then_some(&token.label).into_iter().chain(serial).cloned()
    });
    candidates(names.filter(|name| name.starts_with(&*typed)))
}

/// The e-mail addresses in the certificates of keysets.
pub fn addresses() -> Vec<CompletionCandidate> {
    let certificates = known().keysets.iter().filter_map(|found| keyset::show(found).ok());
    let own = certificates.flat_map(|details| details.certificates);
    candidates(own.filter(|own| own.certificate_use != CertificateUse::Authority).flat_map(|own| own.emails))
}

/// Sorted, each once. A name that a terminal cannot show as it is must be typed.
pub(super) fn candidates(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let mut names: Vec<_> = names.filter(|name| !name.is_empty() && showable(name) == *name).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn known() -> &'static KnownNames {
    static KNOWN: OnceLock<KnownNames> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let (sender, found) = mpsc::channel();
        // A module that does not answer keeps its thread; the process ends without it.
        let reader = thread::Builder::new().spawn(move || drop(sender.send(read().unwrap_or_default())));
        reader.ok().and_then(|_| found.recv_timeout(TIMEOUT).ok()).unwrap_or_default()
    })
}

fn read() -> Option<KnownNames> {
    let output = Output::new(false);
    let cx = Context::new(CommonArguments::default(), &output);
    // Only of this user's own agent it is known that it runs.
    let own = SocketDirectory::of_this_user();
    let is_running = own.running().is_some() && Context::agent_socket() == own.socket(Endpoint::Api);
    let agent = if is_running { cx.agent().ok()? } else { None };
    let backend = match agent {
        Some(agent) => Backend::Agent(agent),
        // Without a warning for those that cannot be loaded.
        None => Backend::Local(Tokens::new(cx.modules().ok()?.load_each().0)),
    };
    let hidden = HiddenKeysets::of_this_user().list().unwrap_or_default();
    Some(KnownNames { tokens: backend.tokens().ok()?, keysets: backend.keysets().ok()?.0, hidden })
}
