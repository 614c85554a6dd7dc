//! What names an authority may certify (RFC 5280 §4.2.1.10): of mailboxes, hosts, addresses and in the tree of names.
//!
//! It must never pass over a constraint: one of a kind that is not known here, where there is a name of that kind, leaves the
//! certificate unchecked.

use super::cms::tlv::{Elements, SEQUENCE, context_constructed};
use super::domain::normal_form;
use super::{Certificate, GeneralName, PkiError, same_address};

const WHAT: &str = "name constraints";

/// Comparisons for one certificate, whatever an authority and it say; OpenSSL stops at four times as many.
const MOST_COMPARISONS: usize = 1 << 18;

/// The extension's two lists.
pub(super) struct NameConstraints {
    permitted: Vec<GeneralName>,
    excluded: Vec<GeneralName>,
}

/// Why a certificate may not be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// One of its names is excluded, or not among the permitted ones.
    Forbidden,
    /// Nobody here can tell; says why.
    Unchecked(String),
}

impl NameConstraints {
    pub(super) fn read(value: &[u8]) -> Result<Self, PkiError> {
        let mut outer = Elements::of(value, WHAT);
        let mut lists = outer.required(SEQUENCE)?.inside(WHAT);
        outer.end()?;
        let mut list = |number| match lists.optional(context_constructed(number))? {
            Some(list) => subtrees(list.inside(WHAT)),
            None => Ok(Vec::new()),
        };
        let (permitted, excluded) = (list(0)?, list(1)?);
        lists.end()?;
        Ok(Self { permitted, excluded })
    }

    /// The alternative names, the subject, and the mailboxes in the subject.
    pub(super) fn check(&self, certificate: &Certificate) -> Result<(), Breach> {
        let mut names = certificate.alternative_names();
        let subject = certificate.subject_name();
        names.extend(subject.email_addresses().into_iter().map(GeneralName::Email));
        if !subject.is_empty() {
            names.push(GeneralName::Directory(subject.clone()));
        }
        if names.len().saturating_mul(self.permitted.len() + self.excluded.len()) > MOST_COMPARISONS {
            return Err(Breach::Unchecked("it has too many names for its authority's name constraints".into()));
        }
        names.iter().try_for_each(|name| self.check_name(name))
    }

    fn check_name(&self, name: &GeneralName) -> Result<(), Breach> {
        let same_kind = |base: &&GeneralName| base.kind() == name.kind();
        let (mut permitted, mut is_bound) = (false, false);
        for base in self.excluded.iter().filter(same_kind) {
            if is_within(name, base)? {
                return Err(Breach::Forbidden);
            }
        }
        for base in self.permitted.iter().filter(same_kind) {
            is_bound = true;
            permitted |= is_within(name, base)?;
        }
        if is_bound && !permitted { Err(Breach::Forbidden) } else { Ok(()) }
    }
}

/// `GeneralSubtrees`. RFC 5280 knows no minimum but 0, and no maximum.
fn subtrees(list: Elements<'_>) -> Result<Vec<GeneralName>, PkiError> {
    let subtree = |subtree: super::cms::tlv::Element<'_>| {
        let mut parts = Elements::of(subtree.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        let base = GeneralName::from_element(parts.any()?);
        let minimum = parts.optional(super::cms::tlv::context(0))?;
        if !parts.is_empty() || minimum.is_some_and(|minimum| minimum.value.iter().any(|octet| *octet != 0)) {
            return Err(PkiError::malformed(WHAT, "they have a distance, which RFC 5280 does not allow"));
        }
        Ok(base)
    };
    list.all()?.into_iter().map(subtree).collect()
}

fn is_within(name: &GeneralName, base: &GeneralName) -> Result<bool, Breach> {
    Ok(match (name, base) {
        (GeneralName::Email(name) | GeneralName::Utf8Mailbox(name), GeneralName::Email(base)) => {
            is_mailbox_in(name, base)?
        }
        (GeneralName::Dns(name), GeneralName::Dns(base)) => is_host_in(name, base)?,
        (GeneralName::Directory(name), GeneralName::Directory(base)) => name.is_within(base),
        (GeneralName::Ip(name), GeneralName::Ip(base)) if base.len() == 2 * name.len() => {
            let (network, mask) = base.split_at(name.len());
            name.iter().zip(network).zip(mask).all(|((name, network), mask)| name & mask == network & mask)
        }
        // An address of the other family: another network in any case.
        (GeneralName::Ip(name), GeneralName::Ip(base))
            if [4, 16].contains(&name.len()) && [8, 32].contains(&base.len()) =>
        {
            false
        }
        _ => {
            let reason = "its authority's name constraints are of a kind that this program cannot compare";
            return Err(Breach::Unchecked(reason.into()));
        }
    })
}

