//! Tests of every way in which a mail names its sender. The signature is valid in all of them.

use super::*;
use crate::pki::oid::ContentType;
use crate::smime::verify::{SignatureVerdict, SignerReport};

/// The report of [`judge_sender`] for a mail with these header lines around this entity, signed by
/// alice@example.org.
fn judged(header: &str, content: &str) -> Option<SenderReport> {
    judged_as(MessageFormat::Smime, header, content)
}

fn judged_as(format: MessageFormat, header: &str, content: &str) -> Option<SenderReport> {
    let (message, verified) = signed_by_alice(format, header, content);
    judge_sender(&[&message.header], &message, &verified)
}

fn signed_by_alice(format: MessageFormat, header: &str, content: &str) -> (Message, VerifiedMessage) {
    let (header, _) = Header::parse(header.as_bytes()).unwrap();
    let signer = SignerReport {
        name: "Alice".into(),
        emails: ["other@example.org", "Alice@example.org", "j@xn--bcher-kva.example"].map(str::to_owned).to_vec(),
        certificate: None,
        signing_time: None,
        verdict: SignatureVerdict::Good,
    };
    let message = Message {
        format,
        kind: crate::smime::MessageKind::Signed,
        cms: Vec::new(),
        detached_content: None,
        header,
        header_within: None,
        outside: Vec::new(),
    };
    let content = content.replace('\n', "\r\n").into_bytes();
    (message, VerifiedMessage { content, content_type: ContentType::DATA, signers: vec![signer] })
}

const TEXT: &str = "Content-Type: text/plain\n\nhello\n";

fn problem(header: &str, content: &str) -> String {
    let report = judged(header, content).unwrap_or_else(|| panic!("{header:?} names a sender"));
    report.problem.map(|problem| problem.to_string()).unwrap_or_default()
}

#[test]
fn a_single_from_of_a_signer_is_accepted() {
    for header in [
        "From: alice@example.org\n",
        "FROM : ALICE@EXAMPLE.ORG\n",
        "From:\n =?utf-8?q?Alice_=C3=84?=\n <alice@example.org>\n",
        "From: \"Example, Alice\" (bob@example.org) <alice@example.org>\nReply-To: bob@example.org\n",
        "From: other@example.org\nSender: bob@example.org\n",
        "Sender: bob@example.org\nFrom: alice@example.org\nList-Id: <list.example.org>\n",
        "From: alice@example.org.\n",
        "From: alice@example\u{3002}org\n",
        "From: alice@example.org <alice@example.org>\n",
        "From: j@bücher.example\n",
        "From: J <j@XN--bcher-KVA.example>\n",
    ] {
        let report = judged(header, TEXT).unwrap();
        assert_eq!((report.problem, report.is_signed), (None, false), "{header}");
    }
}

#[test]
fn content_without_a_sender_is_not_mail() {
    for header in
        ["", "Subject: hello\nTo: bob@example.org\n", "X-From: bob@example.org\n", "Reply-To: bob@example.org\n"]
    {
        assert_eq!(judged(header, TEXT), None, "{header}");
    }
    // A stored mail that was signed as a file says nothing about its signer.
    for format in [MessageFormat::Der, MessageFormat::Pem] {
        assert_eq!(judged_as(format, "", "From: bob@example.org\nContent-Type: text/plain\n\nx"), None);
        assert_eq!(judged_as(format, "", "Content-Type: message/rfc822\n\nFrom: bob@example.org\n\nx"), None);
        let marked = "From: bob@example.org\nContent-Type: text/plain; hp=\"clear\"\n\nx";
        assert!(judged_as(format, "", marked).unwrap().problem.is_some());
    }
}

#[test]
fn foreign_multiple_and_unreadable_senders_are_reported() {
    for (header, what) in [
        ("From: mallory@example.net\n", "from mallory@example.net, and no signer's certificate"),
        ("From: \"alice@example.org\" <mallory@example.net>\n", "from mallory@example.net"),
        ("From: mallory@example.net (alice@example.org)\n", "from mallory@example.net"),
        ("From: =?utf-8?q?alice=40example=2Eorg?= <mallory@example.net>\n", "from mallory@example.net"),
        ("From: mallory@example.net\nSender: alice@example.org\n", "from mallory@example.net"),
        ("From: alice@example.org.example.net\n", "from alice@example.org.example.net"),
        ("From: alice@example.org\nFrom: alice@example.org\n", "more than one From"),
        ("From: alice@example.org\nfrom\t: mallory@example.net\n", "more than one From"),
        ("From: alice@example.org, mallory@example.net\n", "more than one address"),
        ("From: Example, Alice <alice@example.org>\n", "more than one address"),
        ("From: us: alice@example.org;\n", "more than one address"),
        ("From: alice@example.org <mallory@example.net>\n", "cannot be read"),
        ("From: \"alice@example.org\"\n", "cannot be read"),
        ("From:\n", "no address"),
        ("From: <>\n", "no address"),
        ("Sender: alice@example.org\n", "only a Sender"),
    ] {
        let said = problem(header, TEXT);
        assert!(said.contains(what), "{header}: {said}");
    }
}

#[test]
fn a_from_rewritten_by_a_list_is_reported() {
    for (header, field) in [
        ("From: Alice via List <list@example.net>\nReply-To: Alice <alice@example.org>\n", "Reply-To names the signer"),
        ("From: list@example.net\nX-Original-From: alice@example.org\n", "X-Original-From names the signer"),
        ("From: list@example.net\nAuthor: alice@example.org\n", "Author names the signer"),
        ("From: list@example.net\nList-Id: <list.example.net>\nReply-To: list@example.net\n", "mailing list"),
        ("From: list@example.net\nList-Post: <mailto:list@example.net>\n", "mailing list"),
    ] {
        let said = problem(header, TEXT);
        assert!(said.contains("rewritten by a mailing list") && said.contains(field), "{header}: {said}");
    }
    assert!(!problem("From: bob@example.net\nReply-To: bob@example.net\n", TEXT).contains("list"));
}

