//! A letter from anyone: reading it never panics, and what was read is written so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenkeep::letter::Letter;

fuzz_target!(|data: &str| {
    let Ok(letter) = Letter::parse(data) else { return };
    let text = letter.to_text();
    let again = Letter::parse(&text).expect("a letter that was written can be read");
    assert_eq!(again.to_text().as_str(), text.as_str());
});
