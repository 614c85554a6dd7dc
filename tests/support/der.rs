//! Splits DER for tests that need the position of bytes. It trusts its input, which tests make.

/// The content of a DER element.
pub fn content_of(element: &[u8]) -> &[u8] {
    let (header, length) = header(element);
    &element[header..header + length]
}

/// The consecutive DER elements.
pub fn elements(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (header, length) = header(rest);
        elements.push(&rest[..header + length]);
        rest = &rest[header + length..];
    }
    elements
}

fn header(element: &[u8]) -> (usize, usize) {
    match element[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, element[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    }
}
