//! `keyset export` writes what a person uploads: certificates that OpenSSL reads, and the line that
//! OpenSSH prints itself. It needs no PIN. `forgotten_pin` exports the history of a keyset.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::agent::Agent;
use crate::support::foreign_programs::present;
use crate::support::shared_authority::TestUser;

#[test]
fn exported_certificates_are_those_on_the_token() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    // Nobody can be prompted, and no PIN source is named.
    let export = |arguments: &[&str]| {
        machine.tokenkeep_without_terminal(&[&["keyset", "export", "default"], arguments].concat())
    };
    export(&["--certificate", "authority", "-o", "ca.pem"]).ok();
    for (certificate, purpose) in [("signing", "smimesign"), ("encryption", "smimeencrypt")] {
        export(&["--certificate", certificate, "-o", "one.pem"]).ok();
        machine.openssl(&["verify", "-CAfile", "ca.pem", "-purpose", purpose, "one.pem"]).ok().says("one.pem: OK");
        export(&["--certificate", certificate, "--format", "der", "--out", "one.der"]).ok();
        let der = machine.openssl(&["x509", "-in", "one.pem", "-outform", "der"]).ok().stdout;
        assert_eq!(machine.read("one.der"), der);
        let shown = user.keyset_info("default");
        let of_token = shown["certificates"].as_array().unwrap().iter().find(|one| one["use"] == certificate).unwrap();
        let id = of_token["id"].as_str().unwrap();
        machine.pkcs11_tool("default", None, &["--read-object", "--type", "cert", "--id", id, "-o", "token.der"]).ok();
        assert_eq!(machine.read("one.der"), machine.read("token.der"));
    }
    // Signing is the default; a chain ends with the authority's certificate.
    let chain = export(&["--chain"]).ok().out();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "{chain}");
    assert!(chain.ends_with(&machine.read_text("ca.pem")), "{chain}");
    assert_eq!(export(&["--certificate", "all"]).ok().out().matches("BEGIN CERTIFICATE").count(), 3);
    let json = machine.tokenkeep(&["--json", "keyset", "export", "--certificate", "authority"]).ok().json();
    assert_eq!(json["certificates"], serde_json::json!(["authority"]));
    assert_eq!(STANDARD.decode(json["data"].as_str().unwrap()).unwrap(), machine.read("ca.pem"));
    assert!(!machine.listed_token("default").count_is_low());

    // The agent gives the same.
    Agent::configure(machine, "");
    let agent = Agent::start(machine, &[]);
    assert_eq!(export(&["--chain"]).ok().out(), chain);
    assert!(agent.stop().success());
}

#[test]
fn the_ssh_line_is_that_of_ssh_keygen() {
    if !present("ssh-keygen") {
        return;
    }
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let line = machine.tokenkeep(&["keyset", "export", "--format", "ssh"]).ok().out();
    let module = machine.module().display().to_string();
    let listed = machine.run("ssh-keygen", &["-D", &module], b"").ok().out();
    assert!(listed.lines().any(|listed| listed == line.trim_end()), "{line}is not in\n{listed}");
    machine.write("user.pub", &line);
    machine.run("ssh-keygen", &["-l", "-f", "user.pub"], b"").ok();
}

#[test]
fn an_export_that_does_not_fit_is_refused() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let export = |arguments: &[&str]| machine.tokenkeep(&[&["keyset", "export"], arguments].concat());
    export(&["--certificate", "history"]).fails_with(5).says("the older encryption certificates").says("it has none");
    export(&["--certificate", "history", "--chain"]).fails_with(5).says("it has none");
    export(&["--format", "der", "--chain"]).fails_with(2).says("--format pem");
    export(&["--format", "ssh", "--certificate", "encryption"]).fails_with(2).says("--format pem");
    export(&["--format", "ssh", "--chain"]).fails_with(2);
    export(&["nobody"]).fails_with(3).says("nobody");
    export(&["--certificate", "private"]).fails_with(2);
    export(&["-o", "no/such/directory/file"]).fails_with(2).says("not found");
    export(&["default", "--keyset", "default"]).fails_with(2);
}
