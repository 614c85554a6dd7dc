//! A mail's header does not decide what its signature covers: the outermost structure decides what
//! is verified, the From must be the signer's, and unsigned parts are marked. OpenSSL confirms that
//! the signatures are valid.

use crate::support::output::Output;
use crate::support::shared_authority::TestUser;

/// A user with a signed message in three formats: `mail` (multipart/signed), `opaque`, `pem`.
fn user_with_signed_mails() -> TestUser {
    let user = TestUser::with_keyset();
    user.machine.write("text", "Dear Bob,\nthe contract is signed.\n");
    for (file, form) in [("mail", "smime --detached"), ("opaque", "smime"), ("pem", "pem")] {
        let line = format!("tokenkeep sign --pin-source file:pin text --out {file} --format {form}");
        user.machine.shell(&line).ok();
    }
    // The authority limits searches per minute.
    let shown = user.keyset_info("default");
    let of_encryption = |one: &&serde_json::Value| one["use"] == "encryption";
    let id = &shown["certificates"].as_array().unwrap().iter().find(of_encryption).unwrap()["id"];
    let read = ["--read-object", "--type", "cert", "--id", id.as_str().unwrap(), "-o", "own.der"];
    user.machine.pkcs11_tool("default", None, &read).ok();
    user
}

/// Copies a file of the user's machine with these lines before it; returns the new file.
fn prepend_lines(user: &TestUser, before: &str, file: &str) -> &'static str {
    let text = [before.as_bytes(), &user.machine.read(file)].concat();
    user.machine.write("tried", text);
    "tried"
}

#[test]
fn a_mail_is_accepted_from_its_signer_only() {
    let user = user_with_signed_mails();
    let email = user.email.clone();
    let verify = |file: &str, more: &[&str]| user.tokenkeep(&[&["verify", file][..], more].concat());
    // The signature is valid, for OpenSSL too: only the sender is in question.
    let witness = ["cms", "-verify", "-noverify", "-in", "mail", "-out", "x"];
    user.machine.openssl(&witness).ok();
    verify("mail", &[]).ok().says("the contract is signed").says(&email).says("Revocation: not checked");
    for form in ["mail", "opaque"] {
        for from in [
            format!("From: {email}\nSubject: hello\n"),
            format!("From: \"Some, Body\" (mallory@example.net) <{}>\n", email.to_uppercase()),
            format!("From mallory@example.net Mon Nov 30 14:28:44 2026\nSubject : J\u{fc}rgen\nFrom : {email}\n"),
        ] {
            let output = verify(prepend_lines(&user, &from, form), &[]).ok();
            output.says("(not signed)").says("the contract is signed");
        }
        for from in [
            "From: mallory@example.net\n".to_owned(),
            format!("From: \"{email}\" <mallory@example.net>\n"),
            format!("From: {email}\nFrom: mallory@example.net\n"),
            format!("From: {email}, mallory@example.net\n"),
            format!("From: friends: {email};\n"),
            format!("Sender: {email}\n"),
        ] {
            let file = prepend_lines(&user, &from, form);
            verify(file, &["--out", "refused"]).fails_with(8).says("not verified").says("--any-sender");
            assert!(!user.machine.file("refused").exists(), "{from}");
            verify(file, &["--any-sender"]).ok().says("the contract is signed");
        }
        let list = format!("From: list@example.net\nReply-To: {email}\nList-Id: <list.example.net>\n");
        verify(prepend_lines(&user, &list, form), &[]).fails_with(8).says("rewritten by a mailing list");
        // Nor does the From of a message count that a list includes whole in its mail.
        let wrapped = |outer: &str, inner: &str| {
            let head = format!("{outer}List-Id: <l.example.net>\nContent-Type: multipart/mixed; boundary=l\n\n--l\n");
            let message = format!("{head}Content-Type: message/rfc822\n\n{inner}");
            user.machine.write("wrapped", [message.as_bytes(), &user.machine.read(form), b"\n--l--\n"].concat());
            user.tokenkeep(&["verify", "wrapped"])
        };
        let (own, boss) = (format!("From: {email}\n"), "From: boss@example.net\n");
        for (outer, inner) in [("From: mallory@example.net\n", boss), ("", boss), (&own, boss), (boss, &own)] {
            wrapped(outer, inner).fails_with(8).says("not verified").says("--any-sender");
        }
        wrapped(&own, &own).ok().says("the contract is signed").says("the header of the message within");
    }
    let answer =
        verify(prepend_lines(&user, "From: mallory@example.net\n", "mail"), &["--any-sender", "--json"]).json();
    assert_eq!(answer["sender"]["address"], "mallory@example.net");
    assert_eq!(answer["sender"]["signed"], false);
    assert!(answer["sender"]["problem"].as_str().unwrap().contains("no signer's certificate"), "{answer:#}");
    assert_eq!(answer["revocation"], "not checked");
}

