//! The agent's events (`/v1/events`), read line by line with curl.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::agent::Agent;
use super::machine::Machine;
use super::schema::{self, Description};

/// The description of the agent's API.
pub fn description() -> Description {
    Description::new(serde_json::from_str(include_str!("../../docs/agent-api.openapi.json")).unwrap())
}

/// A running curl. It is killed when dropped.
pub struct EventStream {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl EventStream {
    /// Subscribes to `/v1/events`; later events are not missed.
    pub fn events(machine: &Machine, agent: &Agent) -> Self {
        let socket = agent.api_socket().display().to_string();
        let mut command = machine.command("curl");
        command.args(["-s", "-N", "--max-time", "120", "--unix-socket", &socket]);
        let mut child = command.arg("http://agent/v1/events").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut events = Self { child, lines };
        assert_eq!(events.line(), ": listening");
        events
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The data of the next event, which must have this name and match its schema.
    #[track_caller]
    pub fn event(&mut self, expected: &str) -> Value {
        loop {
            let line = self.line();
            if let Some(name) = line.strip_prefix("event: ") {
                let data = self.line();
                assert_eq!(name, expected, "{data}");
                let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data after {name}: {data}"));
                let data: Value = serde_json::from_str(data).unwrap();
                let description = description();
                schema::fits(&description, description.component("EventData"), &json!({ name: data }));
                return data;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() || !line.is_empty(), "no {expected} came: {ended:?}");
            assert!(line.is_empty() || line.starts_with(':'), "{line}");
        }
    }

    /// The rest of the stream.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
