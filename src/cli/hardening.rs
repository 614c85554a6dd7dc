//! No core dumps, and no other process of the same user looking into this one's memory: before any secret is read.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::exit::Failure;

/// Makes this process undumpable; its children are dumpable again, but have the limit of zero.
pub fn harden() -> Result<(), Failure> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::fault(format!("cannot switch off core dumps: {error}")))
}
