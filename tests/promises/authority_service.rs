//! The authority as a system service: systemd accepts its unit, which isolates it from the rest of
//! the machine; the service reads its PIN as a credential and signals when it is ready.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::support::authority::Authority;
use crate::support::foreign_programs::{present, skipped};
use crate::support::machine::Machine;

/// The maximum exposure that `systemd-analyze security` may report, in tenths: 0 is none, 100 a
/// service without any restriction.
const HIGHEST_EXPOSURE: &str = "15";

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/tokenkeep-authority.service");
    fs::read_to_string(path).unwrap()
}

#[test]
fn systemd_accepts_the_authoritys_unit() {
    if !present("systemd-analyze") {
        return skipped("systemd-analyze is not installed");
    }
    let machine = Machine::new();
    let unit = unit().replace("/usr/bin/tokenkeep", env!("CARGO_BIN_EXE_tokenkeep"));
    // The package installs the manual page.
    let unit: Vec<_> = unit.lines().filter(|line| !line.starts_with("Documentation=")).collect();
    let unit = unit.join("\n");
    machine.write("tokenkeep-authority.service", &unit);
    let verify = ["verify", "--man=no", "./tokenkeep-authority.service"];
    assert_eq!(machine.run("systemd-analyze", &verify, b"").ok().err(), "");
    let threshold = format!("--threshold={HIGHEST_EXPOSURE}");
    let security = ["security", "--offline=yes", &threshold, "./tokenkeep-authority.service"];
    machine.run("systemd-analyze", &security, b"").ok();
    machine.write(
        "tokenkeep-authority.service",
        unit.replace("ProtectSystem=strict\n", "").replace("PrivateTmp=yes\n", ""),
    );
    assert_ne!(machine.run("systemd-analyze", &security, b"").code(), 0, "a less restricted service is detected");
}

#[test]
fn the_systemd_unit_reads_its_credential_and_reports_readiness() {
    let machine = Machine::new();
    let _authority = Authority::init(&machine);
    fs::create_dir(machine.file("credentials")).unwrap();
    fs::rename(machine.file("authority.pin"), machine.file("credentials/authority.pin")).unwrap();
    let unit = unit();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/tokenkeep ")).unwrap();
    let start = start.replace("/etc/tokenkeep/authority.toml", "authority.toml");
    let manager = UnixDatagram::bind(machine.file("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let (credentials, notify) = (machine.file("credentials"), machine.file("notify"));
    let environment =
        [("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()), ("NOTIFY_SOCKET", notify.to_str().unwrap())];
    let arguments: Vec<_> = start.split(' ').collect();
    let mut child = machine.start_tokenkeep(&arguments, "authority.log", &environment);
    let mut message = [0; 256];
    let length = manager.recv(&mut message);
    let log = Authority::log(&machine);
    child.kill().unwrap();
    child.wait().unwrap();
    let length = length.unwrap_or_else(|error| panic!("nothing was said to the manager: {error}\n{log}"));
    assert!(String::from_utf8_lossy(&message[..length]).contains("READY=1"), "{log}");
    assert!(log.contains("Serving on"), "{log}");
}
