//! After a flood of connections and of large requests, the agent's worker has about as much memory
//! as before: a load from a user's program does not occupy memory for the rest of the session.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::agent::{Agent, TIMEOUT, probe, wait_for};
use crate::support::machine::Machine;

/// Many for one user; each has a thread.
const CONNECTIONS: usize = 500;
/// Bytes of each request, as large as a mail; all are sent at once.
const CONTENT_BYTES: usize = 4 << 20;
const REQUESTS_AT_ONCE: usize = 8;
/// Memory that may remain, in KiB: pages kept by a single block in use, and the stacks of a few
/// threads.
const ALLOWED_GROWTH_KIB: u64 = 20 * 1024;

/// The private memory of the process, in KiB.
fn private_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn threads(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/task")).unwrap().count()
}

fn send_large_request(socket: &Path, request: &[u8]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_flood_does_not_enlarge_the_workers_memory_for_good() {
    let machine = Machine::new();
    Agent::configure(&machine, "");
    let agent = Agent::start(&machine, &[]);
    let worker = agent.worker();
    let idle = threads(worker);
    let before = private_memory(worker);

    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| UnixStream::connect(agent.ssh_socket()).unwrap()).collect();
    for connection in &mut connections {
        probe(connection).unwrap();
    }
    assert!(threads(worker) > CONNECTIONS, "not all were served at once");
    drop(connections);

    let body = format!("{{\"content\":\"{}\"}}", STANDARD.encode(vec![7; CONTENT_BYTES]));
    let head = "POST /v1/sign HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: ";
    let request = format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes();
    std::thread::scope(|scope| {
        for _ in 0..REQUESTS_AT_ONCE {
            scope.spawn(|| send_large_request(&agent.api_socket(), &request));
        }
    });

    wait_for("the threads end", || (threads(worker) <= idle + 2).then_some(()));
    let after = private_memory(worker);
    assert!(after <= before + ALLOWED_GROWTH_KIB, "{before} KiB before, {after} KiB after: {}", agent.log());
}
