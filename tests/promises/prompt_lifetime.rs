//! A prompt stays open only while its answer is wanted: it closes when the asking connection ends,
//! even if that program lives on, and a command's prompt closes when the agent that wanted the
//! answer exits.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::agent::{Agent, TIMEOUT, wait_for};
use crate::support::machine::Machine;
use crate::support::prompting::{export_offered_key, pin_state, sign, sign_and_verify, write_script};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

/// Maximum time that an unwanted prompt may stay open. It is one second; a machine shared by tests
/// is slower.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent whose askpass waits while the file `wait` exists, and records its processes.
fn start_waiting_agent(user: &mut TestUser) -> Agent {
    let body = "[ ! -e $HERE/wait ] || { sleep 654 & echo $$ $! > $HERE/processes; wait; }; cat $HERE/pin";
    let program = write_script(&user.machine, "askpass", body);
    let module = user.machine.module().display().to_string();
    let modules = format!("modules = [\"{module}\"]");
    user.machine.write("config/tokenkeep/agent.toml", format!("{modules}\nprompter = \"askpass:{program}\"\n"));
    let agent = Agent::start(&user.machine, &["-v"]);
    let machine = &mut user.machine;
    wait_for("its keys are listed", || {
        let keys = machine.command("ssh-add").arg("-L").env("SSH_AUTH_SOCK", agent.ssh_socket()).output().unwrap();
        keys.status.success().then_some(())
    });
    export_offered_key(machine, &agent);
    machine.write("wait", "");
    agent
}

fn processes(machine: &Machine) -> Vec<String> {
    let text = wait_for("a prompt", || {
        fs::read_to_string(machine.file("processes")).ok().filter(|numbers| numbers.ends_with('\n'))
    });
    fs::remove_file(machine.file("processes")).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether the prompt closed in time.
#[track_caller]
fn closes_in_time(processes: &[String]) {
    let began = Instant::now();
    for process in processes {
        wait_for("the prompt closes", || {
            let line = fs::read(Path::new("/proc").join(process).join("cmdline")).unwrap_or_default();
            line.is_empty().then_some(())
        });
    }
    assert!(began.elapsed() < CLOSE_TIMEOUT, "the prompt stayed for {:?}", began.elapsed());
}

fn send_request(socket: &Path, request: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

fn request_over_api(_: &Machine, agent: &Agent) -> UnixStream {
    let body = r#"{"content":"YSBtZXNzYWdlCg=="}"#;
    let head = format!("POST /v1/sign HTTP/1.1\r\nHost: agent\r\nContent-Length: {}\r\n\r\n", body.len());
    send_request(&agent.api_socket(), format!("{head}{body}").as_bytes())
}

/// `SSH_AGENTC_SIGN_REQUEST` for an SSHSIG blob.
fn request_over_ssh(machine: &Machine, agent: &Agent) -> UnixStream {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let key = STANDARD.decode(machine.read_text("key.pub").split_whitespace().nth(1).unwrap()).unwrap();
    let blob = [&b"SSHSIG"[..], &string(b"file"), &string(b""), &string(b"sha512"), &string(&[7; 64])].concat();
    let message = [&[13][..], &string(&key), &string(&blob), &0_u32.to_be_bytes()].concat();
    send_request(&agent.ssh_socket(), &string(&message))
}

#[test]
fn a_prompt_ends_with_its_connection_not_its_program() {
    let mut user = TestUser::with_keyset();
    let agent = start_waiting_agent(&mut user);
    let machine = &user.machine;
    // This process asks, and lives on.
    for asking in [request_over_api, request_over_ssh].map(|ask| ask as fn(&Machine, &Agent) -> UnixStream) {
        let asking = asking(machine, &agent);
        let prompt = processes(machine);
        drop(asking);
        closes_in_time(&prompt);
    }
    for how in [Shutdown::Both, Shutdown::Read] {
        let asking = request_over_ssh(machine, &agent);
        let prompt = processes(machine);
        asking.shutdown(how).unwrap();
        closes_in_time(&prompt);
    }
    // A client that hung up while another was being prompted gets no prompt.
    let first = request_over_api(machine, &agent);
    let prompt = processes(machine);
    drop(request_over_ssh(machine, &agent));
    drop(first);
    closes_in_time(&prompt);
    fs::remove_file(machine.file("wait")).unwrap();
    sign_and_verify(machine, "git");
    assert!(!machine.file("processes").exists(), "nobody's question was asked");
    assert_eq!(pin_state(machine), "ok");
    assert!(agent.stop().success());
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_response() {
    let mut user = TestUser::with_keyset();
    let agent = start_waiting_agent(&mut user);
    let machine = &user.machine;
    for ask in [request_over_api, request_over_ssh].map(|ask| ask as fn(&Machine, &Agent) -> UnixStream) {
        let mut stream = ask(machine, &agent);
        stream.shutdown(Shutdown::Write).unwrap();
        // The prompt is still open after the check whether the client is connected.
        let prompt = processes(machine);
        std::thread::sleep(Duration::from_millis(700));
        assert!(Path::new("/proc").join(&prompt[0]).exists(), "the prompt went");
        fs::remove_file(machine.file("wait")).unwrap();
        let sleeper = prompt[1].parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(sleeper, rustix::process::Signal::TERM).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let signed = answer.starts_with(b"HTTP/1.1 200 ") || answer.get(4) == Some(&14);
        assert!(signed, "{:?}", String::from_utf8_lossy(&answer));
        machine.write("wait", "");
    }
}

#[test]
fn a_commands_prompt_closes_when_the_agent_exits() {
    let mut user = TestUser::with_keyset();
    let mut agent = start_waiting_agent(&mut user);
    let machine = &user.machine;
    machine.write("mail", "mail\n");
    let mut terminal = Terminal::tokenkeep(machine, &["sign", "--in", "mail", "--out", "mail.p7m"]);
    terminal.expect("PIN of token");
    agent.kill();
    let (code, shown) = terminal.finish();
    assert!(
        code == 1 && shown.contains("the agent exited during the operation; run the command again"),
        "{code} {shown}"
    );
    assert!(!machine.file("mail.p7m").exists());
    assert_eq!(pin_state(machine), "ok");
    // The answer to one prompt is not taken for the next one's.
    fs::remove_file(machine.file("wait")).unwrap();
    let _agent = Agent::start(machine, &["-v"]);
    sign(machine, "git").ok();
}
