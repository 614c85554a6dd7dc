//! The subject of content, for the person who decides whether to sign it: a mail's subject, or a
//! git commit or tag. It is parsed from the bytes that are signed.

use serde::{Deserialize, Serialize};

/// The subject of content, from its own bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// a mail: its subject
    Mail(String),
    /// a git commit: the first line of its message
    Commit(String),
    /// a git tag: its name
    Tag(String),
}

/// Number of bytes of content that are parsed.
pub(super) const MAX_READ_BYTES: usize = 16 * 1024;

/// The subject; `None` if the content is neither a mail nor a git object.
pub fn of(content: &[u8]) -> Option<Subject> {
    of_git(content).or_else(|| of_mail(content).map(Subject::Mail))
}

/// Parses a commit or tag as `git cat-file` shows it: fields in order, an empty line, the message.
fn of_git(content: &[u8]) -> Option<Subject> {
    if !content.starts_with(b"tree ") && !content.starts_with(b"object ") {
        return None;
    }
    let beginning = content.get(..content.len().min(MAX_READ_BYTES))?;
    let end = beginning.windows(2).position(|two| two == b"\n\n")?;
    let message = beginning.get(end + 2..)?;
    let mut lines = std::str::from_utf8(beginning.get(..end)?).ok()?.lines();
    let (kind, name) = lines.next()?.split_once(' ')?;
    let is_name = matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match kind {
        "tree" if is_name => {
            let mut lines = lines.skip_while(|line| line.starts_with("parent "));
            let is_commit = lines.next()?.starts_with("author ") && lines.next()?.starts_with("committer ");
            let first = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
            is_commit.then(|| Subject::Commit(String::from_utf8_lossy(first).into_owned()))
        }
        "object" if is_name => {
            let is_tag = lines.next()?.starts_with("type ");
            let tag = lines.next()?.strip_prefix("tag ")?;
            (is_tag && lines.next()?.starts_with("tagger ")).then(|| Subject::Tag(tag.to_owned()))
        }
        _ => None,
    }
}

/// The `Subject:` of a mail (RFC 5322 §2.2), unfolded; `None` if the content does not begin with
/// header fields.
fn of_mail(content: &[u8]) -> Option<String> {
    let head = content.get(..content.len().min(MAX_READ_BYTES))?;
    let mut subject: Option<String> = None;
    let mut in_subject = false;
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return subject.filter(|subject| !subject.is_empty());
        }
        let text = std::str::from_utf8(line).ok()?;
        if text.starts_with([' ', '\t']) {
            if let (true, Some(subject)) = (in_subject, subject.as_mut()) {
                subject.push_str(text);
            }
            continue;
        }
        let (name, value) = text.split_once(':')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        in_subject = subject.is_none() && name.eq_ignore_ascii_case("subject");
        if in_subject {
            subject = Some(value.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail_about(subject: &str) -> Subject {
        Subject::Mail(subject.to_owned())
    }

    #[test]
    fn the_subject_of_a_mail_is_found() {
        let mail =
            b"From: a@example.org\r\nSUBJECT: Offer\r\n of today\r\nTo: b@example.org\r\n\r\nSubject: not this\r\n";
        assert_eq!(of(mail), Some(mail_about("Offer of today")));
        assert_eq!(of(b"Subject: one\nSubject: two\n\n"), Some(mail_about("one")));
    }

    #[test]
    fn content_that_is_not_mail_has_no_subject() {
        for content in [
            &b""[..],
            b"Subject: never ends",
            b"a text\n\nSubject: x\n\n",
            b"Sub ject: x\n\n",
            b"\xff: x\nSubject: y\n\n",
        ] {
            assert_eq!(of(content), None, "{content:?}");
        }
    }

    const NAME: &str = "0123456789abcdef0123456789abcdef01234567";
    const WHO: &str = "Somebody <user@example.org> 1700000000 +0000";

    #[test]
    fn commits_and_tags_are_recognized() {
        let commit = |parents: usize, message: &str| {
            let parents = format!("parent {NAME}\n").repeat(parents);
            of(format!("tree {NAME}\n{parents}author {WHO}\ncommitter {WHO}\nencoding x\n\n{message}").as_bytes())
        };
        for parents in 0..3 {
            assert_eq!(commit(parents, "A message\n\nSubject: x\n"), Some(Subject::Commit("A message".to_owned())));
        }
        assert_eq!(commit(1, ""), Some(Subject::Commit(String::new())));
        let tag = format!("object {NAME}\ntype commit\ntag v1.0\ntagger {WHO}\n\nA tag\n");
        assert_eq!(of(tag.as_bytes()), Some(Subject::Tag("v1.0".to_owned())));
    }

    #[test]
    fn content_that_only_begins_like_a_commit_has_no_subject() {
        let (tree, author) = (format!("tree {NAME}\n"), format!("author {WHO}\n"));
        for content in [
            format!("{tree}{author}committer {WHO}\n"),
            format!("{tree}{author}\nA message\n"),
            format!("{tree}committer {WHO}\n{author}\nA message\n"),
            format!("tree of knowledge\n{author}committer {WHO}\n\nA message\n"),
            format!("object {NAME}\nkind commit\ntag v1.0\ntagger {WHO}\n\nA tag\n"),
            format!("object {NAME}\ntag v1.0\ntype commit\ntagger {WHO}\n\nA tag\n"),
        ] {
            assert_eq!(of(content.as_bytes()), None, "{content}");
        }
    }
}
