//! What a command asks for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::keyset::{EnrollOptions, FoundKeyset, KeysetChoice, KeysetOnToken, KnownLog, NewToken, TokenSelector};
use crate::statement::Operation;
use crate::token::{KeysetName, SecurityLevel, TokenUri};

/// One act. In JSON an object with one member, named for the act.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ActRequest {
    /// which tokens are there
    ListTokens {},
    /// which keysets are there, and what could not be looked at
    ListKeysets {},
    /// the one keyset that is meant
    ChooseKeyset(Choice),
    /// sign a content as data
    Sign {
        /// with which keyset
        keyset: Choice,
        /// what
        content: Bytes,
        /// leave it out of the signature
        detached: bool,
    },
    /// open a message that was encrypted to a keyset
    Decrypt {
        /// where to look
        keyset: Choice,
        /// CMS: DER, PEM or S/MIME
        message: Bytes,
    },
    /// open one recipient's content key
    OpenRecipient {
        /// where to look
        keyset: Choice,
        /// DER of one CMS `RecipientInfo`
        recipient_info: Bytes,
        /// how many bytes the content key has
        key_length: usize,
    },
    /// sign an administrator's command: the only act that signs a statement
    Administer {
        /// with which keyset
        keyset: Choice,
        /// the command
        order: Order,
        /// how it travels
        way: OnlineOrFile,
        /// how it takes the authority's audit log
        known_log: KnownLog,
    },
    /// open the authority's response to a command that went as a file
    OpenResponse {
        /// with which keyset
        keyset: Choice,
        /// the signed command, DER
        statement: Bytes,
        /// the response, DER
        response: Bytes,
        /// how it takes the authority's audit log
        known_log: KnownLog,
    },
    /// change the PIN of a keyset's token
    ChangePin {
        /// which one
        keyset: Choice,
    },
    /// what tokens say about their PINs
    LookAtPins {
        /// of this one: PKCS#11 URI, serial number or label; none: of all
        token: Option<String>,
    },
    /// set a new PIN by the SO PIN
    UnblockPin {
        /// on this one: PKCS#11 URI, serial number or label; none: the only one
        token: Option<String>,
    },
    /// delete a keyset
    DeleteKeyset {
        /// which one
        keyset: Choice,
    },
    /// enroll with a letter
    Enroll(Box<Enroll>),
}

impl ActRequest {
    /// What it is, completing "to …".
    pub fn operation(&self) -> &'static str {
        match self {
            Self::ListTokens {} => "list tokens",
            Self::ListKeysets {} => "list keysets",
            Self::ChooseKeyset(_) => "find the keyset",
            Self::Sign { .. } => "sign",
            Self::Decrypt { .. } | Self::OpenRecipient { .. } => "decrypt",
            Self::Administer { order, way: OnlineOrFile::Online, .. } if order.brings_letter() => {
                "sign the command and open its letter"
            }
            Self::Administer { .. } => "sign the command",
            Self::OpenResponse { .. } => "open the response",
            Self::ChangePin { .. } => "change the PIN",
            Self::LookAtPins { .. } => "look at the PINs",
            Self::UnblockPin { .. } => "set a new PIN",
            Self::DeleteKeyset { .. } => "delete the keyset",
            Self::Enroll(_) => "enroll",
        }
    }

    /// Which keyset it is about, where it chooses one.
    pub fn choice_mut(&mut self) -> Option<&mut Choice> {
        match self {
            Self::ChooseKeyset(keyset)
            | Self::Sign { keyset, .. }
            | Self::Decrypt { keyset, .. }
            | Self::OpenRecipient { keyset, .. }
            | Self::Administer { keyset, .. }
            | Self::OpenResponse { keyset, .. }
            | Self::ChangePin { keyset }
            | Self::DeleteKeyset { keyset } => Some(keyset),
            Self::ListTokens {}
            | Self::ListKeysets {}
            | Self::LookAtPins { .. }
            | Self::UnblockPin { .. }
            | Self::Enroll(_) => None,
        }
    }

    /// Does it leave tokens and keysets as they are?
    pub fn changes_nothing(&self) -> bool {
        !matches!(self, Self::ChangePin { .. } | Self::UnblockPin { .. } | Self::DeleteKeyset { .. } | Self::Enroll(_))
    }
}

/// How the command's bytes reach the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnlineOrFile {
    /// the command takes them there
    Online,
    /// somebody carries a file
    File,
}

/// Which keyset is meant ([`KeysetChoice`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// its name
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<KeysetName>,
    /// its token: PKCS#11 URI, serial number or label
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// the one to take when there are several and none was named
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<KeysetName>,
    /// keysets that are taken only by their name
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<KeysetOnToken>,
}

impl Choice {
    /// This very keyset.
    pub fn of(keyset: &FoundKeyset) -> Self {
        let token = Some(TokenUri::of(&keyset.token).to_string());
        Self { name: Some(keyset.name.clone()), token, ..Self::default() }
    }

    /// What `keyset` takes; the error says what is wrong with the token's name.
    pub fn to_choice(&self) -> Result<KeysetChoice, String> {
        let token = self.token.as_deref().map(selector).transpose()?;
        let (default, hidden) = (self.default.clone(), self.hidden.clone());
        Ok(KeysetChoice { name: self.name.clone(), token, default, hidden })
    }
}

impl From<&KeysetChoice> for Choice {
    fn from(choice: &KeysetChoice) -> Self {
        let (default, hidden) = (choice.default.clone(), choice.hidden.clone());
        Self { name: choice.name.clone(), token: choice.token.as_ref().map(text_of), default, hidden }
    }
}

