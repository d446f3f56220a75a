//! Journals that were damaged, as people meet them: through the commands.

use std::{fs, os::unix::fs::PermissionsExt};

use nix::sys::signal::Signal;

use crate::support::{Bench, code, finish, signal, stderr, wait_for};

const ONE: &str = "processes: [{name: a, cmdline: echo hi}]";
const SLOW: &str = "
finalization_wait: 5s
processes:
  - {name: a, cmdline: 'echo start >> events; while [ ! -e go ]; do sleep 0.02; done; exit 5', max_failures: 0, max_runs: 1}
  - {name: b, cmdline: 'echo b >> events', final: true}
";

#[test]
fn corruption_is_named_with_its_offset_and_hides_no_other_task() {
    let bench = Bench::new();
    let file = bench.file("one.yaml", ONE).display().to_string();
    for id in ["good", "bad"] {
        assert_eq!(code(&bench.run(&["run", &file, "--id", id])), 0);
    }
    bench.damage("bad");
    let one = bench.run(&["status", "bad"]);
    assert_eq!(code(&one), 1);
    assert!(
        stderr(&one).contains("corrupt at offset 12"),
        "{}",
        stderr(&one)
    );
    let all = bench.run(&["status"]);
    assert!(String::from_utf8_lossy(&all.stdout).contains("good"));
    assert!(stderr(&all).contains("corrupt at offset 12"));
    let again = bench.run(&["run", &file, "--id", "bad"]);
    assert_eq!(code(&again), 4, "{}", stderr(&again));
}

#[test]
fn a_journal_or_directory_that_others_may_write_is_refused() {
    let bench = Bench::new();
    let file = bench.file("one.yaml", ONE).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let directory = bench.root().join("tasks/t");
    for (path, mode, safe) in [
        (directory.clone(), 0o777, 0o755),
        (directory.join("journal"), 0o666, 0o600),
    ] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
        let output = bench.run(&["status", "t"]);
        assert_eq!(code(&output), 1);
        assert!(
            stderr(&output).contains("not trusted"),
            "{}",
            stderr(&output)
        );
        fs::set_permissions(&path, PermissionsExt::from_mode(safe)).expect("chmod");
    }
    assert_eq!(code(&bench.run(&["status", "t"])), 0);
}

/// Kills root and keeper of a running task, and returns its journal.
fn abandon(bench: &Bench, id: &str) -> std::path::PathBuf {
    let file = bench.file("slow.yaml", SLOW).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", id, "--detach"])), 0);
    let events = bench.sandbox(id).join("events");
    wait_for("the process to start", || events.exists().then_some(()));
    let running = |task: &serde_json::Value| task["processes"][0]["state"] == "RUNNING";
    let task = wait_for("the exec record", || bench.task(id).filter(running));
    crate::support::kill_at_once(
        &["root_pid", "keeper_pid"].map(|who| task[who].as_u64().expect("a pid")),
    );
    wait_for("them to die", || {
        let task = bench.task(id)?;
        (task["root_pid"].is_null() && task["keeper_pid"].is_null()).then_some(())
    });
    bench.root().join("tasks").join(id).join("journal")
}

#[test]
fn a_torn_tail_is_cut_with_a_notice_and_nothing_recorded_is_lost() {
    let bench = Bench::new();
    let journal = abandon(&bench, "torn");
    let mut bytes = fs::read(&journal).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("records") + 1;
    bytes.truncate(end);
    bytes.extend_from_slice(b"\xd3frm\x40\0\0\0 a frame that was never finished");
    fs::write(&journal, bytes).expect("write");
    let attached = bench
        .dewar(&["attach", "torn", "--format", "plain"])
        .spawn()
        .expect("dewar");
    wait_for("the takeover", || {
        bench
            .task("torn")
            .filter(|task| task["keeper_pid"].is_u64())
    });
    fs::write(bench.sandbox("torn").join("go"), "").expect("write");
    let output = finish(attached);
    let task = bench.task("torn").expect("the task");
    let notices = task["notices"].to_string();
    assert!(
        notices.contains("torn tail at offset"),
        "{notices}\n{}",
        stderr(&output)
    );
    // The process was never started twice, and its code is known or it is LOST, once.
    let events = fs::read_to_string(bench.sandbox("torn").join("events")).expect("events");
    let run = &task["processes"][0]["runs"][0];
    assert_eq!(events.matches("start").count(), 1, "{events}");
    assert!(run["exit_code"] == 5 || run["state"] == "LOST", "{run}");
    assert_eq!(code(&output), 1);
}

#[test]
fn after_a_reboot_nothing_is_signalled_and_every_run_is_lost() {
    let bench = Bench::new();
    let journal = abandon(&bench, "boot");
    // The same journal under another boot id: what it says of pids means nothing any more. The
    // frame is written anew, because its checksum covers the boot id.
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
    let rewritten = dewar_rewrite(&journal, text.trim());
    fs::write(&journal, rewritten).expect("write");
    let task = bench.task("boot").expect("the task");
    let old = task["processes"][0]["runs"][0]["pid"]
        .as_u64()
        .expect("a pid");
    let attached = bench
        .dewar(&["attach", "boot", "--format", "plain"])
        .spawn()
        .expect("dewar");
    let output = finish(attached);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let task = bench.task("boot").expect("the task");
    assert_eq!(task["processes"][0]["runs"][0]["state"], "LOST");
    assert!(
        std::path::Path::new(&format!("/proc/{old}")).exists(),
        "it was signalled"
    );
    signal(old, Signal::SIGKILL);
}

/// The journal's records with another boot id in them.
fn dewar_rewrite(journal: &std::path::Path, boot_id: &str) -> Vec<u8> {
    use dewar::journal::{FileStorage, Journal, Kind, read};
    let replay = read(journal).expect("readable").expect("records");
    let directory = tempfile::tempdir().expect("a directory");
    let opened = fs::File::open(directory.path()).expect("open");
    let storage = FileStorage::open(opened.into(), "copy").expect("open");
    let mut copy = Journal::create(storage).expect("create");
    for mut record in replay.records {
        if let Some(Kind::Tenure(tenure)) = &mut record.kind {
            assert_eq!(tenure.boot_id, boot_id);
            tenure.boot_id = "another boot".to_owned();
        }
        copy.append(vec![record]).expect("append");
    }
    fs::read(directory.path().join("copy")).expect("read")
}
