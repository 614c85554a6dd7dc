//! Races, the ends of transactions, the log, and the classification of faults.

use std::process::Command;

use jiff::{SignedDuration, Timestamp};

use super::*;

mod rows;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn entry(event: &'static str) -> AuditEntry {
    AuditEntry { at: now(), event, detail: "{}".into() }
}

/// A stub for the authority's token, with a row's hash as its MAC.
struct FakeLogSealer;

impl LogSealer for FakeLogSealer {
    fn seal(&self, row: &AuditRow) -> Result<[u8; 32], Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(row.mac, None);
        Ok(row.hash)
    }

    fn committed(&self, _: &AuditRow) {}
}

fn kept(store: Store) -> Store {
    store.set_log_sealer(Box::new(FakeLogSealer)).unwrap();
    store
}

/// Walks the whole log and returns its head, or the first invalid entry.
fn walk(store: &Store) -> Result<AuditHead, u64> {
    let rows = store.log_entries_after(0, 1_000).unwrap().rows;
    rows.iter().try_fold(AuditHead::EMPTY, |head, row| row.follows(head).ok_or(head.number + 1))
}

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = kept(Store::create(&directory.path().join("authority.db")).unwrap());
    store.add_user(user("u1"), entry("user.added")).unwrap();
    (directory, store)
}

fn user(id: &str) -> UserRecord {
    UserRecord {
        id: id.into(),
        email: format!("{id}@example.org"),
        email_key: format!("{id}@example.org"),
        name: "Example, \"User\" Ünïcode 🦀".into(),
        created_at: now(),
        mac: [7; 32],
    }
}

fn key(reference: &str) -> TemporaryKeyRecord {
    TemporaryKeyRecord {
        reference: reference.into(),
        user_id: "u1".into(),
        purpose: TemporaryKeyPurpose::Enroll,
        nonce: vec![1, 2, 3],
        key_id: vec![4],
        epoch: 1,
        levels: "high".into(),
        lost: false,
        statement: None,
        issued_at: now(),
        expires_at: now() + SignedDuration::from_hours(24),
        state: TemporaryKeyState::Unused,
        transaction_id: None,
        mac: [8; 32],
    }
}

fn claim_request(reference: &str, transaction: u8) -> ClaimRequest {
    ClaimRequest {
        reference: reference.into(),
        transaction_id: vec![transaction; 16],
        message_hash: [transaction; 32],
        now: now(),
        confirm_until: now() + SignedDuration::from_mins(10),
    }
}

fn intent(serial: &str, transaction: u8, kind: CertificateKind) -> CertificateIntent {
    CertificateIntent {
        serial: serial.into(),
        kind,
        user_id: Some("u1".into()),
        transaction_id: Some(vec![transaction; 16]),
        keyset_name: Some("default".into()),
        level: Some("high".into()),
        tbs: vec![1],
        not_before: now(),
        not_after: now() + SignedDuration::from_hours(24),
        intended_at: now(),
    }
}

/// Stores an enrollment up to its reply, with one signing certificate.
fn answered(store: &Store, reference: &str, transaction: u8) -> String {
    let serial = format!("{transaction:02x}");
    store.issue_temporary_key(key(reference), None, entry("letter.issued")).unwrap();
    assert_eq!(store.claim(claim_request(reference, transaction), entry("claimed")).unwrap(), ClaimOutcome::Claimed);
    store.insert_intent(intent(&serial, transaction, CertificateKind::Signing), entry("intended")).unwrap();
    store.record_signed_certificate(&serial, vec![transaction], entry("issued")).unwrap();
    let until = now() + SignedDuration::from_mins(10);
    store.store_reply(&[transaction; 16], vec![transaction], until, entry("answered"), None).unwrap();
    serial
}

fn ending(transaction: u8, state: TransactionState) -> TransactionEnd {
    TransactionEnd { transaction_id: vec![transaction; 16], state, confirmation: Some(([9; 32], vec![9])), now: now() }
}

fn state_of(store: &Store, reference: &str) -> TemporaryKeyState {
    store.temporary_key(reference).unwrap().unwrap().state
}

#[test]
fn records_round_trip_and_persist() {
    let (directory, store) = open();
    store.issue_temporary_key(key("E1"), None, entry("letter.issued")).unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("authority.db")).unwrap();
    assert_eq!(store.user("u1").unwrap(), Some(user("u1")));
    assert_eq!(store.temporary_key("E1").unwrap(), Some(key("E1")));
    assert_eq!(store.user("u2").unwrap(), None);
    assert!(matches!(store.add_user(user("u1"), entry("x")), Err(StoreError::Conflict(_))));
}

