//! Commands and the agent speak a private protocol: both are one build, and nothing else that
//! arrives on the socket does any harm.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::prompting::write_script;
use crate::support::shared_authority::TestUser;

/// Length in bytes of a frame's head.
const HEAD_BYTES: usize = 16;

/// The answer of a process of another build to the first bytes that it gets.
fn answers_of_other_builds() -> [Vec<u8>; 2] {
    let frame = [&[0; 1][..], b"another", &[0; 8]].concat();
    // An agent that knew only HTTP.
    [frame, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()]
}

#[test]
fn an_agent_of_another_build_has_to_be_restarted() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let directory = machine.file("runtime/tokenkeep/agent");
    fs::create_dir_all(&directory).unwrap();
    for private in [directory.parent().unwrap(), &directory] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).unwrap();
    }
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "message.txt", "--pin-source", "file:pin", "--out", "signed"];
    for answer in answers_of_other_builds() {
        let socket = directory.join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut head = [0; HEAD_BYTES];
            client.read_exact(&mut head).unwrap();
            client.write_all(&answer).unwrap();
            let mut rest = Vec::new();
            // A command that does not read the whole answer resets the connection.
            let _ = client.read_to_end(&mut rest);
            [head.as_slice(), &rest].concat()
        });
        machine.tokenkeep(&sign).fails_with(1).says("another build of tokenkeep").says("`tokenkeep agent stop`");
        let sent = agent.join().unwrap();
        let pin = machine.read_text("pin");
        let pin = pin.trim().as_bytes();
        assert!(!sent.windows(pin.len()).any(|part| part == pin), "it got the PIN");
        fs::remove_file(socket).unwrap();
    }
    assert!(!machine.file("signed").exists());
    machine.tokenkeep(&sign).ok();
    assert!(!machine.listed_token("default").count_is_low());
}

#[test]
fn frames_of_another_build_and_garbage_are_refused() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    Agent::configure(machine, "");
    let agent = Agent::start(machine, &[]);
    let answer_to = |bytes: &[u8]| {
        let mut client = UnixStream::connect(agent.api_socket()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // The agent may close before it has read everything.
        let _ = client.read_to_end(&mut answer);
        answer
    };
    // The agent names its own build, and nothing more.
    let other = [&[0; 1][..], b"another", &2_u32.to_be_bytes(), &0_u32.to_be_bytes(), b"{}"].concat();
    let named = answer_to(&other);
    assert_eq!((named.len(), &named[8..]), (HEAD_BYTES, &[0; 8][..]));
    let build = &named[..8];
    assert_eq!(build[0], 0, "an HTTP request could begin so");
    // A frame of this build, with content that no command sends.
    let frame = |message: &[u8], lengths: [u32; 2]| {
        [build, &lengths[0].to_be_bytes(), &lengths[1].to_be_bytes(), message].concat()
    };
    let length = |message: &[u8]| u32::try_from(message.len()).unwrap();
    for message in [
        &b"null"[..],
        b"{\"Call\":{\"number\":1,\"call\":\"SignDigest\"}}",
        b"{\"Reply\":{\"number\":1,\"reply\":null}}",
        b"\xff\xfe",
    ] {
        assert_eq!(answer_to(&frame(message, [length(message), 0])), b"", "{}", String::from_utf8_lossy(message));
    }
    assert_eq!(answer_to(&frame(b"{}", [u32::MAX, 0])), b"");
    assert_eq!(answer_to(&frame(b"{}", [2, u32::MAX])), b"");
    assert_eq!(answer_to(&frame(b"{}", [2, 5])), b"", "truncated");
    // An unknown operation, wrong arguments and a missing file are answered with an error.
    for (operation, arguments, has_input) in
        [("SignDigest", "{}", false), ("SignContent", "{}", false), ("SignContent", "{\"keyset\":{}}", true)]
    {
        let message = format!(
            "{{\"Call\":{{\"number\":1,\"call\":{{\"Run\":{{\"operation\":\"{operation}\",\"arguments\":{arguments},\
             \"has_input\":{has_input},\"has_output\":false}}}}}}}}"
        );
        let answer = answer_to(&frame(message.as_bytes(), [length(message.as_bytes()), 0]));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("cannot run the operation"), "{answer}");
    }
    machine.tokenkeep(&["keysets"]).ok().says("default");
    assert!(!machine.listed_token("default").count_is_low());
    assert!(!machine.file("questions").exists(), "a prompt appeared");
    assert!(agent.stop().success());
}

#[test]
fn a_content_that_changes_at_the_prompt_is_not_signed() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    machine.tokenkeep(&["keyset", "export", "--certificate", "authority", "-o", "authority.pem"]).ok();
    let body = "cat >> $HERE/asked; printf 'Pay 9,000' > $HERE/order; cat $HERE/pin";
    let prompter = write_script(machine, "prompter", body);
    Agent::configure(machine, &format!("prompter = \"command:{prompter}\""));
    let agent = Agent::start(machine, &[]);
    let shown = "Pay 1,000";
    machine.write("shown", shown);
    let digest = machine.openssl(&["dgst", "-sha256", "-r", "shown"]).ok().out();

    machine.write("order", shown);
    machine.tokenkeep_without_terminal(&["sign", "order", "--out", "signed"]).fails_with(1).says("changed");
    assert!(!machine.file("signed").exists());
    assert!(machine.read_text("asked").contains(digest.split(' ').next().unwrap()));

    // A detached signature is over the content that was shown, whatever the file has become.
    machine.write("order", shown);
    machine.tokenkeep_without_terminal(&["sign", "order", "--detached", "--out", "signature"]).ok();
    let verify = |content: &str| {
        let line = ["cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-CAfile", "authority.pem"];
        machine.openssl(&[&line[..], &["-purpose", "any", "-content", content]].concat())
    };
    verify("shown").ok();
    assert_ne!(verify("order").code(), 0);
    assert!(agent.stop().success());
}
