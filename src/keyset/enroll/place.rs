//! Where the keyset will live, decided before anybody is asked for a PIN and before anything is sent.

use crate::letter::{Letter, Purpose};
use crate::token::{Module, PinState, TokenError, TokenInfo};

use super::super::choose::{in_use, list_or, one_token, seen};
use super::super::{FoundKeyset, KeysetError, TokenTrouble, Tokens};
use super::{EnrollOptions, NewToken, person_check};

/// The place of a keyset that is to be enrolled.
#[derive(Debug)]
pub(super) enum Place {
    /// A token that is to be made, or whose making was cut off: its new PIN is asked.
    New {
        /// where it is made
        module: Module,
    },
    /// A token that is there: its PIN is asked.
    Existing {
        /// the token
        token: TokenInfo,
        /// the keyset of this name on it, enrolled or begun
        keyset: Option<Box<FoundKeyset>>,
    },
    /// A token on which an enrollment with this very letter was cut off.
    Resumed {
        /// the token
        token: TokenInfo,
        /// Does the keyset stand, so that it was being re-enrolled?
        stands: bool,
    },
}

impl Place {
    /// Has an enrollment with this very letter begun here, as far as is seen without a PIN?
    pub fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }

    /// Is a keyset to be made where none of its name has begun?
    pub fn is_for_a_new_keyset(&self) -> bool {
        matches!(self, Self::New { .. } | Self::Existing { keyset: None, .. })
    }

    /// Is a keyset that stands to be enrolled anew?
    pub fn reenrolls(&self) -> bool {
        match self {
            Self::New { .. } => false,
            Self::Existing { keyset, .. } => keyset.as_ref().is_some_and(|keyset| keyset.is_usable()),
            Self::Resumed { stands, .. } => *stands,
        }
    }
}

/// Chooses the place, or says what is against it.
pub(super) fn choose(tokens: &Tokens, letter: &Letter, options: &EnrollOptions) -> Result<Place, KeysetError> {
    if let Some(level) = options.level.filter(|level| !letter.levels.contains(level)) {
        let allowed = list_or(&letter.levels, ToString::to_string, "none");
        return Err(refused(format!("cannot enroll at the level {level}: the letter allows {allowed}")));
    }
    let all = tokens.list()?;
    let (named_token, (keysets, trouble)) = match &options.token {
        Some(selector) => {
            let token = one_token(all.clone(), selector)?;
            let keysets = tokens.keysets_on(&token)?;
            (Some(token), keysets)
        }
        None => (None, tokens.keysets_and(Some(&options.keyset))?),
    };
    let (newer, trouble): (Vec<_>, Vec<_>) = trouble.into_iter().partition(
        |trouble| matches!(&trouble.error, KeysetError::Newer { keyset, .. } if *keyset == options.keyset.as_str()),
    );
    if let Some(newer) = newer.into_iter().next() {
        return Err(newer.error);
    }
    let (same_name, others): (Vec<_>, Vec<_>) = keysets.into_iter().partition(|keyset| keyset.name == options.keyset);

    let begun_with_letter = |keyset: &&FoundKeyset| keyset.pending_reference() == Some(letter.reference.as_str());
    if let Some(begun) = same_name.iter().find(begun_with_letter) {
        same_level(begun, options)?;
        same_person(begun, letter, options)?;
        return Ok(Place::Resumed { token: begun.token.clone(), stands: begun.is_usable() });
    }
    if let Some(new_token) = &options.new_token {
        if let Some(taken) = same_name.first() {
            return Err(name_taken(taken));
        }
        return new_place(tokens, &all, letter, new_token, options);
    }
    let place = match (<[FoundKeyset; 1]>::try_from(same_name), named_token) {
        (Ok([keyset]), _) => {
            may_be_enrolled_again(&keyset, letter, options)?;
            Place::Existing { token: keyset.token.clone(), keyset: Some(Box::new(keyset)) }
        }
        (Err(several), _) if !several.is_empty() => {
            return Err(KeysetError::Ambiguous {
                what: "keyset",
                candidates: list_or(&several, FoundKeyset::described, ""),
                remedy: "add `--token SERIAL`".to_owned(),
            });
        }
        (Err(_), Some(token)) => Place::Existing { token, keyset: None },
        (Err(_), None) => return Err(no_place(options, &others, &trouble)),
    };
    if let Place::Existing { token, .. } = &place {
        can_take_keys(tokens, token)?;
    }
    Ok(place)
}

