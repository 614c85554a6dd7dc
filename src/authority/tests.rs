//! Tests of the whole authority with real tokens and a real database, through CMP messages and
//! statements.

mod add_administrator;
mod administer;
mod crash;
mod enroll;
mod equal_work;
mod expiry;
mod init;
mod log_position;
mod openssl;
mod recover;
mod rows;
mod support;
mod tampering;
