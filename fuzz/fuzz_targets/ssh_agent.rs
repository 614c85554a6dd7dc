//! A message of an SSH agent's client from anyone: reading it never panics, and what is to be signed is one thing at most.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenkeep::agent::ssh::{Request, SignedData};

fuzz_target!(|data: &[u8]| {
    if let Ok(Request::Sign(request)) = Request::read(data) {
        let _ = SignedData::read(request.data);
    }
    // What is signed is read from any byte on, too, so that the fuzzer need not find the frame around it.
    let signed = SignedData::read(data);
    assert_eq!(matches!(signed, Ok(SignedData::SshSig(_))), signed.is_ok() && data.starts_with(b"SSHSIG"));
});
