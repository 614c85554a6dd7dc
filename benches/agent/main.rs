//! How much of a token's own speed is left: `cargo bench --bench agent`.
//!
//! On one SoftHSM token in a directory of its own, in one run and interleaved (a slice of each, round after round, so that
//! a machine that is busy for a while is busy for all): signing by the module itself (`raw`: `C_SignInit` and `C_Sign`, a
//! session a thread), by the keystore's signer in this process (`signer`), through the agent's doors (`agent-ssh`,
//! `agent-api`: the built program, a connection a thread), and by what people use today, where it is installed
//! (`peer ssh-agent`, `peer p11-kit`).
//!
//! Prints a line each, `RSA-2048 signer threads=2 OPS RATIO p50 p99`: signatures in a second (the median of the rounds),
//! their share of raw, and how long half and 99 of 100 of them took, in microseconds.
//!
//! Quick by default (about a minute and a half). `TOKENKEEP_BENCH_ROUNDS` (3) and `TOKENKEEP_BENCH_SLICE_MS` (250) make it
//! longer; `TOKENKEEP_BENCH_ONLY=P-256` measures what contains that text, `TOKENKEEP_BENCH_THREADS=4` so many
//! threads alone. `TOKENKEEP_BENCH_SIGNATURES=1000000` looks at the
//! agent's memory instead: `P-256 agent-ssh signatures=10000 broker RSS PSS worker RSS PSS MICROS`, in KiB, and the time
//! that a signature took the worker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a benchmark may panic, and prints"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod api;
mod direct;
mod doors;
mod measure;
mod memory;
mod peers;
mod raw;
mod ssh;
mod stage;

use measure::{Plan, measure};
use stage::Stage;

/// Connections, or threads, that sign at once.
const THREADS: [usize; 4] = [1, 2, 4, 8];

fn main() {
    let plan = Plan::from_environment();
    match std::env::var(stage::ON_STAGE).as_deref() {
        Ok("direct") => direct(&plan),
        Ok(_) => doors::measure_all(&plan),
        Err(_) => {
            if memory::signatures().is_some() {
                println!("# what, by whom, how many, VmRSS and Pss of both processes in KiB, the worker's us for each");
                return doors::set_up_and_run();
            }
            println!("# what, by whom, threads, operations/s, share of raw, p50 and p99 in microseconds");
            stage::set_up_and_run();
            doors::set_up_and_run();
        }
    }
}

fn direct(plan: &Plan) {
    let stage = Stage::enter();
    for (name, key) in stage.signing_keys() {
        let raw = raw::Signing::of(&stage, &key);
        let signer = direct::Signing::new(&key);
        for threads in THREADS {
            measure(plan, &name, threads, &[("raw", &raw), ("signer", &signer)]);
        }
    }
    for (name, key) in stage.reading_keys() {
        let raw = raw::Reading::of(&stage, &key);
        let direct = direct::Reading::new(&key);
        for threads in THREADS {
            measure(plan, &name, threads, &[("raw", &raw), ("unlock", &direct)]);
        }
    }
}