#[test]
fn of_many_claimants_exactly_one_wins() {
    let (_directory, store) = open();
    store.issue_temporary_key(key("E1"), None, entry("letter.issued")).unwrap();
    let won = std::thread::scope(|scope| {
        let claims: Vec<_> = (1..=8)
            .map(|transaction| {
                let store = &store;
                scope.spawn(move || store.claim(claim_request("E1", transaction), entry("claimed")).unwrap())
            })
            .collect();
        claims.into_iter().map(|claim| claim.join().unwrap()).filter(|c| *c == ClaimOutcome::Claimed).count()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_transaction_id_is_used_once() {
    let (_directory, store) = open();
    answered(&store, "E1", 1);
    store.issue_temporary_key(key("E2"), None, entry("letter.issued")).unwrap();
    let stolen = ClaimRequest { reference: "E2".into(), ..claim_request("E1", 1) };
    assert_eq!(store.claim(stolen, entry("claimed")).unwrap(), ClaimOutcome::TransactionIdInUse);
    assert_eq!(state_of(&store, "E2"), TemporaryKeyState::Unused);
}

#[test]
fn a_confirmed_enrollment_supersedes_the_one_before() {
    let (_directory, store) = open();
    let first = answered(&store, "E1", 1);
    store.end_transaction(ending(1, TransactionState::Confirmed), entry("confirmed")).unwrap();
    assert_eq!(state_of(&store, "E1"), TemporaryKeyState::Used);
    assert_eq!(store.certificate(&first).unwrap().unwrap().state, CertificateState::Current);

    let second = answered(&store, "E2", 2);
    assert_eq!(store.certificate(&first).unwrap().unwrap().state, CertificateState::Current, "not before certConf");
    store.end_transaction(ending(2, TransactionState::Confirmed), entry("confirmed")).unwrap();
    assert_eq!(store.certificate(&first).unwrap().unwrap().state, CertificateState::Superseded);
    assert_eq!(store.certificate(&second).unwrap().unwrap().state, CertificateState::Current);
    assert!(store.end_transaction(ending(2, TransactionState::Rejected), entry("rejected")).is_err(), "it has ended");
}

#[test]
fn a_rejected_enrollment_is_revoked_and_its_letter_good_again() {
    let (_directory, store) = open();
    let serial = answered(&store, "E1", 1);
    store.end_transaction(ending(1, TransactionState::Rejected), entry("rejected")).unwrap();
    assert_eq!(store.certificate(&serial).unwrap().unwrap().state, CertificateState::Revoked);
    assert_eq!(state_of(&store, "E1"), TemporaryKeyState::Unused);
    assert_eq!(
        store.claim(claim_request("E1", 1), entry("claimed")).unwrap(),
        ClaimOutcome::TransactionIdInUse,
        "a replay"
    );
    assert_eq!(store.claim(claim_request("E1", 2), entry("claimed")).unwrap(), ClaimOutcome::Claimed);
}

#[test]
fn a_newer_letter_voids_unused_ones_and_what_is_reopened_later() {
    let (_directory, store) = open();
    store.issue_temporary_key(key("E0"), None, entry("letter.issued")).unwrap();
    answered(&store, "E1", 1);
    assert_eq!(state_of(&store, "E0"), TemporaryKeyState::Voided);
    store.issue_temporary_key(key("E2"), None, entry("letter.issued")).unwrap();
    assert_eq!(state_of(&store, "E1"), TemporaryKeyState::Claimed, "an open enrollment continues");
    store.end_transaction(ending(1, TransactionState::Unconfirmed), entry("swept")).unwrap();
    assert_eq!(state_of(&store, "E1"), TemporaryKeyState::Voided);
    assert_eq!(state_of(&store, "E2"), TemporaryKeyState::Unused);
}

#[test]
fn an_unconfirmed_transaction_is_overdue_and_may_restart() {
    let (_directory, store) = open();
    answered(&store, "E1", 1);
    assert!(store.overdue_transactions(now()).unwrap().is_empty());
    let later = now() + SignedDuration::from_mins(11);
    assert_eq!(store.overdue_transactions(later).unwrap().len(), 1);
    let unconfirmed = TransactionEnd { confirmation: None, ..ending(1, TransactionState::Unconfirmed) };
    store.end_transaction(unconfirmed, entry("swept")).unwrap();
    assert!(store.overdue_transactions(later).unwrap().is_empty());
    assert_eq!(store.claim(claim_request("E1", 1), entry("claimed")).unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.transaction(&[1; 16]).unwrap().unwrap().reply, None);
}

#[test]
fn the_log_notices_every_change() {
    let (directory, store) = open();
    answered(&store, "E1", 1);
    let head = store.audit_head().unwrap();
    assert_eq!(walk(&store), Ok(head));
    drop(store);
    let database = directory.path().join("authority.db");
    let sql = "UPDATE audit SET detail = '{\"x\":1}' WHERE number = 3";
    assert!(python_sqlite(&database, sql), "python3's sqlite3 is needed as a foreign witness");
    let store = Store::open(&database).unwrap();
    assert_eq!(walk(&store), Err(3));
}

#[test]
fn a_log_continues_only_from_its_own_entries() {
    let (directory, store) = open();
    let mut heads = vec![AuditHead { number: 0, hash: [0; 32] }];
    for _ in 0..4 {
        heads.push(store.audit_head().unwrap());
        store.record(entry("something")).unwrap();
    }
    assert_eq!(heads[1].number, 1);
    for head in &heads {
        assert!(store.log_contains(*head).unwrap(), "{head:?}");
        assert!(!store.log_contains(AuditHead { hash: [9; 32], ..*head }).unwrap(), "{head:?}");
    }
    let newest = store.audit_head().unwrap();
    assert!(store.log_contains(newest).unwrap());
    for beyond in [newest.number + 1, u64::MAX] {
        assert!(!store.log_contains(AuditHead { number: beyond, ..newest }).unwrap());
    }
    drop(store);

    let database = directory.path().join("authority.db");
    let continues = |sql: &str, known: AuditHead| {
        let copy = directory.path().join("changed.db");
        let _ = std::fs::remove_file(&copy);
        std::fs::copy(&database, &copy).unwrap();
        assert!(python_sqlite(&copy, sql), "python3's sqlite3 is needed as a foreign witness");
        Store::open(&copy).unwrap().log_contains(known).unwrap()
    };
    assert!(continues("SELECT 1", heads[2]));
    // A later entry, or the entry itself, is altered.
    assert!(!continues("UPDATE audit SET detail = '{\"x\":1}' WHERE number = 4", heads[2]));
    assert!(!continues("UPDATE audit SET event = 'another' WHERE number = 2", heads[2]));
    assert!(!continues("DELETE FROM audit WHERE number = 3", heads[2]));
    assert!(!continues("DELETE FROM audit WHERE number >= 2", heads[2]));
    // Earlier entries are covered by the hash; only a walk of the whole log checks them.
    assert!(continues("UPDATE audit SET detail = '{\"x\":1}' WHERE number = 1", heads[2]));
}

#[test]
fn a_long_log_is_read_in_pages_and_sealed_only_as_far_as_known() {
    let (directory, store) = open();
    let known = store.audit_head().unwrap();
    store.thread.transaction(|database| (0..2_000).try_for_each(|_| database.log(&entry("something")))).unwrap();
    assert!(store.log_contains(AuditHead::EMPTY).unwrap() && store.log_contains(known).unwrap());
    let newest = store.audit_head().unwrap();
    let page = store.log_entries_after(known.number, 1_000).unwrap();
    assert_eq!((page.rows.len(), page.newest), (1_000, newest));

    // A log of an older version, with an entry that somebody adds before it is sealed.
    let database = directory.path().join("authority.db");
    kept(Store::open(&database).unwrap()).record(entry("forged")).unwrap();
    assert!(python_sqlite(&database, "UPDATE audit SET mac = NULL"));
    assert!(!store.log_contains(known).unwrap());
    let mut sealed = AuditHead::EMPTY;
    let end = loop {
        match store.seal_older_entries(sealed, 500) {
            Ok(next) if next == sealed => break Ok(()),
            Ok(next) => sealed = next,
            Err(error) => break Err(error),
        }
    };
    assert!(matches!(end, Err(StoreError::LogChanged { .. })), "{end:?}");
    let rows = store.log_entries_after(newest.number, 10).unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.mac).collect::<Vec<_>>(), [None], "the added entry was sealed");
}

#[test]
fn a_refused_change_leaves_no_trace_in_the_log() {
    let (_directory, store) = open();
    let head = store.audit_head().unwrap();
    assert!(store.record_signed_certificate("99", vec![1], entry("issued")).is_err());
    assert!(store.archive(archived([3; 32]), entry("archived")).is_err(), "no such certificate");
    assert_eq!(store.audit_head().unwrap(), head);
}

fn archived(certificate_sha256: [u8; 32]) -> ArchiveRecord {
    ArchiveRecord {
        certificate_sha256,
        user_id: "u1".into(),
        algorithm: "rsa-3072".into(),
        key_wrap: "pad".into(),
        wrapped: vec![1],
        archived_at: now(),
        mac: [1; 32],
    }
}

#[test]
fn a_nonce_counts_once() {
    let (_directory, store) = open();
    let statement = StatementRecord {
        digest: [1; 32],
        nonce: vec![5; 16],
        administrator: "u1".into(),
        operation: "issue".into(),
        received_at: now(),
        not_after: now(),
        message: vec![1],
    };
    assert!(store.record_statement(statement.clone(), entry("statement")).unwrap());
    assert!(!store.record_statement(statement.clone(), entry("statement")).unwrap());
    assert!(!store.record_statement(StatementRecord { digest: [2; 32], ..statement }, entry("statement")).unwrap());
}

#[test]
fn database_file_errors_are_distinct() {
    let directory = tempfile::tempdir().unwrap();
    let absent = Store::open(&directory.path().join("none.db"));
    assert!(matches!(absent, Err(StoreError::Absent { .. })), "{absent:?}");

    let junk = directory.path().join("junk.db");
    std::fs::write(&junk, "this is no database at all, but a text".repeat(50)).unwrap();
    let damaged = Store::open(&junk);
    assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");
}

#[test]
fn a_database_that_another_process_has_locked_is_called_locked() {
    let (directory, store) = open();
    drop(store);
    let database = directory.path().join("authority.db");
    let script = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1],isolation_level=None);c.execute('BEGIN IMMEDIATE');\
                  print('held',flush=True);sys.stdin.read()";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(&database)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    let locked = Store::open(&database);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert!(matches!(locked, Err(StoreError::Locked(_))), "{locked:?}");
}

