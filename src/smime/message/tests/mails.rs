//! Tests with mails as gateways, mailing lists and editors leave them, written by hand around
//! messages of OpenSSL. Each is parsed and verified over the same bytes. Quoted, altered or
//! ambiguous content is not taken for what it looks like.

use crate::pki::Certificate;
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, now, openssl};
use crate::smime::message::*;
use crate::smime::transfer_encoding::TransferEncoding;
use crate::smime::{SenderReport, VerifiedMessage, from_entity, judge_sender, verify};

const BODY: &[u8] = b"Content-Type: text/plain\r\n\r\nDear Bob,\r\nthe contract is signed.\r\n";

/// One person's messages, made by `openssl cms -sign`.
struct MailFixture {
    authority: Certificate,
    /// A multipart/signed.
    clear: String,
    /// An application/pkcs7-mime.
    opaque: String,
    pem: String,
}

impl MailFixture {
    fn new() -> Self {
        let (files, authority) = (TestFiles::new(), TestAuthority::new("Example Authority", SoftwareKey::p256()));
        let key = SoftwareKey::p256();
        let certificate = files.put_certificate("certificate.pem", &authority.issue("signing", "Alice Example", &key));
        let key = files.put_key("key.pem", &key);
        let sign = |options: &[&str]| {
            let all = [&["cms", "-sign", "-signer", certificate.as_str(), "-inkey", key.as_str()], options].concat();
            String::from_utf8(openssl(&all, BODY)).unwrap()
        };
        Self {
            authority: authority.certificate,
            clear: sign(&[]),
            opaque: sign(&["-nodetach"]),
            pem: sign(&["-nodetach", "-outform", "PEM"]),
        }
    }

    fn verify(&self, message: &[u8]) -> Result<(Message, VerifiedMessage), String> {
        let message = Message::read(message).map_err(|error| error.to_string())?;
        let anchors = std::slice::from_ref(&self.authority);
        let verified = verify(&message, None, &[], anchors, now()).map_err(|error| error.to_string())?;
        if verified.is_good() { Ok((message, verified)) } else { Err(format!("{:?}", verified.signers)) }
    }

    /// Fails unless the message is good and its content is [`BODY`].
    #[track_caller]
    fn is_good(&self, what: &str, message: &[u8]) -> Message {
        let (message, verified) = self.verify(message).unwrap_or_else(|error| panic!("{what}: {error}"));
        let content = String::from_utf8_lossy(&verified.content).into_owned();
        assert_eq!(
            from_entity(&verified.content).unwrap(),
            b"Dear Bob,\nthe contract is signed.\n",
            "{what}: {content}"
        );
        message
    }

    #[track_caller]
    fn is_refused(&self, what: &str, message: &[u8], why: &str) {
        let error = self.verify(message).map(|(message, _)| message.format).unwrap_err();
        assert!(error.contains(why), "{what}: {error}");
    }

    /// The sender report of a mail with a valid signature.
    #[track_caller]
    fn judged(&self, mail: &str) -> Option<SenderReport> {
        let (message, verified) = self.verify(mail.as_bytes()).unwrap_or_else(|error| panic!("{error}: {mail}"));
        judge_sender(&message.headers().collect::<Vec<_>>(), &message, &verified)
    }

    fn boundary(&self) -> &str {
        self.clear.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap()
    }
}