#[test]
fn a_signed_from_counts_before_the_one_outside() {
    let signed = "From: Alice <alice@example.org>\nSubject: hello\nContent-Type: text/plain; hp=\"clear\"\n\nhello\n";
    let wrapped = "Content-Type: message/rfc822; forwarded=no\n\nFrom: alice@example.org\nSubject: hello\n\nhello\n";
    let old = "Content-Type: message/rfc822\n\nFrom: alice@example.org\n\nhello\n";
    let thunderbird =
        "Content-Type: multipart/mixed; boundary=b;\n protected-headers=\"v1\"\nFrom: alice@example.org\n\n";
    for content in [signed, &signed.replace("clear", "cipher"), wrapped, old, thunderbird] {
        for header in ["", "From: ALICE@example.org\n", "Sender: list@example.net\n"] {
            let report = judged(header, content).unwrap();
            assert_eq!((report.problem, report.is_signed), (None, true), "{header} {content}");
        }
        for header in [
            "From: mallory@example.net\n",
            "From: alice@example.org\nFrom: alice@example.org\n",
            "From: other@example.org\n",
            "From: alice@example.org, bob@example.org\n",
            "From: list@example.net\nReply-To: alice@example.org\n",
        ] {
            let said = problem(header, content);
            assert!(said.contains("outside the signed part") && said.contains("alice@example.org"), "{header}: {said}");
        }
        let foreign = content.replace("alice@example.org", "bob@example.org");
        for header in ["", "From: bob@example.org\n"] {
            assert!(problem(header, &foreign).contains("from bob@example.org, and no signer's"), "{header} {foreign}");
        }
        // Two signed From fields identify no one.
        let twice = content.replace("From:", "From: alice@example.org\nFrom:");
        assert!(problem("From: alice@example.org\n", &twice).contains("more than one From"), "{twice}");
    }
    // A forwarded message is another person's.
    let forwarded = wrapped.replace("forwarded=no", "forwarded=yes").replace("alice", "bob");
    assert_eq!(judged("From: alice@example.org\n", &forwarded).unwrap().problem, None);
    assert_eq!(judged("", &forwarded), None);
}

#[test]
fn shown_fields_say_whether_they_were_signed() {
    let header = Header::parse(b"From: alice@example.org\nSubject: outside\nDate: today\nX-Other: x\n").unwrap().0;
    let content =
        b"Content-Type: text/plain; hp=\"clear\"\r\nFrom: alice@example.org\r\nSubject: inside\r\n\r\nx".to_vec();
    let message = Message {
        format: MessageFormat::Smime,
        kind: crate::smime::MessageKind::Signed,
        cms: Vec::new(),
        detached_content: None,
        header,
        header_within: None,
        outside: Vec::new(),
    };
    let verified = VerifiedMessage { content, content_type: ContentType::DATA, signers: Vec::new() };
    let shown = shown_fields(&[&message.header], Some((&message, &verified)));
    let shown: Vec<_> = shown.iter().map(|field| (field.name, field.value.as_str(), field.is_signed)).collect();
    assert_eq!(shown, [("From", "alice@example.org", true), ("Date", "today", false), ("Subject", "inside", true)]);
    assert!(shown_fields(&[&message.header], None).iter().all(|field| !field.is_signed));
}

#[test]
fn every_header_around_a_signature_must_name_a_signer() {
    let judged = |headers: [&str; 2], content: &str| {
        let headers = headers.map(|header| Header::parse(header.as_bytes()).unwrap().0);
        let (message, verified) = signed_by_alice(MessageFormat::Smime, "", content);
        judge_sender(&[&headers[0], &headers[1]], &message, &verified)
    };
    let sender = "Sender: l@example.org\n";
    let (alice, boss, none) = ("From: alice@example.org\n", "From: boss@example.org\n", "Subject: x\n");
    let signed = &TEXT.replace("Content", "From: alice@example.org\nContent");
    for content in [TEXT, signed] {
        for headers in [[alice, none], [none, alice], [alice, alice]] {
            assert_eq!(judged(headers, content).unwrap().problem, None, "{headers:?}");
        }
        for headers in [[alice, boss], [boss, alice], [none, boss], [boss, none]] {
            let problem = judged(headers, content).unwrap().problem.unwrap().to_string();
            assert!(problem.contains("boss@example.org"), "{headers:?} {problem}");
        }
    }
    assert_eq!(judged([none, none], TEXT), None);
    // A header that names its sender without a From is not skipped in favor of another header's
    // From.
    for headers in [[none, sender], [sender, none], [sender, alice], [alice, sender]] {
        assert_eq!(judged(headers, TEXT).unwrap().problem, Some(SenderProblem::SenderOnly), "{headers:?}");
        assert_eq!(judged(headers, signed).unwrap().problem, None, "{headers:?}");
    }

    let (inner, _) = Header::parse(b"Subject: inner\nTo: bob@example.org\n").unwrap();
    let (outer, _) = Header::parse(b"Subject: outer\nTo: bob@example.org\n").unwrap();
    let shown = shown_fields(&[&outer, &inner], None);
    let shown: Vec<_> = shown.iter().map(|field| field.value.as_str()).collect();
    assert_eq!(shown, ["bob@example.org", "outer", "inner"]);
}
