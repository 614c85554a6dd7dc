//! Through the SSH endpoint only SSH logins and SSHSIG blobs are signed. A program of the same
//! user, or a host to which the socket is forwarded, gets no statement, mail or digest signed
//! there. An ordinary agent signs these, as the first test shows.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::{Decode, Encode};

use crate::support::agent::{Agent, LIST, wait_for};
use crate::support::machine::Machine;
use crate::support::ssh::{OrdinaryAgent, PIN, RawAgentClient, enroll_machine, ssh_add, start_agent, string};

/// `SSH_AGENT_RSA_SHA2_256`: the algorithm that CMS uses with RSA, too.
const SHA256: u32 = 2;

/// The signed attributes of a CMS message, encoded as they are signed, and the signature over them.
fn signed_attributes(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let content = ContentInfo::from_der(message).unwrap().content.decode_as::<SignedData>().unwrap();
    let signer = content.signer_infos.0.get(0).unwrap();
    let attributes = signer.signed_attrs.as_ref().unwrap().to_der().unwrap();
    assert_eq!(attributes[0], 0x31);
    (attributes, signer.signature.as_bytes().to_vec())
}

/// The data that an SSH login signs (RFC 4252 §7).
fn log_in(session_id: &[u8], key_blob: &[u8]) -> Vec<u8> {
    let names = [string("user"), string("ssh-connection"), string("publickey")].concat();
    [&string(session_id)[..], &[50], &names, &[1], &string("rsa-sha2-256"), &string(key_blob)].concat()
}

fn sshsig(namespace: &str) -> Vec<u8> {
    [&b"SSHSIG"[..], &string(namespace), &string(""), &string("sha512"), &string([9; 64])].concat()
}

/// A command like a statement, signed as CMS by a key in a file, and that key as an SSH key.
fn statement_by_openssl(machine: &Machine) -> (Vec<u8>, Vec<u8>) {
    machine.write("command", "issue user@example.org\n");
    let subject = ["-subj", "/CN=Administrator", "-days", "1"];
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "software", "-out", "software.pem"];
    machine.openssl(&[&new[..], &subject].concat()).ok();
    let sign = ["cms", "-sign", "-binary", "-nodetach", "-in", "command", "-outform", "DER", "-out", "command.p7m"];
    machine.openssl(&[&sign[..], &["-signer", "software.pem", "-inkey", "software"]].concat()).ok();
    signed_attributes(&machine.read("command.p7m"))
}

#[test]
fn an_ordinary_agent_signs_a_statement_and_this_one_does_not() {
    let mut machine = enroll_machine(&[("classic", "low", "rsa-2048")]);
    // The signed attributes of a message that tokenkeep has signed with this very key.
    machine.write("message", "a message\n");
    let sign = ["sign", "--keyset", "classic", "--pin-source", "file:pin", "--in", "message", "--out", "signed.p7m"];
    machine.tokenkeep(&[&sign[..], &["--format", "der"]].concat()).ok();
    let (own_attributes, own_signature) = signed_attributes(&machine.read("signed.p7m"));
    let (attributes, signature) = statement_by_openssl(&machine);

    // RSA signatures are deterministic: the ordinary agent returns the statement's very signature.
    let ordinary = OrdinaryAgent::start(&machine, &["software"]);
    let mut raw_client = RawAgentClient::connect(&ordinary.socket);
    let software = raw_client.key("");
    let (_, given) = raw_client.sign(&software, &attributes, SHA256).unwrap();
    assert_eq!(given, signature, "an ordinary agent would have been no danger");

    let agent = start_agent(&mut machine);
    ssh_add(&machine, PIN, &["-s", "classic"]).ok();
    let mut raw_client = RawAgentClient::connect(&agent.ssh_socket());
    let key = raw_client.key("classic");
    assert_eq!(raw_client.sign(&key, &own_attributes, SHA256), None);
    assert_eq!(raw_client.sign(&key, &attributes, SHA256), None);
    let (name, good) = raw_client.sign(&key, &sshsig("git"), SHA256).unwrap();
    assert!(name == "rsa-sha2-256" && good.len() == own_signature.len());
}

