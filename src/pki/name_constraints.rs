//! Name constraints (RFC 5280 §4.2.1.10), which limit the names that an authority may certify:
//! mailboxes, hosts, addresses and directory names.
//!
//! **Invariant:** A constraint is never ignored. If the certificate has a name of a kind whose
//! constraint is not supported, the result is "unchecked".

use super::tlv::{Element, Elements, SEQUENCE, context, context_constructed};
use super::{Certificate, DistinguishedName, GeneralName, PkiError, WorkLeft, domain, email};

const WHAT: &str = "name constraints";

/// The extension's two lists of subtrees.
pub(super) struct NameConstraints {
    permitted: Vec<Base>,
    excluded: Vec<Base>,
}

/// The reason why a certificate violates the constraints.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameConstraintViolation {
    /// One of its names is excluded, or not permitted.
    Forbidden,
    /// The constraints cannot be evaluated; the text is the reason.
    Unchecked(String),
}

/// The base of a subtree, prepared for comparison.
struct Base {
    kind: u8,
    names: Names,
}

/// The names within a base.
enum Names {
    /// All names of the kind.
    All,
    /// One mailbox: its local part and its domain.
    Mailbox((String, String)),
    /// The mailboxes of exactly this host.
    MailboxesAt(String),
    /// The mailboxes of all hosts below a domain.
    MailboxesBelow(String),
    /// A domain and all hosts below it.
    Hosts(String),
    Directory(DistinguishedName),
    /// A network and its mask, in octets.
    Network(Vec<u8>),
    /// The domain has no canonical spelling.
    NoDomain,
    /// The kind is not supported.
    Unknown,
}

/// A certificate's name, prepared for comparison. A domain is in its canonical spelling; `None` if
/// it has none.
enum Name<'a> {
    Mailbox(Option<(String, String)>, Option<String>),
    Host(Option<String>),
    Directory(&'a DistinguishedName),
    Ip(&'a [u8]),
    Unknown,
}

impl NameConstraints {
    /// Parses the extension. The error is the reason for the result "unchecked".
    pub(super) fn read(value: &[u8], work: &WorkLeft) -> Result<Self, String> {
        let malformed = |error: PkiError| error.to_string();
        let mut outer = Elements::of(value, WHAT);
        let mut lists = outer.required(SEQUENCE).map_err(malformed)?.inside(WHAT);
        outer.end().map_err(malformed)?;
        let mut list = |number| match lists.optional(context_constructed(number)).map_err(malformed)? {
            Some(list) => subtrees(list.inside(WHAT), work),
            None => Ok(Vec::new()),
        };
        let (permitted, excluded) = (list(0)?, list(1)?);
        lists.end().map_err(malformed)?;
        Ok(Self { permitted, excluded })
    }

    /// Checks the alternative names, the subject, and the mailboxes in the subject.
    pub(super) fn check(&self, certificate: &Certificate, work: &WorkLeft) -> Result<(), NameConstraintViolation> {
        let mut names = certificate.alternative_names();
        let subject = certificate.subject_name();
        names.extend(subject.email_addresses().into_iter().map(GeneralName::Email));
        if !subject.is_empty() {
            names.push(GeneralName::Directory(subject.clone()));
        }
        names.iter().try_for_each(|name| {
            let comparisons =
                self.permitted.iter().chain(&self.excluded).filter(|base| base.kind == name.kind()).count();
            work.take_comparisons(comparisons + 1)
                .map_err(|error| NameConstraintViolation::Unchecked(error.to_string()))?;
            self.check_name(name)
        })
    }

    fn check_name(&self, name: &GeneralName) -> Result<(), NameConstraintViolation> {
        let same_kind = |base: &&Base| base.kind == name.kind();
        let name = &Name::new(name);
        let (mut permitted, mut is_bound) = (false, false);
        for base in self.excluded.iter().filter(same_kind) {
            if is_within(name, &base.names)? {
                return Err(NameConstraintViolation::Forbidden);
            }
        }
        for base in self.permitted.iter().filter(same_kind) {
            is_bound = true;
            permitted |= is_within(name, &base.names)?;
        }
        if is_bound && !permitted { Err(NameConstraintViolation::Forbidden) } else { Ok(()) }
    }
}

/// Parses `GeneralSubtrees`. RFC 5280 allows only the minimum 0 and no maximum.
fn subtrees(mut list: Elements<'_>, work: &WorkLeft) -> Result<Vec<Base>, String> {
    let subtree = |subtree: Element<'_>| {
        let mut parts = Elements::of(subtree.whole, WHAT).required(SEQUENCE)?.inside(WHAT);
        let base = GeneralName::from_element(parts.any()?);
        let minimum = parts.optional(context(0))?;
        if !parts.is_empty() || minimum.is_some_and(|minimum| minimum.value.iter().any(|octet| *octet != 0)) {
            return Err(PkiError::malformed(WHAT, "they have a minimum or a maximum, which RFC 5280 does not allow"));
        }
        Ok(Base::new(base))
    };
    let mut bases = Vec::new();
    while !list.is_empty() {
        work.take_comparisons(1).map_err(|error| error.to_string())?;
        bases.push(list.any().and_then(subtree).map_err(|error| error.to_string())?);
    }
    Ok(bases)
}

