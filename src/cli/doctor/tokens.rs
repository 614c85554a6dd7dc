//! Checks tokens and their keysets, as far as possible without a PIN.

use std::path::Path;

use jiff::Timestamp;

use super::agent::AgentReport;
use super::finding::DoctorFinding;
use crate::cli::expiry::{WARNING_PERIOD, end_of_use};
use crate::cli::terminal_prompter::pin_state_text;
use crate::keyset::{FoundKeyset, KeysetError, KeysetStatus, Tokens, UnreadableToken};
use crate::pki::Certificate;
use crate::token::{self, PinState, TokenError, TokenFlags, TokenInfo, TokenSource};

const CONCERN: &str = "token";

/// Checks every token in these modules, and the tokens that only the agent sees. A token that an
/// authority owns is not opened; the keysets on the agent's tokens are those that the agent
/// reports.
pub fn check(modules: Vec<TokenSource>, agent_report: &AgentReport, now: Timestamp) -> Vec<DoctorFinding> {
    let any = !modules.is_empty();
    let mut stored: Vec<_> = modules.iter().flat_map(|module| check_storage(module.path())).collect();
    let tokens = Tokens::new(modules);
    let listed = match tokens.list() {
        Ok(listed) => listed,
        Err(error) => {
            stored.push(DoctorFinding::of_error(CONCERN, &error.to_string()));
            return stored;
        }
    };
    let (keysets, unreadable, mut unread) = match tokens.keysets() {
        Ok((keysets, unreadable)) => (keysets, unreadable, Vec::new()),
        // The check of permissions reports a problem of the lock directory.
        Err(KeysetError::Token(TokenError::LockDirectory { .. })) => Default::default(),
        Err(error) => (Vec::new(), Vec::new(), vec![DoctorFinding::of_error("keyset", &error.to_string())]),
    };
    let context = |token: &TokenInfo| TokenContext {
        has_keyset: keysets
            .iter()
            .chain(&agent_report.keysets)
            .any(|keyset| keyset.is_usable() && keyset.token.id() == token.id()),
        is_held_by_agent: agent_report.tokens.iter().any(|(seen, _)| seen.id() == token.id()),
    };
    let mut findings: Vec<_> = listed.iter().flat_map(|token| check_token(&tokens, token, context(token))).collect();
    let others = agent_report.tokens.iter().filter(|(token, _)| !listed.iter().any(|seen| seen.id() == token.id()));
    findings.extend(others.flat_map(|(token, flags)| state(token, *flags, context(token))));
    for token in &listed {
        let same = listed.iter().filter(|other| other.label == token.label && other.id() != token.id()).count();
        if same > 0 {
            let what = format!("{}: another token has this label too", token.name());
            findings.push(DoctorFinding::note(
                CONCERN,
                what,
                format!("name it by its serial number: --token {}", token.serial),
            ));
        }
    }
    if listed.is_empty() && agent_report.tokens.is_empty() && any {
        let remedy = "insert one, or create one with `tokenkeep enroll --new-token` if the module can";
        findings.push(DoctorFinding::note(CONCERN, "no token is present", remedy));
    }
    findings.append(&mut stored);
    findings.append(&mut unread);
    let is_listed_here = |one: &FoundKeyset| keysets.iter().any(|seen| seen.token.id() == one.token.id());
    let from_agent = agent_report.keysets.iter().filter(|keyset| !is_listed_here(keyset));
    findings.extend(keysets.iter().chain(from_agent).map(|keyset| keyset_status(keyset, now)));
    findings.extend(
        unreadable
            .iter()
            .filter(|unreadable_token| !is_reported_by_agent(unreadable_token, agent_report))
            .map(unreadable_finding),
    );
    let is_reported_here = |one: &UnreadableToken| unreadable.iter().any(|other| is_same_error(one, other));
    findings.extend(
        agent_report
            .unreadable
            .iter()
            .filter(|unreadable_token| !is_reported_here(unreadable_token))
            .map(unreadable_finding),
    );
    findings
}

