//! Temporary files without a name: for content of any length, which no other user can read. Such a
//! file is deleted when its last descriptor is closed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};

/// Contents up to this length in bytes stay in memory, if no directory is named for them.
pub const MAX_IN_MEMORY: u64 = 8 * 1024 * 1024;

/// Creates a file in this directory, if that is possible. Otherwise the file is in memory for up to
/// [`MAX_IN_MEMORY`] bytes, and in the directory for temporary files for more.
///
/// # Errors
/// The error of the directory for temporary files, with its path.
pub fn create(directory: Option<&Path>, size: u64) -> io::Result<File> {
    if let Some(file) = directory.and_then(|directory| create_in(directory).ok()) {
        return Ok(file);
    }
    if size <= MAX_IN_MEMORY {
        return Ok(rustix::fs::memfd_create("tokenkeep", MemfdFlags::CLOEXEC)?.into());
    }
    let directory = std::env::temp_dir();
    create_in(&directory).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))
}

fn create_in(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        Err(_) => create_and_unlink(directory),
    }
}

/// For file systems without `O_TMPFILE`, such as NFS: creates a file with a name and removes the
/// name before anything is written.
fn create_and_unlink(directory: &Path) -> io::Result<File> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = directory.join(format!(".tokenkeep-{}", hex::encode(random)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn holds_content(mut file: &File) -> bool {
        let mut content = String::new();
        file.write_all(b"content").and_then(|()| file.rewind()).unwrap();
        file.read_to_string(&mut content).unwrap();
        content == "content"
    }

    #[test]
    fn a_temporary_file_has_no_name_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        for file in [create_in(directory.path()).unwrap(), create_and_unlink(directory.path()).unwrap()] {
            let found = file.metadata().unwrap();
            assert_eq!((found.nlink(), found.mode() & 0o777), (0, 0o600));
            assert_eq!(found.dev(), fs::metadata(directory.path()).unwrap().dev(), "it is in the directory");
            assert!(holds_content(&file));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_made_without_a_usable_directory() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert!(create_in(&missing).is_err() && create_and_unlink(&missing).is_err());
        let devices = |size| {
            let file = create(Some(&missing), size).unwrap();
            assert!(holds_content(&file));
            file.metadata().unwrap().dev()
        };
        let of_temporary_files = create_in(&std::env::temp_dir()).unwrap().metadata().unwrap().dev();
        assert_ne!(devices(MAX_IN_MEMORY), of_temporary_files, "a short content is in memory");
        assert_eq!(devices(MAX_IN_MEMORY + 1), of_temporary_files, "a long one is not");
    }
}