#[test]
fn odd_headers_do_not_hide_a_message() {
    let mails = MailFixture::new();
    for mail in [&mails.clear, &mails.opaque] {
        for before in [
            &b"Subject: Gr\xfc\xdfe aus M\xfcnchen\nFrom: J\xfcrgen <user@example.org>\n"[..],
            b"From alice@example.org Mon Nov 30 14:28:44 2026\n",
            b">From alice@example.org Mon Nov 30 14:28:44 2026\r\nSubject: x\r\n",
            b"Subject : hello\nFrom\t: user@example.org\n",
            b"\xef\xbb\xbf",
            b"\xef\xbb\xbfFrom alice@example.org Mon Nov 30 14:28:44 2026\n",
            b"\n \r\n",
            b"Received: from a\n\tby b; (a comment: (nested)) today\n",
            b"X-Empty:\nX-Long:\n folded\n",
        ] {
            let message = mails.is_good(&String::from_utf8_lossy(before), &[before, mail.as_bytes()].concat());
            assert_eq!((message.format, message.outside), (MessageFormat::Smime, Vec::<String>::new()));
        }
        let (unix, dos) = (mail.replace("\r\n", "\n"), mail.replace("\r\n", "\n").replace('\n', "\r\n"));
        for text in [&unix, &dos] {
            mails.is_good("line ends", text.as_bytes());
            mails.is_good("no final newline", text.trim_end().as_bytes());
        }
    }
}

#[test]
fn odd_structured_fields_do_not_hide_a_message() {
    let mails = MailFixture::new();
    let boundary = mails.boundary();
    let pieces = format!("boundary*0=\"{}\"; boundary*1=\"{}\"", &boundary[..10], &boundary[10..]);
    let quoted = format!("boundary=\"{boundary}\"");
    for (from, to) in [
        ("multipart/signed;", "multipart/signed (clear);"),
        ("multipart/signed;", "(a \\) comment) Multipart/SIGNED;"),
        ("multipart/signed;", "multipart/signed\n (clear); charset=us-ascii;"),
        ("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: base64 (seven bits)"),
        ("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: (x) BASE64;"),
        ("Content-Type: application/pkcs7-signature;", "Content-Type: application/x-pkcs7-signature (smime);"),
        ("Content-Type: application/pkcs7-signature;", "Content-Type: application/octet-stream;"),
        (&quoted, &pieces),
        (&quoted, &format!("boundary*=us-ascii''{boundary}")),
    ] {
        let mail = mails.clear.replace(from, to);
        assert_ne!(mail, mails.clear, "{from}");
        mails.is_good(to, mail.as_bytes());
    }
    let spaces = mails.clear.replace(&format!("--{boundary}\n"), &format!("--{boundary} \t\r\n"));
    let spaces = spaces.replace(&format!("--{boundary}--"), &format!("--{boundary}-- "));
    assert!(spaces.contains(&format!("--{boundary} \t")) && spaces.contains("-- "));
    mails.is_good("white space after boundaries", spaces.as_bytes());

    let opaque = "application/pkcs7-mime; smime-type=signed-data; name=\"smime.p7m\"";
    for to in [
        "application/octet-stream; name=smime.p7m",
        "application/octet-stream; name*=utf-8''Vertrag.P7M",
        "application/octet-stream (gateway); name=\"smime.p7s\"",
        "application/x-pkcs7-mime",
        "application/cms",
    ] {
        let mail = mails.opaque.replace(opaque, to);
        assert_ne!(mail, mails.opaque);
        mails.is_good(to, mail.as_bytes());
    }
    let disposition = mails.opaque.replace(opaque, "application/octet-stream");
    mails.is_good("the name in Content-Disposition", disposition.as_bytes());
    let other_name = disposition.replace("octet-stream", "octet-stream; name=smime.p7m");
    let other_name = other_name.replace("filename=\"smime.p7m\"", "filename=\"attachment.bin\"");
    mails.is_good("two names", other_name.as_bytes());
    for mail in [&mails.clear, &mails.opaque] {
        let untold = mail.replace("Content-Transfer-Encoding: base64\n", "");
        assert_ne!(untold, *mail);
        mails.is_good("base64 without a header field", untold.as_bytes());
    }
    for kind in ["application/octet-stream", "application/pkcs7-mime"] {
        let signature = "application/pkcs7-signature; name=\"smime.p7s\"";
        let mail = mails.clear.replace(signature, kind).replace("smime.p7s", "noname");
        assert_ne!(mail, mails.clear);
        mails.is_good("a signature by another type", mail.as_bytes());
    }
    let headers = mails.pem.replacen("-----\n", "-----\nContent-Type: x\n folded: y\n\n", 1);
    assert_eq!(mails.is_good("PEM with header lines", headers.as_bytes()).outside, ["header lines in the PEM block"]);
    let followed = headers + "\nPay.\n";
    assert_eq!(mails.is_good("PEM with both", followed.as_bytes()).outside.len(), 2);
    let other = disposition.replace("smime.p7m", "smime.bin");
    mails.is_refused("another file", other.as_bytes(), "application/octet-stream");
}

