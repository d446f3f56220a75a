//! The limits' tests on cgroup v2, in a virtual machine that `./test` has made ready. Where it
//! could not be had they say so loudly and do nothing else; DEWAR_VM=required makes that fail.

use std::{path::Path, process::Command};

/// False (and said so) where there is no machine.
fn is_there() -> bool {
    let ready = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm/ready");
    let required = std::env::var("DEWAR_VM").is_ok_and(|value| value == "required");
    assert!(
        ready.exists() || !required,
        "no virtual machine: run ./test"
    );
    if !ready.exists() {
        eprintln!("######## SKIPPED: no virtual machine for cgroup v2, run ./test ########");
    }
    ready.exists()
}

#[test]
fn everything_that_is_enforced_is_on_cgroup_v2_too() {
    if !is_there() {
        return;
    }
    let own = std::env::current_exe()
        .expect("this program")
        .display()
        .to_string();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg(project.join("tests/vm/vm.py"))
        .arg("run")
        .arg(project.join("target/vm"))
        .args([&own, env!("CARGO_BIN_EXE_dewar"), "--", &own])
        .args([
            "enforced_",
            "--include-ignored",
            "--test-threads",
            "3",
            "--color",
            "never",
        ])
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said
        .lines()
        .filter(|line| line.contains("enforced_") && line.ends_with("... ok"));
    let passed = passed.count();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(passed >= 15, "{passed} passed: {said}");
}
