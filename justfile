# `just` lists these; `just check` is what a change must pass before it is proposed.

default:
    @just --list

# Everything below, in the order in which it fails fastest.
check: fmt lint test doc deny

# Formatting, without changing anything.
fmt:
    cargo fmt --check

# Clippy with warnings denied, tests included.
lint:
    cargo clippy --all-targets -- -D warnings

# All tests; makes ./.softhsm and, once, the second PKCS#11 module.
test:
    ./softhsm-setup.sh
    cargo test

# The documentation, with broken links denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Licenses, bans and sources of the dependencies.
deny:
    cargo deny check licenses bans sources

# One fuzz target for so many seconds, on stable Rust.
fuzz target seconds="60":
    TOKENKEEP_FUZZ={{target}} cargo fuzz run -s none parsers fuzz/corpus/{{target}} -- -max_total_time={{seconds}}

# The whole story on throw-away tokens.
demo:
    ./softhsm-setup.sh
    cargo run --release -- demo

# What continuous integration runs.
ci:
    .ci/run