#[test]
fn a_quoted_message_is_not_taken_for_the_mail() {
    let user = user_with_signed_mails();
    let tokenkeep = |arguments: &[&str]| user.tokenkeep(arguments);
    let unsigned = "From: mallory@example.net\nContent-Type: text/plain\n\nPlease pay.\n\n";
    for before in [unsigned, "Please pay.\n", "From: mallory@example.net\n\nPlease pay.\n"] {
        let file = prepend_lines(&user, before, "pem");
        tokenkeep(&["verify", file]).fails_with(8).says("there is text before it");
        tokenkeep(&["decrypt", file, "--pin-source", "file:pin"]).fails_with(8).says("there is text before it");
        tokenkeep(&["git-sign", "--verify", file, "text"]).fails_with(8).says("there is text before it");
    }
    tokenkeep(&["verify", prepend_lines(&user, "\u{feff}\n", "pem")]).ok().says("the contract is signed");
    // Of two PEM blocks the first is read, and the second is reported.
    let two = [user.machine.read("pem"), b"-----BEGIN CMS-----\nAAAA\n-----END CMS-----\n".to_vec()].concat();
    user.machine.write("two", two);
    tokenkeep(&["verify", "two"]).ok().says("another PEM block after the first").says("not signed");
    // A signature with its own content is not valid for another content.
    user.machine.write("other", "Dear Bob,\nthe contract is off.\n");
    tokenkeep(&["verify", "mail", "--content", "other"]).fails_with(8).says("differs from the given file");
    tokenkeep(&["git-sign", "--verify", "mail", "other"]).fails_with(8).says("differs from the given file");
    // In a list's multipart the signed part is read, and the footer is reported.
    let list = "Content-Type: multipart/mixed; boundary=list\n\n--list\n";
    let footer = b"\n--list\nContent-Type: text/plain\n\nPay here.\n--list--\n";
    let mixed = [list.as_bytes(), &user.machine.read("mail"), footer].concat();
    user.machine.write("mixed", mixed);
    let output = tokenkeep(&["verify", "mixed"]).ok().says("the contract is signed").says("a text/plain part");
    output.does_not_say("Pay here");
}

/// Encrypts the file to the user as it is, in a mail that begins with these lines.
fn encrypt_file(user: &TestUser, inside: &str, from: &str) -> &'static str {
    let line = format!(
        "tokenkeep encrypt --certificate own.der --not-to-self {inside} --out encrypted.der && \
         openssl cms -cmsout -inform DER -outform SMIME -in encrypted.der -out encrypted"
    );
    user.machine.shell(&line).ok();
    prepend_lines(user, from, "encrypted")
}

#[test]
fn decrypt_reports_the_inner_signer() {
    let user = user_with_signed_mails();
    let email = user.email.clone();
    let made = |inside: &str, from: &str| encrypt_file(&user, inside, from);
    let decrypt = |file: &str, more: &[&str]| {
        user.tokenkeep(&[&["decrypt", file, "--pin-source", "file:pin"][..], more].concat())
    };
    let output = decrypt(made("mail", &format!("From: {email}\n")), &[]).ok().says("Inside the encryption: Signed by");
    output.says(&email).says("the contract is signed").does_not_say("Not integrity-protected");
    let mallory = made("mail", "From: mallory@example.net\n");
    decrypt(mallory, &[]).fails_with(8).says("from mallory@example.net").says("the contract is signed");
    decrypt(mallory, &["--any-sender"]).ok().says("the contract is signed");
    let changed = user.machine.read_text("mail").replace("is signed", "is off");
    user.machine.write("changed", changed);
    decrypt(made("changed", &format!("From: {email}\n")), &[]).fails_with(8).says("the signature is wrong");
    decrypt(made("text", &format!("From: {email}\n")), &[]).ok().says("Not integrity-protected").says("(not signed)");
}