#[test]
fn foreign_data_is_refused_and_proper_requests_still_work() {
    let mut machine = enroll_machine(&[("classic", "low", "rsa-2048"), ("other", "low", "rsa-2048")]);
    let agent = start_agent(&mut machine);
    for keyset in ["classic", "other"] {
        ssh_add(&machine, PIN, &["-s", keyset]).ok();
    }
    let mut raw_client = RawAgentClient::connect(&agent.ssh_socket());
    let (key, other) = (raw_client.key("classic"), raw_client.key("other"));
    let session = [7; 32];
    let tls13 = [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &[9; 32]].concat();
    let certificate = machine.run("openssl", &["x509", "-in", "ca.pem", "-outform", "DER"], b"").stdout;
    let hostbased = {
        let names = [string("user"), string("ssh-connection"), string("hostbased")].concat();
        [&string(session)[..], &[50], &names, &[1], &string("rsa-sha2-256"), &string(&key)].concat()
    };
    for (what, data) in [
        ("nothing", vec![]),
        ("free bytes", b"free bytes".to_vec()),
        ("a digest", vec![9; 32]),
        ("a certificate", certificate),
        ("a TLS handshake", tls13),
        ("a mail", b"Content-Type: text/plain\r\n\r\nI owe you.\r\n".to_vec()),
        ("a login with another key", log_in(&session, &other)),
        ("a login with trailing bytes", [log_in(&session, &key), vec![0]].concat()),
        ("a truncated login", log_in(&session, &key)[..80].to_vec()),
        ("a login for no session", log_in(b"", &key)),
        ("a login of a host", hostbased),
        ("an SSHSIG blob without a namespace", sshsig("")),
        ("an SSHSIG blob with a mail for a namespace", sshsig("\r\nSubject: I owe you\r\n\r\n")),
        ("an SSHSIG blob with bytes behind it", [sshsig("git"), vec![0]].concat()),
    ] {
        assert_eq!(raw_client.sign(&key, &data, SHA256), None, "{what}");
        assert!(raw_client.sign(&key, &sshsig("git"), SHA256).is_some(), "after {what}");
    }
    // SHA-1, which RSA uses without flags.
    assert_eq!(raw_client.sign(&key, &log_in(&session, &key), 0), None);
    assert_eq!(raw_client.sign(&key, &sshsig("git"), 0), None);
    assert!(raw_client.sign(&key, &log_in(&session, &key), SHA256).is_some());
}

#[test]
fn a_bound_connection_logs_in_to_its_session_only() {
    let mut machine = enroll_machine(&[("classic", "low", "rsa-2048")]);
    let agent = start_agent(&mut machine);
    ssh_add(&machine, PIN, &["-s", "classic"]).ok();
    machine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "host"], b"").ok();
    // The ordinary agent, which signs anything, acts as the host.
    let ordinary = OrdinaryAgent::start(&machine, &["host"]);
    let mut host = RawAgentClient::connect(&ordinary.socket);
    let host_key = host.key("");
    let mut bind = |session: &[u8], signed: &[u8], is_forwarding: u8| {
        let (name, signature) = host.sign(&host_key, signed, 0).unwrap();
        let signature = [string(name), string(signature)].concat();
        let name = string("session-bind@openssh.com");
        [&[27], &name[..], &string(&host_key), &string(session), &string(signature), &[is_forwarding]].concat()
    };
    let (session, another) = ([7; 32], [8; 32]);

    let mut raw_client = RawAgentClient::connect(&agent.ssh_socket());
    let key = raw_client.key("classic");
    assert_ne!(raw_client.request(&bind(&session, &another, 0)), [6], "the host has signed another session");
    assert_eq!(raw_client.request(&bind(&session, &session, 0)), [6]);
    assert_eq!(raw_client.sign(&key, &log_in(&another, &key), SHA256), None);
    assert!(raw_client.sign(&key, &log_in(&session, &key), SHA256).is_some());
    assert_ne!(raw_client.request(&bind(&another, &another, 0)), [6], "it is bound already");
    assert_eq!(raw_client.sign(&key, &log_in(&another, &key), SHA256), None);

    // Forwarded: no login to the forwarding host itself, and further logins only where the session
    // is bound.
    let mut raw_client = RawAgentClient::connect(&agent.ssh_socket());
    assert_eq!(raw_client.request(&bind(&session, &session, 1)), [6]);
    assert_eq!(raw_client.sign(&key, &log_in(&session, &key), SHA256), None);
    assert_eq!(raw_client.sign(&key, &log_in(&another, &key), SHA256), None);
    assert_eq!(raw_client.request(&[19]), [5], "log-off from there");
    assert!(raw_client.sign(&key, &sshsig("git"), SHA256).is_some());
    assert_eq!(raw_client.request(&bind(&another, &another, 0)), [6]);
    assert!(raw_client.sign(&key, &log_in(&another, &key), SHA256).is_some());
}

#[test]
fn a_client_with_endless_refusals_does_not_fill_the_log() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, &[]);
    let refused = |times: usize| {
        let mut client = RawAgentClient::connect(&agent.ssh_socket());
        // Private keys are refused, however long the message.
        let message = [&[17][..], &[b'x'; 2000]].concat();
        (0..times).for_each(|_| assert_eq!(client.request(&message), [5]));
    };
    let lines = || agent.log().lines().filter(|line| line.contains("refus")).map(str::to_owned).collect::<Vec<_>>();
    refused(3);
    wait_for("a line for each", || (lines().len() == 3).then_some(()));
    for line in lines() {
        assert!(line.contains("refused an SSH client: cannot add a private key"), "{line}");
    }
    for _ in 0..10 {
        refused(100);
    }
    wait_for("the others' number", || agent.log().contains("more refusals").then_some(()));
    // At most 20 lines and their sums per minute, for more minutes than this test takes.
    let lines = lines();
    assert!((21..100).contains(&lines.len()), "{lines:#?}");
    assert_eq!(RawAgentClient::connect(&agent.ssh_socket()).request(&[11])[0], LIST, "others are served");
    // The API reports it to its caller, and to nobody else.
    let before = agent.log();
    for _ in 0..50 {
        let mut client = UnixStream::connect(agent.api_socket()).unwrap();
        client
            .write_all(b"POST /v1/sign HTTP/1.1\r\nHost: agent\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(agent.log(), before);
}
