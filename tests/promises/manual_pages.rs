//! The manual pages name the files that the program uses, and no others. That they list the exit
//! codes is checked where commands end with them, in `command_line` and `through_the_agent`.

use crate::support::agent::BackgroundAgent;
use crate::support::deployment::Deployment;
use crate::support::manual_pages::ManualPages;
use crate::support::search::files;

#[test]
fn the_pages_name_the_files_that_the_program_writes() {
    let deployment = Deployment::begin();
    deployment.enroll_user();
    let machine = &deployment.machine;
    machine.tokenkeep(&["keyset", "forget", "default"]).ok();
    let _agent = BackgroundAgent(machine);
    machine.tokenkeep(&["agent", "--env"]).ok();

    let variables = [
        ("$XDG_CONFIG_HOME", "config"),
        ("$XDG_STATE_HOME", "state"),
        ("$XDG_RUNTIME_DIR", "runtime"),
        ("STATE/", "state/tokenkeep/authority/"),
    ];
    let is_here = |path: &String| variables.iter().any(|(variable, _)| path.starts_with(variable));
    let expand = |path: String| variables.iter().fold(path, |path, (variable, value)| path.replace(variable, value));
    let named: Vec<_> = ManualPages::read(machine).files().into_iter().filter(is_here).map(expand).collect();
    assert!(named.len() > 8, "{named:?}");
    for path in &named {
        assert!(machine.file(path).exists(), "a page names {path}, which does not exist");
    }
    for directory in ["config", "state", "runtime"] {
        for path in files(&machine.file(directory)) {
            let path = path.strip_prefix(machine.path()).unwrap().to_str().unwrap();
            let (directory, _) = path.rsplit_once('/').unwrap();
            // SQLite's own files lie beside the database.
            let is_named = named.iter().any(|named| {
                path == named || named.strip_suffix('/') == Some(directory) || path.starts_with(&format!("{named}-"))
            });
            assert!(is_named, "no page names {path}: {named:?}");
        }
    }
}