/// Checks where a module stores its tokens: tokens that it skips silently, and the free space.
fn check_storage(module: &Path) -> Vec<DoctorFinding> {
    let unreadable = token::unreadable_tokens(module).into_iter();
    let unreadable = unreadable.map(|token| {
        let what = format!("the token in {} cannot be used: {}", token.directory.display(), token.why);
        DoctorFinding::wrong(CONCERN, what, token.remedy)
    });
    let full = token::lack_of_room(module).map(|condition| {
        let remedy = "free space there, or fix the problem: until then no token there can be created or changed";
        DoctorFinding::wrong(CONCERN, format!("nothing more can be stored: {condition}"), remedy)
    });
    unreadable.chain(full).collect()
}

/// Facts about a token that the token itself does not report.
#[derive(Clone, Copy, Debug, Default)]
struct TokenContext {
    /// whether a keyset is enrolled on it
    has_keyset: bool,
    /// whether an agent asks for its PIN, and stops asking after ten wrong ones
    is_held_by_agent: bool,
}

fn check_token(tokens: &Tokens, token: &TokenInfo, context: TokenContext) -> Vec<DoctorFinding> {
    let flags = match tokens.source_of(token).and_then(|source| Ok(source.flags(token)?)) {
        Ok(flags) => flags,
        Err(error) => return vec![DoctorFinding::of_error(CONCERN, &error.to_string())],
    };
    state(token, flags, context)
}

fn state(token: &TokenInfo, flags: TokenFlags, context: TokenContext) -> Vec<DoctorFinding> {
    let mut findings = problems_of(token, flags, context);
    if findings.is_empty() {
        let (pin, so_pin) = (pin_state_text(token.pin_state), pin_state_text(flags.so_pin_state));
        findings.push(DoctorFinding::ok(CONCERN, format!("{}: PIN {pin}, SO PIN {so_pin}", token.name())));
    }
    findings
}

/// The remedy for a lost or locked PIN. The SO PIN of a token that `enroll` created is random and
/// unknown, unless the user chose to keep one, and the token does not show which.
fn without_pin(token: &TokenInfo, so_pin_state: PinState, context: TokenContext) -> String {
    let unblock = format!("tokenkeep pin unblock {}", token.serial);
    match (so_pin_state, context.has_keyset) {
        (PinState::Locked, true) => RECOVER.to_owned(),
        (PinState::Locked, false) => "its SO PIN is locked, too: use another token".to_owned(),
        (_, true) => format!("if you have its SO PIN: {unblock}; else {RECOVER}"),
        (_, false) => format!("set a new one with the SO PIN: {unblock}"),
    }
}

/// The remedy if the SO PIN cannot help.
const RECOVER: &str = "ask an administrator for a recovery letter (tokenkeep admin recover); the `tokenkeep enroll` \
                       that it names installs the encryption keys on another token, under another name";

/// The remedy after a wrong PIN, while the right one can still be given.
fn after_wrong_pin(context: TokenContext) -> String {
    let mut remedy = "the right PIN restores all tries".to_owned();
    if context.is_held_by_agent {
        remedy += "; the agent stops asking after ten wrong ones in a row: then restart it \
                   (`tokenkeep agent stop`) before you give the PIN";
    }
    remedy
}

