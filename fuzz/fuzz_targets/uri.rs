//! A PKCS#11 URI (RFC 7512) from anyone: reading it never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenkeep::token::TokenUri;

fuzz_target!(|data: &str| {
    let _ = data.parse::<TokenUri>();
});
