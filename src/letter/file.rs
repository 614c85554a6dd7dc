//! Letter files: created with mode 0600, never overwriting a file, and read with a size limit.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{Letter, LetterError, MAX_LETTER_BYTES, altered};

impl Letter {
    /// Writes the letter's text to a new file with mode 0600, and syncs it before returning.
    ///
    /// # Errors
    /// [`LetterError::Exists`], if the path exists, even as a dangling link; nothing is changed.
    /// [`LetterError::Write`] for every other failure; a partly written file is removed.
    pub fn write_new(&self, path: &Path) -> Result<(), LetterError> {
        let failed = |source| LetterError::Write { path: path.to_owned(), source };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            if error.kind() == ErrorKind::AlreadyExists {
                LetterError::Exists { path: path.to_owned() }
            } else {
                failed(error)
            }
        })?;
        file.write_all(self.to_text().as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
            // Half a letter is useless, and whatever prevents writing may still allow removing.
            let _ = fs::remove_file(path);
            failed(error)
        })
    }

    /// Reads a letter from a file.
    ///
    /// # Errors
    /// [`LetterError::Read`], and the errors of [`Letter::parse`].
    pub fn read_file(path: &Path) -> Result<Self, LetterError> {
        let place = path.display().to_string();
        match fs::File::open(path) {
            Ok(file) => Self::read(file, &place),
            Err(source) => Err(LetterError::Read { place, source }),
        }
    }

    /// Reads a letter from any source; `place` names the source in errors ("standard input").
    ///
    /// # Errors
    /// Those of [`Letter::read_file`].
    pub fn read(source: impl Read, place: &str) -> Result<Self, LetterError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LETTER_BYTES + 1));
        source
            .take(MAX_LETTER_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| LetterError::Read { place: place.to_owned(), source })?;
        if bytes.len() > MAX_LETTER_BYTES {
            return Err(LetterError::TooLong);
        }
        Self::parse(altered::decode_text(&bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::text::tests::example;
    use super::*;

    #[test]
    fn a_letter_file_is_private_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("user.letter");
        example().write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Letter::read_file(&path).unwrap(), example());
    }

    #[test]
    fn a_letter_never_overwrites_a_file_or_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("there");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(example().write_new(&path), Err(LetterError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

        let link = directory.path().join("link");
        symlink(directory.path().join("nowhere"), &link).unwrap();
        assert!(matches!(example().write_new(&link), Err(LetterError::Exists { .. })));
        assert!(!directory.path().join("nowhere").exists());
    }

    #[test]
    fn write_and_read_errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent").join("user.letter");
        let error = example().write_new(&absent).unwrap_err();
        assert!(matches!(error, LetterError::Write { .. }) && error.to_string().contains("user.letter"), "{error}");
        let error = Letter::read_file(&absent).unwrap_err();
        assert!(matches!(error, LetterError::Read { .. }) && error.to_string().contains("user.letter"), "{error}");
        let error = Letter::read_file(directory.path()).unwrap_err();
        assert!(matches!(error, LetterError::Read { .. }), "{error}");
    }

    #[test]
    fn binary_and_oversized_input_is_refused() {
        assert!(matches!(Letter::read(&b"J\xfcrgen"[..], "here"), Err(LetterError::NotUtf8)));
        assert!(matches!(Letter::read(std::io::repeat(b' '), "here"), Err(LetterError::TooLong)));
        assert!(matches!(Letter::read(&b""[..], "here"), Err(LetterError::Missing { .. })));
    }
}
