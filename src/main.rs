//! The `tokenkeep` program: parses the command line, runs the command, exits.

fn main() {
    tokenkeep::cli::main()
}