#[test]
fn thunderbirds_header_fields_are_skipped_and_no_others() {
    let mails = MailFixture::new();
    let usual = "Content-Description: S/MIME Cryptographic Signature\n";
    let described = |lines: &str| {
        let mail = mails.clear.replace("Content-Disposition:", &format!("{lines}Content-Disposition:"));
        assert_ne!(mail, mails.clear);
        "From: Alice Example <user@example.org>\nUser-Agent: Mozilla Thunderbird\nContent-Language: en-US\n".to_owned()
            + &mail
    };
    for lines in [usual, "Content-ID: <part2.1@example.org>\ncontent-description: S/MIME Encrypted Message \n"] {
        assert_eq!(mails.is_good(lines, described(lines).as_bytes()).outside, Vec::<String>::new(), "{lines}");
    }
    for lines in [
        "Content-Description: Please pay 1000 EUR\n",
        "Content-Description: S/MIME Cryptographic Signature of the boss\n",
        &format!("{usual}Content-Description: Please pay 1000 EUR\n"),
    ] {
        let outside = mails.is_good(lines, described(lines).as_bytes()).outside;
        assert_eq!(outside, ["the header field Content-Description of the signature"], "{lines}");
    }
}

#[test]
fn a_signed_part_in_a_mailing_list_mail_is_found() {
    let mails = MailFixture::new();
    let footer = "Content-Type: text/plain\n\nTo unsubscribe, pay 1000 EUR.\n";
    let mixed = |parts: &[&str]| {
        let mut text =
            "From: user@example.org\nList-Id: <l.example.org>\nContent-Type: multipart/mixed; boundary=\"list\"\n\n"
                .to_owned();
        for part in parts {
            text.extend(["--list\n", part, "\n"]);
        }
        text + "--list--\n"
    };
    for part in [&mails.clear, &mails.opaque] {
        for (parts, outside) in [
            (&[part.as_str(), footer][..], &["a text/plain part"][..]),
            (&[footer, part, "\nno header\n"], &["a text/plain part", "a text/plain part"]),
            (&[part, "no header at all\n"], &["a part whose header cannot be read"]),
            (&[part, "Content-Type: message/rfc822\n\nFrom: x@example.org\n\nx"], &["a message/rfc822 part"]),
        ] {
            let message = mails.is_good(&format!("{parts:?}"), mixed(parts).as_bytes());
            assert_eq!(message.outside, outside);
            assert_eq!(message.header.values("from").collect::<Vec<_>>(), ["user@example.org"]);
        }
        let inner = mixed(&[part, footer]).replace("list", "inner");
        assert_eq!(mails.is_good("nested", mixed(&[&inner, footer]).as_bytes()).outside.len(), 3);
        mails.is_refused("two signed parts", mixed(&[part, part]).as_bytes(), "several");
        // A message that the writer forwarded is not searched if the writer signed another part.
        let passed_on = format!("Content-Type: message/rfc822\n\n{part}");
        let inner = mixed(&[footer, &passed_on]).replace("list", "inner");
        let message = mails.is_good("nested, passed on", mixed(&[&inner, part]).as_bytes());
        assert!(message.header_within.is_none() && message.outside.contains(&"a message/rfc822 part".to_owned()));
        let changed = mixed(&[part, footer]).replace("the contract", "no contract");
        if changed != mixed(&[part, footer]) {
            mails.is_refused("changed", changed.as_bytes(), "SignatureWrong");
        }
    }
    for (mixed, outside) in [
        (mixed(&[&mails.clear]).replacen("--list", "Pay.\n--list", 1), "text before the first part"),
        (mixed(&[&mails.clear]) + "Pay.\n", "text after the last part"),
        (mixed(&[&format!("Subject: x\n{}", mails.clear)]), "the header field Subject of the part"),
        (mails.clear.replacen("This is an S/MIME signed message", "Pay.", 1), "text before the first part"),
        (mixed(&[&mails.clear, "\nPay.\n"]).replace("--list--\n", ""), "a part that has no end"),
    ] {
        assert_eq!(mails.is_good(outside, mixed.as_bytes()).outside, [outside]);
    }
    mails.is_refused("nothing signed", mixed(&[footer]).as_bytes(), "multipart/mixed");
    // A message that was forwarded without a signature is not this mail's own.
    let passed_on = format!("Content-Type: message/rfc822\n\n{}", mails.clear);
    let by_nobody = mixed(&[&passed_on]).replace("List-Id", "X-Id");
    mails.is_refused("passed on", by_nobody.as_bytes(), "multipart/mixed");
    let after = mails.clear.clone() + "P.S. Pay 1000 EUR.\n";
    assert_eq!(mails.is_good("text after the end", after.as_bytes()).outside, ["text after the signature"]);
}

