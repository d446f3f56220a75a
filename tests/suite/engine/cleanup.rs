//! `dewar gc`: what goes, what stays, and what is never touched.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use crate::support::{Bench, code, wait_for};

const TRUE: &str = "processes: [{name: a, cmdline: 'head -c 100000 /dev/zero > big'}]";

fn ids(bench: &Bench) -> Vec<String> {
    let mut ids: Vec<String> = fs::read_dir(bench.root().join("tasks"))
        .expect("tasks")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    ids.sort();
    ids
}

fn run(bench: &Bench, id: &str, more: &[&str]) {
    let file = bench.file("true.yaml", TRUE).display().to_string();
    let output = bench.run(&[&["run", &file, "--id", id], more].concat());
    assert_eq!(code(&output), 0);
    // The keeper leaves a moment after its client.
    wait_for("the keeper to leave", || {
        let task = bench.task(id)?;
        task["keeper_pid"].is_null().then_some(())
    });
}

fn gc(bench: &Bench, arguments: &[&str]) -> String {
    let output = bench.run(&[&["gc"], arguments].concat());
    assert_eq!(
        code(&output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_oldest_go_first_and_a_dry_run_changes_nothing() {
    let bench = Bench::new();
    for id in ["one", "two", "three"] {
        run(&bench, id, &[]);
    }
    let told = gc(&bench, &["--keep", "1", "--dry-run"]);
    assert!(told.starts_with("would remove one  "), "{told}");
    assert!(told.contains("\nwould remove two  "), "{told}");
    assert!(told.contains("\nwould remove 2 tasks, "), "{told}");
    assert_eq!(ids(&bench), ["one", "three", "two"]);
    // A week is the default.
    assert_eq!(gc(&bench, &[]), "removed 0 tasks, 0B\n");
    gc(&bench, &["--keep", "2"]);
    assert_eq!(ids(&bench), ["three", "two"]);
    gc(&bench, &["--max-bytes", "250KB"]);
    assert_eq!(ids(&bench), ["three"]);
    gc(&bench, &["--older-than", "0s"]);
    assert!(ids(&bench).is_empty());
}

#[test]
fn what_lives_and_what_a_person_named_stays() {
    let bench = Bench::new();
    let mine = bench.path().join("mine");
    fs::create_dir(&mine).expect("mkdir");
    run(&bench, "given", &["--sandbox", &mine.display().to_string()]);
    let file = bench.file("live.yaml", "processes: [{name: a, cmdline: sleep 1000}]");
    let file = file.display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "live", "--detach"])),
        0
    );
    // A link out of a sandbox, and one of an executor's task.
    run(&bench, "linked", &[]);
    symlink(&mine, bench.sandbox("linked").join("out")).expect("a link");
    symlink(&mine, bench.root().join("tasks/pointer")).expect("a link");
    // What an earlier collection was killed over.
    fs::create_dir_all(bench.root().join("tasks/.gc-left/over")).expect("mkdir");
    gc(&bench, &["--older-than", "0s"]);
    assert_eq!(ids(&bench), ["live", "pointer"]);
    assert!(
        mine.join("big").exists(),
        "a sandbox that was given is gone"
    );
    // A keeper that was killed leaves a task that is not over.
    let task = bench.task("live").expect("the task");
    for who in ["root_pid", "keeper_pid"] {
        let pid = task[who].as_u64().expect("a pid");
        crate::support::signal(pid, nix::sys::signal::Signal::SIGKILL);
    }
    gc(&bench, &["--older-than", "0s"]);
    assert_eq!(ids(&bench), ["live", "pointer"]);
}

/// A person's directory may be inside another task's: `cd` into a sandbox, `dewar run --sandbox .`.
#[test]
fn a_task_that_another_one_lives_in_stays_until_that_one_is_gone() {
    let bench = Bench::new();
    run(&bench, "host", &[]);
    let inside = bench.sandbox("host").join("inside");
    fs::create_dir(&inside).expect("mkdir");
    run(
        &bench,
        "guest",
        &["--sandbox", &inside.display().to_string()],
    );
    let output = bench.run(&["gc", "--keep", "1"]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: host: the sandbox of guest is in it; remove guest first\n"
    );
    assert_eq!(ids(&bench), ["guest", "host"]);
    assert!(inside.join("big").exists());
}

/// What package managers and compilers leave: directories that even their owner may not write to.
/// Needs root, to give up what makes modes of files not matter.
#[test]
fn directories_that_may_not_be_written_to_go_too() {
    let bench = Bench::new();
    run(&bench, "closed", &[]);
    let closed = bench.sandbox("closed").join("closed");
    fs::create_dir_all(closed.join("below")).expect("mkdir");
    for directory in [closed.join("below"), closed] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).expect("chmod");
    }
    // Root, but bound by the modes of files as every user is.
    let gc = bench.dewar(&["gc", "--keep", "0"]);
    let bound = Command::new("setpriv")
        .arg("--bounding-set=-dac_override,-dac_read_search")
        .arg(gc.get_program())
        .args(gc.get_args())
        .output()
        .expect("setpriv");
    assert_eq!(
        code(&bound),
        0,
        "{}",
        String::from_utf8_lossy(&bound.stderr)
    );
    assert!(ids(&bench).is_empty());
}

#[test]
fn a_journal_that_cannot_be_read_is_told_and_kept() {
    let bench = Bench::new();
    run(&bench, "bad", &[]);
    run(&bench, "good", &[]);
    bench.damage("bad");
    let output = bench.run(&["gc", "--keep", "0"]);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: bad: "));
    assert_eq!(ids(&bench), ["bad"]);
}
