//! The faulty module (`examples/faulty_pkcs11.rs`) in front of a machine's SoftHSM: sets its rules,
//! and reads the calls with a PIN that it recorded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::kryoptic;
use super::machine::Machine;

/// Replaces a machine's module for `tokenkeep`. Other programs still use SoftHSM itself.
pub struct FaultyModule {
    control: PathBuf,
    counts: PathBuf,
}

impl FaultyModule {
    /// Puts the faulty module in front of the machine's module. It has no faults before
    /// [`Self::set_faults`].
    pub fn wrap_module_of(machine: &mut Machine) -> Self {
        let wrapped = machine.module().to_owned();
        let faulty = Self::configure_for(machine, &wrapped);
        let configuration = machine.read_text("config/tokenkeep/agent.toml");
        let (real_module, faulty_module) = (wrapped.display().to_string(), module().display().to_string());
        assert!(configuration.contains(&real_module), "agent.toml does not name the module");
        machine.write("config/tokenkeep/agent.toml", configuration.replace(&real_module, &faulty_module));
        faulty
    }

    /// Adds the faulty module to the machine's module (SoftHSM); it wraps Kryoptic, which has no
    /// token.
    pub fn add_to(machine: &mut Machine) -> Self {
        let faulty = Self::configure_for(machine, &kryoptic::module());
        let modules = format!("modules = [\"{}\", \"{}\"]\n", machine.module().display(), module().display());
        machine.write("config/tokenkeep/agent.toml", modules);
        faulty
    }

    fn configure_for(machine: &mut Machine, wrapped: &Path) -> Self {
        let faulty = Self { control: machine.file("faults"), counts: machine.file("counts") };
        machine.set_environment("FAULTY_WRAPS", &wrapped.display().to_string());
        machine.set_environment("FAULTY_CONTROL", &faulty.control.display().to_string());
        machine.set_environment("FAULTY_COUNTS", &faulty.counts.display().to_string());
        faulty
    }

    /// Sets the rules for the next calls (see the module), and removes all others.
    pub fn set_faults(&self, rules: &str) {
        // Atomically: it may be read at any time.
        let new = self.control.with_extension("new");
        fs::write(&new, rules).unwrap();
        fs::rename(new, &self.control).unwrap();
    }

    /// Removes all rules.
    pub fn clear_faults(&self) {
        self.set_faults("");
    }

    /// The calls with a PIN since the last [`Self::reset_calls`], one line each.
    pub fn calls(&self) -> Vec<String> {
        fs::read_to_string(&self.counts).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Number of wrong PINs that a token received.
    pub fn wrong_tries(&self) -> usize {
        self.calls().iter().filter(|call| call.ends_with("CKR_PIN_INCORRECT")).count()
    }

    /// Resets the recorded calls.
    pub fn reset_calls(&self) {
        let _ = fs::remove_file(&self.counts);
    }
}

/// The built module. `cargo test` builds it with everything else; a single test binary builds it
/// itself.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        // Beside this program: target/debug/deps/promises-…
        let target = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let module = target.join("examples/libfaulty_pkcs11.so");
        if !module.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--locked", "--example", "faulty_pkcs11"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(cargo.status().unwrap().success(), "building the module with faults failed");
        }
        assert!(module.exists(), "{} was not built", module.display());
        module
    })
}
