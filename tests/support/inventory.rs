//! The objects on a machine's tokens, as `pkcs11-tool` lists them: shows that a command made or
//! left nothing.

use std::collections::BTreeMap;

use super::machine::Machine;

/// A token as another program lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedToken {
    pub slot: String,
    pub label: String,
    pub serial: String,
    /// `login required`, `user PIN count low`, …
    pub flags: String,
}

impl ListedToken {
    /// Whether wrong PINs were tried since the last correct one.
    pub fn count_is_low(&self) -> bool {
        self.flags.contains("user PIN count low")
    }

    /// Whether the next wrong PIN locks the token.
    pub fn is_at_final_try(&self) -> bool {
        self.flags.contains("final user PIN try")
    }

    pub fn is_locked(&self) -> bool {
        self.flags.contains("user PIN locked")
    }
}

/// The tokens of a machine, by label and serial number, with the objects of each.
pub type Inventory = BTreeMap<(String, String), Vec<String>>;

impl Machine {
    /// The initialized tokens.
    pub fn listed_tokens(&self) -> Vec<ListedToken> {
        let module = self.module().display().to_string();
        let text = self.run("pkcs11-tool", &["--module", &module, "-L"], b"").ok().out();
        let mut tokens = Vec::new();
        for slot in text.split("\nSlot ").skip(1) {
            // The first line is `0 (0x1a2b): description`, the others `  name : value`.
            let number = slot.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(number, _)| number);
            let field = |name: &str| {
                let mut lines = slot.lines().filter_map(|line| line.split_once(':'));
                let value = lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
                value.unwrap_or_default()
            };
            if field("token flags").contains("token initialized") {
                tokens.push(ListedToken {
                    slot: number.unwrap().to_owned(),
                    label: field("token label"),
                    serial: field("serial num"),
                    flags: field("token flags"),
                });
            }
        }
        tokens
    }

    /// The only token with this label.
    #[track_caller]
    pub fn listed_token(&self, label: &str) -> ListedToken {
        let found: Vec<_> = self.listed_tokens().into_iter().filter(|token| token.label == label).collect();
        assert_eq!(found.len(), 1, "tokens labeled {label:?}: {:?}", self.listed_tokens());
        found.into_iter().next().unwrap()
    }

    /// All objects on all tokens, with the private ones of tokens whose label is in `pins`. A PIN
    /// that does not work fails the test.
    #[track_caller]
    pub fn inventory(&self, pins: &[(&str, &str)]) -> Inventory {
        let mut inventory = Inventory::new();
        for token in self.listed_tokens() {
            let pin = pins.iter().find(|(label, _)| *label == token.label).map(|(_, pin)| *pin);
            let objects = self.objects_in(&token.slot, pin);
            assert!(inventory.insert((token.label, token.serial), objects).is_none(), "two tokens look alike");
        }
        inventory
    }

    /// The objects on the only token with this label, as `pkcs11-tool` describes them, sorted.
    #[track_caller]
    pub fn objects(&self, label: &str, pin: Option<&str>) -> Vec<String> {
        self.objects_in(&self.listed_token(label).slot, pin)
    }

    #[track_caller]
    fn objects_in(&self, slot: &str, pin: Option<&str>) -> Vec<String> {
        let module = self.module().display().to_string();
        let mut arguments = vec!["--module", &module, "--slot", slot, "-O"];
        if let Some(pin) = pin {
            arguments.extend(["--login", "--pin", pin]);
        }
        let text = self.run("pkcs11-tool", &arguments, b"").ok().out();
        let mut objects: Vec<String> = Vec::new();
        for line in text.lines() {
            if !line.starts_with(' ') {
                objects.push(String::new());
            }
            if let Some(object) = objects.last_mut() {
                // The handle after "Data object" differs each time.
                object.push_str(if line.starts_with("Data object") { "Data object" } else { line });
                object.push('\n');
            }
        }
        objects.sort();
        objects
    }

    /// Tries a PIN on the only token with this label with another program; returns whether it is
    /// right.
    pub fn pin_is_right(&self, label: &str, pin: &str) -> bool {
        let (module, slot) = (self.module().display().to_string(), self.listed_token(label).slot);
        let arguments = ["--module", &module, "--slot", &slot, "--login", "--pin", pin, "-O"];
        self.run("pkcs11-tool", &arguments, b"").code() == 0
    }

    /// Makes a token with another program.
    pub fn make_token(&self, label: &str, pin: &str) -> ListedToken {
        let module = self.module().display().to_string();
        let before = self.listed_tokens();
        self.run(
            "softhsm2-util",
            &["--module", &module, "--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", pin],
            b"",
        )
        .ok();
        let is_new = |token: &ListedToken| before.iter().all(|old| old.serial != token.serial);
        self.listed_tokens().into_iter().find(is_new).unwrap()
    }
}

/// The objects of one kind: `Private Key Object`, `Certificate Object`, `Data object`, …
pub fn of_kind<'a>(objects: &'a [String], kind: &str) -> Vec<&'a String> {
    objects.iter().filter(|object| object.starts_with(kind)).collect()
}
