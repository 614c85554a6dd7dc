//! A budget for the work on one message. Its sender chooses the number of certificates, keys and
//! names in it, and each may have to be tried with every other one.

use std::cell::Cell;

/// The maximum number of signatures that are verified for one message, including those on
/// certificates.
const SIGNATURES_OF_A_MESSAGE: usize = 256;

/// The maximum number of signatures on certificates that are verified in a separate search.
const SIGNATURES_OF_A_SEARCH: usize = 64;

/// The maximum number of comparisons of names with name constraints.
const MAX_COMPARISONS: usize = 1 << 14;

/// The remaining budget. After one refusal, all further work is refused.
#[derive(Debug)]
pub struct WorkLeft {
    signatures: Cell<usize>,
    comparisons: Cell<usize>,
    is_over: Cell<bool>,
}

/// The budget is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many certificates or names to check for one message")]
pub struct TooMuchWork;

impl WorkLeft {
    /// The budget for a message with all its signers.
    pub fn for_message() -> Self {
        Self::new(SIGNATURES_OF_A_MESSAGE)
    }

    /// The budget for the path of one certificate.
    pub fn for_search() -> Self {
        Self::new(SIGNATURES_OF_A_SEARCH)
    }

    fn new(signatures: usize) -> Self {
        Self { signatures: Cell::new(signatures), comparisons: Cell::new(MAX_COMPARISONS), is_over: Cell::new(false) }
    }

    /// Takes `count` signatures from the budget, before a signature is verified that costs as much.
    pub(super) fn take_signatures(&self, count: usize) -> Result<(), TooMuchWork> {
        self.take(&self.signatures, count)
    }

    /// Takes `count` comparisons from the budget, before that many names are parsed or compared.
    pub(super) fn take_comparisons(&self, count: usize) -> Result<(), TooMuchWork> {
        self.take(&self.comparisons, count)
    }

    /// Whether work was refused.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    fn take(&self, left: &Cell<usize>, count: usize) -> Result<(), TooMuchWork> {
        let rest = left.get().checked_sub(count).filter(|_| !self.is_over()).ok_or(TooMuchWork);
        self.is_over.set(rest.is_err());
        rest.map(|rest| left.set(rest))
    }

    /// The remaining signatures and comparisons, and whether work was refused.
    #[cfg(test)]
    pub(crate) fn state(&self) -> (usize, usize, bool) {
        (self.signatures.get(), self.comparisons.get(), self.is_over())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_refusal_no_more_work_is_done() {
        let work = WorkLeft::for_search();
        for _ in 0..SIGNATURES_OF_A_SEARCH {
            assert_eq!(work.take_signatures(1), Ok(()));
        }
        assert_eq!(work.take_comparisons(MAX_COMPARISONS), Ok(()));
        assert_eq!(work.state(), (0, 0, false));
        let work = WorkLeft::for_message();
        assert_eq!(work.take_comparisons(MAX_COMPARISONS + 1), Err(TooMuchWork));
        assert_eq!((work.take_comparisons(1), work.take_signatures(1)), (Err(TooMuchWork), Err(TooMuchWork)));
    }
}
