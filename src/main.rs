//! The program: parse, run, end.

fn main() {
    tokenkeep::cli::main()
}