/// An administrator's command ([`Operation`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// a letter to enroll
    Issue {
        /// for whom
        email: String,
        /// the whole name
        name: Option<String>,
        /// the levels it allows
        levels: Option<Vec<SecurityLevel>>,
        /// how long it is good
        valid_for_seconds: Option<u64>,
    },
    /// a letter to get all encryption keys back
    Recover {
        /// for whom
        email: String,
        /// may the old token be in others' hands?
        lost: bool,
        /// how long it is good
        valid_for_seconds: Option<u64>,
    },
    /// the letter that an earlier command of the same administrator brought, once more
    Letter {
        /// the user's e-mail address, or the letter's reference
        letter: String,
    },
    /// a page of all users
    List {
        /// those after this address; none: from the first
        after: Option<String>,
        /// at most so many; none: as many as the authority's pages have
        limit: Option<u32>,
    },
    /// one user
    Show {
        /// whom
        email: String,
    },
    /// an administrator who was added where the authority is, is known of
    Acknowledge {
        /// the number of the log's entry
        entry: u64,
    },
}

impl Order {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Recover { .. } => "recover",
            Self::Letter { .. } => "letter",
            Self::List { .. } => "list",
            Self::Show { .. } => "show",
            Self::Acknowledge { .. } => "acknowledge",
        }
    }

    /// What it is about.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Issue { email, .. } | Self::Recover { email, .. } | Self::Show { email } => Some(email),
            Self::Letter { letter } => Some(letter),
            Self::List { .. } | Self::Acknowledge { .. } => None,
        }
    }

    /// Whether the answer to it is a letter.
    pub fn brings_letter(&self) -> bool {
        matches!(self, Self::Issue { .. } | Self::Recover { .. } | Self::Letter { .. })
    }
}

impl From<Operation> for Order {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Issue { email, name, levels, valid_for_seconds } => {
                Self::Issue { email, name, levels, valid_for_seconds }
            }
            Operation::Recover { email, lost, valid_for_seconds } => Self::Recover { email, lost, valid_for_seconds },
            Operation::Letter { letter } => Self::Letter { letter },
            Operation::List => Self::List { after: None, limit: None },
            Operation::ListPage { after, limit } => Self::List { after, limit },
            Operation::Show { email } => Self::Show { email },
            Operation::Acknowledge { entry } => Self::Acknowledge { entry },
        }
    }
}

impl From<Order> for Operation {
    fn from(order: Order) -> Self {
        match order {
            Order::Issue { email, name, levels, valid_for_seconds } => {
                Self::Issue { email, name, levels, valid_for_seconds }
            }
            Order::Recover { email, lost, valid_for_seconds } => Self::Recover { email, lost, valid_for_seconds },
            Order::Letter { letter } => Self::Letter { letter },
            Order::List { after: None, limit: None } => Self::List,
            Order::List { after, limit } => Self::ListPage { after, limit },
            Order::Show { email } => Self::Show { email },
            Order::Acknowledge { entry } => Self::Acknowledge { entry },
        }
    }
}

/// Where a new token is made ([`NewToken`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewTokenIn {
    /// in the only module that can
    Anywhere,
    /// in this one
    Module(PathBuf),
}

/// An enrollment. Its letter holds a secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// the letter's text
    pub letter: Bytes,
    /// into which keyset
    pub keyset: KeysetName,
    /// at which level; none: the keyset's, or the strictest that the letter allows
    pub level: Option<SecurityLevel>,
    /// on a new token
    pub new_token: Option<NewTokenIn>,
    /// on this token
    pub token: Option<String>,
    /// is there an SO PIN for the new token?
    pub so_pin: bool,
    /// may the letter be another person's than the keyset?
    #[serde(default)]
    pub replace_person: bool,
}

impl Enroll {
    /// With this letter's text.
    pub fn new(letter: Bytes, options: &EnrollOptions) -> Self {
        let new_token = options.new_token.as_ref().map(|new_token| match new_token {
            NewToken::Anywhere => NewTokenIn::Anywhere,
            NewToken::Module(path) => NewTokenIn::Module(path.clone()),
        });
        Self {
            letter,
            keyset: options.keyset.clone(),
            level: options.level,
            new_token,
            token: options.token.as_ref().map(text_of),
            so_pin: options.so_pin,
            replace_person: options.replace_person,
        }
    }

    /// What `keyset` takes; the error says what is wrong with the token's name.
    pub fn options(&self) -> Result<EnrollOptions, String> {
        Ok(EnrollOptions {
            keyset: self.keyset.clone(),
            level: self.level,
            new_token: self.new_token.clone().map(|module| match module {
                NewTokenIn::Anywhere => NewToken::Anywhere,
                NewTokenIn::Module(path) => NewToken::Module(path),
            }),
            token: self.token.as_deref().map(selector).transpose()?,
            so_pin: self.so_pin,
            replace_person: self.replace_person,
        })
    }
}

pub(super) fn selector(text: &str) -> Result<TokenSelector, String> {
    text.parse().map_err(|error| format!("cannot use {text:?} as a token's name: {error}"))
}

/// A token's name as it was typed.
pub fn text_of(selector: &TokenSelector) -> String {
    match selector {
        TokenSelector::Uri(uri) => uri.to_string(),
        TokenSelector::SerialOrLabel(text) => text.clone(),
    }
}
