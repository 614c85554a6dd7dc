//! Calls and replies over one connection.
//!
//! An [`Exchange`] makes one call at a time and serves the calls that the other side makes before
//! its reply. The agent's supervisor and worker have several calls open at a time, and number them
//! themselves.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::frame::{Frame, IpcError, MAX_BYTES, ReceiveLimits, receive_within, send};

/// One message of a side whose calls are `C` and whose replies are `R`.
#[derive(Debug, Serialize, Deserialize)]
pub enum IpcMessage<C, R> {
    /// waits for the reply with this number
    Call {
        number: u64,
        call: C,
    },
    Reply {
        number: u64,
        reply: R,
    },
    /// the reply to this call is no longer wanted
    Withdrawn {
        number: u64,
    },
    /// a call without a reply
    Notify(C),
}

/// The call of a side that may make none: it has no JSON, so that each one is unexpected.
#[derive(Deserialize)]
enum NoCall {}

/// A reply and its payload.
pub type ReplyWithPayload<R> = (R, Zeroizing<Vec<u8>>);

/// One side of a connection with one call open at a time.
#[derive(Debug)]
pub struct Exchange {
    stream: Arc<UnixStream>,
    last_number: u64,
    /// Maximum length of a received message, and of its payload, in bytes.
    max_bytes: usize,
    reply_timeout: Option<Duration>,
}

impl Exchange {
    pub fn new(stream: Arc<UnixStream>) -> Self {
        Self::with_limit(stream, MAX_BYTES)
    }

    /// Receives no message and no payload that is longer than this.
    pub fn with_limit(stream: Arc<UnixStream>, max_bytes: usize) -> Self {
        Self { stream, last_number: 0, max_bytes, reply_timeout: None }
    }

    /// Limits the whole wait for each reply, whatever arrives meanwhile.
    pub fn limit_replies(&mut self, timeout: Duration) {
        self.reply_timeout = Some(timeout);
    }

    fn limits(&self) -> ReceiveLimits {
        let deadline = self.reply_timeout.map(|timeout| Instant::now() + timeout);
        ReceiveLimits { max_bytes: self.max_bytes, deadline }
    }

    /// The connection. While the other side waits for a reply, only its end can arrive.
    pub fn stream(&self) -> &Arc<UnixStream> {
        &self.stream
    }

    /// Makes a call and waits for its reply. Meanwhile `serve` gets the other side's
    /// callbacks; it returns a reply for those that wait for one.
    ///
    /// # Errors
    /// The connection failed or ended, or a message does not fit.
    pub fn call<C: Serialize, R: DeserializeOwned, Callback: DeserializeOwned, CallbackReply: Serialize>(
        &mut self,
        call: C,
        payload: &[u8],
        files: &[BorrowedFd<'_>],
        mut serve: impl FnMut(Callback, Zeroizing<Vec<u8>>) -> Option<ReplyWithPayload<CallbackReply>>,
    ) -> Result<Frame<R>, IpcError> {
        self.last_number += 1;
        let called = self.last_number;
        let limits = self.limits();
        match send(&self.stream, &IpcMessage::<C, CallbackReply>::Call { number: called, call }, payload, files) {
            // It may have named its build before it closed: that is received below.
            Ok(()) | Err(IpcError::Closed) => {}
            Err(error) => return Err(error),
        }
        loop {
            let Frame { message, payload, files } = receive_within::<IpcMessage<Callback, R>>(&self.stream, limits)?;
            match message {
                IpcMessage::Reply { number, reply } if number == called => {
                    return Ok(Frame { message: reply, payload, files });
                }
                IpcMessage::Notify(call) => drop(serve(call, payload)),
                IpcMessage::Call { number, call } => {
                    let unserved = || IpcError::Unexpected("a call that nobody serves".to_owned());
                    let (reply, payload) = serve(call, payload).ok_or_else(unserved)?;
                    send(&self.stream, &IpcMessage::<C, CallbackReply>::Reply { number, reply }, &payload, &[])?;
                }
                IpcMessage::Reply { .. } | IpcMessage::Withdrawn { .. } => {
                    return Err(IpcError::Unexpected("a reply to another call".to_owned()));
                }
            }
        }
    }

    /// Makes a call to a side that makes no calls before its reply.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn request<C: Serialize, R: DeserializeOwned>(
        &mut self,
        call: C,
        payload: &[u8],
    ) -> Result<Frame<R>, IpcError> {
        let nobody = |never: NoCall, _| -> Option<ReplyWithPayload<()>> { match never {} };
        self.call(call, payload, &[], nobody)
    }

