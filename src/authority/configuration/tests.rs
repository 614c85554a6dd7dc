//! Tests of the configuration's rules.

use std::path::Path;

use super::*;

const LEAST: &str = "name = \"Example Authority\"\n[token]\nlabel = \"authority\"\n";

fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
    let environment = EnvironmentPaths { home: Some("/home/somebody".into()), ..EnvironmentPaths::default() };
    file::parse(Path::new("/etc/tokenkeep/authority.toml"), text, &environment)
}

fn refusal(text: &str) -> (Option<usize>, String) {
    let error = parse(text).unwrap_err();
    assert!(error.to_string().contains("/etc/tokenkeep/authority.toml"), "{error}");
    (error.line, error.reason)
}

#[test]
fn the_shipped_file_is_valid_and_names_every_key() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-config/authority.toml");
    let environment = EnvironmentPaths { state_directory: Some("/var/lib/x".into()), ..EnvironmentPaths::default() };
    let configuration = Configuration::load(&file, &environment).unwrap();
    assert_eq!(configuration.listen.http.to_string(), "127.0.0.1:8829");
    assert_eq!(configuration.state, Path::new("/var/lib/x"));
    assert_eq!(configuration.ca.key, KeyAlgorithm::P256);
}

#[test]
fn a_minimal_file_is_valid() {
    let configuration = parse(LEAST).unwrap();
    assert_eq!(configuration.state, Path::new("/home/somebody/.local/state/tokenkeep/authority"));
    assert_eq!(configuration.enrollment.profiles, None);
    assert_eq!(configuration.enrollment.levels.len(), 3);
}

#[test]
fn paths_are_relative_to_the_file() {
    let configuration = parse(&format!("state = \"state\"\n{LEAST}module = \"modules/m.so\"\n")).unwrap();
    assert_eq!(configuration.state, Path::new("/etc/tokenkeep/state"));
    assert_eq!(configuration.token.module.as_deref(), Some(Path::new("/etc/tokenkeep/modules/m.so")));
}

#[test]
fn more_than_one_approval_is_refused_with_its_line() {
    let (line, reason) = refusal(&format!("{LEAST}[approvals]\nissue = 1\nrecover = 2\n"));
    assert_eq!(line, Some(6));
    assert!(reason.contains("recover") && reason.contains("one administrator"), "{reason}");
}

#[test]
fn unknown_keys_and_wrong_types_are_refused_with_their_line() {
    let (line, reason) = refusal(&format!("{LEAST}lable = \"x\"\n"));
    assert_eq!(line, Some(4));
    assert!(reason.contains("lable"), "{reason}");
    assert_eq!(refusal(&format!("{LEAST}[ca]\nkey = \"p521\"\n")).0, Some(5));
    assert_eq!(refusal(&format!("{LEAST}[enrollment]\nletter_valid_days = \"ten\"\n")).0, Some(5));
    assert_eq!(refusal("name = \n").0, Some(1));
}

#[test]
fn values_out_of_range_are_refused_with_their_line() {
    assert_eq!(refusal("name = \"\"\n[token]\nlabel = \"a\"\n").0, Some(1));
    assert_eq!(refusal(&format!("name = \"a\"\n[token]\nlabel = \"{}\"\n", "x".repeat(33))).0, Some(3));
    assert_eq!(refusal(&format!("{LEAST}[enrollment]\nlevels = []\n")).0, Some(5));
    assert_eq!(refusal(&format!("{LEAST}[enrollment]\nconfirm_wait_minutes = 0\n")).0, Some(5));
    assert_eq!(refusal(&format!("{LEAST}[listen]\npublic_url = \"ftp://a\"\n")).0, Some(5));
    assert_eq!(refusal(&format!("{LEAST}[listen]\nhttp = \"localhost\"\n")).0, Some(5));
    let (line, reason) = refusal(&format!("{LEAST}[listen]\nproxies = [\n  \"127.0.0.1\",\n  \"10.0.0.0/99\",\n]\n"));
    assert_eq!(line, Some(7));
    assert!(reason.contains("proxies") && reason.contains("10.0.0.0/99"), "{reason}");
    assert_eq!(refusal(&format!("{LEAST}[listen]\nproxies = \"127.0.0.1\"\n")).0, Some(5));
}

#[test]
fn a_missing_file_is_named() {
    let error = Configuration::load(Path::new("/nowhere/a.toml"), &EnvironmentPaths::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/a.toml"), "{error}");
}

#[test]
fn a_configuration_writable_by_others_is_refused() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    let home = tempfile::tempdir().unwrap();
    let path_of = |name: &str| home.path().join(name);
    let mode = |name: &str, mode| fs::set_permissions(path_of(name), fs::Permissions::from_mode(mode)).unwrap();
    let text = "name = \"A\"\nstate = \"state\"\n[token]\nlabel = \"t\"\n[enrollment]\nprofiles = \"profiles\"\n";
    for directory in ["state", "profiles"] {
        fs::create_dir(path_of(directory)).unwrap();
        mode(directory, 0o755);
    }
    let files = ["authority.toml", "profiles/signing.toml", "state/authority.db", "state/authority.db-wal"];
    for file in files {
        fs::write(path_of(file), text).unwrap();
        mode(file, 0o644);
    }
    let load = || Configuration::load(&path_of("authority.toml"), &EnvironmentPaths::default());
    load().unwrap();
    let (all, directories) = (files.iter().map(|file| (*file, 0o644)), ["state", "profiles"].map(|name| (name, 0o755)));
    for (name, right) in all.chain(directories) {
        // A group may contain only the owner; `token/private_file.rs` checks that.
        for wrong in [right | 0o022, right | 0o002] {
            mode(name, wrong);
            let error = load().unwrap_err().to_string();
            let expected = [format!("mode {wrong:04o}"), format!("`chmod go-w {}`", path_of(name).display())];
            assert!(expected.iter().all(|part| error.contains(part)), "{name}: {error}");
        }
        mode(name, right);
    }
    load().unwrap();
}