#[test]
fn decrypt_believes_the_outermost_structure_and_marks_the_rest() {
    let user = user_with_signed_mails();
    let email = user.email.clone();
    let from = format!("From: {email}\n");
    let decrypt = |inside: &[u8], from: &str| {
        user.machine.write("inside", inside);
        let file = encrypt_file(&user, "inside", from);
        user.tokenkeep(&["decrypt", file, "--pin-source", "file:pin"])
    };
    let (mail, pem) = (user.machine.read_text("mail"), user.machine.read_text("pem"));
    // A quoted message in a text, as it is or encoded, signs nothing.
    user.machine.write("quoted", format!("Please pay.\n{mail}"));
    let encoded = user.machine.shell("openssl base64 -in quoted").ok().out();
    let base64 = "Content-Transfer-Encoding: base64";
    for quoting in [
        format!("Content-Type: text/plain\n\n{pem}\nPlease pay.\n"),
        format!("Content-Type: text/html\n\n{pem}<p>Please pay.</p>\n"),
        format!("Content-Type: text/plain\n\n{mail}"),
        format!("Content-Type: text/plain\n{base64}\n\n{encoded}"),
        format!("Content-Type: application/octet-stream; name=x\n{base64}\n\n{encoded}"),
        format!("Please pay.\n{pem}"),
    ] {
        let output = decrypt(quoting.as_bytes(), &from).ok().says("Not integrity-protected");
        output.does_not_say("Signed by").does_not_say("Inside the encryption");
    }
    // Unsigned parts are reported, wherever they are around the signed part.
    let boundary = format!("--{}", mail.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap());
    let list = |before: &str, after: &str| {
        format!("Content-Type: multipart/mixed; boundary=L\n\n{before}--L\n{mail}\n--L--\n{after}")
    };
    let part = "--L\nContent-Type: text/plain\n\nPay.\n";
    for (inside, what) in [
        (mail.replacen("This is a signed message.", "Please pay.", 1), "text before the first part"),
        (mail.replacen(&boundary, &format!("Please pay.\n{boundary}"), 1), "text before the first part"),
        (format!("{mail}\nPlease pay.\n"), "text after the signature"),
        (format!("Subject: Please pay\n{mail}"), "Subject: Please pay (not signed)"),
        (format!("X-Urgent: Please pay\n{mail}"), "the header field X-Urgent of the message inside"),
        (list("Pay.\n", ""), "text before the first part"),
        (list("", "Pay.\n"), "text after the last part"),
        (list(part, ""), "a text/plain part"),
        (list("", "").replace("--L\n", "--L\nSubject: Pay\n"), "the header field Subject of the part"),
        (pem.replacen("-----\n", "-----\nComment: Please pay.\n\n", 1), "header lines in the PEM block"),
    ] {
        let output = decrypt(inside.as_bytes(), &from).ok().says("Inside the encryption: Signed by");
        output.says("Not integrity-protected").says(what);
        user.machine.write("signed", &inside);
        let verified = user.tokenkeep(&["verify", "signed"]).ok();
        if !what.contains("of the message") {
            verified.says(what);
        }
    }
    decrypt(mail.as_bytes(), &from).ok().does_not_say("Not integrity-protected");
    decrypt(mail.as_bytes(), "").ok().says("No sender named: ");
    // A From inside the encryption is checked like the one around it.
    for from in ["", &from] {
        let inside = format!("From: boss@example.org\nSubject: Please pay\n{mail}");
        decrypt(inside.as_bytes(), from).fails_with(8).says("from boss@example.org").says("Please pay (not signed)");
    }
    let same = format!("From: {email}\n{mail}");
    decrypt(same.as_bytes(), &from).ok().says("the contract is signed");
    // The user's own messages stay signed through `encrypt`, in each format that can carry it.
    for file in ["mail", "opaque"] {
        let options = "--certificate own.der --not-to-self --format smime";
        let line = format!("tokenkeep encrypt {options} {file} --out encrypted");
        user.machine.shell(&line).ok();
        let file = prepend_lines(&user, &from, "encrypted");
        let output = user.tokenkeep(&["decrypt", file, "--pin-source", "file:pin"]).ok();
        output.says("Inside the encryption: Signed by");
    }
}