/// The problems that the token itself reports.
fn problems_of(token: &TokenInfo, flags: TokenFlags, context: TokenContext) -> Vec<DoctorFinding> {
    let name = token.name();
    let without_pin = without_pin(token, flags.so_pin_state, context);
    let mut findings = Vec::new();
    let mut wrong =
        |what: &str, remedy: String| findings.push(DoctorFinding::wrong(CONCERN, format!("{name}: {what}"), remedy));
    match token.pin_state {
        PinState::Locked => wrong("its PIN is locked", without_pin),
        PinState::FinalTry => wrong(
            "one try of its PIN is left",
            format!("{}; if you do not know it: {without_pin}", after_wrong_pin(context)),
        ),
        PinState::NotSet => wrong("it has no PIN yet", without_pin),
        PinState::Ok | PinState::CountLow => {}
    }
    if flags.broken {
        wrong("it reports a failed self-test", "use another token".to_owned());
    }
    if flags.pin_to_be_changed {
        wrong("a PIN must be changed before it can be used", "tokenkeep pin change".to_owned());
    }
    let mut note =
        |what: &str, remedy: &str| findings.push(DoctorFinding::note(CONCERN, format!("{name}: {what}"), remedy));
    if token.pin_state == PinState::CountLow {
        note("a wrong PIN was tried since the last right one", &after_wrong_pin(context));
    }
    match flags.so_pin_state {
        PinState::Locked => note(
            "its SO PIN is locked: a locked PIN could not be unblocked",
            "keep the PIN safe; if it is lost, a recovery letter and another token help",
        ),
        PinState::FinalTry => note("one try of its SO PIN is left", "be sure of it before `tokenkeep pin unblock`"),
        PinState::CountLow => {
            note("a wrong SO PIN was tried since the last right one", "the right one restores all tries");
        }
        PinState::Ok | PinState::NotSet => {}
    }
    if token.write_protected {
        note("it is write-protected", "keysets on it can be used, but not renewed or deleted");
    }
    if !flags.login_required {
        note("it reveals private objects without a login", "use another token for keysets");
    }
    findings
}

fn keyset_status(keyset: &FoundKeyset, now: Timestamp) -> DoctorFinding {
    let concern = "keyset";
    let shown = format!("{:?} on {}", keyset.name.as_str(), keyset.token.name());
    if let KeysetStatus::Pending { reference } | KeysetStatus::ReenrollmentPending { reference } = &keyset.status {
        let remedy = format!("run its `tokenkeep enroll` again with the letter {reference}");
        return DoctorFinding::note(concern, format!("{shown}: an enrollment is not finished"), remedy);
    }
    let signing = keyset.signing.as_ref();
    let stored = signing.and_then(|id| keyset.certificates.iter().find(|certificate| certificate.id == *id));
    let Some(certificate) = stored.and_then(|stored| Certificate::from_der(&stored.der).ok()) else {
        return DoctorFinding::wrong(
            concern,
            format!("{shown}: its signing certificate is missing"),
            "re-enroll with a new letter",
        );
    };
    let end = certificate.not_after();
    let letter = "ask an administrator for a letter, and enroll with it";
    if !certificate.is_valid_at(now) {
        let what = format!("{shown}: its certificate is valid from {} to {end}", certificate.not_before());
        return DoctorFinding::wrong(concern, what, format!("{letter}; or correct this machine's clock"));
    }
    // The encryption certificate may expire first.
    let end = end_of_use(keyset).unwrap_or(end);
    if end.duration_since(now) < WARNING_PERIOD {
        return DoctorFinding::note(concern, format!("{shown}: its certificate expires on {end}"), letter);
    }
    DoctorFinding::ok(concern, format!("{shown}, level {}, until {end}", keyset.level))
}

/// Returns whether the agent owns the token and has reported about it.
fn is_reported_by_agent(unreadable_token: &UnreadableToken, agent_report: &AgentReport) -> bool {
    let is_owned = matches!(&unreadable_token.error, KeysetError::Token(TokenError::Owned { .. }));
    let is_listed = agent_report.keysets.iter().any(|keyset| keyset.token.name().to_string() == unreadable_token.name);
    let has_other_error = agent_report
        .unreadable
        .iter()
        .any(|other| other.name == unreadable_token.name && !is_same_error(other, unreadable_token));
    is_owned && (is_listed || has_other_error)
}

/// Compares token and text. The agent's text of an error equals this process's text.
fn is_same_error(one: &UnreadableToken, other: &UnreadableToken) -> bool {
    one.name == other.name && one.error.to_string() == other.error.to_string()
}

