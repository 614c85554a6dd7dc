//! The authority as a whole, on real tokens and a real database, spoken to in CMP and in statements.

mod administer;
mod crash;
mod enroll;
mod init;
mod openssl;
mod recover;
mod revived;
mod support;
