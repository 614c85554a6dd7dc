//! `openssl cmp` as a foreign client, over minimal HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::support::*;
use crate::letter::Letter;
use crate::store::{CertificateState, TemporaryKeyState};

/// Serves `openssl cmp` with these arguments until it ends; returns whether it succeeded, and its
/// output.
fn openssl_cmp(
    fixture: &AuthorityFixture,
    letter: &Letter,
    secret: &str,
    directory: &Path,
    arguments: &[&str],
) -> (bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let log = std::fs::File::create(directory.join("log")).unwrap();
    let mut client = Command::new("openssl")
        .arg("cmp")
        .args(["-server", &server, "-path", "/cmp", "-no_proxy", "127.0.0.1"])
        .args(["-ref", letter.reference.as_str(), "-secret", &format!("pass:{secret}")])
        .args(["-recipient", "/CN=Example Authority"])
        .args(arguments)
        .current_dir(directory)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let status = loop {
        if let Some(status) = client.try_wait().unwrap() {
            break status;
        }
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(std::time::Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        answer_http(fixture, stream);
    };
    (status.success(), std::fs::read_to_string(directory.join("log")).unwrap())
}

/// Answers one request and closes the connection.
fn answer_http(fixture: &AuthorityFixture, mut stream: std::net::TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut message = vec![0; length];
    reader.read_exact(&mut message).unwrap();
    let answer = fixture.post(&message, jiff::Timestamp::now()).bytes;
    let head = "HTTP/1.0 200 OK\r\nContent-Type: application/pkixcmp\r\nContent-Length:";
    stream.write_all(format!("{head} {}\r\n\r\n", answer.len()).as_bytes()).unwrap();
    stream.write_all(&answer).unwrap();
}

fn run(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn openssl_enrolls_one_signing_certificate_with_a_letter() {
    let fixture = AuthorityFixture::new();
    let directory = tempfile::tempdir().unwrap();
    let (letter, directory) = (&fixture.letter, directory.path());
    run(directory, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]);
    let wanted = ["-cmd", "ir", "-newkey", "key.pem", "-subject", "/CN=whatever", "-certout", "own.pem"];
    let secret = String::from_utf8(letter.temporary_key.cmp_secret().to_vec()).unwrap();

    let wrong = secret.chars().rev().collect::<String>();
    let (enrolled, said) = openssl_cmp(&fixture, letter, &wrong, directory, &wanted);
    assert!(!enrolled, "{said}");
    let (enrolled, said) = openssl_cmp(&fixture, letter, &secret, directory, &[&wanted[..], &["-popo", "0"]].concat());
    assert!(!enrolled && said.contains("badPOP"), "{said}");

    let (enrolled, said) =
        openssl_cmp(&fixture, letter, &secret, directory, &[&wanted[..], &["-cacertsout", "ca.pem"]].concat());
    assert!(enrolled, "{said}");
    run(directory, &["verify", "-CAfile", "ca.pem", "-purpose", "smimesign", "own.pem"]);
    let text = run(directory, &["x509", "-in", "own.pem", "-noout", "-text"]);
    assert!(text.contains("email:admin@example.org"), "from the record, not from the request: {text}");
    let store = &fixture.authority().records.store;
    let record = store.temporary_key(letter.reference.as_str()).unwrap().unwrap();
    assert_eq!(record.state, TemporaryKeyState::Used);
    let certificates = store.certificates_of_user(&record.user_id).unwrap();
    let current = certificates.iter().filter(|certificate| certificate.state == CertificateState::Current);
    assert_eq!(current.count(), 1, "certConf made it current");

    let (enrolled, said) = openssl_cmp(&fixture, letter, &secret, directory, &wanted);
    assert!(!enrolled && said.contains("already used"), "{said}");
}
