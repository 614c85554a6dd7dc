//! A client of the SSH agent protocol: lists keys, logs in to a token, and signs an SSH
//! authentication.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::measure::Contender;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const ADD_SMARTCARD_KEY: u8 = 20;
const SUCCESS: u8 = 6;
/// `SSH_AGENT_RSA_SHA2_256`
const RSA_SHA2_256: u32 = 2;

/// A key as an agent lists it.
#[derive(Clone)]
pub struct ListedKey {
    pub blob: Vec<u8>,
    pub comment: String,
}

impl ListedKey {
    /// the key type, `ssh-rsa` or `ecdsa-sha2-nistp256`
    pub fn kind(&self) -> String {
        String::from_utf8(take_string(&mut self.blob.as_slice()).to_vec()).unwrap()
    }
}

pub struct Connection(UnixStream);

impl Connection {
    pub fn open(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display())))
    }

    pub fn keys(&mut self) -> Vec<ListedKey> {
        let answer = self.ask(&[REQUEST_IDENTITIES]);
        let mut rest = answer.strip_prefix(&[IDENTITIES_ANSWER]).expect("a list of keys");
        let count = take_number(&mut rest);
        (0..count)
            .map(|_| ListedKey {
                blob: take_string(&mut rest).to_vec(),
                comment: String::from_utf8_lossy(take_string(&mut rest)).into_owned(),
            })
            .collect()
    }

    /// `ssh-add -s`; returns whether the agent accepted it.
    pub fn log_in(&mut self, provider: &str, pin: &str) -> bool {
        let mut message = vec![ADD_SMARTCARD_KEY];
        put_string(&mut message, provider.as_bytes());
        put_string(&mut message, pin.as_bytes());
        self.ask(&message) == [SUCCESS]
    }

    fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        put_string(&mut framed, message);
        let mut answer = Vec::new();
        self.exchange(&framed, &mut answer);
        answer
    }

    fn exchange(&mut self, framed: &[u8], answer: &mut Vec<u8>) {
        self.0.write_all(framed).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        answer.resize(usize::try_from(u32::from_be_bytes(length)).unwrap(), 0);
        self.0.read_exact(answer).unwrap();
    }
}

/// Signs SSH authentications, with one connection per thread.
pub struct Signing {
    socket: PathBuf,
    request: Vec<u8>,
}

impl Signing {
    pub fn new(socket: &Path, key: &ListedKey) -> Self {
        let is_rsa = key.kind() == "ssh-rsa";
        let mut data = Vec::new();
        put_string(&mut data, &[7; 32]);
        data.push(50);
        put_string(&mut data, b"user");
        put_string(&mut data, b"ssh-connection");
        put_string(&mut data, b"publickey");
        data.push(1);
        put_string(&mut data, if is_rsa { b"rsa-sha2-256" } else { b"ecdsa-sha2-nistp256" });
        put_string(&mut data, &key.blob);
        let mut message = vec![SIGN_REQUEST];
        put_string(&mut message, &key.blob);
        put_string(&mut message, &data);
        message.extend(if is_rsa { RSA_SHA2_256 } else { 0 }.to_be_bytes());
        let mut request = Vec::new();
        put_string(&mut request, &message);
        Self { socket: socket.to_owned(), request }
    }
}

impl Contender for Signing {
    fn worker(&self) -> Box<dyn FnMut() + '_> {
        let mut connection = Connection::open(&self.socket);
        let mut answer = Vec::new();
        Box::new(move || {
            connection.exchange(&self.request, &mut answer);
            assert_eq!(answer.first(), Some(&SIGN_RESPONSE), "{} refused to sign", self.socket.display());
        })
    }
}

fn put_string(to: &mut Vec<u8>, string: &[u8]) {
    to.extend(u32::try_from(string.len()).unwrap().to_be_bytes());
    to.extend(string);
}

fn take_number(from: &mut &[u8]) -> u32 {
    let (number, rest) = from.split_first_chunk::<4>().expect("four bytes more");
    *from = rest;
    u32::from_be_bytes(*number)
}

fn take_string<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(take_number(from)).unwrap();
    let (string, rest) = from.split_at(length);
    *from = rest;
    string
}
