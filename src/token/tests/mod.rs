//! Tests of the room on real tokens.

mod transfer;
