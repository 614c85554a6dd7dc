//! Foreign programs as witnesses: what they say counts, not what our own code says of itself.

use std::io::Write;

use super::machine::Machine;
use super::output::Output;

impl Machine {
    pub fn openssl(&self, arguments: &[&str]) -> Output {
        self.run("openssl", arguments, b"")
    }

    /// `pkcs11-tool` on this machine's module, with the PIN if one is given.
    pub fn pkcs11_tool(&self, token: &str, pin: Option<&str>, arguments: &[&str]) -> Output {
        let module = self.module().display().to_string();
        let mut all = vec!["--module", &module, "--token-label", token];
        if let Some(pin) = pin {
            all.extend(["--login", "--pin", pin]);
        }
        all.extend(arguments);
        self.run("pkcs11-tool", &all, b"")
    }

    /// `p11tool` (of GNU TLS) on this machine's module.
    pub fn p11tool(&self, pin: Option<&str>, arguments: &[&str]) -> Output {
        let module = self.module().display().to_string();
        let mut command = self.command("p11tool");
        command.args(["--provider", &module, "--batch"]).args(arguments);
        if let Some(pin) = pin {
            command.env("GNUTLS_PIN", pin);
        }
        super::machine::run(command, b"")
    }

    /// Whether DER parses to its end, by `openssl asn1parse`.
    pub fn is_der(&self, der: &[u8]) -> bool {
        let output = self.run("openssl", &["asn1parse", "-inform", "DER"], der);
        output.code() == 0 && !output.err().contains("rror")
    }
}

/// True if the program is there; else says visibly that the test is skipped, past the test harness's capture.
pub fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

/// Says visibly why a test is skipped. Continuous integration fails on this line.
pub fn skipped(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`: the test harness captures that and shows it only of tests that fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {reason}");
}
