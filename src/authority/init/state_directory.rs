//! The state directory during `init`. A marker file in it records that an `init` is in progress,
//! and its token.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::authority::{AuthorityError, Configuration};
use crate::crash_point::reached as crash_point;
use crate::store::Store;
use crate::token::{Pin, TokenInfo, TokenSource};

/// The name of the marker file.
const MARKER: &str = "init-under-way";

/// The state directory during `init`.
pub(super) struct StateDirectory {
    directory: PathBuf,
    database: PathBuf,
}

impl StateDirectory {
    /// Checks whether an `init` can start or resume, and makes nothing. Returns the serial number
    /// of the token of an interrupted one. Refuses a directory with other files, or without write
    /// permission.
    pub(super) fn find_started_init(configuration: &Configuration) -> Result<Option<String>, AuthorityError> {
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
    pub(super) fn prepare(configuration: &Configuration) -> Result<Self, AuthorityError> {
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
    pub(super) fn database(&self) -> Result<Store, AuthorityError> {
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
    pub(super) fn token(
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

    pub(super) fn finish(&self) -> Result<(), AuthorityError> {
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
