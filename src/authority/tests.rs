//! The authority as a whole, on real tokens and a real database, spoken to in CMP and in statements.

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
