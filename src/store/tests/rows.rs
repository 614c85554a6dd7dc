//! Rows with forged values, read-only databases, and the check of the file.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Alters the database without the constraints of the schema.
fn tamper(database: &Path, sql: &str) {
    let script = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);\
                  c.executescript('PRAGMA ignore_check_constraints=ON;'+sys.argv[2]);c.commit()";
    let status = Command::new("python3").args(["-c", script]).arg(database).arg(sql).status();
    assert!(status.unwrap().success(), "{sql}: python3's sqlite3 is needed as a foreign witness");
}

#[test]
fn a_row_that_cannot_be_read_hides_no_other() {
    let (directory, store) = open();
    for id in ["u2", "u3"] {
        store.add_user(user(id), entry("user.added")).unwrap();
    }
    answered(&store, "E1", 1);
    let other = TemporaryKeyRecord { user_id: "u2".into(), ..key("E2") };
    store.issue_temporary_key(other, None, entry("letter.issued")).unwrap();
    drop(store);
    let database = directory.path().join("authority.db");
    let changes = [
        ("users", "mac = x'00'", true),
        ("users", "mac = 'text'", true),
        ("users", "mac = 7", true),
        ("users", "created_at = 9223372036854775807", false),
        ("users", "created_at = 'noon'", true),
        ("users", "created_at = 1e300", false),
        ("users", "email_key = x'80'", false),
        ("users", "email_key = CAST(x'80ff' AS TEXT)", false),
        ("users", "email = 'u2' || char(0) || '@example.org'", true),
        ("users", "name = CAST(x'ff' AS TEXT)", false),
        ("users", "id = x'80'", false),
        ("temporary_keys", "mac = x'00'", true),
        ("temporary_keys", "state = 'unheard-of'", false),
        ("temporary_keys", "purpose = 'x'", false),
        ("temporary_keys", "expires_at = -9223372036854775808", false),
        ("temporary_keys", "reference = CAST(x'80' AS TEXT)", false),
        ("temporary_keys", "nonce = 'text'", true),
        ("temporary_keys", "statement = x'00'", true),
        ("certificates", "serial = 'not hex'", true),
        ("certificates", "state = 'unheard-of'", false),
        ("certificates", "kind = 'x'", false),
        ("certificates", "sha256 = 'text'", true),
        ("certificates", "not_after = 1e300", false),
        ("certificates", "certificate = 'text'", true),
    ];
    for (at, (table, change, is_readable)) in changes.into_iter().enumerate() {
        let copy = directory.path().join(format!("{at}.db"));
        std::fs::copy(&database, &copy).unwrap();
        // The user in the middle, the newest letter, the only certificate.
        let row = if table == "certificates" { 1 } else { 2 };
        tamper(&copy, &format!("UPDATE {table} SET {change} WHERE rowid = {row}"));
        let store = Store::open(&copy).unwrap();

        // Each row appears once. The altered one is reported as unreadable, or its seal is left to
        // other checks.
        let users = store.users_after(i64::MIN, 10).unwrap();
        let letters = store.letters_after(i64::MIN, 10).unwrap();
        let certificates = store.certificates_after(i64::MIN, 10).unwrap();
        assert_eq!((users.len(), letters.len(), certificates.len()), (3, 2, 1), "{table}: {change}");
        let unreadable = users.iter().filter(|row| row.record.is_err()).count()
            + letters.iter().filter(|row| row.record.is_err()).count()
            + certificates.iter().filter(|row| row.record.is_err()).count();
        assert_eq!(unreadable, usize::from(!is_readable), "{table}: {change}");
        // The list continues in pages of one row, and shows the others.
        let (mut after, mut shown) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let page = store.user_page(&after, 1).unwrap();
            let Some(user) = page.users.into_iter().next() else { break };
            after.clone_from(&user.key);
            shown.extend(user.record.map(|user| user.id));
        }
        assert!(shown.contains(&"u1".to_owned()) && shown.contains(&"u3".to_owned()), "{change}: {shown:?}");
        assert_eq!(store.temporary_keys_of("u1").unwrap().len(), 1, "{change}");
        store.readable_certificates_of_user("u1").unwrap();
        store.overdue_transactions(now()).unwrap();
    }
}

#[test]
fn a_database_that_is_only_read_keeps_the_form_of_its_version() {
    let (directory, store) = open();
    drop(store);
    let database = directory.path().join("authority.db");
    tamper(&database, "ALTER TABLE audit DROP COLUMN mac; DROP TABLE grants_to_come");
    tamper(&database, "DELETE FROM _sqlx_migrations WHERE version > 1");
    let before = std::fs::read(&database).unwrap();
    let store = Store::open_to_read(&database).unwrap();
    assert_eq!(store.schema_version().unwrap(), 1);
    assert_eq!(store.log_entries_after(0, 10).unwrap().rows[0].mac, None);
    assert!(store.grants_after(i64::MIN, 10).unwrap().is_empty());
    assert_eq!(store.users_after(i64::MIN, 10).unwrap().len(), 1);
    assert_eq!(store.identity().unwrap(), None);
    let written = kept(store).add_user(user("u2"), entry("user.added"));
    assert!(matches!(written, Err(StoreError::ReadOnly(_))), "{written:?}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

#[test]
fn after_closing_the_file_alone_is_a_complete_copy() {
    let (directory, store) = open();
    let store = kept(store);
    let copied = |name: &str| {
        let copy = directory.path().join(name);
        std::fs::copy(store.path(), &copy).unwrap();
        Store::open_to_read(&copy).unwrap().user("late").is_ok_and(|user| user.is_some())
    };
    store.add_user(user("late"), entry("user.added")).unwrap();
    assert!(!copied("before.db"), "it was in the write-ahead log");
    store.put_into_one_file().unwrap();
    assert!(copied("after.db"));
    // An open reader of an older state is reported.
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            store.on_separate_connection(move |database| {
                database.query_all(sqlx::query("SELECT id FROM users"), |row| row.get::<String>("id"))?;
                begun.send(()).unwrap();
                let _ = released.recv_timeout(Duration::from_secs(20));
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        store.add_user(user("later"), entry("user.added")).unwrap();
        let busy = store.put_into_one_file();
        release.send(()).unwrap();
        assert!(matches!(busy, Err(StoreError::Locked(_))), "{busy:?}");
    });
}

#[test]
fn a_change_without_its_log_entry_is_rolled_back() {
    let (directory, store) = open();
    let store = kept(store);
    let swallow = "CREATE TRIGGER swallow BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END";
    tamper(&directory.path().join("authority.db"), swallow);
    let added = store.add_user(user("u2"), entry("user.added"));
    assert!(matches!(added, Err(StoreError::Conflict("write the log"))), "{added:?}");
    assert!(store.user("u2").unwrap().is_none());
}

#[test]
fn the_file_is_checked_while_others_go_on() {
    let (_directory, store) = open();
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            store.thread.transaction(move |_| {
                begun.send(()).unwrap();
                let _ = released.recv_timeout(Duration::from_secs(20));
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        assert_eq!(store.quick_check().unwrap(), Vec::<String>::new());
        assert_eq!(store.schema_problems().unwrap(), Vec::<String>::new());
        assert_eq!(store.ill_typed_values().unwrap(), Vec::<String>::new());
        assert_eq!(store.stray_log_rows().unwrap(), 0);
        release.send(()).expect("the read waited for the running transaction");
    });
}
