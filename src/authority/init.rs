//! `authority init`: makes token, keys, certificates and database, and the first administrator's
//! letter.
//!
//! A crash may follow any step. A marker file in the state directory records that an `init` is in
//! progress, and its token; the same call with the same PIN resumes it. The database's identity row
//! comes last: without it there is no authority.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hkdf::Hkdf;
use jiff::Timestamp;
use rustix::fs::Access;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::policy::Policy;
use super::seal::Sealer;
use super::service_certificates::{self, AuthorityCertificateSpec};
use super::temporary_key::{self, TemporaryKeySpec};
use super::token_keys::TokenKeys;
use super::{Authority, AuthorityError, Configuration, audit, crash_point, user_record};
use crate::letter::Letter;
use crate::pki::{Certificate, EmailAddress, PkiError};
use crate::store::{AuthorityIdentity, CertificateKind, FirstRecords, GrantRecord, Role, Store, TemporaryKeyPurpose};
use crate::token::check::StoredObject;
use crate::token::{AUTHORITY_MARK, AuthorityToken, Pin, PinRule, TokenError, TokenInfo, TokenSource};

/// The name of the marker file in the state directory.
const MARKER: &str = "init-under-way";
/// The name of the operation in errors.
const OPERATION: &str = "make the authority";
/// The label of the object that marks the authority's token.
const MARK_LABEL: &str = "authority";
/// The first epoch.
const EPOCH: u64 = 1;

/// Checks and makes an authority, for callers that already have the PINs and deliver the letter
/// themselves.
#[allow(clippy::needless_pass_by_value)] // consumes the PINs, which were typed for this call only
pub fn init(
    configuration: &Configuration,
    new_pin: Pin,
    so_pin: Option<Pin>,
    first_administrator: &str,
    now: Timestamp,
) -> Result<Letter, AuthorityError> {
    PreparedInit::check(configuration, first_administrator, now)?.execute(&new_pin, so_pin.as_ref(), |_| Ok(()))
}

/// A checked `init`: everything that can be refused without a PIN was checked, and nothing is made
/// yet.
#[derive(Debug)]
pub struct PreparedInit<'a> {
    configuration: &'a Configuration,
    policy: Policy,
    source: TokenSource,
    email: EmailAddress,
    now: Timestamp,
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
        let source = configuration.token_source()?;
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

    /// Makes an authority: token, keys, certificates, database, and the first administrator, whose
    /// letter is returned.
    ///
    /// The same call with the same PIN completes an interrupted one. Without `so_pin` the token's
    /// final SO PIN is random and not stored.
    ///
    /// `hand_over` writes the letter. The authority counts as made only after that: after an
    /// earlier crash, the same call hands over the same letter.
    pub fn execute<E: From<AuthorityError>>(
        &self,
        new_pin: &Pin,
        so_pin: Option<&Pin>,
        hand_over: impl FnOnce(&Letter) -> Result<(), E>,
    ) -> Result<Letter, E> {
        let state = StateDirectory::prepare(self.configuration).map_err(E::from)?;
        let letter = self.make(&state, new_pin, so_pin)?;
        hand_over(&letter)?;
        crash_point("authority.init.after_letter");
        state.finish()?;
        Ok(letter)
    }

    fn make(&self, state: &StateDirectory, new_pin: &Pin, so_pin: Option<&Pin>) -> Result<Letter, AuthorityError> {
        // After a crash between the last step and the writing of the letter, the same call returns
        // the same letter.
        let store = state.database()?;
        if let Some(identity) = store.identity()? {
            drop(store);
            let authority = Authority::open(self.configuration.clone(), new_pin, self.now)?;
            return authority.first_letter(&identity);
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
        let identity = first.identity.clone();
        crash_point("authority.init.before_identity");
        store.initialize(first)?;
        crash_point("authority.init.after_identity");
        drop((store, keys, token));
        Authority::open(self.configuration.clone(), new_pin, self.now)?.first_letter(&identity)
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
        let temporary_key = temporary_key::new_record(keys, &sealer, EPOCH, &wanted, now)?;
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
            identity: AuthorityIdentity {
                authority,
                token_label: token.label.clone(),
                token_serial: token.serial.clone(),
                epoch: EPOCH,
                initialized_at: now,
            },
            certificates: vec![ca_serial],
            administrator,
            grant,
            temporary_key,
            entry: audit::entry(now, "authority.initialized", &detail),
        })
    }
}

