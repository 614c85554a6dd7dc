//! The database time of a page of the user list, with 1,000 and with 1,000,000 users: `cargo bench
//! --bench user_list`.
//!
//! The rest of `admin list` is the same for each page: the seals and signatures of its own users.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement may panic, and prints what it measured")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokenkeep::statement::USERS_PER_PAGE;
use tokenkeep::store::Store;

const FEW: u32 = 1_000;
const MANY: u32 = 1_000_000;
const ROUNDS: usize = 41;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let [few, many] = [FEW, MANY].map(|users| {
        let path = directory.path().join(format!("{users}.db"));
        drop(Store::create(&path).unwrap());
        fill(&path, users);
        let store = Store::open(&path).unwrap();
        let time = page_time(&store, users);
        println!("{users:>9} users: {} us per page of {USERS_PER_PAGE}", time.as_micros());
        time.as_secs_f64()
    });
    println!("     page time at {MANY} users / at {FEW}: {:.2}", many / few);
}

/// Fills the database with users as an authority does: each has a signing and an encryption
/// certificate, a used and an unused letter.
fn fill(path: &Path, users: u32) {
    let sql = format!(
        "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF;
         CREATE TEMP TABLE n AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {users})
           SELECT i FROM c;
         BEGIN;
         INSERT INTO users SELECT printf('%032x', i * 7919), printf('user%09d@example.org', i),
           printf('user%09d@example.org', i), 'Example, User', 0, zeroblob(32) FROM n;
         INSERT INTO certificates (serial, kind, user_id, state, keyset_name, level, tbs, certificate, sha256,
             not_before, not_after, intended_at)
           SELECT printf('%040x', i * 104729 + k), CASE k WHEN 0 THEN 'signing' ELSE 'encryption' END,
             printf('%032x', i * 7919), 'current', 'default', 'high', zeroblob(500), zeroblob(900),
             CAST(printf('%032x', i * 2 + k) AS BLOB), 0, 4102444800, 0 FROM n, (SELECT 0 AS k UNION SELECT 1);
         INSERT INTO temporary_keys (reference, number, user_id, purpose, nonce, key_id, epoch, levels, lost, issued_at,
             expires_at, state, mac)
           SELECT printf('E%012d', i * 2 + k), i * 2 + k, printf('%032x', i * 7919), 'enroll', zeroblob(16),
             zeroblob(8), 1, 'high', 0, 0, 4102444800, CASE k WHEN 0 THEN 'used' ELSE 'unused' END, zeroblob(32)
           FROM n, (SELECT 0 AS k UNION SELECT 1);
         COMMIT;"
    );
    assert!(Command::new("sqlite3").arg(path).arg(sql).status().unwrap().success(), "sqlite3 failed");
}

/// The median time over pages from all parts of the list.
fn page_time(store: &Store, users: u32) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let first = (users - USERS_PER_PAGE) / u32::try_from(ROUNDS).unwrap() * u32::try_from(round).unwrap();
            let after = format!("user{first:09}@example.org");
            let begin = Instant::now();
            let page = store.user_page(after.as_bytes(), USERS_PER_PAGE).unwrap();
            let time = begin.elapsed();
            // A signing certificate and two letters for each user.
            assert_eq!((page.users.len(), page.certificates.len(), page.letters.len()), (500, 500, 1000));
            time
        })
        .collect();
    times.sort_unstable();
    times.remove(ROUNDS / 2)
}
