//! An administrator's command: a statement signed with a keyset's signing key, one use, one PIN, and the response checked.
