//! The requests for operations.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::keyset::{EnrollOptions, FoundKeyset, KeysetChoice, KeysetRef, LogPolicy, NewToken, TokenSelector};
use crate::statement::AdminOperation;
use crate::token::{KeysetName, SecurityLevel, TokenUri};

/// One operation. In JSON an object with one member, named for the operation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperationRequest {
    /// list the tokens that are present
    ListTokens {},
    /// list the keysets, and the tokens that could not be read
    ListKeysets {},
    /// find the one keyset that the choice selects
    ChooseKeyset(WireKeysetChoice),
    /// sign content as CMS data
    Sign {
        keyset: WireKeysetChoice,
        content: Bytes,
        /// leave the content out of the signature
        detached: bool,
    },
    /// decrypt a message
    Decrypt {
        /// the keysets to try
        keyset: WireKeysetChoice,
        /// CMS, as DER, PEM or S/MIME
        message: Bytes,
    },
    /// decrypt the content key for one recipient
    OpenRecipient {
        /// the keysets to try
        keyset: WireKeysetChoice,
        /// DER of one CMS `RecipientInfo`
        recipient_info: Bytes,
        /// length of the content key in bytes
        key_length: usize,
    },
    /// sign an administrator's command; no other operation signs a statement
    Administer {
        keyset: WireKeysetChoice,
        /// the command
        admin_operation: WireAdminOperation,
        /// online or as a file
        channel: WireStatementChannel,
        /// how to treat the authority's audit log
        log_policy: LogPolicy,
    },
    /// open the authority's response to a command sent as a file
    OpenResponse {
        keyset: WireKeysetChoice,
        /// the signed command, DER
        statement: Bytes,
        /// the response, DER
        response: Bytes,
        /// how to treat the authority's audit log
        log_policy: LogPolicy,
    },
    /// change the PIN of a keyset's token
    ChangePin {
        keyset: WireKeysetChoice,
    },
    /// report the PIN states of tokens
    PinStatus {
        /// PKCS#11 URI, serial number or label; none: all tokens
        token: Option<String>,
    },
    /// set a new PIN with the SO PIN
    UnblockPin {
        /// PKCS#11 URI, serial number or label; none: the only token
        token: Option<String>,
    },
    DeleteKeyset {
        keyset: WireKeysetChoice,
    },
    /// enroll with a letter
    Enroll(Box<WireEnrollRequest>),
}

impl OperationRequest {
    /// The operation's name, completing "to …".
    pub fn operation(&self) -> &'static str {
        match self {
            Self::ListTokens {} => "list tokens",
            Self::ListKeysets {} => "list keysets",
            Self::ChooseKeyset(_) => "find the keyset",
            Self::Sign { .. } => "sign",
            Self::Decrypt { .. } | Self::OpenRecipient { .. } => "decrypt",
            Self::Administer { admin_operation, channel: WireStatementChannel::Online, .. }
                if admin_operation.returns_letter() =>
            {
                "sign the command and open its letter"
            }
            Self::Administer { .. } => "sign the command",
            Self::OpenResponse { .. } => "open the response",
            Self::ChangePin { .. } => "change the PIN",
            Self::PinStatus { .. } => "check the PINs",
            Self::UnblockPin { .. } => "set a new PIN",
            Self::DeleteKeyset { .. } => "delete the keyset",
            Self::Enroll(_) => "enroll",
        }
    }

    /// The operation's keyset choice, if it has one.
    pub fn choice_mut(&mut self) -> Option<&mut WireKeysetChoice> {
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
            | Self::PinStatus { .. }
            | Self::UnblockPin { .. }
            | Self::Enroll(_) => None,
        }
    }

    /// Returns true if the operation leaves tokens and keysets unchanged.
    pub fn is_read_only(&self) -> bool {
        !matches!(self, Self::ChangePin { .. } | Self::UnblockPin { .. } | Self::DeleteKeyset { .. } | Self::Enroll(_))
    }
}

/// The channel of a command to the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireStatementChannel {
    /// the command sends it
    Online,
    /// a person carries a file
    File,
}

/// Selects a keyset ([`KeysetChoice`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireKeysetChoice {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<KeysetName>,
    /// its token: PKCS#11 URI, serial number or label
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// the keyset to use if several match and none is named
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<KeysetName>,
    /// keysets that only their name selects
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<KeysetRef>,
}

impl WireKeysetChoice {
    /// Selects exactly this keyset.
    pub fn of(keyset: &FoundKeyset) -> Self {
        let token = Some(TokenUri::of(&keyset.token).to_string());
        Self { name: Some(keyset.name.clone()), token, ..Self::default() }
    }

    /// The choice as a value; the error describes an invalid token name.
    pub fn to_choice(&self) -> Result<KeysetChoice, String> {
        let token = self.token.as_deref().map(selector).transpose()?;
        let (default, hidden) = (self.default.clone(), self.hidden.clone());
        Ok(KeysetChoice { name: self.name.clone(), token, default, hidden })
    }
}

impl From<&KeysetChoice> for WireKeysetChoice {
    fn from(choice: &KeysetChoice) -> Self {
        let (default, hidden) = (choice.default.clone(), choice.hidden.clone());
        Self { name: choice.name.clone(), token: choice.token.as_ref().map(selector_text), default, hidden }
    }
}

