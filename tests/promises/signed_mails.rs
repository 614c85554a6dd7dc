//! What a mail says of itself is not what its signature says: the outermost structure decides what is verified, the From must
//! be the signer's, and what nobody signed is marked. OpenSSL is the witness that the signatures hold.

use crate::support::office::Somebody;

/// Somebody with a signed message in three forms: `mail` (multipart/signed), `opaque`, `pem`.
fn writer() -> Somebody {
    let somebody = Somebody::enrolled();
    somebody.machine.write("text", "Dear Bob,\nthe contract is signed.\n");
    for (file, form) in [("mail", "smime --detached"), ("opaque", "smime"), ("pem", "pem")] {
        let line = format!("tokenkeep sign --pin-source file:pin text --out {file} --format {form}");
        somebody.machine.shell(&line).ok();
    }
    somebody
}

/// Puts these lines before a file of somebody's machine, as a new file.
fn with_lines(somebody: &Somebody, before: &str, file: &str) -> &'static str {
    let text = [before.as_bytes(), &somebody.machine.read(file)].concat();
    somebody.machine.write("tried", text);
    "tried"
}

#[test]
fn a_mail_is_taken_from_its_signer_alone() {
    let somebody = writer();
    let email = somebody.email.clone();
    let verify = |file: &str, more: &[&str]| somebody.tokenkeep(&[&["verify", file][..], more].concat());
    // The signature holds, by OpenSSL too: only the sender is in question.
    let witness = ["cms", "-verify", "-noverify", "-in", "mail", "-out", "x"];
    somebody.machine.openssl(&witness).ok();
    verify("mail", &[]).ok().says("the contract is signed").says(&email).says("Revocation: not checked");
    for form in ["mail", "opaque"] {
        for from in [
            format!("From: {email}\nSubject: hello\n"),
            format!("From: \"Some, Body\" (mallory@example.net) <{}>\n", email.to_uppercase()),
            format!("From mallory@example.net Mon Nov 30 14:28:44 2026\nSubject : J\u{fc}rgen\nFrom : {email}\n"),
        ] {
            let said = verify(with_lines(&somebody, &from, form), &[]).ok();
            said.says("(not signed)").says("the contract is signed");
        }
        for from in [
            "From: mallory@example.net\n".to_owned(),
            format!("From: \"{email}\" <mallory@example.net>\n"),
            format!("From: {email}\nFrom: mallory@example.net\n"),
            format!("From: {email}, mallory@example.net\n"),
            format!("From: friends: {email};\n"),
            format!("Sender: {email}\n"),
        ] {
            let file = with_lines(&somebody, &from, form);
            verify(file, &["--out", "refused"]).fails_with(8).says("not verified").says("--any-sender");
            assert!(!somebody.machine.file("refused").exists(), "{from}");
            verify(file, &["--any-sender"]).ok().says("the contract is signed");
        }
        let list = format!("From: list@example.net\nReply-To: {email}\nList-Id: <list.example.net>\n");
        verify(with_lines(&somebody, &list, form), &[]).fails_with(8).says("rewritten by a mailing list");
    }
    let answer =
        verify(with_lines(&somebody, "From: mallory@example.net\n", "mail"), &["--any-sender", "--json"]).json();
    assert_eq!(answer["sender"]["address"], "mallory@example.net");
    assert_eq!(answer["sender"]["signed"], false);
    assert!(answer["sender"]["problem"].as_str().unwrap().contains("no signer's certificate"), "{answer:#}");
    assert_eq!(answer["revocation"], "not checked");
}

