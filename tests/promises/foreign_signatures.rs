//! Foreign signatures: a right signature is verified, whatever its algorithm; one that cannot be
//! checked here is reported as such and never as wrong; and files of authorities are read in every
//! format. OpenSSL makes all of them.

use crate::support::machine::Machine;
use crate::support::output::Output;

const TEXT: &str = "Dear Bob,\nthe contract is signed.\n";

/// A machine with a foreign authority in `ca.pem`.
fn machine_with_foreign_ca() -> Machine {
    let machine = Machine::new();
    machine.write("message.txt", TEXT);
    let ca = "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n\
              keyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n\
              [mail]\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\n\
              subjectAltName=email:alice@example.org\nsubjectKeyIdentifier=hash\n";
    machine.write("o.cnf", ca);
    let line = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30"];
    machine.openssl(&[&line[..], &["-subj", "/CN=Foreign CA", "-extensions", "ca", "-config", "o.cnf"]].concat()).ok();
    machine
}

/// Signs the text with a new key and certificate: `message.p7m`.
fn sign(machine: &Machine, key: &str, options: &str) {
    let line = format!(
        "openssl genpkey {key} -out a.key && openssl req -new -key a.key -subj /CN=Alice -config o.cnf -out a.csr && \
         openssl x509 -req -in a.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile o.cnf -extensions mail \
         -out a.pem && openssl cms -sign -binary -nodetach -in message.txt -signer a.pem -inkey a.key -outform DER \
         -out message.p7m {options}"
    );
    machine.shell(&line).ok();
}

fn verify(machine: &Machine, ca: &[&str]) -> Output {
    let ca = ca.iter().flat_map(|file| ["--ca", file]);
    machine.tokenkeep(&["verify", "--in", "message.p7m", "--out", "-"].into_iter().chain(ca).collect::<Vec<_>>())
}