const FOOTER: &str = "Content-Type: text/plain\n\nTo unsubscribe, pay 1000 EUR.\n";

/// A mailing list's mail of this type, with these parts.
fn lists(kind: &str, parts: &[&str]) -> String {
    let head = format!("From: l@example.org\nList-Id: <l.example.org>\nContent-Type: {kind}; boundary=l\n\n");
    let parts = parts.iter().map(|part| format!("--l\n{part}\n")).collect::<Vec<_>>().concat();
    format!("{head}{parts}--l--\n")
}

#[test]
fn a_nested_signed_part_is_found_and_the_rest_is_named() {
    let (mails, footer) = (MailFixture::new(), FOOTER);
    for mail in [&mails.clear, &mails.opaque] {
        let message = format!("Content-Type: message/rfc822\n\nFrom: user@example.org\nSubject: x\n{mail}");
        let read = mails.is_good("a message", lists("multipart/mixed", &[&message, footer]).as_bytes());
        assert_eq!(read.outside, ["the header of the message within", "a text/plain part"]);
        let froms: Vec<_> = read.headers().flat_map(|header| header.values("From")).collect();
        assert_eq!(froms, ["l@example.org", "user@example.org"]);
        let named = format!("Content-Description: Pay.\n{message}");
        let read = mails.is_good("a field", lists("multipart/mixed", &[footer, &named]).as_bytes());
        let fields = "the header field Content-Description of the part";
        assert_eq!(read.outside, ["a text/plain part", "the header of the message within", fields]);

        let related = lists("multipart/related", &[mail, "Content-Type: image/png\n\nx"]).replace("--l", "--r");
        let related = related.replace("boundary=l", "boundary=r");
        let (_, related) = related.split_once("List-Id: <l.example.org>\n").unwrap();
        let read = mails.is_good("related", lists("multipart/mixed", &[related, footer]).as_bytes());
        assert_eq!(read.outside, ["an image/png part", "a text/plain part"]);
        let whole = format!("Content-Type: message/rfc822\n\nFrom: user@example.org\n{related}");
        let read = mails.is_good("related at the top", lists("multipart/mixed", &[&whole]).as_bytes());
        assert_eq!(read.outside, ["the header of the message within", "an image/png part"]);
        mails.is_refused("related alone", related.as_bytes(), "multipart/related");

        // Beside a signed part, a message is a forwarded one. Of two messages, none can be
        // identified as the mail.
        let read = mails.is_good("beside", lists("multipart/mixed", &[mail, &message]).as_bytes());
        assert_eq!(read.outside, ["a message/rfc822 part"]);
        mails.is_refused("two", lists("multipart/mixed", &[&message, &message]).as_bytes(), "multipart/mixed");
        for (from, to) in [
            ("List-Id", "X-Id"),
            ("message/rfc822", "message/rfc822\nContent-Transfer-Encoding: base64"),
            ("message/rfc822", "message/partial"),
        ] {
            let other = lists("multipart/mixed", &[&message, footer]).replace(from, to);
            mails.is_refused(to, other.as_bytes(), "multipart/mixed");
        }
        let nested = |times| {
            (1..times).fold(lists("multipart/mixed", &[mail]), |mail, depth| {
                lists(
                    "multipart/mixed",
                    &[&mail.replace("--l", &format!("--l{depth}")).replace("=l", &format!("=l{depth}"))],
                )
            })
        };
        mails.is_good("deep", nested(8).as_bytes());
        mails.is_refused("too deep", nested(9).as_bytes(), "multipart/mixed");
    }
}

