//! Reads the certificate files of authorities to trust (`--ca`).

use std::fs;
use std::path::Path;

use super::exit::Failure;
use super::output::Output;
use crate::pki::Certificate;
use crate::pki::certificate_file::CertificateFile;

/// The certificates in a file. A file without a certificate is a usage error; an unreadable
/// certificate beside readable ones is a warning.
pub fn read(path: &Path, output: &Output) -> Result<Vec<Certificate>, Failure> {
    let named = |reason: String| Failure::usage(format!("cannot read the authorities in {}: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|error| named(error.to_string()))?;
    let file = CertificateFile::read(&bytes).map_err(|error| named(error.reason()))?;
    for unreadable in &file.unreadable {
        output.warning(format!("ignored an unreadable certificate in {}: {unreadable}", path.display()));
    }
    Ok(file.certificates)
}
