//! A keyset's name has 1 to 32 bytes of visible UTF-8, and is unique in one place.

use crate::support::shared_authority::TestUser;

#[test]
fn invalid_keyset_names_are_refused_before_anything() {
    let user = TestUser::new();
    user.issue("the.letter");
    let wire = user.start_proxy();
    let too_long = ["x".repeat(33), "ü".repeat(17), "🔑".repeat(9)];
    let odd = ["", " ", " front", "back ", "line\nbreak", "bell\u{7}", "escape\u{1b}[2J", "delete\u{7f}", "\u{85}"];
    for name in odd.into_iter().chain(too_long.iter().map(String::as_str)) {
        // A missing PIN file would give exit code 4, so no PIN was asked for.
        let line = ["enroll", "--letter", "the.letter", "--keyset", name, "--new-token"];
        let rest = ["--new-pin-source", "file:no-such-file", "--authority", &wire.url()];
        let output = user.tokenkeep(&[&line[..], &rest].concat()).fails_with(2).says("name");
        assert!(!output.err().contains('\u{1b}') && !output.err().contains('\u{7}'), "{output}");
        for verb in [&["sign", "--keyset"][..], &["decrypt", "--keyset"], &["keyset", "show"], &["keyset", "delete"]] {
            user.tokenkeep(&[verb, &[name]].concat()).fails_with(2);
        }
    }
    // A name with invisible characters looks like another name.
    for name in ["a\u{ad}b", "a\u{3164}", "\u{2800}", "a\u{e0041}b"] {
        let line = ["enroll", "--letter", "the.letter", "--keyset", name, "--new-token"];
        let rest = ["--new-pin-source", "file:no-such-file", "--authority", &wire.url()];
        user.tokenkeep(&[&line[..], &rest].concat()).fails_with(2).says("invisible characters");
    }
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert!(user.machine.listed_tokens().is_empty(), "something was made");
    user.enroll_new("the.letter", "default").ok();
}

#[test]
fn umlauts_and_emoji_are_accepted_up_to_the_last_byte() {
    let user = TestUser::new();
    for name in ["Schlüssel 🔑", "ééééééééééééééééé".get(..32).unwrap(), "鍵", "O'Neil, \"x\" & <y>; $z"]
    {
        user.issue("the.letter");
        user.enroll_new("the.letter", name).ok();
        assert_eq!(user.machine.listed_token(name).label, name);
        user.signs_with(name, "pin");
        user.tokenkeep(&["keysets"]).ok().says(name);
        assert!(user.keyset_info(name).to_string().contains(&serde_json::json!(name).to_string()));
        std::fs::remove_file(user.machine.file("the.letter")).unwrap();
    }
}

#[test]
fn a_taken_name_with_new_token_is_refused_before_any_pin() {
    let user = TestUser::enrolled();
    user.issue("again.letter");
    let wire = user.start_proxy();
    let before = user.machine.inventory(&[("default", TestUser::PIN)]);
    let line = ["enroll", "--letter", "again.letter", "--keyset", "default", "--new-token", "--authority", &wire.url()];
    for pins in [&["--new-pin-source", "file:pin"][..], &["--new-pin-source", "file:no-such-file"]] {
        let output = user.tokenkeep(&[&line[..], pins].concat()).fails_with(5).says("default");
        output.says("--new-token");
    }
    assert!(wire.exchanges().is_empty(), "something was sent");
    assert_eq!(user.machine.inventory(&[("default", TestUser::PIN)]), before);
    assert!(!user.machine.listed_token("default").count_is_low(), "a PIN was tried");

    // Without --new-token the command re-enrolls.
    user.re_enroll("again.letter", "pin", &[]).ok();
}

#[test]
fn the_error_for_an_unknown_keyset_lists_the_known_ones() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    for verb in [&["sign", "--in", "message.txt", "--out", "x", "--keyset"][..], &["keyset", "show"]] {
        let output = user.tokenkeep(&[verb, &["nobody's"]].concat()).fails_with(3).says("nobody's");
        output.says("default");
    }
}
