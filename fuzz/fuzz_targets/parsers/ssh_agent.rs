//! An SSH agent client's message from anyone. Parsing never panics, and the data to be signed has
//! at most one meaning. The input is a conversation, as in `tests/corpus/ssh`: messages with length
//! prefixes.
use tokenkeep::agent::ssh::{SignedData, SshRequest};

pub fn run(data: &[u8]) {
    let mut rest = data;
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (message, more) = more.split_at_checked(length).unwrap_or((more, &[]));
        if let Ok(SshRequest::Sign(request)) = SshRequest::read(message) {
            read_signed(request.data);
        }
        rest = more;
    }
    // The data to be signed is also parsed alone, so that the fuzzer need not find the frame around
    // it.
    read_signed(data);
}

fn read_signed(data: &[u8]) {
    let signed = SignedData::read(data);
    assert_eq!(matches!(signed, Ok(SignedData::SshSig(_))), signed.is_ok() && data.starts_with(b"SSHSIG"));
}
