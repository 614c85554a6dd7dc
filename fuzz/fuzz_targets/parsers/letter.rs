//! A letter from anyone: reading it never panics, and what was read is written so that it reads the same.
use tokenkeep::letter::Letter;

pub fn run(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else { return };
    let Ok(letter) = Letter::parse(data) else { return };
    let text = letter.to_text();
    let again = Letter::parse(&text).expect("a letter that was written can be read");
    assert_eq!(again.to_text().as_str(), text.as_str());
}
