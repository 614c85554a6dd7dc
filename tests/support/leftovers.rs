//! Checks the objects on a token: exactly one complete keyset, or nothing.

use std::fs;

use super::inventory::of_kind;
use super::machine::Machine;

impl Machine {
    /// The number of objects on each of `SoftHSM`'s tokens, without a PIN and including private
    /// ones: it keeps each object in a file.
    pub fn object_files(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = fs::read_dir(self.file("tokens"))
            .unwrap()
            .map(|token| {
                let names = fs::read_dir(token.unwrap().path()).unwrap().map(|file| file.unwrap().file_name());
                let objects = names.map(|name| name.to_string_lossy().into_owned());
                // `token.object` is the token itself.
                objects.filter(|name| name.ends_with(".object") && name != "token.object").count()
            })
            .collect();
        counts.sort_unstable();
        counts
    }

    /// Fails the test unless the token with this label holds one keyset with this number of
    /// encryption keys, and nothing else.
    #[track_caller]
    pub fn assert_one_keyset(&self, label: &str, pin: &str, encryption_keys: usize) {
        let objects = self.objects(label, Some(pin));
        let count =
            |kind: &str, text: &str| of_kind(&objects, kind).iter().filter(|object| object.contains(text)).count();
        let found = [
            ("signing keys", count("Private Key Object", "sign")),
            ("encryption keys", count("Private Key Object", "decrypt") + count("Private Key Object", "derive")),
            ("private keys", count("Private Key Object", "")),
            ("public keys", count("Public Key Object", "")),
            ("certificates", count("Certificate Object", "")),
            ("indexes", count("Data object", "")),
            ("all", objects.len()),
        ];
        let certificates = encryption_keys + 2; // plus the signing key's and the authority's
        let keys = encryption_keys + 1;
        let expected = [
            ("signing keys", 1),
            ("encryption keys", encryption_keys),
            ("private keys", keys),
            ("public keys", keys),
            ("certificates", certificates),
            ("indexes", 2),
            ("all", keys + keys + certificates + 2),
        ];
        assert_eq!(found, expected, "on the token {label:?}:\n{}", objects.join("\n"));
    }
}
