# `just` lists these recipes. A change must pass `just check` before it is proposed.

default:
    @just --list

# All checks, the fastest first.
check: fmt lint test doc deny

# Check the formatting without changing files.
fmt:
    cargo fmt --check

# Clippy with warnings denied, tests included.
lint:
    cargo clippy --all-targets -- -D warnings

# All tests. Makes ./.softhsm and, once, the second PKCS#11 module.
test:
    ./softhsm-setup.sh
    cargo test

# The documentation, with broken links denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Licenses, bans and sources of the dependencies.
deny:
    cargo deny check licenses bans sources

# One fuzz target for the given seconds, on stable Rust.
fuzz target seconds="60":
    TOKENKEEP_FUZZ={{target}} cargo fuzz run -s none parsers fuzz/corpus/{{target}} -- -max_total_time={{seconds}}

# The whole procedure on temporary tokens.
demo:
    ./softhsm-setup.sh
    cargo run --release -- demo

# The run of continuous integration.
ci:
    .ci/run