/// A new token carries the keyset's name as its label. One of that label that is there already is taken for the rest of
/// an enrollment that was cut off before there was an index, if it has no PIN, or the mark of this very letter; the module
/// tells by the SO PIN whether it is. Any other, also one that was emptied since, costs no try.
fn new_place(
    tokens: &Tokens,
    all: &[TokenInfo],
    letter: &Letter,
    new_token: &NewToken,
    options: &EnrollOptions,
) -> Result<Place, KeysetError> {
    let label = options.keyset.as_str();
    let same_label: Vec<&TokenInfo> = all.iter().filter(|token| token.label == label).collect();
    for token in &same_label {
        let begun =
            token.pin_state == PinState::NotSet || tokens.open(token)?.is_being_made_for(letter.reference.as_str())?;
        if !begun || same_label.len() > 1 {
            return Err(TokenError::LabelTaken { label: label.to_owned(), serial: token.serial.clone() }.into());
        }
    }
    let mut modules = Vec::new();
    for module in tokens.modules() {
        let wanted = match new_token {
            NewToken::Anywhere => same_label.first().is_none_or(|token| token.module == module.path()),
            NewToken::Module(path) => path.canonicalize().is_ok_and(|path| module.path() == path),
        };
        if wanted && (same_label.iter().any(|token| token.module == module.path()) || module.can_create_tokens()?) {
            modules.push(module);
        }
    }
    match modules.as_slice() {
        [module] => Ok(Place::New { module: (*module).clone() }),
        [] => Err(refused(format!(
            "cannot create a token: no free slot in {}; use a token that exists, `--token`",
            list_or(tokens.modules(), |module| module.path().display().to_string(), "any module")
        ))),
        several => Err(KeysetError::Ambiguous {
            what: "module",
            candidates: list_or(several, |module| module.path().display().to_string(), ""),
            remedy: "name the one that is to hold the token, `--new-token=MODULE`".to_owned(),
        }),
    }
}

fn may_be_enrolled_again(keyset: &FoundKeyset, letter: &Letter, options: &EnrollOptions) -> Result<(), KeysetError> {
    if !keyset.is_usable() {
        return Ok(()); // begun with another letter, and never finished: nothing of it is kept
    }
    if letter.purpose() == Purpose::Recover {
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

/// A keyset that stands is one person's.
fn same_person(keyset: &FoundKeyset, letter: &Letter, options: &EnrollOptions) -> Result<(), KeysetError> {
    person_check::check_letter(letter, options, &person_check::Whose::of_found(keyset), &keyset.described())
}

/// A keyset has one level, and what is on the token already keeps the one it was born with.
fn same_level(keyset: &FoundKeyset, options: &EnrollOptions) -> Result<(), KeysetError> {
    match options.level {
        Some(level) if level != keyset.level => Err(refused(format!(
            "cannot enroll the keyset {} at the level {level}: it is at {}; a keyset of another level needs another name",
            keyset.described(),
            keyset.level
        ))),
        _ => Ok(()),
    }
}

/// An existing token must be able to unwrap what the authority sends; asked before its PIN is.
fn can_take_keys(tokens: &Tokens, info: &TokenInfo) -> Result<(), KeysetError> {
    if info.write_protected {
        return Err(refused(format!("cannot enroll on {}: it is write-protected", info.name())));
    }
    let token = tokens.open(info)?;
    let lacks = match (token.oaep_hash()?, token.aes_key_wrap_mechanism()?) {
        (None, _) => "unwrapping by RSA-OAEP",
        (_, None) => "AES key unwrap",
        _ => return Ok(()),
    };
    Err(TokenError::Unsupported { operation: "enroll", token: info.name(), what: lacks.to_owned() }.into())
}

fn name_taken(keyset: &FoundKeyset) -> KeysetError {
    let described = keyset.described();
    refused(match keyset.pending_reference() {
        Some(reference) if !keyset.is_usable() => format!(
            "cannot make a new token for the keyset {described}: its enrollment with the letter {reference} is not \
             finished; type that command again, or `tokenkeep keyset delete {}`",
            keyset.name
        ),
        _ => format!(
            "cannot make a new token for the keyset {described}: the name is taken; to re-enroll it leave `--new-token` \
             out, else choose another name, `--keyset NAME`"
        ),
    })
}

fn no_place(options: &EnrollOptions, others: &[FoundKeyset], trouble: &[TokenTrouble]) -> KeysetError {
    in_use(&options.keyset, trouble).unwrap_or_else(|| KeysetError::NoSuchKeyset {
        name: options.keyset.to_string(),
        found: format!(
            "{}; for a new one add `--new-token`, or `--token SERIAL` of one that exists",
            seen(others, trouble)
        ),
    })
}

fn refused(reason: String) -> KeysetError {
    KeysetError::Refused(reason)
}