fn unreadable_finding(unreadable_token: &UnreadableToken) -> DoctorFinding {
    match &unreadable_token.error {
        // The owner is an authority, a locked agent or a command: that is no problem.
        KeysetError::Token(TokenError::Owned { token, owner, .. }) => {
            DoctorFinding::ok("keyset", format!("{token} is in use by {owner}: its keysets are not checked"))
        }
        error => DoctorFinding::of_error("keyset", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::FindingState;
    use super::*;

    const WELL: TokenFlags = TokenFlags {
        so_pin_state: PinState::Ok,
        pin_to_be_changed: false,
        pin_at_the_reader: false,
        login_required: true,
        broken: false,
    };

    fn token(pin_state: PinState) -> TokenInfo {
        TokenInfo {
            label: "mine".into(),
            serial: "a1b2".into(),
            manufacturer: "m".into(),
            model: "m".into(),
            source: "/m.so".into(),
            pin_state,
            write_protected: false,
            non_utf8_names: Vec::new(),
        }
    }

    #[test]
    fn a_token_problem_is_reported_with_the_next_step() {
        let nothing = TokenContext::default();
        assert!(problems_of(&token(PinState::Ok), WELL, nothing).is_empty());
        for (token, flags, state, what) in [
            (token(PinState::Locked), WELL, FindingState::Wrong, "tokenkeep pin unblock a1b2"),
            (token(PinState::FinalTry), WELL, FindingState::Wrong, "tokenkeep pin unblock a1b2"),
            (token(PinState::NotSet), WELL, FindingState::Wrong, "no PIN yet"),
            (token(PinState::CountLow), WELL, FindingState::Note, "wrong PIN"),
            (token(PinState::Ok), TokenFlags { so_pin_state: PinState::Locked, ..WELL }, FindingState::Note, "SO PIN"),
            (token(PinState::Ok), TokenFlags { pin_to_be_changed: true, ..WELL }, FindingState::Wrong, "pin change"),
            (token(PinState::Ok), TokenFlags { broken: true, ..WELL }, FindingState::Wrong, "another token"),
            (token(PinState::Ok), TokenFlags { login_required: false, ..WELL }, FindingState::Note, "without a login"),
            (TokenInfo { write_protected: true, ..token(PinState::Ok) }, WELL, FindingState::Note, "write-protected"),
        ] {
            let findings = problems_of(&token, flags, nothing);
            assert_eq!((findings.len(), findings[0].state), (1, state), "{findings:?}");
            assert!(findings[0].lines().contains(what), "{findings:?}");
        }
    }

    #[test]
    fn remedies_fit_the_states_of_both_pins() {
        let so_locked = TokenFlags { so_pin_state: PinState::Locked, ..WELL };
        let has_keyset = TokenContext { has_keyset: true, is_held_by_agent: false };
        let beside_an_agent = TokenContext { has_keyset: true, is_held_by_agent: true };
        let remedy = |state, flags, context| problems_of(&token(state), flags, context)[0].lines();
        // Nobody knows the SO PIN of most tokens with a keyset.
        let text = remedy(PinState::Locked, WELL, has_keyset);
        assert!(
            text.contains("if you have its SO PIN: tokenkeep pin unblock a1b2") && text.contains(RECOVER),
            "{text}"
        );
        assert!(!remedy(PinState::Locked, WELL, TokenContext::default()).contains("recover"));
        for context in [has_keyset, TokenContext::default()] {
            let text = remedy(PinState::Locked, so_locked, context);
            assert!(!text.contains("unblock") && text.contains(RECOVER) == context.has_keyset, "{text}");
        }
        // A PIN that the agent does not ask for cannot be given to it.
        for state in [PinState::FinalTry, PinState::CountLow] {
            assert!(!remedy(state, WELL, has_keyset).contains("agent stop"));
            assert!(remedy(state, WELL, beside_an_agent).contains("after ten wrong ones"));
        }
        assert!(!remedy(PinState::Locked, WELL, beside_an_agent).contains("all tries"));
    }
}