#[test]
fn an_uncheckable_signature_is_not_called_wrong() {
    let machine = machine_with_foreign_ca();
    for (key, options) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "-md sha512"),
        ("-algorithm RSA-PSS", "-keyopt rsa_padding_mode:pss"),
        ("-algorithm RSA", "-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:0"),
    ] {
        sign(&machine, key, options);
        machine.openssl(&["cms", "-verify", "-inform", "DER", "-in", "message.p7m", "-CAfile", "ca.pem"]).ok();
        assert_eq!(verify(&machine, &["ca.pem"]).ok().out(), TEXT, "{key} {options}");
    }
    for (key, options, why) in [
        ("-algorithm RSA", "-md sha1", "SHA-1 is no longer safe"),
        ("-algorithm RSA", "-md md5", "MD5 is no longer safe"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1", "", "brainpoolP256r1"),
    ] {
        sign(&machine, key, options);
        let output = verify(&machine, &["ca.pem"]).fails_with(8).says("cannot be checked").says(why);
        output.does_not_say("wrong");
    }
    // Git shows E, not B.
    let detached = ["cms", "-sign", "-binary", "-in", "message.txt", "-signer", "a.pem", "-inkey", "a.key"];
    machine.openssl(&[&detached[..], &["-outform", "DER", "-out", "s.p7s"]].concat()).ok();
    let git = ["git-sign", "--status-fd=1", "--ca", "ca.pem", "--verify", "s.p7s", "message.txt"];
    machine.tokenkeep(&git).fails_with(8).says("[GNUPG:] ERRSIG ").does_not_say("BADSIG");
    // A modified message is wrong, as ever.
    sign(&machine, "-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "");
    let mut message = machine.read("message.p7m");
    let at = message.windows(4).position(|window| window == b"Dear").unwrap();
    message[at] = b'd';
    machine.write("message.p7m", &message);
    verify(&machine, &["ca.pem"]).fails_with(8).says("the signature is wrong").does_not_say("cannot be checked");
}

#[test]
fn changed_line_ends_of_a_signed_content_are_reported() {
    let machine = machine_with_foreign_ca();
    sign(&machine, "-algorithm RSA", "");
    let line = "openssl cms -sign -in message.txt -signer a.pem -inkey a.key -outform DER -out s.p7s";
    machine.shell(line).ok();
    let verify = |more: &[&str]| {
        let line = ["verify", "s.p7s", "--content", "message.txt", "--ca", "ca.pem"];
        machine.tokenkeep(&[&line[..], more].concat())
    };
    verify(&[]).ok().says("The signature covers the content with CR LF");
    assert_eq!(verify(&["--json"]).json()["line_ends_changed"], true);
    machine.shell("sed 's/$/\\r/' message.txt > signed.txt").ok();
    let line = ["verify", "s.p7s", "--content", "signed.txt", "--ca", "ca.pem", "--json"];
    assert_eq!(machine.tokenkeep(&line).json()["line_ends_changed"], false);
    let git = ["git-sign", "--status-fd=1", "--ca", "ca.pem", "--verify", "s.p7s", "message.txt"];
    machine.tokenkeep(&git).fails_with(8).says("BADSIG");
    machine.write("message.txt", "Dear Bob,\nthe contract is off.\n");
    verify(&[]).fails_with(8).says("the signature is wrong");
}

#[test]
fn git_learns_of_the_worst_signer_only_and_of_no_other_text() {
    let machine = machine_with_foreign_ca();
    sign(&machine, "-algorithm RSA", "");
    machine.shell("cp a.pem one.pem && cp a.key one.key").ok();
    sign(&machine, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "");
    let two = "-signer one.pem -inkey one.key -signer a.pem -inkey a.key";
    for (form, file) in [("DER", "two.p7s"), ("PEM", "two.pem")] {
        let line = format!("openssl cms -sign -binary -in message.txt {two} -outform {form} -out {file}");
        machine.shell(&line).ok();
    }
    let git = |file: &str| {
        machine.tokenkeep(&["git-sign", "--status-fd=1", "--ca", "ca.pem", "--verify", file, "message.txt"])
    };
    let lines = |output: &Output, word: &str| output.out().lines().filter(|line| line.contains(word)).count();
    for file in ["two.p7s", "two.pem"] {
        assert_eq!(lines(&git(file).ok(), "GOODSIG"), 1);
    }
    let mut changed = machine.read("two.p7s");
    *changed.last_mut().unwrap() ^= 1;
    machine.write("changed.p7s", &changed);
    let result = git("changed.p7s").fails_with(8);
    assert_eq!((lines(&result, "GOODSIG"), lines(&result, "BADSIG")), (0, 1));
    let beside = machine.read_text("two.pem") + "Signed by the boss.\n";
    machine.write("beside.pem", beside);
    let result = git("beside.pem").fails_with(8).says("text after the PEM block");
    assert_eq!((lines(&result, "GOODSIG"), lines(&result, "ERRSIG")), (0, 1));
    // Header lines in the PEM block are not signed.
    let commented = machine.read_text("two.pem").replacen("-----\n", "-----\nComment: Signed by the boss.\n\n", 1);
    machine.write("commented.pem", commented);
    let result = git("commented.pem").fails_with(8).says("header lines in the PEM block");
    assert_eq!((lines(&result, "GOODSIG"), lines(&result, "ERRSIG")), (0, 1));
    machine
        .tokenkeep(&["verify", "commented.pem", "--content", "message.txt", "--ca", "ca.pem"])
        .ok()
        .says("header lines");
    // Git does not sign other content types than data.
    let line = "openssl cms -sign -binary -econtent_type 1.2.3.4 -in message.txt -signer a.pem -inkey a.key";
    machine.shell(&format!("{line} -outform PEM -out x")).ok();
    git("x").fails_with(8).says("not over data").does_not_say("GOODSIG");
}

#[test]
fn a_persons_certificate_is_trusted_for_that_person_only() {
    let machine = machine_with_foreign_ca();
    sign(&machine, "-algorithm RSA", "");
    // The certificate is trusted itself, so its issuer does not matter.
    verify(&machine, &["a.pem"]).ok().says("Signed by Alice <alice@example.org>");
    machine.shell("cp a.pem one.pem && cp a.key one.key").ok();
    sign(&machine, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "");
    verify(&machine, &["one.pem"]).fails_with(8).says("Foreign CA");
    // It cannot sign for other certificates; neither can an old root without that permission.
    let certify = "openssl x509 -req -in a.csr -CA one.pem -CAkey one.key -CAcreateserial -days 9 -extfile o.cnf \
                   -extensions mail -out a.pem";
    let sign_text = "openssl cms -sign -binary -nodetach -in message.txt -signer a.pem -inkey a.key -outform DER \
                     -out message.p7m";
    machine.shell(&format!("{certify} && {sign_text}")).ok();
    verify(&machine, &["one.pem"]).fails_with(8).says("it is not marked as the certificate of an authority");
    let old = "openssl req -new -key ca.key -subj '/CN=Foreign CA' -config o.cnf -out ca.csr && openssl x509 -req -in \
               ca.csr -signkey ca.key -days 9 -out old.pem";
    machine.shell(old).ok();
    sign(&machine, "-algorithm RSA", "");
    verify(&machine, &["old.pem"]).fails_with(8).says("version 1");
    verify(&machine, &["old.pem", "ca.pem"]).ok();
}

#[test]
fn the_clock_is_suspected_for_a_future_certificate() {
    let machine = machine_with_foreign_ca();
    sign(&machine, "-algorithm RSA", "");
    let configuration = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\nrand_serial=yes\n\
                         policy=p\n[p]\ncommonName=supplied\n";
    machine.write("ca.cnf", configuration);
    machine.write("index", "");
    let line = "openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in a.csr -extfile o.cnf \
                -extensions mail -startdate 20400101000000Z -enddate 20410101000000Z -out a.pem && openssl cms -sign \
                -binary -nodetach -in message.txt -signer a.pem -inkey a.key -outform DER -out message.p7m";
    machine.shell(line).ok();
    let output = verify(&machine, &["ca.pem"]).fails_with(8);
    output.says("not valid before 2040-01-01T00:00:00Z, and by this machine's clock, which may be wrong, it is 20");
}

#[test]
fn an_authoritys_file_is_read_in_every_format_or_named() {
    let machine = machine_with_foreign_ca();
    sign(&machine, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "");
    let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let ca = machine.read("ca.pem");
    machine.openssl(&["crl2pkcs7", "-nocrl", "-certfile", "ca.pem", "-out", "ca.p7b"]).ok();
    machine.openssl(&["x509", "-in", "ca.pem", "-trustout", "-out", "trusted.pem"]).ok();
    machine.write("latin1.pem", [b"M\xfcnchen\n", &ca[..]].concat());
    machine.write("one-bad.pem", [&ca[..], bad.as_bytes()].concat());
    for file in ["ca.p7b", "trusted.pem", "latin1.pem"] {
        assert_eq!(verify(&machine, &[file]).ok().does_not_say("unreadable").out(), TEXT, "{file}");
    }
    verify(&machine, &["one-bad.pem"])
        .ok()
        .says("an unreadable certificate")
        .says("one-bad.pem")
        .says("certificate 2 of 2");
    machine.write("empty.pem", "");
    machine.write("bad.pem", bad);
    for file in ["empty.pem", "bad.pem", "absent.pem"] {
        verify(&machine, &["ca.pem", file]).fails_with(2).says(file);
    }
}
