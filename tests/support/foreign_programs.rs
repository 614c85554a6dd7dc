//! Other programs as independent verifiers of what our code does.

use std::io::Write;

use super::machine::Machine;
use super::output::Output;

impl Machine {
    pub fn openssl(&self, arguments: &[&str]) -> Output {
        self.run("openssl", arguments, b"")
    }

    /// Runs `pkcs11-tool` with this machine's module, and with the PIN if one is given.
    pub fn pkcs11_tool(&self, token: &str, pin: Option<&str>, arguments: &[&str]) -> Output {
        let module = self.module().display().to_string();
        let mut all = vec!["--module", &module, "--token-label", token];
        if let Some(pin) = pin {
            all.extend(["--login", "--pin", pin]);
        }
        all.extend(arguments);
        self.run("pkcs11-tool", &all, b"")
    }

    /// Runs `p11tool` (of `GnuTLS`) with this machine's module.
    pub fn p11tool(&self, pin: Option<&str>, arguments: &[&str]) -> Output {
        let module = self.module().display().to_string();
        let mut command = self.command("p11tool");
        command.args(["--provider", &module, "--batch"]).args(arguments);
        if let Some(pin) = pin {
            command.env("GNUTLS_PIN", pin);
        }
        super::machine::run(command, b"")
    }

    /// Whether the bytes are completely parsed by `openssl asn1parse`.
    pub fn is_der(&self, der: &[u8]) -> bool {
        let output = self.run("openssl", &["asn1parse", "-inform", "DER"], der);
        output.code() == 0 && !output.err().contains("rror")
    }
}

/// Whether the program is installed; if not, reports the skipped test visibly, outside the test
/// harness's capture.
pub fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

/// Reports visibly why a test is skipped. Continuous integration fails on this line.
pub fn skipped(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`: the test harness captures it and prints it only for failed tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {reason}");
}
