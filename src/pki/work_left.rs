//! How much work is done for one message. Its sender chooses how many certificates, keys and names
//! it brings, and each of them may have to be tried with each other one.

use std::cell::Cell;

/// Signatures verified for one message, those on certificates included.
const SIGNATURES_OF_A_MESSAGE: usize = 256;

/// Signatures on certificates verified in a search of its own.
const SIGNATURES_OF_A_SEARCH: usize = 64;

/// Comparisons of names with name constraints, whatever authorities and certificates say.
const MOST_COMPARISONS: usize = 1 << 14;

/// The work that may still be done. Once something was refused, all further work is.
#[derive(Debug)]
pub struct WorkLeft {
    signatures: Cell<usize>,
    comparisons: Cell<usize>,
    is_over: Cell<bool>,
}

/// More work than is done for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are more certificates or names than are gone through for one message")]
pub struct TooMuchWork;

impl WorkLeft {
    /// For a message with all its signers.
    pub fn for_message() -> Self {
        Self::new(SIGNATURES_OF_A_MESSAGE)
    }

    /// For one certificate's way to an authority.
    pub fn for_search() -> Self {
        Self::new(SIGNATURES_OF_A_SEARCH)
    }

    fn new(signatures: usize) -> Self {
        Self { signatures: Cell::new(signatures), comparisons: Cell::new(MOST_COMPARISONS), is_over: Cell::new(false) }
    }

    /// Before a signature is verified, which costs as much as so many ordinary ones.
    pub(super) fn take_signatures(&self, count: usize) -> Result<(), TooMuchWork> {
        self.take(&self.signatures, count)
    }

    /// Before so many names are read or compared.
    pub(super) fn take_comparisons(&self, count: usize) -> Result<(), TooMuchWork> {
        self.take(&self.comparisons, count)
    }

    /// Whether something was refused.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    fn take(&self, left: &Cell<usize>, count: usize) -> Result<(), TooMuchWork> {
        let rest = left.get().checked_sub(count).filter(|_| !self.is_over()).ok_or(TooMuchWork);
        self.is_over.set(rest.is_err());
        rest.map(|rest| left.set(rest))
    }

    /// Signatures and comparisons that are left, and whether something was refused.
    #[cfg(test)]
    pub(crate) fn state(&self) -> (usize, usize, bool) {
        (self.signatures.get(), self.comparisons.get(), self.is_over())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_nothing_more_is_done() {
        let work = WorkLeft::for_search();
        for _ in 0..SIGNATURES_OF_A_SEARCH {
            assert_eq!(work.take_signatures(1), Ok(()));
        }
        assert_eq!(work.take_comparisons(MOST_COMPARISONS), Ok(()));
        assert_eq!(work.state(), (0, 0, false));
        let work = WorkLeft::for_message();
        assert_eq!(work.take_comparisons(MOST_COMPARISONS + 1), Err(TooMuchWork));
        assert_eq!((work.take_comparisons(1), work.take_signatures(1)), (Err(TooMuchWork), Err(TooMuchWork)));
    }
}