/// An administrator's command ([`AdminOperation`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WireAdminOperation {
    /// issue a letter to enroll
    Issue {
        /// the user
        email: String,
        /// the full name
        name: Option<String>,
        /// the allowed levels; none: those of the authority's configuration
        levels: Option<Vec<SecurityLevel>>,
        /// validity of the letter in seconds; none: the authority's configured default
        valid_for_seconds: Option<u64>,
    },
    /// issue a letter to recover all encryption keys
    Recover {
        /// the user
        email: String,
        /// true if others may have the old token
        lost: bool,
        /// validity of the letter in seconds; none: the authority's configured default
        valid_for_seconds: Option<u64>,
    },
    /// fetch the letter of an earlier command of the same administrator again
    Letter {
        /// the user's e-mail address, or the letter's reference
        letter: String,
    },
    /// list one page of users
    List {
        /// start after this address; none: at the first user
        after: Option<String>,
        /// maximum number of users; none: the authority's page size
        limit: Option<u32>,
    },
    /// show one user
    Show {
        /// the user
        email: String,
    },
    /// acknowledge an administrator who was added at the authority's machine
    Acknowledge {
        /// number of the audit log entry
        entry: u64,
    },
}

impl WireAdminOperation {
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

    /// The address or reference that the command concerns, if any.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Issue { email, .. } | Self::Recover { email, .. } | Self::Show { email } => Some(email),
            Self::Letter { letter } => Some(letter),
            Self::List { .. } | Self::Acknowledge { .. } => None,
        }
    }

    /// Returns true if the response is a letter.
    pub fn returns_letter(&self) -> bool {
        matches!(self, Self::Issue { .. } | Self::Recover { .. } | Self::Letter { .. })
    }
}

impl From<AdminOperation> for WireAdminOperation {
    fn from(operation: AdminOperation) -> Self {
        match operation {
            AdminOperation::Issue { email, name, levels, valid_for_seconds } => {
                Self::Issue { email, name, levels, valid_for_seconds }
            }
            AdminOperation::Recover { email, lost, valid_for_seconds } => {
                Self::Recover { email, lost, valid_for_seconds }
            }
            AdminOperation::Letter { letter } => Self::Letter { letter },
            AdminOperation::List => Self::List { after: None, limit: None },
            AdminOperation::ListPage { after, limit } => Self::List { after, limit },
            AdminOperation::Show { email } => Self::Show { email },
            AdminOperation::Acknowledge { entry } => Self::Acknowledge { entry },
        }
    }
}

impl From<WireAdminOperation> for AdminOperation {
    fn from(operation: WireAdminOperation) -> Self {
        match operation {
            WireAdminOperation::Issue { email, name, levels, valid_for_seconds } => {
                Self::Issue { email, name, levels, valid_for_seconds }
            }
            WireAdminOperation::Recover { email, lost, valid_for_seconds } => {
                Self::Recover { email, lost, valid_for_seconds }
            }
            WireAdminOperation::Letter { letter } => Self::Letter { letter },
            WireAdminOperation::List { after: None, limit: None } => Self::List,
            WireAdminOperation::List { after, limit } => Self::ListPage { after, limit },
            WireAdminOperation::Show { email } => Self::Show { email },
            WireAdminOperation::Acknowledge { entry } => Self::Acknowledge { entry },
        }
    }
}

/// The module in which to create a new token ([`NewToken`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewTokenTarget {
    /// in the only module that can create one
    Anywhere,
    Module(PathBuf),
}

/// An enrollment request. The letter holds a secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireEnrollRequest {
    /// the letter's text
    pub letter: Bytes,
    /// the keyset's name
    pub keyset: KeysetName,
    /// the level; none: the keyset's present level, or the strictest that the letter allows
    pub level: Option<SecurityLevel>,
    /// create a new token
    pub new_token: Option<NewTokenTarget>,
    /// use this token
    pub token: Option<String>,
    /// true if there is an SO PIN for the new token
    pub so_pin: bool,
    /// true if the letter may name another person than the keyset
    #[serde(default)]
    pub replace_person: bool,
}

impl WireEnrollRequest {
    /// From the text of a letter and the options.
    pub fn new(letter: Bytes, options: &EnrollOptions) -> Self {
        let new_token = options.new_token.as_ref().map(|new_token| match new_token {
            NewToken::Anywhere => NewTokenTarget::Anywhere,
            NewToken::Module(path) => NewTokenTarget::Module(path.clone()),
        });
        Self {
            letter,
            keyset: options.keyset.clone(),
            level: options.level,
            new_token,
            token: options.token.as_ref().map(selector_text),
            so_pin: options.so_pin,
            replace_person: options.replace_person,
        }
    }

    /// The options as values; the error describes an invalid token name.
    pub fn options(&self) -> Result<EnrollOptions, String> {
        Ok(EnrollOptions {
            keyset: self.keyset.clone(),
            level: self.level,
            new_token: self.new_token.clone().map(|module| match module {
                NewTokenTarget::Anywhere => NewToken::Anywhere,
                NewTokenTarget::Module(path) => NewToken::Module(path),
            }),
            token: self.token.as_deref().map(selector).transpose()?,
            so_pin: self.so_pin,
            replace_person: self.replace_person,
        })
    }
}

pub(super) fn selector(text: &str) -> Result<TokenSelector, String> {
    text.parse().map_err(|error| format!("cannot use {text:?} as a token name: {error}"))
}

/// The token name as the user typed it.
pub fn selector_text(selector: &TokenSelector) -> String {
    match selector {
        TokenSelector::Uri(uri) => uri.to_string(),
        TokenSelector::SerialOrLabel(text) => text.clone(),
    }
}
