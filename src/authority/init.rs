//! `authority init`: makes token, keys, certificates and database, and the first administrator's
//! letter.
//!
//! A crash may follow any step; the same call with the same PIN resumes it. The database's identity
//! row comes last: without it there is no authority.

mod state_directory;

use std::sync::Arc;

use hkdf::Hkdf;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use self::state_directory::StateDirectory;
use super::letters::user_record;
use super::opening::token_source;
use super::policy::Policy;
use super::seal::Sealer;
use super::service_certificates::{self, AuthorityCertificateSpec};
use super::temporary_key::{TemporaryKeySpec, TemporaryKeys};
use super::token_keys::TokenKeys;
use super::{AuthorityError, Configuration, audit};
use crate::crash_point::reached as crash_point;
use crate::pki::{Certificate, EmailAddress, PkiError};
use crate::store::{AuthorityIdentity, CertificateKind, FirstRecords, GrantRecord, Role, TemporaryKeyPurpose};
use crate::token::check::StoredObject;
use crate::token::{AUTHORITY_MARK, AuthorityToken, Pin, PinRule, TokenError, TokenInfo, TokenSource};

/// The name of the operation in errors.
const OPERATION: &str = "make the authority";
/// The label of the object that marks the authority's token.
const MARK_LABEL: &str = "authority";
/// The first epoch.
const EPOCH: u64 = 1;

/// A checked `init`: everything that can be refused without a PIN was checked, and nothing is made
/// yet.
#[derive(Debug)]
pub struct PreparedInit<'a> {
    pub(super) configuration: &'a Configuration,
    policy: Policy,
    source: TokenSource,
    email: EmailAddress,
    pub(super) now: Timestamp,
}

/// An authority that is made, except that its first letter is not handed over yet.
pub(super) struct MadeAuthority {
    state: StateDirectory,
    pub(super) initialized_at: Timestamp,
}

impl MadeAuthority {
    /// Ends the `init`, after the letter is handed over.
    pub(super) fn finish(&self) -> Result<(), AuthorityError> {
        crash_point("authority.init.after_letter");
        self.state.finish()
    }
}

impl<'a> PreparedInit<'a> {
    /// Checks the arguments, the state directory and the token, and makes nothing. Call it before a
    /// person is asked for the PINs.
    ///
    /// Refuses a state directory that is not empty, except after an interrupted `init`; one that
    /// cannot be created or written; and an existing token with the configured label that has
    /// objects.
    pub fn check(
        configuration: &'a Configuration,
        first_administrator: &str,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let email: EmailAddress = first_administrator.parse().map_err(|error: PkiError| {
            AuthorityError::Administrator { address: first_administrator.to_owned(), reason: error.to_string() }
        })?;
        let policy = Policy::read(&configuration.enrollment)?;
        policy.check_own_keys(configuration)?;
        let begun_with = StateDirectory::find_started_init(configuration)?;
        let source = token_source(configuration)?;
        let exists =
            |serial: &String| Ok::<_, TokenError>(source.tokens()?.iter().any(|token| token.serial == *serial));
        if !begun_with.as_ref().map(exists).transpose()?.unwrap_or(false) {
            source.refuse_taken_label(&configuration.token.label)?;
        }
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Ok(Self { configuration, policy, source, email, now })
    }

    /// The source's rule for new PINs, if it has one.
    pub fn rule_for_new_pins(&self) -> Option<PinRule> {
        self.source.rule_for_new_pins()
    }

    /// Makes everything; the first administrator's letter is recorded, but not yet written. The
    /// same call with the same PIN completes an interrupted one.
    pub(super) fn make(&self, new_pin: &Pin, so_pin: Option<&Pin>) -> Result<MadeAuthority, AuthorityError> {
        let state = StateDirectory::prepare(self.configuration)?;
        let initialized_at = self.initialize(&state, new_pin, so_pin)?;
        Ok(MadeAuthority { state, initialized_at })
    }

    /// Returns the time at which the database became an authority's.
    fn initialize(
        &self,
        state: &StateDirectory,
        new_pin: &Pin,
        so_pin: Option<&Pin>,
    ) -> Result<Timestamp, AuthorityError> {
        // After a crash between the last step and the writing of the letter, the same call returns
        // the same letter.
        let store = state.database()?;
        if let Some(identity) = store.identity()? {
            return Ok(identity.initialized_at);
        }

        let passing_so_pin = derived_so_pin(self.configuration, new_pin)?;
        let info = state.token(self.configuration, &self.source, so_pin.unwrap_or(&passing_so_pin), new_pin)?;
        crash_point("authority.init.after_token");
        let token = self.source.open_for_authority(&info)?;
        token.log_in(new_pin)?;
        token.put_data(AUTHORITY_MARK, MARK_LABEL, self.configuration.name.as_bytes(), false)?;
        crash_point("authority.init.after_mark");
        let keys = TokenKeys::make(&token, self.configuration.ca.key)?;
        // Checked before the keys sign or seal anything: the same call makes those again that a
        // full disk lost.
        let mut made = keys.stored();
        made.push(StoredObject::Data {
            application: AUTHORITY_MARK.to_owned(),
            label: MARK_LABEL.to_owned(),
            private: false,
            sha256: hex::encode(Sha256::digest(self.configuration.name.as_bytes())),
        });
        verify_stored(&token, made, new_pin)?;
        store.set_log_sealer(audit::TokenLogSealer::new(&keys, &Arc::default(), &Arc::default()))?;
        if so_pin.is_none() {
            forget_so_pin(&token, &passing_so_pin)?;
            crash_point("authority.init.after_so_pin");
            token.log_in(new_pin)?;
        }

        // Only the CA certificate: the first start makes the others, as every later start renews
        // them.
        let own = AuthorityCertificateSpec {
            kind: CertificateKind::Ca,
            profile: &self.policy.ca,
            name: &self.configuration.name,
            hosts: &[],
            key: &keys.ca,
        };
        let (serial, ca) = service_certificates::issue(&store, &keys, None, &own, self.now)?;
        token.put_certificate(keys.ca.id(), &self.configuration.name, ca.as_der())?;
        let certificate = StoredObject::Certificate {
            id: hex::encode(keys.ca.id().as_bytes()),
            sha256: Some(ca.fingerprint().to_hex()),
        };
        verify_stored(&token, vec![certificate], new_pin)?;
        let first = self.first_records(&keys, &info, serial, &ca)?;
        let initialized_at = first.identity.initialized_at;
        crash_point("authority.init.before_identity");
        store.initialize(first)?;
        crash_point("authority.init.after_identity");
        Ok(initialized_at)
    }