#[test]
fn what_a_mail_quotes_is_not_what_it_is() {
    let somebody = writer();
    let tokenkeep = |arguments: &[&str]| somebody.tokenkeep(arguments);
    let unsigned = "From: mallory@example.net\nContent-Type: text/plain\n\nPlease pay.\n\n";
    for before in [unsigned, "Please pay.\n", "From: mallory@example.net\n\nPlease pay.\n"] {
        let file = with_lines(&somebody, before, "pem");
        tokenkeep(&["verify", file]).fails_with(8).says("text stands before it");
        tokenkeep(&["decrypt", file, "--pin-source", "file:pin"]).fails_with(8).says("text stands before it");
        tokenkeep(&["git-sign", "--verify", file, "text"]).fails_with(8).says("text stands before it");
    }
    tokenkeep(&["verify", with_lines(&somebody, "\u{feff}\n", "pem")]).ok().says("the contract is signed");
    // Of two blocks the first is read, and the other is not hidden.
    let two = [somebody.machine.read("pem"), b"-----BEGIN CMS-----\nAAAA\n-----END CMS-----\n".to_vec()].concat();
    somebody.machine.write("two", two);
    tokenkeep(&["verify", "two"]).ok().says("another PEM block after the first").says("not signed");
    // A signature that brings its own content is none of another.
    somebody.machine.write("other", "Dear Bob,\nthe contract is off.\n");
    tokenkeep(&["verify", "mail", "--content", "other"]).fails_with(8).says("another content");
    tokenkeep(&["git-sign", "--verify", "mail", "other"]).fails_with(8).says("another content");
    // In a list's multipart the signed part is read, and the footer is named.
    let list = "Content-Type: multipart/mixed; boundary=list\n\n--list\n";
    let footer = b"\n--list\nContent-Type: text/plain\n\nPay here.\n--list--\n";
    let mixed = [list.as_bytes(), &somebody.machine.read("mail"), footer].concat();
    somebody.machine.write("mixed", mixed);
    let said = tokenkeep(&["verify", "mixed"]).ok().says("the contract is signed").says("a text/plain part");
    said.does_not_say("Pay here");
}

#[test]
fn decrypt_tells_who_signed_inside() {
    let somebody = writer();
    let email = somebody.email.clone();
    let to = ["encrypt", "--to", email.as_str()];
    let made = |inside: &str, from: &str| {
        somebody.tokenkeep(&[&to[..], &[inside, "--out", "encrypted.der"]].concat()).ok();
        somebody
            .machine
            .openssl(&[
                "cms",
                "-cmsout",
                "-inform",
                "DER",
                "-outform",
                "SMIME",
                "-in",
                "encrypted.der",
                "-out",
                "encrypted",
            ])
            .ok();
        with_lines(&somebody, from, "encrypted")
    };
    let decrypt = |file: &str, more: &[&str]| {
        somebody.tokenkeep(&[&["decrypt", file, "--pin-source", "file:pin"][..], more].concat())
    };
    let said = decrypt(made("mail", &format!("From: {email}\n")), &[]).ok().says("Inside the encryption: Signed by");
    said.says(&email).says("the contract is signed").does_not_say("Not integrity-protected");
    let mallory = made("mail", "From: mallory@example.net\n");
    decrypt(mallory, &[]).fails_with(8).says("from mallory@example.net").says("the contract is signed");
    decrypt(mallory, &["--any-sender"]).ok().says("the contract is signed");
    let changed = somebody.machine.read_text("mail").replace("is signed", "is off");
    somebody.machine.write("changed", changed);
    decrypt(made("changed", &format!("From: {email}\n")), &[]).fails_with(8).says("the signature is wrong");
    decrypt(made("text", &format!("From: {email}\n")), &[]).ok().says("Not integrity-protected").says("(not signed)");
}

#[test]
fn a_statement_is_said_to_be_no_mail() {
    let somebody = Somebody::enrolled();
    let statement = somebody.machine.file("statement").display().to_string();
    let issue = ["issue", "someone.else@example.org", "--name", "Else, Someone", "--statement-out", &statement];
    somebody.office.admin(&issue).ok();
    let said = somebody.tokenkeep(&["verify", "statement", "--out", "x"]);
    said.says("This is no mail: it is an administrator's command");
}
