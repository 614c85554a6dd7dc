//! Who is at the other end of a connection.

/// A process that has connected, as the kernel names it (`SO_PEERCRED`): another user's never gets this far.
///
/// The process id is as of the connection: the program behind it can have changed since, or have been chosen to
/// deceive, so that what is shown of it is advice to a person and decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// its process id
    pub pid: i32,
    /// its effective user id
    pub uid: u32,
}