/// A mailbox, a host (its mailboxes alone), or, with a dot before it, all hosts below a domain.
fn is_mailbox_in(name: &str, base: &str) -> Result<bool, Breach> {
    let host = |mailbox: &str| mailbox.rsplit_once('@').map_or_else(|| mailbox.to_owned(), |(_, host)| host.to_owned());
    if base.is_empty() {
        return Ok(true);
    }
    let normal = normal_name(&host(name))?;
    if base.contains('@') {
        normal_base(&host(base))?;
        return Ok(same_address(name, base));
    }
    match base.strip_prefix('.') {
        Some(parent) => Ok(is_below(&normal, &normal_base(parent)?)),
        None => Ok(normal == normal_base(base)?),
    }
}

/// A domain, and all hosts below it.
fn is_host_in(name: &str, base: &str) -> Result<bool, Breach> {
    if ["", "."].contains(&base) {
        return Ok(true);
    }
    let (name, base) = (normal_name(name)?, normal_base(base.strip_prefix('.').unwrap_or(base))?);
    Ok(name == base || is_below(&name, &base))
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// A domain that cannot be compared is not allowed where anything is asked of domains.
fn normal_name(domain: &str) -> Result<String, Breach> {
    normal_form(domain).ok_or(Breach::Forbidden)
}

fn normal_base(domain: &str) -> Result<String, Breach> {
    let reason = "its authority's name constraints have a domain that cannot be compared";
    normal_form(domain).ok_or_else(|| Breach::Unchecked(reason.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::DistinguishedName;

    #[test]
    fn each_kind_of_name_is_compared_as_the_standard_says() {
        let email = |text: &str| GeneralName::Email(text.into());
        let dns = |text: &str| GeneralName::Dns(text.into());
        let directory = |text: &str| GeneralName::Directory(DistinguishedName::of(text).unwrap());
        for (name, base, within) in [
            (email("a@example.org"), email("example.org"), true),
            (email("a@EXAMPLE.org"), email("example.org"), true),
            (email("a@host.example.org"), email("example.org"), false),
            (email("a@host.example.org"), email(".example.org"), true),
            (email("a@example.org"), email(".example.org"), false),
            (email("a@badexample.org"), email("example.org"), false),
            (email("a@example.org"), email("a@example.org"), true),
            (email("b@example.org"), email("a@example.org"), false),
            (GeneralName::Utf8Mailbox("用户@example.org".into()), email("example.org"), true),
            (GeneralName::Utf8Mailbox("用户@example.org".into()), email("example.com"), false),
            (dns("example.org"), dns("example.org"), true),
            (dns("www.Example.org"), dns("example.org"), true),
            (dns("www.example.org"), dns(".example.org"), true),
            (dns("badexample.org"), dns("example.org"), false),
            (dns("例"), dns("a例"), false),
            (email("a@example.org."), email("example.org"), true),
            (email("a@host.example.org."), email(".example.org"), true),
            (email("a@xn--bcher-kva.example"), email("bücher.example"), true),
            (GeneralName::Utf8Mailbox("用户@bücher.example".into()), email("xn--bcher-kva.example"), true),
            (GeneralName::Utf8Mailbox("用户@example\u{3002}org".into()), email("example.org"), true),
            (GeneralName::Utf8Mailbox("用户@a.\u{ff45}xample.org".into()), email(".example.org"), true),
            (email("a@example.org."), email("a@EXAMPLE.org"), true),
            (email("\"a\"@example.org"), email("a@example.org"), true),
            (email("a@anything"), email(""), true),
            (dns("www.example.org."), dns("example.org"), true),
            (dns("www.bücher.example"), dns("xn--bcher-kva.example"), true),
            (directory("User"), directory("user"), true),
            (directory("User"), directory("Other"), false),
            (GeneralName::Ip(vec![10, 1, 2, 3]), GeneralName::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0]), true),
            (GeneralName::Ip(vec![11, 1, 2, 3]), GeneralName::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0]), false),
            (GeneralName::Ip(vec![10, 1, 2, 3]), GeneralName::Ip(vec![0; 32]), false),
        ] {
            assert_eq!(is_within(&name, &base), Ok(within), "{name:?} {base:?}");
        }
        // What has no normal form is within nothing, excluded or permitted: it is not allowed.
        for (name, base) in [
            (email("a@example..org"), email("example.com")),
            (email("a@xn--a.example"), email(".example")),
            (email("a@"), email("example.org")),
            (dns("www..example.org"), dns("example.org")),
        ] {
            assert_eq!(is_within(&name, &base), Err(Breach::Forbidden), "{name:?} {base:?}");
        }
        assert!(matches!(is_within(&email("a@example.org"), &email("b..c")), Err(Breach::Unchecked(_))));
        let uri = GeneralName::Uri("https://example.org".into());
        for (name, base) in [(uri.clone(), uri), (GeneralName::Other(1), email("example.org"))] {
            assert!(matches!(is_within(&name, &base), Err(Breach::Unchecked(_))), "{name:?} {base:?}");
        }
    }
}
