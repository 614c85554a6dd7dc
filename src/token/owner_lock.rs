//! One process owns a token: a lock on a file named by module and serial number says which.
