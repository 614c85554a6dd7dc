//! The authorities that a command line trusts by their files (`--ca`).

use std::fs;
use std::path::Path;

use super::exit::Failure;
use super::screen::Screen;
use crate::pki::Certificate;
use crate::pki::certificate_file::CertificateFile;

/// The certificates in a file. One that holds none is named, as a mistake of the command line; of those that cannot be read
/// beside good ones a warning is given.
pub fn read(path: &Path, screen: &Screen) -> Result<Vec<Certificate>, Failure> {
    let named = |reason: String| Failure::usage(format!("cannot read the authorities in {}: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|error| named(error.to_string()))?;
    let file = CertificateFile::read(&bytes).map_err(|error| named(error.reason()))?;
    for unreadable in &file.unreadable {
        screen.warning(format!("{} is used without one that cannot be read: {unreadable}", path.display()));
    }
    Ok(file.certificates)
}