    fn first_records(
        &self,
        keys: &TokenKeys,
        token: &TokenInfo,
        ca_serial: String,
        ca: &Certificate,
    ) -> Result<FirstRecords, AuthorityError> {
        let now = self.now;
        let authority = *ca.fingerprint().as_bytes();
        let sealer = Sealer::new(keys, authority);
        let administrator = user_record(&sealer, &self.email, self.email.as_str(), now)?;
        let mut grant = GrantRecord {
            user_id: administrator.id.clone(),
            role: Role::Administrator,
            granted_at: now,
            counts_from: None,
            mac: [0; 32],
        };
        grant.mac = sealer.seal_grant(&grant, &administrator)?;
        let wanted = TemporaryKeySpec {
            user_id: administrator.id.clone(),
            purpose: TemporaryKeyPurpose::Enroll,
            levels: self.policy.allowed(&self.configuration.enrollment.levels),
            lost: false,
            statement: None,
            valid_for: self.configuration.enrollment.letter_valid_for,
        };
        let identity = AuthorityIdentity {
            authority,
            token_label: token.label.clone(),
            token_serial: token.serial.clone(),
            epoch: EPOCH,
            initialized_at: now,
        };
        let temporary_key = TemporaryKeys::new(keys, &identity).new_record(&wanted, now)?;
        let detail = json!({
            "authority": ca.fingerprint().to_hex(),
            "audit_key": hex::encode(keys.audit.public_key_der()),
            "administrator": administrator.id,
            "email": administrator.email,
            "reference": temporary_key.reference,
            // A log with this member never counts as one of an older version without seals.
            "sealed": true,
        });
        Ok(FirstRecords {
            identity,
            certificates: vec![ca_serial],
            administrator,
            grant,
            temporary_key,
            entry: audit::entry(now, "authority.initialized", &detail),
        })
    }
}

/// Derives the temporary SO PIN from the new PIN, so that the same call can derive it again after a
/// crash.
fn derived_so_pin(configuration: &Configuration, pin: &Pin) -> Result<Pin, AuthorityError> {
    let mut bytes = Zeroizing::new([0; 16]);
    let info = format!("tokenkeep authority init SO PIN 1 {}", configuration.token.label);
    Hkdf::<Sha256>::new(None, pin.as_str().as_bytes())
        .expand(info.as_bytes(), bytes.as_mut_slice())
        .map_err(|error| AuthorityError::Encode { what: "the SO PIN", reason: error.to_string() })?;
    // No person types it: wrong tries count as unattended.
    Ok(hex_pin(bytes.as_slice())?.unattended())
}

/// Lets another process check that the objects are stored; a warning is logged if that is not
/// possible.
fn verify_stored(token: &AuthorityToken, objects: Vec<StoredObject>, pin: &Pin) -> Result<(), AuthorityError> {
    if let Some(reason) = token.verify_stored(OPERATION, objects, Some(pin))? {
        let token = token.info().name();
        tracing::warn!("cannot check that all objects are stored on {token} ({reason})");
    }
    Ok(())
}

/// Replaces the derived SO PIN with a random one. If the derived one is wrong, an interrupted call
/// has already replaced it.
fn forget_so_pin(token: &AuthorityToken, derived: &Pin) -> Result<(), AuthorityError> {
    let mut bytes = Zeroizing::new([0; 16]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| AuthorityError::Random(error.to_string()))?;
    match token.set_so_pin(derived, &hex_pin(bytes.as_slice())?) {
        Ok(()) => Ok(()),
        Err(TokenError::SoPinIncorrect { .. }) => {
            tracing::info!("the SO PIN was replaced before the interruption");
            Ok(())
        }
        Err(
            error
            @ (TokenError::SoPinLocked { .. } | TokenError::LastTry { .. } | TokenError::TooManyUnattended { .. }),
        ) => {
            tracing::warn!("the SO PIN is left as it is: {error}");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn hex_pin(bytes: &[u8]) -> Result<Pin, AuthorityError> {
    Pin::new(hex::encode(bytes))
        .map_err(|error| AuthorityError::Encode { what: "the SO PIN", reason: error.to_string() })
}