/// The state directory during `init`.
struct StateDirectory {
    directory: PathBuf,
    database: PathBuf,
}

impl StateDirectory {
    /// Checks whether an `init` can start or resume, and makes nothing. Returns the serial number
    /// of the token of an interrupted one. Refuses a directory with other files, or without write
    /// permission.
    fn find_started_init(configuration: &Configuration) -> Result<Option<String>, AuthorityError> {
        let directory = &configuration.state;
        let fault = |source| AuthorityError::State { path: directory.clone(), source };
        match names_in(directory) {
            Ok(names) if names.is_empty() => {}
            Ok(names) if !names.iter().any(|name| name == MARKER) => {
                return Err(AuthorityError::StateNotEmpty(directory.clone()));
            }
            Ok(_) => {
                may_be_written(directory).map_err(fault)?;
                let serial = fs::read_to_string(directory.join(MARKER)).map_err(fault)?;
                return Ok(Some(serial).filter(|serial| !serial.is_empty()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(error)),
        }
        let exists = |path: &&Path| fs::symlink_metadata(path).is_ok();
        let parent = directory.ancestors().filter(|path| *path != Path::new("")).find(exists);
        may_be_written(parent.unwrap_or(Path::new("."))).map_err(fault)?;
        Ok(None)
    }

    /// Makes the directory (mode 0700) and the marker, if [`StateDirectory::find_started_init`]
    /// refuses nothing.
    fn prepare(configuration: &Configuration) -> Result<Self, AuthorityError> {
        Self::find_started_init(configuration)?;
        let directory = configuration.state.clone();
        let fault = |source| AuthorityError::State { path: directory.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(fault)?;
        let names = names_in(&directory).map_err(fault)?;
        let state = Self { database: configuration.database(), directory: directory.clone() };
        if names.is_empty() {
            state.write_marker("").map_err(fault)?;
            crash_point("authority.init.after_marker");
        }
        Ok(state)
    }

    /// Opens the database, created if missing, with mode 0600.
    fn database(&self) -> Result<Store, AuthorityError> {
        let fault = |source| AuthorityError::State { path: self.database.clone(), source };
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.database)
            .and_then(|file| file.sync_all())
            .map_err(fault)?;
        Ok(Store::create(&self.database)?)
    }

    /// Returns this `init`'s token: the one in the marker, or a new one, which the marker then
    /// names.
    fn token(
        &self,
        configuration: &Configuration,
        source: &TokenSource,
        so_pin: &Pin,
        pin: &Pin,
    ) -> Result<TokenInfo, AuthorityError> {
        let fault = |source| AuthorityError::State { path: self.directory.clone(), source };
        let serial = fs::read_to_string(self.directory.join(MARKER)).map_err(fault)?;
        if !serial.is_empty()
            && let Some(token) = source.tokens()?.into_iter().find(|token| token.serial == serial)
        {
            return Ok(token);
        }
        let token = source.create_token(&configuration.token.label, so_pin, pin)?;
        crash_point("authority.init.before_marker_names_token");
        self.write_marker(&token.serial).map_err(fault)?;
        Ok(token)
    }

    /// Replaces the marker atomically.
    fn write_marker(&self, serial: &str) -> io::Result<()> {
        let (marker, next) = (self.directory.join(MARKER), self.directory.join(format!("{MARKER}.new")));
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
        file.write_all(serial.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &marker)?;
        sync_directory(&self.directory)
    }

    fn finish(&self) -> Result<(), AuthorityError> {
        fs::remove_file(self.directory.join(MARKER))
            .and_then(|()| sync_directory(&self.directory))
            .map_err(|source| AuthorityError::State { path: self.directory.clone(), source })
    }
}

/// Lists the state directory, without an unfinished new marker.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
    names.retain(|name| *name != format!("{MARKER}.new"));
    Ok(names)
}

fn may_be_written(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
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

impl Authority {
    /// Returns the first administrator's letter, if it is unused.
    fn first_letter(&self, identity: &AuthorityIdentity) -> Result<Letter, AuthorityError> {
        for user in self.store.users()? {
            for record in self.store.temporary_keys_of(&user.id)? {
                if record.statement.is_none() && record.issued_at == identity.initialized_at {
                    let record = self.sealer.check_temporary_key(record)?;
                    let user = self.sealer.check_user(user)?;
                    return self.letter(&record, &user);
                }
            }
        }
        Err(AuthorityError::Tampered("the first administrator's letter".into()))
    }
}