    /// Makes a call without a reply.
    ///
    /// # Errors
    /// The connection failed or ended.
    pub fn notify<C: Serialize>(&self, call: C) -> Result<(), IpcError> {
        send(&self.stream, &IpcMessage::<C, ()>::Notify(call), &[], &[])
    }

    /// Receives a call.
    ///
    /// # Errors
    /// The connection failed or ended, or the message is not a call.
    pub fn receive_call<C: DeserializeOwned>(&self) -> Result<(u64, Frame<C>), IpcError> {
        let received = receive_within::<IpcMessage<C, IgnoredAny>>(&self.stream, self.limits())?;
        let Frame { message, payload, files } = received;
        match message {
            IpcMessage::Call { number, call } => Ok((number, Frame { message: call, payload, files })),
            _ => Err(IpcError::Unexpected("not a call".to_owned())),
        }
    }

    /// Replies to a received call.
    ///
    /// # Errors
    /// The connection failed or ended.
    pub fn reply<R: Serialize>(&self, number: u64, reply: R, payload: &[u8]) -> Result<(), IpcError> {
        send(&self.stream, &IpcMessage::<(), R>::Reply { number, reply }, payload, &[])
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use super::*;

    fn pair() -> (Exchange, Exchange) {
        let (one, other) = UnixStream::pair().unwrap();
        (Exchange::new(Arc::new(one)), Exchange::new(Arc::new(other)))
    }

    #[test]
    fn calls_of_the_other_side_are_served_before_the_reply() {
        let (mut caller, mut server) = pair();
        let serving = thread::spawn(move || {
            let (number, frame) = server.receive_call::<String>().unwrap();
            assert_eq!((frame.message.as_str(), frame.payload.as_slice()), ("sign", &b"letter"[..]));
            server.notify("progress").unwrap();
            let pin = server.request::<_, bool>("pin?", b"").unwrap();
            assert_eq!((pin.message, pin.payload.as_slice()), (true, &b"1234"[..]));
            server.reply(number, 5, b"done").unwrap();
        });
        let mut calls = Vec::new();
        let reply = caller.call::<_, u32, String, _>("sign", b"letter", &[], |call, _| {
            calls.push(call.clone());
            (call == "pin?").then(|| (true, Zeroizing::new(b"1234".to_vec())))
        });
        let reply = reply.unwrap();
        assert_eq!((reply.message, reply.payload.as_slice()), (5, &b"done"[..]));
        assert_eq!(calls, ["progress", "pin?"]);
        serving.join().unwrap();
    }

    #[test]
    fn another_build_is_recognized_although_it_reads_nothing() {
        let (mut caller, server) = pair();
        (&*server.stream).write_all(&[b"\0another".as_slice(), &[0; 8]].concat()).unwrap();
        server.stream.shutdown(std::net::Shutdown::Read).unwrap();
        let long = vec![7; 1024 * 1024];
        assert!(matches!(caller.request::<_, ()>((), &long), Err(IpcError::OtherBuild)));
    }

    #[test]
    fn a_hang_up_ends_the_call() {
        let (mut caller, server) = pair();
        drop(server);
        assert!(matches!(caller.request::<_, ()>((), b""), Err(IpcError::Closed)));
    }

    #[test]
    fn a_wait_for_a_reply_ends_whatever_arrives() {
        let (mut caller, server) = pair();
        caller.limit_replies(Duration::from_millis(300));
        let trickling = thread::spawn(move || {
            // Calls are refused at once; single bytes do not prolong the wait.
            server.notify("wait").unwrap();
            let frame = server.stream.try_clone().unwrap();
            while (&frame).write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(matches!(caller.request::<_, ()>((), b""), Err(IpcError::Unexpected(_))));
        drop(caller);
        trickling.join().unwrap();

        let (mut caller, server) = pair();
        caller.limit_replies(Duration::from_millis(300));
        let trickling = thread::spawn(move || {
            let mut build = [0; 8];
            (&*server.stream).read_exact(&mut build).unwrap();
            (&*server.stream).write_all(&[build.as_slice(), &[0, 16, 0, 0, 0, 0, 0, 0]].concat()).unwrap();
            while (&*server.stream).write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(matches!(caller.request::<_, ()>((), b""), Err(IpcError::Timeout)));
        drop(caller);
        trickling.join().unwrap();
    }

    #[test]
    fn a_reply_to_another_call_is_refused() {
        let (mut caller, server) = pair();
        server.reply(9, (), b"").unwrap();
        assert!(matches!(caller.request::<_, ()>((), b""), Err(IpcError::Unexpected(_))));
    }
}
