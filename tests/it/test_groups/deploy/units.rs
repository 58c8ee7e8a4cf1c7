//! The systemd units.

use std::process::Command;

use super::{assert_taken, assert_variables, program, read};

const UNITS: [(&str, &str); 2] = [("collector-node.service", "collector"), ("receiver.service", "receiver")];

#[test]
fn systemd_takes_every_line_and_the_programs_every_word() {
    for (unit, name) in UNITS {
        let text = read(format!("deploy/systemd/{unit}"));
        let installed = format!("/usr/local/bin/{name}");
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words: Vec<_> = start.split(' ').map(ToOwned::to_owned).collect();
        assert_eq!(words[0], installed);
        assert_taken(name, &words[1..], unit);
        assert_variables(&text, unit);
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join(unit);
        // systemd checks that the program of the unit exists.
        std::fs::write(&here, text.replace(&installed, program(name).to_str().unwrap())).unwrap();
        assert_eq!(complaints(&here), "", "{unit}");
        std::fs::write(&here, text.replace("StateDirectory=", "StatesDirectory=")).unwrap();
        assert!(
            complaints(&here).contains("StatesDirectory"),
            "a misspelt line of {unit} would not be found"
        );
    }
}

/// systemd's complaints about a unit.
fn complaints(unit: &std::path::Path) -> String {
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let name = unit.file_name().unwrap().to_str().unwrap();
    // Other units of this machine may have errors of their own.
    told.lines().filter(|line| line.contains(name)).collect::<Vec<_>>().join("\n")
}
