//! A module that cannot stand its own end: many clear up, in their destructors, what another thread may still be using.

/// Runs when the process ends in its orderly way, by `exit`.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_THE_END: extern "C" fn() = at_the_end;

extern "C" fn at_the_end() {
    let rules = std::env::var_os("FAULTY_CONTROL").and_then(|path| std::fs::read_to_string(path).ok());
    if rules.is_some_and(|rules| rules.lines().any(|rule| rule == "die at the end")) {
        std::process::abort();
    }
}
