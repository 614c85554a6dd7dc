//! Releases memory of code that only the startup needs.
//!
//! The kernel maps 64 KiB of a file around each accessed page. Parsing the command line and the
//! configuration, linking and loading modules touch so many pages that half of the program's and
//! its libraries' code stays mapped, though an idle agent needs little of it
//! ([ADR 0011](../../docs/adr/0011-code-given-back.md)). Code that is needed again is mapped again
//! automatically.
#![allow(unsafe_code)] // one madvise call; no safe wrapper can guarantee that no data is lost

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// The kernel's list of this process's mappings (proc(5), `smaps`). Open it before a sandbox
/// forbids that.
#[derive(Debug)]
pub struct MappedCode(Option<File>);

impl MappedCode {
    /// Opens the list; [`Self::release`] reads it.
    pub fn of_this_process() -> Self {
        let list = File::open("/proc/self/smaps");
        Self(list.inspect_err(|error| tracing::debug!(%error, "cannot release the code needed for startup")).ok())
    }

    /// Releases the memory. No thread may load or unload libraries meanwhile.
    pub fn release(self) {
        let mut list = String::new();
        let read = self.0.map(|mut file| file.read_to_string(&mut list));
        if let Some(Err(error)) = read {
            tracing::debug!(%error, "cannot release the code needed for startup");
            return;
        }
        for code in unchanged(&list) {
            let (start, length) = (std::ptr::without_provenance_mut(code.start), code.len());
            // SAFETY: the kernel has just listed this range as a private, read-only mapping of a
            // file in which no page, swapped out or not, differs from the file. No thread unmaps it
            // meanwhile. The next access reads dropped pages from the file again: the same bytes.
            if let Err(error) = unsafe { madvise(start, length, Advice::LinuxDontNeed) } {
                tracing::debug!(%error, "cannot release a mapping needed for startup");
            }
        }
    }
}

/// The unchanged mappings of code and constants from files: read-only, and without private pages,
/// in memory or swapped out. Mappings that the linker filled with addresses have private pages.
fn unchanged(list: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // The current mapping, and how many of its lines have reported zero private pages.
    let mut current: Option<(Range<usize>, usize)> = None;
    for line in list.lines() {
        if let Some((range, is_code)) = mapping(line) {
            current = is_code.then_some((range, 0));
        } else if PRIVATE_PAGES.iter().any(|prefix| line.starts_with(prefix))
            && let Some((range, zero_lines)) = current.take()
            && line.split_whitespace().nth(1) == Some("0")
        {
            if zero_lines + 1 == PRIVATE_PAGES.len() {
                found.push(range);
            } else {
                current = Some((range, zero_lines + 1));
            }
        }
    }
    found
}

/// The lines that count private pages. Both are required: the list of a kernel without one of them
/// is not used.
const PRIVATE_PAGES: [&str; 2] = ["Anonymous:", "Swap:"];

/// Parses a mapping's first line, `start-end rights offset device inode path`: its range, and
/// whether it is a read-only mapping of a file. `None` for other lines.
fn mapping(line: &str) -> Option<(Range<usize>, bool)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let range = address(start)?..address(end)?;
    let (rights, inode) = (fields.next()?, fields.nth(2)?);
    let is_code = ["r-xp", "r--p"].contains(&rights) && inode != "0" && !range.is_empty();
    Some((range, is_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
5581d0000000-5581d0010000 r--p 00000000 fd:00 77 /usr/bin/tokenkeep
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
5581d0010000-5581d0020000 r-xp 00010000 fd:00 77 /usr/bin/tokenkeep
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
5581d0020000-5581d0030000 r-xp 00020000 fd:00 77 /usr/bin/with a breakpoint
Size:  64 kB
Anonymous:  4 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
5581d0030000-5581d0040000 r--p 00030000 fd:00 77 /usr/bin/relocated
Size:  64 kB
Anonymous:  60 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
5581d0050000-5581d0060000 r--p 00030000 fd:00 77 /usr/bin/relocated and swapped out
Size:  64 kB
Anonymous:  0 kB
Swap:  60 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
5581d0040000-5581d0050000 rw-p 00040000 fd:00 77 /usr/bin/tokenkeep
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
7f0000000000-7f0000010000 r--p 00000000 00:00 0
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
7f0000010000-7f0000020000 r-xs 00000000 fd:00 78 /shared
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0 [vdso]
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
Size:  64 kB
Anonymous:  0 kB
Swap:  0 kB
SwapPss:  0 kB
VmFlags: rd mr mw me
";

    #[test]
    fn only_unchanged_mappings_of_files_are_released() {
        assert_eq!(unchanged(LIST), [0x5581_d000_0000..0x5581_d001_0000, 0x5581_d001_0000..0x5581_d002_0000]);
    }

    #[test]
    fn a_malformed_list_releases_nothing() {
        const CLEAN: &str = "Anonymous: 0 kB\nSwap: 0 kB\n";
        for text in [
            String::new(),
            CLEAN.to_owned(),
            format!("x-y r-xp 0 0:0 1 /x\n{CLEAN}"),
            format!("10-10 r-xp 0 0:0 1 /x\n{CLEAN}"),
            format!("20-10 r-xp 0 0:0 1 /x\n{CLEAN}"),
            "1-2 r-xp\n".to_owned(),
            // The first mapping has none of the two lines, the second has only one.
            format!("10-20 r-xp 0 0:0 1 /x\nRss: 0 kB\n30-40 rw-p 0 0:0 1 /x\n{CLEAN}"),
            format!("10-20 r-xp 0 0:0 1 /x\nAnonymous: 0 kB\n30-40 rw-p 0 0:0 1 /x\n{CLEAN}"),
        ] {
            assert!(unchanged(&text).is_empty(), "{text}");
        }
    }
}
