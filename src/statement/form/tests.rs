//! The strictness of a statement's JSON: what is not exactly a statement is none.

use proptest::prelude::*;

use super::*;

fn statement(operation: Operation) -> Statement {
    let now = "2026-11-22T14:00:00Z".parse().unwrap();
    Statement::new(Fingerprint::of(b"a CA certificate"), operation, [7; 16], now)
}

fn issue() -> Statement {
    statement(Operation::Issue {
        email: "user@example.org".to_owned(),
        name: Some("Example, \"User\" Ünïcødé 🔑".to_owned()),
        levels: Some(vec![SecurityLevel::High, SecurityLevel::Medium]),
        valid_for_seconds: Some(86_400),
    })
}

fn text(statement: &Statement) -> String {
    String::from_utf8(statement.to_json().unwrap()).unwrap()
}

/// Why this JSON is refused.
#[track_caller]
fn refusal(json: &str) -> String {
    match Statement::from_json(json.as_bytes()) {
        Err(StatementError::Form { reason, .. }) => reason,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn every_operation_comes_back() {
    let email = || "user@example.org".to_owned();
    for operation in [
        issue().operation,
        Operation::Issue { email: email(), name: None, levels: None, valid_for_seconds: None },
        Operation::Recover { email: email(), lost: true, valid_for_seconds: None },
        Operation::Recover { email: email(), lost: false, valid_for_seconds: Some(60) },
        Operation::List,
        Operation::Show { email: email() },
    ] {
        let statement = statement(operation);
        assert_eq!(Statement::from_json(&statement.to_json().unwrap()).unwrap(), statement);
    }
}

#[test]
fn what_the_signer_knows_of_the_log_is_in_version_2_and_in_no_other() {
    let known_log = Some(LogPosition { sequence: 7, head: [0xab; 32] });
    let knowing = issue().knowing(known_log);
    let written = text(&knowing);
    assert_eq!(Statement::from_json(written.as_bytes()).unwrap(), knowing);
    let position = format!(r#""known_log":{{"sequence":7,"head":"{}"}}"#, "ab".repeat(32));
    assert!(written.contains(&position) && written.contains(r#""version":2"#), "{written}");
    assert!(text(&issue()).contains(r#""version":1"#) && !text(&issue()).contains("known_log"));

    refusal(&written.replace(r#""version":2"#, r#""version":1"#));
    refusal(&text(&issue()).replace(r#""version":1"#, r#""version":2"#));
    refusal(&written.replace(r#""version":2"#, r#""version":3"#));
    refusal(&written.replace(&position, &format!("{position},{position}")));
    refusal(&written.replace(&position, r#""known_log":null"#));
    refusal(&written.replace(r#"{"sequence":7,"#, r#"{"sequence":7,"more":0,"#));
    refusal(&written.replace(r#"{"sequence":7,"#, "{"));
    refusal(&written.replace(&"ab".repeat(32), &"ab".repeat(31)));
    refusal(&written.replace(r#"{"sequence":7,"#, r#"{"sequence":-7,"#));
}

#[test]
fn the_members_are_those_that_are_documented() {
    let json: serde_json::Value = serde_json::from_str(&text(&issue())).unwrap();
    let members: Vec<&String> = json.as_object().unwrap().keys().collect();
    let documented = ["arguments", "authority", "nonce", "not_after", "not_before", "operation", "target", "version"];
    assert_eq!(members, documented);
    assert_eq!(json["not_before"], "2026-11-22T13:57:00Z");
    assert_eq!(json["not_after"], "2026-11-22T14:10:00Z");
    assert_eq!(json["nonce"], "07070707070707070707070707070707");
    assert_eq!(json["arguments"]["levels"][0], "high");
}

#[test]
fn unknown_members_are_refused() {
    let json = text(&issue());
    assert!(refusal(&json.replacen('{', "{\"note\":\"x\",", 1)).contains("unknown field `note`"));
    assert!(
        refusal(&json.replace("\"arguments\":{", "\"arguments\":{\"admin\":true,")).contains("unknown field `admin`")
    );
}

#[test]
fn doubled_members_are_refused_each() {
    let json = text(&issue());
    for (member, value) in serde_json::from_str::<serde_json::Value>(&json).unwrap().as_object().unwrap() {
        let doubled = json.replacen('{', &format!("{{\"{member}\":{value},"), 1);
        assert!(refusal(&doubled).contains(&format!("duplicate field `{member}`")), "{doubled}");
    }
    let doubled = json.replace("\"arguments\":{", "\"arguments\":{\"name\":\"someone\",");
    assert!(refusal(&doubled).contains("duplicate field `name`"));
    // An escaped spelling is the same member.
    let escaped = json.replacen('{', "{\"t\\u0061rget\":\"other@example.org\",", 1);
    assert!(refusal(&escaped).contains("duplicate field `target`"));
}

#[test]
fn missing_members_are_refused_each() {
    let json: serde_json::Value = serde_json::from_str(&text(&issue())).unwrap();
    for member in json.as_object().unwrap().keys() {
        let mut without = json.clone();
        without.as_object_mut().unwrap().remove(member);
        assert!(Statement::from_json(without.to_string().as_bytes()).is_err(), "{member}");
    }
}

#[test]
fn an_operation_takes_its_own_arguments_only() {
    let list = text(&statement(Operation::List));
    refusal(&list.replace("\"list\"", "\"revoke\""));
    refusal(&list.replace("\"operation\":\"list\"", "\"operation\":\"list\",\"target\":\"user@example.org\""));
    refusal(&list.replace("\"list\"", "\"show\""));
    refusal(&list.replace("\"arguments\":{}", "\"arguments\":{\"lost\":true}"));
    let show = text(&statement(Operation::Show { email: "user@example.org".to_owned() }));
    refusal(&show.replace("\"arguments\":{}", "\"arguments\":{\"name\":\"x\"}"));
    refusal(&text(&issue()).replace("\"name\":", "\"lost\":true,\"name\":"));
    refusal(&text(&issue()).replace("\"issue\"", "\"recover\""));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let json = text(&issue());
    for (right, wrong) in [
        ("user@example.org", ""),
        ("user@example.org", "user@example.org\\n"),
        ("user@example.org", "a b@example.org"),
        ("Example, \\\"User\\\" Ünïcødé 🔑", " "),
        ("Example, ", "Example\\u0000, "),
        ("[\"high\",\"medium\"]", "[]"),
        ("[\"high\",\"medium\"]", "[\"high\",\"high\"]"),
        ("[\"high\",\"medium\"]", "[\"highest\"]"),
        ("86400", "-1"),
        ("86400", "\"86400\""),
        ("0707", "070"),
        ("2026-11-22T14:10:00Z", "tomorrow"),
        ("\"version\":1", "\"version\":2"),
        ("\"version\":1", "\"version\":1.0"),
    ] {
        assert!(json.contains(right), "{right}");
        refusal(&json.replacen(right, wrong, 1));
    }
}

#[test]
fn anything_after_the_object_is_refused() {
    let json = text(&issue());
    refusal(&format!("{json}{json}"));
    refusal(&format!("{json} x"));
    refusal(&format!("[{json}]"));
    refusal("");
    refusal("null");
    refusal(&"[".repeat(100_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_issue_comes_back(name in "[^\\p{C}]{1,80}", local in "[a-z0-9.+-]{1,20}", seconds in any::<Option<u64>>(), nonce: [u8; 16]) {
        let operation = Operation::Issue {
            email: format!("{local}@example.org"),
            name: Some(format!("x{name}")),
            levels: None,
            valid_for_seconds: seconds,
        };
        let statement = Statement { nonce, ..statement(operation) };
        prop_assert_eq!(Statement::from_json(&statement.to_json().unwrap()).unwrap(), statement);
    }

    #[test]
    fn never_panics(json in any::<Vec<u8>>()) {
        let _ = Statement::from_json(&json);
    }
}
