//! Selects the token for the keyset, before any PIN prompt and before anything is sent.

use crate::letter::{Letter, LetterPurpose};
use crate::token::{PinState, TokenError, TokenInfo, TokenSource};

use super::super::choose::{describe_found, in_use, list_or, one_token};
use super::super::{FoundKeyset, KeysetError, Tokens, UnreadableToken};
use super::{EnrollOptions, NewToken, person_check};

#[derive(Debug)]
pub(super) enum EnrollmentTarget {
    /// A token that is still to be created, or whose creation was interrupted: its new PIN is
    /// requested.
    New {
        /// the source that creates it
        source: TokenSource,
    },
    /// An existing token: its PIN is requested.
    Existing {
        token: TokenInfo,
        /// the keyset of this name on it, enrolled or unfinished
        keyset: Option<Box<FoundKeyset>>,
    },
    /// A token with an interrupted enrollment by this letter.
    Resumed {
        token: TokenInfo,
        /// Is the keyset enrolled, so that this was a re-enrollment?
        is_enrolled: bool,
    },
}

impl EnrollmentTarget {
    /// Returns whether an enrollment with this letter has begun here, according to the public
    /// index.
    pub fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }

    /// Returns whether the target has no keyset of this name yet.
    pub fn is_for_a_new_keyset(&self) -> bool {
        matches!(self, Self::New { .. } | Self::Existing { keyset: None, .. })
    }

    /// Returns whether the target has an enrolled keyset of this name.
    pub fn reenrolls(&self) -> bool {
        match self {
            Self::New { .. } => false,
            Self::Existing { keyset, .. } => keyset.as_ref().is_some_and(|keyset| keyset.is_usable()),
            Self::Resumed { is_enrolled, .. } => *is_enrolled,
        }
    }
}

/// Selects the target, or refuses with the reason.
pub(super) fn choose(
    tokens: &Tokens,
    letter: &Letter,
    options: &EnrollOptions,
) -> Result<EnrollmentTarget, KeysetError> {
    if let Some(level) = options.level.filter(|level| !letter.levels.contains(level)) {
        let allowed = list_or(&letter.levels, ToString::to_string, "none");
        return Err(refused(format!("cannot enroll at the level {level}: the letter allows {allowed}")));
    }
    if options.token.is_none() && !matches!(options.new_token, Some(NewToken::In(_))) {
        tokens.unusable_sources().require_none_lost()?;
    }
    let all = tokens.list()?;
    let (named_token, (keysets, unreadable_tokens)) = match &options.token {
        Some(selector) => {
            let token = one_token(all.clone(), selector)?;
            let keysets = tokens.keysets_on(&token)?;
            (Some(token), keysets)
        }
        None => (None, tokens.keysets_and(Some(&options.keyset))?),
    };
    let (newer, unreadable_tokens): (Vec<_>, Vec<_>) =
        unreadable_tokens.into_iter().partition(|unreadable| match &unreadable.error {
            KeysetError::Newer { keyset, .. } => *keyset == options.keyset.as_str(),
            _ => false,
        });
    if let Some(newer) = newer.into_iter().next() {
        return Err(newer.error);
    }
    let (same_name, others): (Vec<_>, Vec<_>) = keysets.into_iter().partition(|keyset| keyset.name == options.keyset);

    let begun_with_letter = |keyset: &&FoundKeyset| keyset.pending_reference() == Some(letter.reference.as_str());
    if let Some(begun) = same_name.iter().find(begun_with_letter) {
        same_level(begun, options)?;
        same_person(begun, letter, options)?;
        return Ok(EnrollmentTarget::Resumed { token: begun.token.clone(), is_enrolled: begun.is_usable() });
    }
    if let Some(new_token) = &options.new_token {
        if let Some(taken) = same_name.first() {
            return Err(name_taken(taken));
        }
        return new_place(tokens, &all, letter, new_token, options);
    }
    let target = match (<[FoundKeyset; 1]>::try_from(same_name), named_token) {
        (Ok([keyset]), _) => {
            may_be_enrolled_again(&keyset, letter, options)?;
            EnrollmentTarget::Existing { token: keyset.token.clone(), keyset: Some(Box::new(keyset)) }
        }
        (Err(several), _) if !several.is_empty() => {
            return Err(KeysetError::Ambiguous {
                what: "keyset",
                candidates: list_or(&several, FoundKeyset::described, ""),
                remedy: "add `--token SERIAL`".to_owned(),
            });
        }
        (Err(_), Some(token)) => EnrollmentTarget::Existing { token, keyset: None },
        (Err(_), None) => return Err(no_place(options, &others, &unreadable_tokens)),
    };
    if let EnrollmentTarget::Existing { token, .. } = &target {
        can_take_keys(tokens, token)?;
    }
    Ok(target)
}

