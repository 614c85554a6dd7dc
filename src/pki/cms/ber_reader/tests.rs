//! Tests of the reader against the conversion in memory.

use super::*;
use crate::pki::test_support::PieceReader;
use crate::pki::tlv::{SEQUENCE, element};

const WHAT: &str = "a test";

/// Reads `SEQUENCE { element, octets, element }`: the elements, and the string twice.
fn read(bytes: &[u8], piece: usize) -> Result<[Vec<u8>; 3], PkiError> {
    let mut reader = BerReader::new(PieceReader::new(bytes, piece), WHAT);
    reader.enter(SEQUENCE)?;
    let first = reader.required(SEQUENCE)?;
    let octets = reader.octets(0x80, 0xa0)?.ok_or_else(|| PkiError::malformed(WHAT, "no string"))?;
    let start = octets.start();
    let (length, mut reader) = octets.skip()?;
    reader.leave()?;
    reader.end()?;
    let mut string = Vec::new();
    BerOctets::read_again(PieceReader::new(bytes, piece), &start, WHAT)?.read_to_end(&mut string).unwrap();
    assert_eq!(string.len() as u64, length);
    Ok([first, string, Vec::new()])
}

#[test]
fn strings_are_read_whole_or_in_segments() {
    let first = [0x30, 0x80, 0x24, 0x80, 4, 1, 1, 4, 0, 0, 0, 0, 0];
    for string in [
        &[0x80, 3, 1, 2, 3][..],
        &[0x80, 0x82, 0, 3, 1, 2, 3],
        &[0xa0, 5, 4, 3, 1, 2, 3],
        &[0xa0, 0x80, 4, 1, 1, 4, 0, 4, 0x81, 2, 2, 3, 0, 0],
        &[0xa0, 0x80, 0x24, 0x80, 4, 1, 1, 0, 0, 0x24, 4, 4, 2, 2, 3, 0, 0],
    ] {
        let inside = [&first[..], string].concat();
        for whole in [element(SEQUENCE, &[&inside]), [&[0x30, 0x80][..], &inside, &[0, 0]].concat()] {
            for piece in 1..4 {
                let [first, string, _] = read(&whole, piece).unwrap();
                assert_eq!((first, string), (vec![0x30, 3, 4, 1, 1], vec![1, 2, 3]), "{whole:?}");
            }
            for end in 0..whole.len() {
                assert!(read(&whole[..end], 100).is_err(), "{end} of {whole:?}");
            }
            assert!(read(&[&whole[..], &[0]].concat(), 100).is_err(), "{whole:?}");
        }
    }
}

#[test]
fn other_forms_are_refused() {
    let deep: Vec<u8> = [0x24, 0x80].repeat(40);
    for string in [
        &[0x80, 0x80, 1, 0, 0][..],
        &[0xa0, 2, 5, 0],
        &[0xa0, 0x80, 0x80, 1, 1, 0, 0],
        &[0xa0, 2, 0, 0],
        &[0xa0, 4, 4, 3, 1, 2],
        &[0xa0, 5, 0x24, 4, 4, 1, 1],
        &[0xa1, 0],
        &[0x80, 0x85, 0, 0, 0, 0, 1, 1],
        &[0x80, 0xff, 1],
        &[&[0xa0, 0x80][..], &deep].concat(),
        &[0x80, 0x84, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x80, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    ] {
        assert!(read(&element(SEQUENCE, &[&[0x30, 0], string]), 100).is_err(), "{string:?}");
        assert!(read(&[&[0x30, 0x80, 0x30, 0][..], string, &[0, 0]].concat(), 100).is_err(), "{string:?}");
    }
}

#[test]
fn long_and_endless_elements_are_not_loaded() {
    let refused = |bytes: &[u8]| {
        let endless = io::repeat(bytes[bytes.len() - 1]);
        let mut reader = BerReader::new(bytes.chain(endless), WHAT);
        reader.enter(SEQUENCE).unwrap();
        let error = reader.required(SEQUENCE).unwrap_err().to_string();
        assert!(error.contains("1 MiB"), "{error}");
    };
    refused(&[0x30, 0x80, 0x30, 0x83, 0x20, 0, 0, 1]);
    refused(&[0x30, 0x80, 0x30, 0x80, 4]);
    let begin = [0x30, 0x80, 0x30, 0x83, 0x0f, 0xff, 0xf0];
    let mut reader = BerReader::new((&begin[..]).chain(io::repeat(0)), WHAT);
    reader.enter(SEQUENCE).unwrap();
    assert!(reader.required(SEQUENCE).unwrap().len() < LONGEST_ELEMENT);
}

/// Reads all elements in a SEQUENCE of OCTET STRINGs.
fn read_elements(bytes: &[u8]) -> Result<Vec<u8>, PkiError> {
    let mut reader = BerReader::new(bytes, WHAT);
    reader.enter(SEQUENCE)?;
    let mut inside = Vec::new();
    while let Some(element) = reader.optional(OCTET_STRING)? {
        inside.extend(element);
    }
    reader.leave()?;
    reader.end()?;
    Ok(inside)
}

/// The octets of headers, and few others.
const OCTETS: [u8; 9] = [0, 1, 2, 3, 4, 0x24, 0x30, 0x80, 0x81];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    #[test]
    fn it_reads_what_the_conversion_reads(
        bytes in proptest::collection::vec(proptest::sample::select(OCTETS.to_vec()), 0..24),
    ) {
        let bytes = [&[0x30, 0x80][..], &bytes].concat();
        let _ = read(&bytes, 1);
        if let Ok(inside) = read_elements(&bytes) {
            let definite = ber::to_definite(&bytes, WHAT).unwrap();
            assert_eq!(definite, element(SEQUENCE, &[&inside]));
        }
    }
}