#[test]
fn decrypt_exits_with_8_unless_the_inner_signature_is_right() {
    let user = user_with_signed_mails();
    let decrypt = |inside: &[u8], from: &str| {
        user.machine.write("inside", inside);
        let file = encrypt_file(&user, "inside", from);
        user.tokenkeep(&["decrypt", file, "--pin-source", "file:pin", "--json"])
    };
    let verdict = |output: &Output| {
        let signed = output.json()["signed"]["verdict"].as_str().map(str::to_owned);
        let error = output.err();
        let error: serde_json::Value = serde_json::from_str(error.lines().last().unwrap_or("null")).unwrap();
        (signed.unwrap(), error["error"]["verdict"].as_str().unwrap_or_default().to_owned())
    };
    // A stranger's signature made with OpenSSL: with a self-made certificate, without one, and with
    // an insecure algorithm.
    user.machine.write("x.cnf", "[req]\ndistinguished_name=d\n[d]\n");
    let subject = "-subj /CN=Alice/emailAddress=alice@example.org -config x.cnf";
    let line = format!("openssl req -x509 -newkey rsa:2048 -nodes -keyout a.key -out a.pem -days 9 {subject}");
    user.machine.shell(&line).ok();
    let sign = |options: &str| {
        let line = format!("openssl cms -sign -in text -signer a.pem -inkey a.key {options}");
        user.machine.shell(&line).ok().out()
    };
    for (options, word) in [("-md sha1", "unchecked"), ("-nocerts", "unchecked")] {
        let output = decrypt(sign(options).as_bytes(), "").fails_with(8);
        assert_eq!(verdict(&output), (word.to_owned(), word.to_owned()), "{options}");
    }
    let unknown = sign("");
    assert_eq!(verdict(&decrypt(unknown.as_bytes(), "").ok()), ("unknown".into(), String::new()));
    assert_eq!(verdict(&decrypt(unknown.as_bytes(), "From: alice@example.org\n").ok()).0, "unknown");
    let output = decrypt(unknown.as_bytes(), "From: eve@example.net\n").fails_with(8);
    assert_eq!(verdict(&output), ("unknown".into(), "sender".into()));
    // Truncated, ambiguous, modified.
    let mail = user.machine.read_text("mail");
    let opaque = user.machine.read_text("opaque");
    for (inside, word) in [
        (opaque.lines().take(12).collect::<Vec<_>>().join("\n"), "unchecked"),
        (mail[..mail.len() * 3 / 4].to_owned(), "unchecked"),
        (format!("Content-Type: text/plain\n{mail}"), "unchecked"),
        (mail.replace("is signed", "is off"), "wrong"),
    ] {
        let output = decrypt(inside.as_bytes(), "").fails_with(8);
        assert_eq!(verdict(&output), (word.to_owned(), word.to_owned()), "{inside}");
    }
    // `verify` reports the same verdicts.
    user.machine.write("changed", mail.replace("is signed", "is off"));
    for (file, word) in [("changed", "wrong"), ("text", "unreadable")] {
        let error = user.tokenkeep(&["verify", file, "--json"]).fails_with(8).err();
        let error: serde_json::Value = serde_json::from_str(error.trim()).unwrap();
        assert_eq!(error["error"]["verdict"], word);
    }
}

#[test]
fn verify_reports_that_a_statement_is_not_mail() {
    let user = TestUser::enrolled();
    let statement = user.machine.file("statement").display().to_string();
    let issue = ["issue", "someone.else@example.org", "--name", "Else, Someone", "--statement-out", &statement];
    user.authority.admin(&issue).ok();
    let output = user.tokenkeep(&["verify", "statement", "--out", "x"]);
    output.says("This is not mail: it is an administrator's command");
}
