//! Searches files for secrets, in every encoding in which they might have been written.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokenkeep::letter::Letter;

use super::machine::Machine;

/// A secret, and all encodings that would reveal it.
pub struct Secret {
    pub name: String,
    pub spellings: Vec<(&'static str, Vec<u8>)>,
}

impl Secret {
    /// All encodings of these bytes.
    pub fn bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        let lower = hex::encode(bytes);
        let decimal = bytes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        let mut spellings = vec![
            ("as it is", bytes.to_vec()),
            ("backwards", reversed),
            ("hexadecimal, upper case", lower.to_uppercase().into_bytes()),
            ("as a list", decimal.join(", ").into_bytes()),
            ("as a dense list", decimal.join(",").into_bytes()),
            ("hexadecimal", lower.into_bytes()),
            ("escaped", bytes.escape_ascii().to_string().into_bytes()),
        ];
        // Base64 at any offset in a longer text, without the characters that share bits with
        // neighbors.
        for skipped in 0..3 {
            let text = STANDARD_NO_PAD.encode(&bytes[skipped..]);
            spellings.push(("base64", text.as_bytes()[..text.len() - 2].to_vec()));
        }
        Self { name: name.into(), spellings }
    }

    /// Like [`Self::bytes`], and also in lower case.
    pub fn text(name: impl Into<String>, text: &str) -> Self {
        let mut secret = Self::bytes(name, text.as_bytes());
        secret.spellings.push(("lower case", text.to_lowercase().into_bytes()));
        secret
    }

    /// A letter's temporary key: grouped, as one word, and decoded.
    pub fn temporary_key(machine: &Machine, letter: &str) -> Vec<Self> {
        let key = Letter::parse(&machine.read_text(letter)).unwrap().temporary_key;
        let grouped = key.grouped().to_string();
        let word = grouped.replace('-', "");
        assert_eq!(key.cmp_secret(), word.as_bytes());
        // Five bits per character; of the twenty-sixth, the two bits beyond sixteen bytes are
        // dropped.
        let number = word.bytes().take(26).zip([5; 25].into_iter().chain([3])).fold(0_u128, |number, (c, bits)| {
            let digit = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".iter().position(|digit| *digit == c).unwrap();
            (number << bits) | u128::try_from(digit >> (5 - bits)).unwrap()
        });
        vec![
            Self::text(format!("temporary key of {letter}, grouped"), &grouped),
            Self::text(format!("temporary key of {letter}, spaced"), &grouped.replace('-', " ")),
            Self::text(format!("temporary key of {letter}"), &word),
            Self::bytes(format!("temporary key of {letter}, decoded"), &number.to_be_bytes()),
        ]
    }

    pub fn is_in(&self, content: &[u8]) -> bool {
        !Search::new(std::slice::from_ref(self)).find_in(content).is_empty()
    }
}

/// A secret's name, the name of the encoding, and the encoded bytes.
type Entry<'a> = (&'a str, &'a str, &'a [u8]);

/// Searches for all encodings of many secrets at once, by their first eight bytes.
pub struct Search<'a> {
    beginnings: HashMap<[u8; 8], Vec<Entry<'a>>>,
}

impl<'a> Search<'a> {
    pub fn new(secrets: &'a [Secret]) -> Self {
        let mut beginnings: HashMap<_, Vec<_>> = HashMap::new();
        for secret in secrets {
            for (how, spelling) in &secret.spellings {
                let entry = (secret.name.as_str(), *how, spelling.as_slice());
                beginnings.entry(*spelling.first_chunk().expect("it is too short")).or_default().push(entry);
            }
        }
        Self { beginnings }
    }

    /// The secrets found in the content, with their encodings.
    pub fn find_in(&self, content: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, window) in content.windows(8).enumerate() {
            for (name, how, spelling) in self.beginnings.get(window).into_iter().flatten() {
                if content[at..].starts_with(spelling) {
                    found.insert(format!("{name}, {how}"));
                }
            }
        }
        found
    }
}

pub fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

/// All files below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let below = entries.flat_map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => files(&entry.path()),
        kind if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    below.collect()
}
