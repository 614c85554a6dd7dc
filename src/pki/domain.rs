//! The canonical spelling of a domain, used for comparison. It covers upper and lower case, a final
//! dot, U-labels and A-labels (`bücher.example`, `xn--bcher-kva.example`), full-width letters and
//! ideographic full stops (UTS 46).

/// The maximum length of a domain in any spelling, in octets: 253 characters (RFC 1035) of up to
/// four octets.
const LONGEST: usize = 1012;

/// The domain in lower case and A-labels, without a final dot. `None` if the domain has no such
/// form: it is too long, or a label is empty or invalid. An address literal (`[192.0.2.1]`) is only
/// lower-cased.
pub(super) fn normal_form(domain: &str) -> Option<String> {
    if domain.len() > LONGEST {
        return None;
    }
    if domain.starts_with('[') && domain.ends_with(']') && domain.is_ascii() {
        return Some(domain.to_ascii_lowercase());
    }
    let ascii = idna::domain_to_ascii(domain).ok()?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    (ascii.is_ascii() && ascii.split('.').all(|label| !label.is_empty())).then(|| ascii.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_one_spelling() {
        for (domain, normal) in [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example.", "xn--bcher-kva.example"),
            ("bu\u{308}cher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("example\u{3002}org", "example.org"),
            ("example\u{ff0e}org\u{ff61}", "example.org"),
            ("\u{ff45}xample.org", "example.org"),
            ("exam\u{ad}ple.org", "example.org"),
            ("_dmarc.example.org", "_dmarc.example.org"),
            ("[192.0.2.1]", "[192.0.2.1]"),
        ] {
            assert_eq!(normal_form(domain).as_deref(), Some(normal), "{domain}");
        }
        for domain in ["", ".", "example..org", ".example.org", "example.org..", "xn--a.example", "xn--\u{fc}.example"]
        {
            assert_eq!(normal_form(domain), None, "{domain}");
        }
        assert_eq!(normal_form(&"a.".repeat(LONGEST)), None);
    }
}
