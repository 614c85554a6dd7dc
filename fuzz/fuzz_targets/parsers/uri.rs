//! A PKCS#11 URI (RFC 7512) from anyone. Parsing never panics.
use tokenkeep::token::TokenUri;

pub fn run(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else { return };
    let _ = data.parse::<TokenUri>();
}