#[test]
fn both_senders_of_a_mail_that_a_list_wrapped_must_be_signers() {
    let mails = MailFixture::new();
    let (user, boss) = ("From: user@example.org\n", "From: boss@example.org\n");
    let sender = "Sender: user@example.org\n";
    for mail in [&mails.clear, &mails.opaque] {
        let message = |head: &str| format!("Content-Type: message/rfc822\n\n{head}{mail}");
        let list = |head: &str, part: &str| {
            let in_parts = lists("multipart/mixed", &[part, FOOTER]).replace("From: l@example.org\n", head);
            [in_parts, format!("{head}List-Post: <mailto:l@example.org>\n{part}")]
        };
        for (outer, inner) in [(user, user), ("", user), (user, "")] {
            for mail in list(outer, &message(inner)) {
                let report = mails.judged(&mail).unwrap();
                assert_eq!((report.address.as_deref(), report.problem), (Some("user@example.org"), None), "{mail}");
            }
        }
        for (outer, inner, what) in [
            (user, boss, "is from boss@example.org, and no signer's"),
            ("", boss, "is from boss@example.org, and no signer's"),
            (boss, user, "mailing list"),
            (boss, boss, "mailing list"),
            (user, &[user, boss].concat(), "more than one From"),
            ("", "From: user@example.org, boss@example.org\n", "exactly one sender"),
            ("", sender, "only a Sender"),
            (sender, user, "only a Sender"),
        ] {
            for mail in list(outer, &message(inner)) {
                let problem = mails.judged(&mail).unwrap().problem.map(|problem| problem.to_string());
                assert!(problem.as_ref().is_some_and(|problem| problem.contains(what)), "{problem:?} {mail}");
            }
        }
        assert_eq!(list("", &message("")).map(|mail| mails.judged(&mail)), [None, None]);
        // A message that the writer or another list forwarded is not the message that the list
        // embedded.
        for writers in [&message(user), &lists("multipart/mixed", &[&message(user)])] {
            for kind in ["multipart/mixed", "multipart/related"] {
                let forwarded = lists(kind, &[writers]).replace("--l", "--w").replace("=l", "=w");
                for mail in list(user, &format!("Content-Type: message/rfc822\n\n{forwarded}")) {
                    mails.is_refused("forwarded", mail.as_bytes(), "not signed or encrypted");
                }
            }
        }
        mails.is_refused("passed on", format!("{user}{}", message(user)).as_bytes(), "message/rfc822");
    }
}

