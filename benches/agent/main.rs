//! How much of a token's own speed remains: `cargo bench --bench agent`.
//!
//! Uses one SoftHSM token in a directory of its own. All contenders run interleaved in one run (a
//! slice of each, round after round), so that other load on the machine affects all of them. They
//! sign with the module itself (`raw`: `C_SignInit` and `C_Sign`, one session per thread), with the
//! keystore's signer in this process (`signer`), through the agent's endpoints (`agent-ssh`,
//! `agent-api`: the built program, one connection per thread), and with the existing alternatives,
//! if installed (`peer ssh-agent`, `peer p11-kit`).
//!
//! Prints one line per measurement, `RSA-2048 signer threads=2 OPS RATIO p50 p99`: signatures per
//! second (the median of the rounds), their ratio to raw, and the median and 99th percentile of the
//! time of one signature, in microseconds.
//!
//! The default is short (about a minute and a half). `TOKENKEEP_BENCH_ROUNDS` (3) and
//! `TOKENKEEP_BENCH_SLICE_MS` (250) make it longer. `TOKENKEEP_BENCH_ONLY=P-256` selects
//! measurements whose name contains that text, `TOKENKEEP_BENCH_THREADS=4` one number of threads.
//! `TOKENKEEP_BENCH_SIGNATURES=1000000` measures the agent's memory instead: `P-256 agent-ssh
//! signatures=10000 supervisor RSS PSS worker RSS PSS MICROS`, in KiB, and the worker's CPU time
//! per signature.
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
mod bench_token;
mod child_process;
mod direct;
mod endpoints;
mod measure;
mod memory;
mod peers;
mod raw;
mod ssh;

use bench_token::BenchToken;
use measure::{Plan, measure};

/// Numbers of concurrent connections or threads.
const THREADS: [usize; 4] = [1, 2, 4, 8];

fn main() {
    let plan = Plan::from_environment();
    match std::env::var(bench_token::BENCH_PART).as_deref() {
        Ok("direct") => direct(&plan),
        Ok(_) => endpoints::measure_all(&plan),
        Err(_) => {
            if memory::signatures().is_some() {
                println!("# algorithm, contender, signatures, VmRSS and Pss of both processes (KiB), worker us each");
                return endpoints::set_up_and_run();
            }
            println!("# operation, contender, threads, operations/s, ratio to raw, p50 and p99 in microseconds");
            bench_token::set_up_and_run();
            endpoints::set_up_and_run();
        }
    }
}

fn direct(plan: &Plan) {
    let bench_token = BenchToken::open();
    for (name, key) in bench_token.signing_keys() {
        let raw = raw::Signing::of(&bench_token, &key);
        let signer = direct::Signing::new(&key);
        for threads in THREADS {
            measure(plan, &name, threads, &[("raw", &raw), ("signer", &signer)]);
        }
    }
    for (name, key) in bench_token.reading_keys() {
        let raw = raw::Reading::of(&bench_token, &key);
        let direct = direct::Reading::new(&key);
        for threads in THREADS {
            measure(plan, &name, threads, &[("raw", &raw), ("unlock", &direct)]);
        }
    }
}