/// Selects a source for a new token, whose label will be the keyset's name. An existing token with
/// this label may be the rest of an enrollment interrupted before it had an index: it is reused if
/// it has no PIN or carries the mark of this letter, which the source verifies with the SO PIN. Any
/// other token, even an empty one, is refused without a try.
fn new_place(
    tokens: &Tokens,
    all: &[TokenInfo],
    letter: &Letter,
    new_token: &NewToken,
    options: &EnrollOptions,
) -> Result<EnrollmentTarget, KeysetError> {
    let label = options.keyset.as_str();
    let same_label: Vec<&TokenInfo> = all.iter().filter(|token| token.label == label).collect();
    for token in &same_label {
        let begun =
            token.pin_state == PinState::NotSet || tokens.open(token)?.is_provisioned_for(letter.reference.as_str())?;
        if !begun || same_label.len() > 1 {
            return Err(TokenError::LabelTaken { label: label.to_owned(), serial: token.serial.clone() }.into());
        }
    }
    let mut sources = Vec::new();
    for source in tokens.sources() {
        let wanted = match new_token {
            NewToken::Anywhere => same_label.first().is_none_or(|token| source.has(token)),
            NewToken::In(path) => path.canonicalize().is_ok_and(|path| source.path() == path),
        };
        if wanted && (same_label.iter().any(|token| source.has(token)) || source.can_create_tokens()?) {
            sources.push(source);
        }
    }
    match sources.as_slice() {
        [source] => Ok(EnrollmentTarget::New { source: (*source).clone() }),
        [] => Err(refused(format!(
            "cannot create a token: no free slot in {}; select an existing token with `--token`",
            list_or(tokens.sources(), |source| source.path().display().to_string(), "any module")
        ))),
        several => Err(KeysetError::Ambiguous {
            what: "module",
            candidates: list_or(several, |source| source.path().display().to_string(), ""),
            remedy: "select the module for the token with `--new-token=MODULE`".to_owned(),
        }),
    }
}

fn may_be_enrolled_again(keyset: &FoundKeyset, letter: &Letter, options: &EnrollOptions) -> Result<(), KeysetError> {
    if !keyset.is_usable() {
        return Ok(()); // begun with another letter and never finished: nothing of it is kept
    }
    if letter.purpose() == LetterPurpose::Recover {
        return Err(refused(format!(
            "cannot recover into the keyset {}: it exists; choose another name, `--keyset NAME --new-token`",
            keyset.described()
        )));
    }
    if keyset.authority_sha256().is_some_and(|known| known != letter.ca_fingerprint) {
        return Err(refused(format!(
            "cannot re-enroll the keyset {}: it belongs to {:?}, and the letter is from another authority; choose \
             another name, `--keyset NAME`",
            keyset.described(),
            keyset.authority.name
        )));
    }
    same_person(keyset, letter, options)?;
    same_level(keyset, options)
}

/// Refuses a letter for another person than the keyset's.
fn same_person(keyset: &FoundKeyset, letter: &Letter, options: &EnrollOptions) -> Result<(), KeysetError> {
    person_check::check_letter(letter, options, &person_check::CurrentHolder::of_found(keyset), &keyset.described())
}

/// Refuses a different level: a keyset has one, and existing keys keep the level with which they
/// were created.
fn same_level(keyset: &FoundKeyset, options: &EnrollOptions) -> Result<(), KeysetError> {
    match options.level {
        Some(level) if level != keyset.level => Err(refused(format!(
            "cannot enroll the keyset {} at the level {level}: its level is {}; choose another name for another level",
            keyset.described(),
            keyset.level
        ))),
        _ => Ok(()),
    }
}

/// Refuses an existing token that cannot take the authority's keys, before its PIN is requested.
fn can_take_keys(tokens: &Tokens, info: &TokenInfo) -> Result<(), KeysetError> {
    if info.write_protected {
        return Err(refused(format!("cannot enroll on {}: it is write-protected", info.name())));
    }
    let token = tokens.open(info)?;
    let lacks = |what: &str| TokenError::Unsupported { operation: "enroll", token: info.name(), what: what.to_owned() };
    token.capabilities()?.key_arrival().map(|_| ()).map_err(|what| lacks(what).into())
}

fn name_taken(keyset: &FoundKeyset) -> KeysetError {
    let described = keyset.described();
    refused(match keyset.pending_reference() {
        Some(reference) if !keyset.is_usable() => format!(
            "cannot create a new token for the keyset {described}: its enrollment with the letter {reference} is not \
             finished; run that command again, or `tokenkeep keyset delete {}`",
            keyset.name
        ),
        _ => format!(
            "cannot create a new token for the keyset {described}: the name is taken; to re-enroll it, omit \
             `--new-token`, else choose another name, `--keyset NAME`"
        ),
    })
}

fn no_place(options: &EnrollOptions, others: &[FoundKeyset], unreadable_tokens: &[UnreadableToken]) -> KeysetError {
    in_use(&options.keyset, unreadable_tokens).unwrap_or_else(|| KeysetError::NoSuchKeyset {
        name: options.keyset.to_string(),
        found: format!(
            "{}; for a new keyset, add `--new-token`, or `--token SERIAL` to use an existing token",
            describe_found(others, unreadable_tokens)
        ),
    })
}

fn refused(reason: String) -> KeysetError {
    KeysetError::Refused(reason)
}