#[test]
fn full_disk_and_read_only_database_are_distinct_errors() {
    let (directory, store) = open();
    let head = store.audit_head().unwrap();
    let set =
        |pragma: &'static str| store.thread.transaction(move |database| database.run(sqlx::query(pragma)).map(|_| ()));
    set("PRAGMA max_page_count = 1").unwrap(); // as small as the file is now
    let big = UserRecord { name: "x".repeat(1 << 20), ..user("u2") };
    let full = store.add_user(big, entry("user.added"));
    assert!(matches!(full, Err(StoreError::DiskFull(_))), "{full:?}");
    set("PRAGMA max_page_count = 1073741823").unwrap();
    let _ = set("PRAGMA query_only = 1"); // effective at once: not even its own transaction can be committed
    let read_only = store.add_user(user("u2"), entry("user.added"));
    assert!(matches!(read_only, Err(StoreError::ReadOnly(_))), "{read_only:?}");
    drop(store);
    let store = kept(Store::open(&directory.path().join("authority.db")).unwrap());
    assert_eq!(store.audit_head().unwrap(), head);
    store.add_user(user("u2"), entry("user.added")).unwrap();
}

#[test]
fn committed_changes_are_synced_to_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority.db");
    for store in [Store::create(&path).unwrap(), Store::open(&path).unwrap()] {
        let number = |pragma: &'static str, column: &'static str| {
            store
                .thread
                .transaction(move |database| database.query_one(sqlx::query(pragma), |row| row.get::<i64>(column)))
        };
        assert_eq!(number("PRAGMA foreign_keys", "foreign_keys").unwrap(), Some(1));
        assert_eq!(number("PRAGMA synchronous", "synchronous").unwrap(), Some(2), "2 is FULL");
        let mode = store.thread.transaction(|database| {
            database.query_one(sqlx::query("PRAGMA journal_mode"), |row| row.get::<String>("journal_mode"))
        });
        assert_eq!(mode.unwrap().as_deref(), Some("wal"));
    }
}

fn python_sqlite(database: &Path, sql: &str) -> bool {
    let script = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);c.execute(sys.argv[2]);c.commit()";
    Command::new("python3").args(["-c", script]).arg(database).arg(sql).status().is_ok_and(|status| status.success())
}
