//! Calls an agent with curl and validates every response against the API description.

use std::cell::RefCell;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::event_stream::description;
use crate::support::schema::{self, Description};
use crate::support::shared_authority::{TestUser, wait_until_certificates_are_newer};

/// A user with the keyset `default` at level low and the keyset `strict` at high, whose agent is
/// called with curl. Its prompter gives the PIN in the file `given.pin`.
pub(super) struct Caller {
    // Dropped before the machine.
    pub(super) agent: Agent,
    pub(super) user: TestUser,
    pub(super) description: Description,
    pub(super) called: RefCell<BTreeSet<String>>,
}

/// The response that curl received.
pub(super) struct CurlResponse {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) body: Vec<u8>,
}

impl Caller {
    pub(super) fn new() -> Self {
        let user = TestUser::new();
        for (letter, keyset, level) in [("low.letter", "default", "low"), ("high.letter", "strict", "high")] {
            user.issue(letter);
            if keyset == "strict" {
                wait_until_certificates_are_newer();
            }
            let line = ["enroll", "--letter", letter, "--keyset", keyset, "--level", level, "--new-token"];
            user.tokenkeep(&[&line[..], &["--new-pin-source", "file:pin"]].concat()).ok();
        }
        Agent::configure_with_pin_in(&user.machine, "given.pin", "");
        user.machine.write_secret("given.pin", TestUser::PIN);
        let agent = Agent::start(&user.machine, &[]);
        Self { agent, user, description: description(), called: RefCell::default() }
    }

    /// Runs curl on the agent's socket.
    pub(super) fn curl(&self, path: &str, options: &[&str]) -> CurlResponse {
        let socket = self.agent.api_socket().display().to_string();
        let url = format!("http://agent{path}");
        let fixed =
            ["-s", "-S", "--max-time", "60", "--unix-socket", &socket, "-w", "\n%{http_code} %{content_type}", &url];
        let output = self.user.machine.run("curl", &[&fixed[..], options].concat(), b"").ok();
        let end = output.stdout.iter().rposition(|byte| *byte == b'\n').unwrap();
        let trailer = String::from_utf8(output.stdout[end + 1..].to_vec()).unwrap();
        let (status, kind) = trailer.split_once(' ').unwrap();
        CurlResponse { status: status.parse().unwrap(), kind: kind.to_owned(), body: output.stdout[..end].to_vec() }
    }

    /// Calls a path of the description; `actual` is the path with its parameters. The response must
    /// have this status and match its schema.
    #[track_caller]
    pub(super) fn call(&self, method: &str, template: &str, actual: &str, body: Option<&Value>, status: u16) -> Value {
        let text = body.map(Value::to_string);
        if let (Some(body), 200..300) = (body, status) {
            schema::fits(&self.description, self.description.request(method, template), body);
        }
        let mut options = vec!["-X", method];
        if let Some(text) = &text {
            options.extend(["-H", "Content-Type: application/json", "--data-binary", text]);
        }
        let response = self.curl(actual, &options);
        self.validate(method, template, &response, status)
    }

    #[track_caller]
    pub(super) fn validate(&self, method: &str, template: &str, response: &CurlResponse, status: u16) -> Value {
        let shown = String::from_utf8_lossy(&response.body);
        assert_eq!(response.status, status, "{method} {template}\n{shown}\n{}", self.agent.log());
        self.called.borrow_mut().insert(format!("{method} {template}"));
        let Some(schema) = self.description.response(method, template, status, &response.kind) else {
            assert!(response.body.is_empty(), "{method} {template} has a body\n{shown}");
            return Value::Null;
        };
        let value: Value = serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        // The API description may mention commands; the errors of a request must not.
        if template != "/v1/openapi.json" {
            let options =
                |text: &str| text.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            assert!(!options(&shown), "{method} {template} tells of options of a command line\n{shown}");
        }
        schema::fits(&self.description, schema, &value);
        value
    }

    #[track_caller]
    pub(super) fn gets(&self, template: &str, actual: &str, status: u16) -> Value {
        self.call("GET", template, actual, None, status)
    }

    #[track_caller]
    pub(super) fn posts(&self, path: &str, body: &Value, status: u16) -> Value {
        self.call("POST", path, path, Some(body), status)
    }

    /// The error's message.
    #[track_caller]
    pub(super) fn expect_error(&self, path: &str, body: &Value, status: u16) -> String {
        self.posts(path, body, status)["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}
