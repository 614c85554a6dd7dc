//! Counts the calls in progress to each module, in a memory file that outlives the process.
//!
//! If the process crashes, the holder of the file sees which module it was calling. The agent's
//! supervisor makes the file and passes it to its worker. Processes without a file count nothing.
//!
//! A call is counted while the lock of its module or token is held ([`Calling`]); the closing of a
//! session at the end of a token is not. The file has one count of 32 bits in native byte order per
//! module, then the modules' paths, each ended by a zero byte.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::raw::{self, COUNT_BYTES};

/// Size of the file in bytes.
const FILE_BYTES: usize = 64 * 1024;

/// The counts of one process, as its parent reads them.
#[derive(Debug)]
pub struct CallCounts(File);

impl CallCounts {
    /// Makes an empty file.
    ///
    /// # Errors
    /// The kernel refuses a memory file.
    pub fn create() -> io::Result<Self> {
        // Linux before 6.3 does not know the second flag.
        let file = memfd_create("calls", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("calls", MemfdFlags::CLOEXEC))?;
        ftruncate(&file, FILE_BYTES as u64)?;
        Ok(Self(file.into()))
    }

    /// The modules with calls in progress.
    pub fn called_modules(&self) -> Vec<PathBuf> {
        let mut bytes = vec![0; FILE_BYTES];
        if self.0.read_exact_at(&mut bytes, 0).is_err() {
            return Vec::new();
        }
        let (counts, paths) = bytes.split_at(COUNT_BYTES);
        let paths = paths.split(|byte| *byte == 0).take_while(|path| !path.is_empty());
        let called =
            counts.chunks_exact(size_of::<u32>()).zip(paths).filter(|(count, _)| count.iter().any(|b| *b != 0));
        called.map(|(_, path)| std::ffi::OsString::from_vec(path.to_vec()).into()).collect()
    }
}

impl AsFd for CallCounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// This process's counts.
struct OwnCounts {
    counts: &'static [AtomicU32],
    /// canonical paths
    modules: Vec<PathBuf>,
}

static OWN: OnceLock<OwnCounts> = OnceLock::new();

/// Counts this process's calls to these modules in the file, from now on. Call it once, before the
/// first module is loaded.
///
/// # Errors
/// The paths do not fit into the file, or the kernel refuses to map it.
pub fn count_calls_in(file: OwnedFd, modules: &[PathBuf]) -> io::Result<()> {
    let file = File::from(file);
    let paths: Vec<u8> = modules.iter().flat_map(|path| [path.as_os_str().as_bytes(), &[0]].concat()).collect();
    if paths.len() >= FILE_BYTES - COUNT_BYTES || modules.len() > COUNT_BYTES / size_of::<u32>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.write_all_at(&paths, COUNT_BYTES as u64)?;
    let counts = raw::map_counts(&file)?;
    let modules = modules.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    // The first setting wins.
    let _ = OWN.set(OwnCounts { counts, modules });
    Ok(())
}

/// The count of one module; `None` in a process that counts nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallCount(Option<&'static AtomicU32>);

impl CallCount {
    /// For the module with this canonical path.
    pub(super) fn of(module: &Path) -> Self {
        let own = OWN.get().and_then(|own| {
            let place = own.modules.iter().position(|other| other == module)?;
            own.counts.get(place)
        });
        Self(own)
    }

    /// Counts a call as long as the returned value lives.
    pub(super) fn begin(self) -> Call {
        if let Some(count) = self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Call(self.0)
    }
}

/// A call in progress.
#[derive(Debug)]
#[must_use]
pub(super) struct Call(Option<&'static AtomicU32>);

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// A lock under which its holder calls the module.
#[derive(Debug)]
#[must_use]
pub(super) struct Calling<G> {
    _call: Call,
    _lock: G,
}

impl<G> Calling<G> {
    /// Counts a call under this lock.
    pub(super) fn under(lock: G, count: CallCount) -> Self {
        Self { _call: count.begin(), _lock: lock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_modules_with_calls_in_progress() {
        let counts = CallCounts::create().unwrap();
        assert_eq!(counts.called_modules(), Vec::<PathBuf>::new());
        let shared = counts.as_fd().try_clone_to_owned().unwrap();
        let modules = ["/one.so", "/two, or so.so"].map(PathBuf::from);
        count_calls_in(shared, &modules).unwrap();
        assert_eq!(counts.called_modules(), Vec::<PathBuf>::new());
        let second = CallCount::of(&modules[1]);
        let calls = [second.begin(), second.begin()];
        assert_eq!(counts.called_modules(), [modules[1].clone()]);
        let first = CallCount::of(&modules[0]).begin();
        assert_eq!(counts.called_modules(), modules);
        drop(calls);
        assert_eq!(counts.called_modules(), [modules[0].clone()]);
        drop(first);
        assert_eq!(counts.called_modules(), Vec::<PathBuf>::new());
        let uncounted = CallCount::of(Path::new("/another.so")).begin();
        assert_eq!(counts.called_modules(), Vec::<PathBuf>::new());
        drop(uncounted);
    }

    #[test]
    fn paths_that_do_not_fit_are_refused() {
        let counts = CallCounts::create().unwrap();
        let shared = || counts.as_fd().try_clone_to_owned().unwrap();
        assert!(count_calls_in(shared(), &[PathBuf::from("x".repeat(FILE_BYTES))]).is_err());
        assert!(count_calls_in(shared(), &vec![PathBuf::from("x"); COUNT_BYTES]).is_err());
        assert_eq!(counts.called_modules(), Vec::<PathBuf>::new());
    }
}
