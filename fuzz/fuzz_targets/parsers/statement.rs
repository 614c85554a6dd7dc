//! An administrator's statement from anyone. Parsing never panics: neither the signed message, nor
//! the JSON in it, nor an alleged response of the authority.
use std::sync::LazyLock;

use tokenkeep::pki::Certificate;
use tokenkeep::statement::{SignedResponse, SignedStatement, Statement, StatementChannel};

static CA: LazyLock<Certificate> = LazyLock::new(|| {
    let der = include_bytes!("../../../tests/corpus/cmp/parts/certificate.der");
    Certificate::from_der(der).expect("a certificate")
});

pub fn run(data: &[u8]) {
    let now = CA.not_before();
    if let Ok(signed) = SignedStatement::parse(data) {
        assert_eq!(signed.as_der(), data);
        let own = signed.claimed_certificate().clone();
        let _ = signed.claimed_statement();
        let _ = signed.verify(&own, CA.fingerprint(), StatementChannel::File, now);
        assert!(signed.verify(&CA, CA.fingerprint(), StatementChannel::Online, now).is_err());
    }
    if let Ok(statement) = Statement::from_json(data) {
        let json = statement.to_json().expect("a parsed statement can be encoded");
        assert_eq!(Statement::from_json(&json).ok(), Some(statement));
    }
    let response = SignedResponse::from_der(data.to_vec());
    let _ = response.claimed_refusal();
    assert!(response.verify(&CA, [0; 32], now).is_err());
}
