//! Output: where it goes, how it rotates, and who must not be kept waiting for it.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Bench, SmallDisk, code, finish, signal, wait_for};

fn log(bench: &Bench, id: &str, name: &str) -> Option<String> {
    fs::read_to_string(bench.sandbox(id).join(".logs").join(name)).ok()
}

#[test]
fn rotated_files_hold_whole_lines_and_nothing_is_lost() {
    let bench = Bench::new();
    let task = "
processes:
  - name: a
    cmdline: for i in $(seq -w 1 500); do echo \"line $i of this log\"; done
    logger: {mode: rotate, rotate: {log_size: 1000, backups: 50}}
";
    let file = bench.file("task.yaml", task).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let mut all = String::new();
    for number in (1..=50).rev() {
        let Some(text) = log(&bench, "t", &format!("a/0/stdout.{number}")) else {
            continue;
        };
        assert!(text.ends_with('\n'), "a line was cut");
        assert!((1000..1021).contains(&text.len()), "{}", text.len());
        all += &text;
    }
    all += &log(&bench, "t", "a/0/stdout").expect("the present file");
    let wanted: String = (1..=500)
        .map(|i| format!("line {i:03} of this log\n"))
        .collect();
    assert_eq!(all, wanted);
}

#[test]
fn a_grandchild_that_holds_stdout_keeps_no_run_alive_and_is_named() {
    let bench = Bench::new();
    let task = "
processes:
  - name: a
    cmdline: setsid sleep 1000 & sleep 0.2; echo hello
    logger: {mode: rotate}
";
    let file = bench.file("task.yaml", task).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let task = bench.task("t").expect("the task");
    let notice = &task["notices"][0];
    assert_eq!(notice["name"], "a");
    let text = notice["text"].as_str().expect("a text");
    assert!(
        text.contains("held open by pid") && text.contains("sleep 1000"),
        "{text}"
    );
    assert_eq!(log(&bench, "t", "a/0/stdout").as_deref(), Some("hello\n"));
}

#[test]
fn console_output_is_shown_with_its_process_and_none_goes_nowhere() {
    let bench = Bench::new();
    let task = "
processes:
  - {name: shown, cmdline: 'echo out; echo err >&2; printf unfinished', logger: {destination: console}}
  - {name: quiet, cmdline: 'echo quiet'}
  - {name: gone, cmdline: 'echo gone', logger: {destination: none}}
";
    let file = bench.file("task.yaml", task).display().to_string();
    let output = bench.run(&["run", &file, "--id", "t", "--format", "plain"]);
    assert_eq!(code(&output), 0);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "shown | out\nshown | unfinished\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("shown | err\n"));
    assert_eq!(
        log(&bench, "t", "quiet/0/stdout").as_deref(),
        Some("quiet\n")
    );
    assert_eq!(log(&bench, "t", "gone/0/stdout"), None);
    let tail = bench.run(&["tail", "t", "quiet"]);
    assert_eq!(String::from_utf8_lossy(&tail.stdout), "quiet | quiet\n");
    let all = bench.run(&["tail", "t"]);
    assert_eq!(
        String::from_utf8_lossy(&all.stdout),
        "shown | out\nshown | unfinished\nquiet | quiet\n"
    );
    assert_eq!(code(&bench.run(&["tail", "t", "nobody"])), 1);
    assert_eq!(code(&bench.run(&["tail", "unknown"])), 1);
}