#[test]
fn a_pem_block_inside_other_text_is_not_a_message() {
    let mails = MailFixture::new();
    let pem = &mails.pem;
    for (before, why) in [
        ("From: mallory@example.org\nContent-Type: text/plain\n\nPlease pay.\n\n", "text/plain"),
        ("From: mallory@example.org\n\nPlease pay.\n\n", "there is text before it"),
        ("Please pay.\n\n", "there is text before it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a CMS message"),
        ("x ", "neither DER"),
    ] {
        mails.is_refused(before, (before.to_owned() + pem).as_bytes(), why);
    }
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = TransferEncoding::Base64.decode(body.as_bytes()).unwrap();
    for after in ["", "\n", "\r\n"] {
        mails.is_good("a line end after DER", &[der.as_slice(), after.as_bytes()].concat());
    }
    mails.is_refused("something after DER", &[der.as_slice(), b"x"].concat(), "");
    for before in ["", "\n\r\n  \n", "\u{feff}", "\u{feff}\n"] {
        let message = mails.is_good(before, (before.to_owned() + pem).as_bytes());
        assert_eq!((message.format, message.outside.len()), (MessageFormat::Pem, 0), "{before:?}");
        mails.is_good(before, (before.to_owned() + pem).replace('\n', "\r\n").trim_end().as_bytes());
    }
    // The first block in the text counts, in any order of the labels here. The rest is named.
    let nonsense = "-----BEGIN CMS-----\nAAAA\n-----END CMS-----\n";
    let first = pem.replace(" CMS-", " PKCS7-");
    assert_eq!(
        mails.is_good("two", (first.clone() + nonsense).as_bytes()).outside,
        ["another PEM block after the first"]
    );
    assert_eq!(mails.is_good("text", (first + "\nPay.\n").as_bytes()).outside, ["text after the PEM block"]);

    // A mail that quotes a block is read as the mail.
    let quoting = [b"Content-Type: text/plain\r\n\r\nYour block:\r\n\r\n", pem.as_bytes()].concat();
    let (files, key) = (TestFiles::new(), SoftwareKey::p256());
    let authority = TestAuthority::new("Other", SoftwareKey::p256());
    let certificate = files.put_certificate("c.pem", &authority.issue("signing", "Other", &key));
    let key = files.put_key("k.pem", &key);
    let quote = openssl(&["cms", "-sign", "-signer", &certificate, "-inkey", &key], &quoting);
    mails.is_refused("a stranger quotes", &quote, "UnknownIssuer");
    let stranger = MailFixture { authority: authority.certificate, ..mails };
    let (_, verified) = stranger.verify(&quote).unwrap();
    assert!(verified.content.starts_with(b"Content-Type: text/plain\r\n\r\nYour block:"));
    let changed = String::from_utf8(quote).unwrap().replace("Your block", "Pay, or");
    stranger.is_refused("changed", changed.as_bytes(), "SignatureWrong");
}

#[test]
fn ambiguous_mails_are_refused() {
    let mails = MailFixture::new();
    let boundary = format!("boundary=\"{}\"", mails.boundary());
    for (from, to, why) in [
        ("MIME-Version: 1.0", "Content-Type: text/plain", "more than one field Content-Type"),
        ("MIME-Version: 1.0", "X: y\rFrom: user@example.org", "invalid header line"),
        ("MIME-Version: 1.0", "X: y\nthis is no field", "invalid header line"),
        (&boundary, &format!("boundary=x; {boundary}"), "twice"),
        ("MIME-Version: 1.0", "Content-Transfer-Encoding: base64", "encoded together"),
    ] {
        let mail = mails.clear.replacen(from, to, 1);
        assert_ne!(mail, mails.clear, "{from}");
        mails.is_refused(to, mail.as_bytes(), why);
    }
    // A given content must equal the content inside.
    let message = Message::read(mails.clear.as_bytes()).unwrap();
    let anchors = std::slice::from_ref(&mails.authority);
    assert!(verify(&message, Some(BODY), &[], anchors, now()).unwrap().is_good());
    assert!(verify(&message, Some(b"another content"), &[], anchors, now()).is_err());
}
