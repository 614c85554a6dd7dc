//! Disables core dumps, and keeps other processes of the same user from reading this process's
//! memory. Runs before any secret is read.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::exit::Failure;

/// Makes this process undumpable. Its children are dumpable again, but inherit the core size limit
/// of zero.
pub fn harden() -> Result<(), Failure> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::fault(format!("cannot disable core dumps: {error}")))
}