impl Base {
    fn new(base: GeneralName) -> Self {
        let kind = base.kind();
        let names = match base {
            GeneralName::Email(base) => mailboxes(&base).unwrap_or(Names::NoDomain),
            GeneralName::Dns(base) if ["", "."].contains(&base.as_str()) => Names::All,
            GeneralName::Dns(base) => {
                let domain = domain::normal_form(base.strip_prefix('.').unwrap_or(&base));
                domain.map_or(Names::NoDomain, Names::Hosts)
            }
            GeneralName::Directory(base) => Names::Directory(base),
            GeneralName::Ip(base) => Names::Network(base),
            GeneralName::Utf8Mailbox(_) | GeneralName::Uri(_) | GeneralName::Other(_) => Names::Unknown,
        };
        Self { kind, names }
    }
}

/// Parses the base for mailboxes: one mailbox, one host, or, with a leading dot, all hosts below a
/// domain.
fn mailboxes(base: &str) -> Option<Names> {
    if base.is_empty() {
        return Some(Names::All);
    }
    if base.contains('@') {
        return email::normal_form(base).map(Names::Mailbox);
    }
    match base.strip_prefix('.') {
        Some(parent) => domain::normal_form(parent).map(Names::MailboxesBelow),
        None => domain::normal_form(base).map(Names::MailboxesAt),
    }
}

impl<'a> Name<'a> {
    fn new(name: &'a GeneralName) -> Self {
        match name {
            GeneralName::Email(name) | GeneralName::Utf8Mailbox(name) => match email::normal_form(name) {
                Some((local, host)) => Self::Mailbox(Some((local, host.clone())), Some(host)),
                None if name.contains('@') => Self::Mailbox(None, None),
                None => Self::Mailbox(None, domain::normal_form(name)),
            },
            GeneralName::Dns(name) => Self::Host(domain::normal_form(name)),
            GeneralName::Directory(name) => Self::Directory(name),
            GeneralName::Ip(name) => Self::Ip(name),
            GeneralName::Uri(_) | GeneralName::Other(_) => Self::Unknown,
        }
    }
}

fn is_within(name: &Name<'_>, base: &Names) -> Result<bool, NameConstraintViolation> {
    let unchecked =
        |reason: &str| Err(NameConstraintViolation::Unchecked(format!("its authority's name constraints {reason}")));
    Ok(match (name, base) {
        (Name::Mailbox(..) | Name::Host(_), Names::All) => true,
        // A domain without a canonical spelling is forbidden if there is any constraint on domains.
        (Name::Mailbox(_, None) | Name::Host(None), _) => return Err(NameConstraintViolation::Forbidden),
        (_, Names::NoDomain) => return unchecked("have a domain that cannot be compared"),
        (Name::Mailbox(mailbox, _), Names::Mailbox(base)) => mailbox.as_ref() == Some(base),
        (Name::Mailbox(_, Some(host)), Names::MailboxesAt(base)) => host == base,
        (Name::Mailbox(_, Some(host)), Names::MailboxesBelow(base)) => is_below(host, base),
        (Name::Host(Some(host)), Names::Hosts(base)) => host == base || is_below(host, base),
        (Name::Directory(name), Names::Directory(base)) => name.is_within(base),
        (Name::Ip(name), Names::Network(base)) if base.len() == 2 * name.len() => {
            let (network, mask) = base.split_at(name.len());
            name.iter().zip(network).zip(mask).all(|((name, network), mask)| name & mask == network & mask)
        }
        // An address of the other family is never in the network.
        (Name::Ip(name), Names::Network(base)) if [4, 16].contains(&name.len()) && [8, 32].contains(&base.len()) => {
            false
        }
        _ => return unchecked("are of a kind that this program cannot compare"),
    })
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(name: &GeneralName, base: &GeneralName) -> Result<bool, NameConstraintViolation> {
        super::is_within(&Name::new(name), &Base::new(base.clone()).names)
    }

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
        // A name without a canonical spelling is within no base, excluded or permitted: it is
        // forbidden.
        for (name, base) in [
            (email("a@example..org"), email("example.com")),
            (email("a@xn--a.example"), email(".example")),
            (email("a@"), email("example.org")),
            (dns("www..example.org"), dns("example.org")),
        ] {
            assert_eq!(is_within(&name, &base), Err(NameConstraintViolation::Forbidden), "{name:?} {base:?}");
        }
        assert!(matches!(
            is_within(&email("a@example.org"), &email("b..c")),
            Err(NameConstraintViolation::Unchecked(_))
        ));
        let uri = GeneralName::Uri("https://example.org".into());
        for (name, base) in [(uri.clone(), uri), (GeneralName::Other(1), email("example.org"))] {
            assert!(matches!(is_within(&name, &base), Err(NameConstraintViolation::Unchecked(_))), "{name:?} {base:?}");
        }
    }
}
