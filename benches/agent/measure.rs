//! Interleaved time slices, and their statistics.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Repeats one operation, in each thread separately.
pub trait Contender: Sync {
    /// The operation of one thread. Opens what the thread needs (a session, a connection) before it
    /// returns.
    fn worker(&self) -> Box<dyn FnMut() + '_>;
}

/// The duration and selection of the measurements.
pub struct Plan {
    rounds: usize,
    slice: Duration,
    only: Option<String>,
    threads: Option<usize>,
}

impl Plan {
    pub fn from_environment() -> Self {
        let number_from = |name: &str| -> Option<u64> {
            std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number")))
        };
        Self {
            rounds: usize::try_from(number_from("TOKENKEEP_BENCH_ROUNDS").unwrap_or(3)).unwrap().max(1),
            slice: Duration::from_millis(number_from("TOKENKEEP_BENCH_SLICE_MS").unwrap_or(250)),
            only: std::env::var("TOKENKEEP_BENCH_ONLY").ok(),
            threads: number_from("TOKENKEEP_BENCH_THREADS").map(|threads| usize::try_from(threads).unwrap()),
        }
    }
}

/// The results of all rounds of one contender.
#[derive(Default)]
struct Measurements {
    per_second: Vec<f64>,
    micros: Vec<u32>,
}

/// Measures the contenders alternately, round after round, and prints one line each. The first one
/// is the reference for the ratios.
pub fn measure(plan: &Plan, name: &str, threads: usize, contenders: &[(&str, &dyn Contender)]) {
    let is_left_out = plan.only.as_ref().is_some_and(|only| !name.contains(only.as_str()))
        || plan.threads.is_some_and(|only| threads != only);
    if is_left_out {
        return;
    }
    let mut measurements: Vec<Measurements> = contenders.iter().map(|_| Measurements::default()).collect();
    for _ in 0..plan.rounds {
        for ((_, contender), measurements) in contenders.iter().zip(&mut measurements) {
            slice(plan.slice, threads, *contender, measurements);
        }
    }
    let mut raw = None;
    for ((who, _), mut measurements) in contenders.iter().zip(measurements) {
        measurements.per_second.sort_by(f64::total_cmp);
        measurements.micros.sort_unstable();
        let per_second = measurements.per_second[measurements.per_second.len() / 2];
        let ratio = per_second / *raw.get_or_insert(per_second);
        let share = |percent: usize| measurements.micros[measurements.micros.len() * percent / 100];
        println!("{name} {who} threads={threads} {per_second:.0} {ratio:.2} {} {}", share(50), share(99));
    }
}

fn slice(length: Duration, threads: usize, contender: &dyn Contender, measurements: &mut Measurements) {
    let ready = Barrier::new(threads);
    let results: Vec<(Vec<u32>, Duration)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut work = contender.worker();
                    // Unmeasured: the first operation also opens and looks things up.
                    work();
                    ready.wait();
                    let mut micros = Vec::with_capacity(1 << 14);
                    let started = Instant::now();
                    while started.elapsed() < length {
                        let begun = Instant::now();
                        work();
                        micros.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                    }
                    (micros, started.elapsed())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |micros: &Vec<u32>| f64::from(u32::try_from(micros.len()).unwrap());
    measurements.per_second.push(results.iter().map(|(micros, took)| count(micros) / took.as_secs_f64()).sum());
    measurements.micros.extend(results.into_iter().flat_map(|(micros, _)| micros));
}
