//! Names of people: every character of a name appears in the letter, in the certificates as a
//! foreign program reads them, and in the display of the keyset; a name that is too long for a
//! certificate is shortened there only.

use crate::support::shared_authority::TestUser;

/// Names, and the name in the certificate if it is not the whole name.
const NAMES: &[(&str, Option<&str>)] = &[
    ("Example, User", None),
    ("User \"the Example\" O'Neil", None),
    ("Jürgen Größenwahn-Łąka", None),
    ("山田 太郎", None),
    ("👩‍🔬 Researcher 🧪", None),
    ("#1 a+b=c;d,e\"f\\g", None),
    (
        "Maria Anna Magdalena Theresia Josephine Wilhelmine, Countess of Somewhere and Elsewhere",
        Some("Maria Anna Magdalena Theresia Josephine Wilhelmine, Countess of…"),
    ),
];

#[test]
fn commas_quotes_umlauts_emoji_and_long_names_are_preserved() {
    let user = TestUser::new();
    let machine = &user.machine;
    for (number, (name, cut)) in NAMES.iter().enumerate() {
        let keyset = format!("name{number}");
        let email = format!("{keyset}.{}", user.email);
        let letter = machine.file(&format!("{keyset}.letter")).display().to_string();
        let issue = ["issue", &email, "--name", name, "--letter-out", &letter, "--json"];
        assert_eq!(user.authority.admin(&issue).ok().json()["name"], *name);
        assert!(machine.read_text(&format!("{keyset}.letter")).contains(name), "{name}");
        let enroll = ["enroll", "--letter", &letter, "--keyset", &keyset, "--level", "low", "--new-token"];
        machine.tokenkeep(&[&enroll[..], &["--new-pin-source", "file:pin"]].concat()).ok();

        let shown = user.keyset_info(&keyset);
        let own = shown["certificates"].as_array().unwrap().iter().filter(|one| one["use"] != "authority");
        let mut seen = 0;
        for certificate in own {
            let read = ["--read-object", "--type", "cert", "--id", certificate["id"].as_str().unwrap(), "-o", "it.der"];
            machine.pkcs11_tool(&keyset, None, &read).ok();
            let subject = |form: &str| {
                let line = ["x509", "-inform", "DER", "-in", "it.der", "-noout", "-subject", "-nameopt", form];
                let subject = machine.openssl(&line).ok().out();
                subject.trim_start_matches("subject=").trim().to_owned()
            };
            // As it is, and as a string in which no character of the name can be taken for the
            // syntax.
            assert_eq!(subject("utf8,sname,sep_multiline"), format!("CN={}", cut.unwrap_or(name)));
            assert_eq!(certificate["subject"], subject("RFC2253,-esc_msb,utf8").as_str());
            seen += 1;
        }
        assert_eq!(seen, 2, "{shown}");
        // Invisible characters are shown as a visible one: here the joiner within an emoji.
        let subject = shown["certificates"][0]["subject"].as_str().unwrap().replace('\u{200d}', "\u{fffd}");
        machine.tokenkeep(&["keyset", "show", &keyset]).ok().says(&subject);
        // The authority keeps the whole name.
        assert_eq!(user.authority.admin(&["show", &email, "--json"]).ok().json()["name"], *name);
    }
}

#[test]
fn an_invalid_name_is_refused_and_no_letter_is_made() {
    let user = TestUser::new();
    for (name, why) in [
        ("", "a name must not be empty"),
        ("   ", "a name must not be empty"),
        ("two\nlines", "contain control characters"),
        ("a\u{1b}[2Kterminal's", "contain control characters"),
        ("\u{200b}\u{200b}", "it has no visible character"),
        ("Boss <boss@example.org>", "like an address"),
        ("boss@example.org", "like an address"),
        ("Boss \u{ff1c}boss\u{ff20}example.org\u{ff1e}", "like an address"),
    ] {
        let letter = user.machine.file("a.letter").display().to_string();
        let issue = ["issue", &user.email, "--name", name, "--letter-out", &letter];
        user.authority.admin(&issue).fails_with(5).says(why);
        assert!(!user.machine.file("a.letter").exists(), "{name:?}");
    }
}
