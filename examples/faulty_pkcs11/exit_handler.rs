//! A module that fails at process exit: many modules destroy, in their destructors, objects that
//! another thread may still use.

/// Runs at process exit, by `exit`.
#[used]
#[unsafe(link_section = ".fini_array")]
static EXIT_HANDLER: extern "C" fn() = run_at_exit;

extern "C" fn run_at_exit() {
    let rules = std::env::var_os("FAULTY_CONTROL").and_then(|path| std::fs::read_to_string(path).ok());
    if rules.is_some_and(|rules| rules.lines().any(|rule| rule == "die at the end")) {
        std::process::abort();
    }
}
