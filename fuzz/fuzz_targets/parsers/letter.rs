//! A letter from anyone. Parsing never panics, and a parsed letter is written so that it parses to
//! the same text.
use tokenkeep::letter::Letter;

pub fn run(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else { return };
    let Ok(letter) = Letter::parse(data) else { return };
    let text = letter.to_text();
    let again = Letter::parse(&text).expect("a written letter can be parsed");
    assert_eq!(again.to_text().as_str(), text.as_str());
}
