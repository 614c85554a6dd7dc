//! Checks that the agent's memory stays constant: makes many signatures at each endpoint, and
//! prints the memory of both processes in between.
//!
//! Also prints the worker's CPU time per signature, which depends less on other load on the machine
//! than the signatures per second.

use std::fs;
use std::path::Path;

use crate::measure::Contender;
use crate::support::agent::workers_of;

/// The number of signatures, if memory is to be measured instead of speed.
pub fn signatures() -> Option<usize> {
    let text = std::env::var("TOKENKEEP_BENCH_SIGNATURES").ok()?;
    Some(text.parse().expect("TOKENKEEP_BENCH_SIGNATURES: not a number"))
}

/// Number of concurrent connections.
const THREADS: usize = 4;

/// The two processes of the agent.
pub struct Processes {
    supervisor: u32,
    worker: u32,
}

impl Processes {
    /// The processes of the agent whose sockets are in this directory.
    pub fn of(directory: &Path) -> Self {
        let lock = fs::read_to_string(directory.join("lock")).unwrap();
        let supervisor = lock.trim_start_matches("process ").trim().parse().unwrap();
        Self { supervisor, worker: workers_of(supervisor)[0] }
    }

    /// Makes this number of signatures. Prints a line before, and after 1, 10, 50 and 100 percent
    /// of them.
    pub fn watch(&self, name: &str, who: &str, contender: &dyn Contender, signatures: usize) {
        let (mut done, mut spent) = (0, 0.0);
        for until in [0, signatures / 100, signatures / 10, signatures / 2, signatures] {
            let before = self.worker_micros();
            sign(contender, until - done);
            spent += self.worker_micros() - before;
            done = until;
            let each = spent / f64::from(u32::try_from(done.max(1)).unwrap());
            let (supervisor, worker) = (memory(self.supervisor), memory(self.worker));
            println!("{name} {who} signatures={done} supervisor {supervisor} worker {worker} {each:.1}");
        }
    }

    /// The CPU time of the worker in microseconds.
    fn worker_micros(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.worker)).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u32 = [fields[11], fields[12]].iter().map(|field| field.parse::<u32>().unwrap()).sum();
        // A tick is 10 ms.
        f64::from(ticks) * 1e4
    }
}

fn sign(contender: &dyn Contender, times: usize) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let share = times / THREADS + usize::from(thread < times % THREADS);
            scope.spawn(move || {
                let mut work = contender.worker();
                (0..share).for_each(|_| work());
            });
        }
    });
}

/// `VmRSS` and `Pss` in KiB; a dash for `Pss` if it is not readable.
fn memory(process: u32) -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").to_owned())
    };
    let or_dash = |found: Option<String>| found.unwrap_or_else(|| "-".to_owned());
    format!("{} {}", or_dash(field("status", "VmRSS:")), or_dash(field("smaps_rollup", "Pss:")))
}