#[test]
fn a_full_disk_costs_output_and_blocks_no_stop() {
    let bench = Bench::new();
    let disk = SmallDisk::new(&bench, "64k");
    let task = "
finalization_wait: 5s
processes:
  - name: chatty
    ephemeral: true
    cmdline: 'while :; do echo 0123456789012345678901234567890123456789; done'
    logger: {mode: rotate, rotate: {log_size: 1MB}}
  - {name: main, cmdline: sleep 0.5, logger: {destination: none}}
";
    let file = bench.file("task.yaml", task).display().to_string();
    let sandbox = disk.path.join("sandbox").display().to_string();
    let output = bench.run(&["run", &file, "--id", "t", "--sandbox", &sandbox]);
    assert_eq!(
        code(&output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let task = bench.task("t").expect("the task");
    assert_eq!(task["processes"][0]["runs"][0]["signal"], "SIGTERM");
    assert!(
        task["notices"].to_string().contains("could not be written"),
        "{}",
        task["notices"]
    );
}

#[test]
fn a_task_whose_journal_cannot_be_written_is_lost_and_leaves_nothing() {
    let bench = Bench::new();
    let disk = SmallDisk::new(&bench, "96k");
    let root = disk.path.join("root").display().to_string();
    let outside = bench.path().join("pids").display().to_string();
    let task = format!(
        "
processes:
  - {{name: a, cmdline: 'echo $$ > {outside}; dd if=/dev/zero of=full bs=1k 2>/dev/null; exec sleep 1000'}}
  - {{name: b, daemon: true, min_duration: 1ms, max_runs: 0, cmdline: 'true', logger: {{destination: none}}}}
"
    );
    let file = bench.file("task.yaml", &task).display().to_string();
    let mut command = bench.dewar_at(&root, &["run", &file, "--id", "t"]);
    let output = finish(command.spawn().expect("dewar"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 4, "{text}");
    assert!(text.contains("LOST"), "{text}");
    let pid = fs::read_to_string(&outside).expect("pids");
    // A zombie that waits for its init has no environment any more.
    let environment = fs::read(format!("/proc/{}/environ", pid.trim())).unwrap_or_default();
    let sandbox = format!("{root}/tasks/t/sandbox");
    assert!(!String::from_utf8_lossy(&environment).contains(&sandbox));
}

/// What rotated files hold, oldest first.
fn rotated(bench: &Bench, id: &str, name: &str) -> String {
    let numbered = (1..=1000).rev().map(|number| format!("{name}.{number}"));
    let files = numbered.chain([name.to_owned()]);
    files.filter_map(|name| log(bench, id, &name)).collect()
}

/// Equal, or where they differ: the texts are long.
fn same(found: &str, wanted: &str, about: &str) {
    if found != wanted {
        let mut pairs = found.bytes().zip(wanted.bytes());
        let at = pairs.position(|(a, b)| a != b);
        let (found, wanted) = (found.len(), wanted.len());
        panic!("{about}: {found} of {wanted} bytes, different at {at:?}");
    }
}

#[test]
fn killing_the_keeper_in_the_middle_of_output_loses_no_byte_and_doubles_none() {
    // The process writes on, or ends while no keeper reads.
    for (lines, delays) in [(300_000u32, vec![20, 120]), (4_000, (0..24).collect())] {
        for delay in delays {
            let bench = Bench::new();
            let task = format!(
                r#"
processes:
  - name: a
    cmdline: |
      exec python3 -c '
      import os
      for i in range({lines}): os.write(1, b"line %08d\n" % i)'
    logger: {{mode: rotate, rotate: {{log_size: 50000, backups: 1000}}}}
"#
            );
            let file = bench.file("task.yaml", &task).display().to_string();
            let client = bench
                .dewar(&["run", &file, "--id", "t"])
                .spawn()
                .expect("dewar");
            wait_for("the first line", || {
                log(&bench, "t", "a/0/stdout").filter(|text| !text.is_empty())
            });
            let keeper = bench.task("t").expect("the task")["keeper_pid"].as_u64();
            std::thread::sleep(std::time::Duration::from_millis(delay));
            // It may be over already: then there is no keeper to kill.
            if let Some(keeper) = keeper {
                let pid = nix::unistd::Pid::from_raw(keeper as i32);
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            }
            assert_eq!(code(&finish(client)), 0);
            let wanted: String = (0..lines).map(|i| format!("line {i:08}\n")).collect();
            let found = rotated(&bench, "t", "a/0/stdout");
            if found != wanted {
                let at = found.bytes().zip(wanted.bytes()).position(|(a, b)| a != b);
                panic!(
                    "{} of {} bytes, different at {at:?}, killed after {delay} ms",
                    found.len(),
                    wanted.len()
                );
            }
        }
    }
}

/// A daemon that a run left behind writes on into that run's log, after the keeper as before.
#[test]
fn output_of_an_ended_run_is_read_on_after_the_keepers_death() {
    let bench = Bench::new();
    let task = r#"
processes:
  - name: parent
    cmdline: |
      mkfifo said begun
      setsid sh -c 'exec 3<>said; echo ready; echo > begun; while read -r line <&3; do echo "heard $line"; done' &
      read -r line < begun
    logger: {mode: rotate}
  - {name: other, cmdline: sleep 1000}
"#;
    let file = bench.file("task.yaml", task).display().to_string();
    let output = bench.run(&["run", &file, "--id", "t", "--detach"]);
    assert_eq!(code(&output), 0);
    let says = |text: &str| {
        wait_for(text, || {
            log(&bench, "t", "parent/0/stdout").filter(|log| log.ends_with(text))
        });
    };
    says("ready\n");
    wait_for("the end of the run", || {
        let task = bench.task("t")?;
        (task["processes"][0]["state"] == "SUCCESS").then_some(())
    });
    let said = bench.sandbox("t").join("said");
    fs::write(&said, "one\n").expect("write");
    says("heard one\n");
    let keeper = bench.task("t").expect("the task")["keeper_pid"].as_u64();
    signal(keeper.expect("a keeper"), Signal::SIGKILL);
    fs::write(&said, "two\n").expect("write");
    says("heard one\nheard two\n");
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
}

#[test]
fn chatty_output_is_whole_and_cut_at_newlines_only() {
    let bench = Bench::new();
    let task = r#"
processes:
  - name: a
    cmdline: |
      exec python3 -c '
      import os
      for i in range(200000): os.write(1 + i % 2, b"%d %s\n" % (i, b"x" * (i % 97)))'
    logger: {mode: rotate, rotate: {log_size: 100KB, backups: 1000}}
"#;
    let file = bench.file("task.yaml", task).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    for (first, name) in [(0, "a/0/stdout"), (1, "a/0/stderr")] {
        let wanted: String = (first..200_000)
            .step_by(2)
            .map(|i| format!("{i} {}\n", "x".repeat(i % 97)))
            .collect();
        same(&rotated(&bench, "t", name), &wanted, name);
        let finished = log(&bench, "t", &format!("{name}.1")).expect("a finished file");
        assert!(finished.ends_with('\n'));
        assert!((100 << 10..(100 << 10) + 120).contains(&finished.len()));
    }
}

/// Where all files are kept, no line may be missing, however late `tail` looks. Where old ones are
/// deleted, `tail` may be too late on a busy machine; then it says so.
#[test]
fn tail_follows_through_rotation() {
    for backups in [1000, 3] {
        let bench = Bench::new();
        let task = format!(
            r#"
processes:
  - name: a
    cmdline: |
      exec python3 -c '
      import os, time
      for i in range(3000):
          os.write(1, b"line %d\n" % i)
          if i % 100 == 0: time.sleep(0.005)'
    logger: {{mode: rotate, rotate: {{log_size: 2000, backups: {backups}}}}}
"#
        );
        let file = bench.file("task.yaml", &task).display().to_string();
        let run = bench
            .dewar(&["run", &file, "--id", "t"])
            .spawn()
            .expect("dewar");
        wait_for("the task", || bench.task("t"));
        let tail = bench.run(&["tail", "t", "a", "-f", "-n", "100000"]);
        assert_eq!(code(&tail), 0);
        assert_eq!(code(&finish(run)), 0);
        let text = String::from_utf8_lossy(&tail.stdout).into_owned();
        let number = |line: &str| line.rsplit(' ').next().and_then(|word| word.parse().ok());
        let numbers: Vec<u32> = text.lines().filter_map(number).collect();
        assert_eq!(numbers.len(), text.lines().count());
        assert_eq!(numbers.last(), Some(&2999));
        // From wherever it began, every line once and in order.
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]);
        let gaps = gaps.count();
        let said = String::from_utf8_lossy(&tail.stderr).into_owned();
        let notes = said
            .lines()
            .filter(|line| line.starts_with("note: a: output is missing here"));
        let notes = notes.count();
        match backups {
            1000 => assert_eq!((gaps, notes), (0, 0), "{numbers:?} {said}"),
            _ => assert!(
                gaps <= notes,
                "{gaps} gaps, {notes} told: {numbers:?} {said}"
            ),
        }
    }
}

/// What was printed and rotated away before the client knew of the run is shown too.
#[test]
fn a_follower_shows_a_run_from_its_first_line() {
    let bench = Bench::new();
    let task = "
processes:
  - name: a
    cmdline: for i in $(seq 3000); do echo $i; done
    logger: {destination: both, mode: rotate, rotate: {log_size: 500, backups: 1000}}
";
    let file = bench.file("task.yaml", task).display().to_string();
    let output = bench.run(&["run", &file, "--id", "t", "--format", "plain"]);
    assert_eq!(code(&output), 0);
    let wanted: String = (1..=3000).map(|i| format!("a | {i}\n")).collect();
    same(&String::from_utf8_lossy(&output.stdout), &wanted, "both");
}

/// A process that makes its own log as long as it likes keeps no other process waiting.
#[test]
fn a_log_that_is_all_hole_delays_nobody() {
    let bench = Bench::new();
    let logger = "logger: {mode: rotate, rotate: {log_size: 4096, backups: 2}}";
    let task = format!(
        "processes:
  - {{name: hostile, {logger}, cmdline: 'truncate -s 1T .logs/hostile/0/stdout; echo hello; echo again'}}
  - {{name: innocent, {logger}, cmdline: 'sleep 0.3; echo fine'}}
"
    );
    let file = bench.file("task.yaml", &task).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let log = bench.sandbox("t").join(".logs/innocent/0/stdout");
    assert_eq!(fs::read_to_string(log).expect("a log"), "fine\n");
}

/// A task that ends waits for its files: what a left process prints at its stop is in them.
#[test]
fn what_is_printed_while_a_task_ends_is_in_its_files() {
    let bench = Bench::new();
    let program = r#"
import os, signal
def end(*_):
    for i in range(1600): os.write(1, b"%d %s\n" % (i, b"x" * 990))
    os._exit(0)
signal.signal(signal.SIGTERM, end)
open("ready", "w").close()
while True: signal.pause()
"#;
    let program = bench.file("last.py", program).display().to_string();
    let task = format!(
        "
finalization_wait: 100s
processes:
  - name: parent
    cmdline: setsid python3 {program} & until [ -e ready ]; do sleep 0.05; done
    logger: {{mode: rotate, rotate: {{log_size: 2000, backups: 1000}}}}
  - {{name: other, cmdline: sleep 1000}}
"
    );
    bench.detach("t", &task);
    wait_for("the end of the run", || {
        let task = bench.task("t")?;
        (task["processes"][0]["state"] == "SUCCESS").then_some(())
    });
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    let wanted: String = (0..1600)
        .map(|i| format!("{i} {}\n", "x".repeat(990)))
        .collect();
    same(
        &rotated(&bench, "t", "parent/0/stdout"),
        &wanted,
        "the last",
    );
}
