//! Tests that the parser of a statement's JSON is strict.

use proptest::prelude::*;

use super::*;
use crate::token::SecurityLevel;

fn statement(operation: AdminOperation) -> Statement {
    let now = "2026-11-22T14:00:00Z".parse().unwrap();
    let reader = operation.returns_letter().then(|| Fingerprint::of(b"an encryption certificate"));
    let instance = Instance::from_bytes([0xa5; 16]);
    Statement::online(Fingerprint::of(b"a CA certificate"), instance, operation, [7; 16], now)
        .with_encryption_certificate(reader)
}

fn issue() -> Statement {
    statement(AdminOperation::Issue {
        email: "user@example.org".to_owned(),
        name: Some("Example, \"User\" Ünïcødé 🔑".to_owned()),
        levels: Some(vec![SecurityLevel::High, SecurityLevel::Medium]),
        valid_for_seconds: Some(86_400),
    })
}

fn text(statement: &Statement) -> String {
    String::from_utf8(statement.to_json().unwrap()).unwrap()
}

/// The reason why this JSON is refused.
#[track_caller]
fn refusal(json: &str) -> String {
    match Statement::from_json(json.as_bytes()) {
        Err(StatementError::Form { reason, .. }) => reason,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn every_operation_round_trips() {
    let email = || "user@example.org".to_owned();
    for operation in [
        issue().operation,
        AdminOperation::Issue { email: email(), name: None, levels: None, valid_for_seconds: None },
        AdminOperation::Recover { email: email(), lost: true, valid_for_seconds: None },
        AdminOperation::Recover { email: email(), lost: false, valid_for_seconds: Some(60) },
        AdminOperation::Letter { letter: email() },
        AdminOperation::Letter { letter: "E123456789".to_owned() },
        AdminOperation::List { after: None, limit: None },
        AdminOperation::List { after: Some("user@example.org".into()), limit: Some(7) },
        AdminOperation::List { after: None, limit: Some(5_000) },
        AdminOperation::Show { email: email() },
        AdminOperation::Acknowledge { entry: 7 },
    ] {
        let statement = statement(operation);
        assert_eq!(Statement::from_json(&statement.to_json().unwrap()).unwrap(), statement);
    }
}

#[test]
fn the_known_log_position_is_a_member() {
    let known_log = Some(LogPosition { sequence: 7, head: [0xab; 32] });
    let knowing = issue().with_known_log(known_log);
    let written = text(&knowing);
    assert_eq!(Statement::from_json(written.as_bytes()).unwrap(), knowing);
    let position = format!(r#""known_log":{{"sequence":7,"head":"{}"}}"#, "ab".repeat(32));
    assert!(written.contains(&position) && !text(&issue()).contains("known_log"), "{written}");

    refusal(&written.replace(&position, &format!("{position},{position}")));
    refusal(&written.replace(&position, r#""known_log":{}"#));
    refusal(&written.replace(r#"{"sequence":7,"#, r#"{"sequence":7,"more":0,"#));
    refusal(&written.replace(r#"{"sequence":7,"#, "{"));
    refusal(&written.replace(&"ab".repeat(32), &"ab".repeat(31)));
    refusal(&written.replace(r#"{"sequence":7,"#, r#"{"sequence":-7,"#));
}

#[test]
fn an_online_statement_names_the_instance_and_a_file_does_not() {
    let online = text(&issue());
    let number = format!(r#","instance":"{}""#, "a5".repeat(16));
    assert!(online.contains(&number), "{online}");
    let file = Statement { instance: None, ..issue() };
    assert_eq!(online.replace(&number, ""), text(&file));
    assert_eq!(Statement::from_json(text(&file).as_bytes()).unwrap(), file);
    for wrong in [r#","instance":"a5""#, r#","instance":null"#, r#","instance":7"#] {
        refusal(&online.replace(&number, wrong));
    }
    refusal(&online.replace(&number, &format!("{number}{number}")));
}

#[test]
fn only_letter_operations_name_an_encryption_certificate() {
    let member = format!(r#","encryption_certificate":"{}""#, Fingerprint::of(b"an encryption certificate").to_hex());
    for operation in [
        issue().operation,
        AdminOperation::Recover { email: "user@example.org".to_owned(), lost: false, valid_for_seconds: None },
        AdminOperation::Letter { letter: "E123456789".to_owned() },
    ] {
        let written = text(&statement(operation));
        assert!(written.contains(&member), "{written}");
        assert!(refusal(&written.replace(&member, "")).contains("encryption_certificate"));
    }
    let list = text(&statement(AdminOperation::List { after: None, limit: None }));
    let with = list.replacen('}', &format!("}}{member}"), 1);
    assert!(refusal(&with).contains("encryption_certificate"), "{with}");
}

#[test]
fn older_versions_have_their_own_members_and_are_refused() {
    let is_older = |json: &str| matches!(Statement::from_json(json.as_bytes()), Err(StatementError::OldVersion));
    let of_any_version = |json: &str| Statement::from_json_of_any_version(json.as_bytes());
    let new = text(&Statement { instance: None, ..statement(AdminOperation::List { after: None, limit: None }) });
    let first = new.replace(r#""version":3"#, r#""version":1"#);
    assert!(is_older(&first) && of_any_version(&first).is_ok());
    let position = format!(r#","known_log":{{"sequence":7,"head":"{}"}}}}"#, "ab".repeat(32));
    let second = format!("{}{position}", new.trim_end_matches('}')).replace(r#""version":3"#, r#""version":2"#);
    assert!(is_older(&second) && of_any_version(&second).is_ok(), "{second}");
    assert!(of_any_version(&first.replace(r#""version":1"#, r#""version":2"#)).is_err());
    assert!(of_any_version(&second.replace(r#""version":2"#, r#""version":1"#)).is_err());
    assert!(of_any_version(&text(&issue()).replace(r#""version":3"#, r#""version":1"#)).is_err());
    assert!(of_any_version(&new.replace(r#""version":3"#, r#""version":4"#)).is_err());
}

#[test]
fn the_members_are_those_that_are_documented() {
    let json: Value = serde_json::from_str(&text(&issue())).unwrap();
    let members: Vec<&String> = json.as_object().unwrap().keys().collect();
    let documented = [
        "arguments",
        "authority",
        "encryption_certificate",
        "instance",
        "nonce",
        "not_after",
        "not_before",
        "operation",
        "target",
        "version",
    ];
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
    for (member, value) in serde_json::from_str::<Value>(&json).unwrap().as_object().unwrap() {
        let doubled = json.replacen('{', &format!("{{\"{member}\":{value},"), 1);
        assert!(refusal(&doubled).contains(&format!("duplicate field `{member}`")), "{doubled}");
    }
    let doubled = json.replace("\"arguments\":{", "\"arguments\":{\"name\":\"someone\",");
    assert!(refusal(&doubled).contains("duplicate field `name`"));
    let nested = json.replace("\"high\"", "{\"high\":null,\"high\":null}");
    assert!(refusal(&nested).contains("an argument must not be an object"), "{nested}");
    // The parser compares names after unescaping them.
    let escaped = json.replacen('{', "{\"t\\u0061rget\":\"other@example.org\",", 1);
    assert!(refusal(&escaped).contains("duplicate field `target`"));
}

#[test]
fn missing_members_are_refused_each() {
    let json: Value = serde_json::from_str(&text(&issue())).unwrap();
    // Without `instance` the JSON is a valid statement of the other kind, for a file.
    for member in json.as_object().unwrap().keys().filter(|member| *member != "instance") {
        let mut without = json.clone();
        without.as_object_mut().unwrap().remove(member);
        assert!(Statement::from_json(without.to_string().as_bytes()).is_err(), "{member}");
    }
}

#[test]
fn an_operation_accepts_its_own_arguments_only() {
    let list = text(&statement(AdminOperation::List { after: None, limit: None }));
    assert_eq!(refusal(&list.replace("\"list\"", "\"revoke\"")), "unknown operation");
    refusal(&list.replace("\"operation\":\"list\"", "\"operation\":\"list\",\"target\":\"user@example.org\""));
    refusal(&list.replace("\"list\"", "\"show\""));
    refusal(&list.replace("\"arguments\":{}", "\"arguments\":{\"lost\":true}"));
    let show = text(&statement(AdminOperation::Show { email: "user@example.org".to_owned() }));
    // The target is beside the arguments, never among them.
    let target = "\"target\":\"user@example.org\",";
    let moved = "\"arguments\":{\"target\":\"user@example.org\"}";
    refusal(&show.replace(target, "").replace("\"arguments\":{}", moved));
    refusal(&show.replace("\"arguments\":{}", moved));
    refusal(&show.replace("\"arguments\":{}", "\"arguments\":[]"));
    refusal(&show.replace("\"arguments\":{}", "\"arguments\":{\"name\":\"x\"}"));
    refusal(&show.replace("\"arguments\":{}", "\"arguments\":{\"limit\":7}"));
    for limit in ["0", "5001", "-1"] {
        refusal(&list.replace("\"arguments\":{}", &format!("\"arguments\":{{\"limit\":{limit}}}")));
    }
    refusal(&text(&issue()).replace("\"name\":", "\"lost\":true,\"name\":"));
    refusal(&text(&issue()).replace("\"issue\"", "\"recover\""));
    let letter = text(&statement(AdminOperation::Letter { letter: "E123456789".to_owned() }));
    for wrong in ["", "E12 456789", "E12-456789", "user @example.org", &"E".repeat(255)] {
        assert!(refusal(&letter.replace("E123456789", wrong)).contains("reference"), "{wrong}");
    }
    refusal(&letter.replace("\"arguments\":{}", "\"arguments\":{\"lost\":true}"));
}

#[test]
fn invalid_values_are_refused() {
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
        ("\"version\":3", "\"version\":4"),
        ("\"version\":3", "\"version\":3.0"),
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
    fn any_issue_round_trips(
        name in "[^\\p{C}]{1,80}",
        local in "[a-z0-9.+-]{1,20}",
        seconds in any::<Option<u64>>(),
        nonce: [u8; 16],
    ) {
        let operation = AdminOperation::Issue {
            email: format!("{local}@example.org"),
            name: Some(format!("x{name}")),
            levels: None,
            valid_for_seconds: seconds,
        };
        let statement = Statement { nonce, ..statement(operation) };
        prop_assert_eq!(Statement::from_json(&statement.to_json().unwrap()).unwrap(), statement);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(json in any::<Vec<u8>>()) {
        let _ = Statement::from_json(&json);
    }
}
