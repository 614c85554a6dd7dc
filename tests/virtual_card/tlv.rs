//! BER-TLV elements (ISO/IEC 8825-1) with tags of one to three bytes, as in PIV data objects.

use super::apdu::Status;

/// An element: tag, length, content. The bytes of the tag are in the number: `0x5fc105`.
pub fn element(tag: u32, content: &[u8]) -> Vec<u8> {
    let mut element: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    if element.is_empty() {
        element.push(0);
    }
    let [_, _, high, low] = u32::try_from(content.len()).unwrap().to_be_bytes();
    match content.len() {
        0..0x80 => element.push(low),
        0x80..0x100 => element.extend([0x81, low]),
        _ => element.extend([0x82, high, low]),
    }
    element.extend(content);
    element
}

/// The elements that follow each other in the bytes.
pub fn elements(bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, Status> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (tag, content, after) = first(rest).ok_or(Status::WRONG_DATA)?;
        all.push((tag, content));
        rest = after;
    }
    Ok(all)
}

/// The elements with tags of one byte only: vendor commands number their elements freely, so the
/// low five bits have no meaning there.
pub fn plain_elements(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, Status> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let [tag, after @ ..] = rest {
        let (content, after) = content(after).ok_or(Status::WRONG_DATA)?;
        all.push((*tag, content));
        rest = after;
    }
    Ok(all)
}

/// The content of the first element with the tag.
pub fn find<T: Copy + PartialEq>(elements: &[(T, &[u8])], tag: T) -> Option<Vec<u8>> {
    elements.iter().find(|(other, _)| *other == tag).map(|(_, content)| content.to_vec())
}

fn first(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (head, mut rest) = bytes.split_first()?;
    let mut tag = u32::from(*head);
    if head & 0x1f == 0x1f {
        loop {
            let (next, after) = rest.split_first()?;
            if tag > 0xffff {
                return None;
            }
            tag = tag << 8 | u32::from(*next);
            rest = after;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    let (content, rest) = content(rest)?;
    Some((tag, content, rest))
}

/// The content of an element without its tag, and what follows.
fn content(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes {
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [0x81, length, rest @ ..] | [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}
