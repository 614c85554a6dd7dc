//! Tests of the whole authority with real tokens and a real database, through CMP messages and
//! statements.

mod added;
mod administer;
mod crash;
mod ending;
mod enroll;
mod equal_work;
mod init;
mod openssl;
mod recover;
mod revived;
mod rows;
mod support;
