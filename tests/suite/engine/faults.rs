//! What breaks around us: a disk that fails, a journal that is damaged while the task runs, a wall
//! clock that jumps, two that want to look after the same task.

use std::{fs, io::Read, process::Command};

use nix::sys::signal::Signal;

use crate::support::{
    Bench, Known, SmallDisk, code, finish, signal,
    tracer::{Fault, Role, trace_fault},
    wait_for,
};

/// Says its pid and stays, with a child.
const STAYS: &str = "
finalization_wait: 5s
processes:
  - {name: stays, cmdline: 'echo $$ > first; sleep 1000 & echo $! > second; wait'}
";

/// A task that runs; its two processes.
fn start(bench: &Bench, id: &str) -> Vec<Known> {
    let file = bench.file("stays.yaml", STAYS).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", id, "--detach"])), 0);
    let running = |task: &serde_json::Value| task["processes"][0]["state"] == "RUNNING";
    wait_for("the exec record", || bench.task(id).filter(running));
    let pid = |name: &str| {
        wait_for("a pid", || {
            let text = fs::read_to_string(bench.sandbox(id).join(name)).ok()?;
            text.ends_with('\n').then(|| Known::new(&text))
        })
    };
    vec![pid("first"), pid("second")]
}

/// Root, keeper and runner.
fn ours(bench: &Bench, id: &str) -> [u64; 3] {
    let task = bench.task(id).expect("the task");
    ["root_pid", "keeper_pid", "runner_pid"].map(|who| task[who].as_u64().expect("a pid"))
}

#[test]
fn a_sync_that_fails_ends_the_task_as_lost_with_nothing_alive() {
    for from in [1, 2, 3] {
        let bench = Bench::new();
        let task = "
processes:
  - {name: a, cmdline: 'echo a >> events', min_duration: 0s}
  - {name: b, cmdline: 'echo b >> events; echo $$ > pid; sleep 1000', min_duration: 0s}
constraints: [{order: [a, b]}]
";
        let file = bench.file("task.yaml", task).display().to_string();
        let command = bench.dewar(&["run", &file, "--id", "t", "--format", "plain"]);
        let fault = Fault {
            role: Role::Keeper,
            calls: &[libc::SYS_fdatasync],
            from,
            times: u64::MAX,
            errno: libc::EIO,
        };
        let traced = trace_fault(command, fault);
        assert!(traced.faults > 0, "no sync was made to fail from {from}");
        assert_eq!(traced.code, Some(4), "failing from sync {from}");
        let events = fs::read_to_string(bench.sandbox("t").join("events")).unwrap_or_default();
        // No gate opens on a record that may not be on disk.
        let expected = ["", "a\n", "a\nb\n"];
        assert!(expected.contains(&events.as_str()), "{events}");
        if from == 1 {
            assert_eq!(
                events, "",
                "started although the start could not be recorded"
            );
        }
        if let Ok(pid) = fs::read_to_string(bench.sandbox("t").join("pid")) {
            assert!(!Known::new(&pid).lives(), "{pid} is alive");
        }
    }
}

#[test]
fn a_journal_damaged_under_a_living_keeper_is_not_trusted_by_the_next_runner() {
    let bench = Bench::new();
    let processes = start(&bench, "t");
    let mut client = bench
        .dewar(&["attach", "t", "--format", "plain"])
        .spawn()
        .expect("dewar");
    let mut said = [0];
    let stderr = client.stderr.as_mut().expect("a pipe");
    stderr.read_exact(&mut said).expect("its first word");
    let [_, keeper, runner] = ours(&bench, "t");
    let keeper = Known::new(&keeper.to_string());
    bench.damage("t");
    signal(runner, Signal::SIGKILL);
    let output = finish(client);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 4, "{said}");
    assert!(said.contains("corrupt at offset 12"), "{said}");
    for process in &processes {
        wait_for("the processes to die", || (!process.lives()).then_some(()));
    }
    wait_for("the keeper to leave", || (!keeper.lives()).then_some(()));
}

#[test]
fn a_damaged_journal_that_nobody_holds_still_leads_to_its_processes() {
    let bench = Bench::new();
    let processes = start(&bench, "t");
    let [root, keeper, _] = ours(&bench, "t");
    crate::support::kill_at_once(&[root, keeper]);
    bench.damage("t");
    let output = bench.run(&["attach", "t", "--format", "plain"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 4, "{said}");
    assert!(said.contains("corrupt at offset 12"), "{said}");
    for process in &processes {
        wait_for("the processes to die", || (!process.lives()).then_some(()));
    }
}

#[test]
fn timers_hold_when_the_wall_clock_jumps() {
    let bench = Bench::new();
    let shim = bench.path().join("jumpy_clock.so");
    let source = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/suite/engine/jumpy_clock.c"
    );
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(source)
        .status();
    assert!(built.expect("a C compiler").success());
    let task = "
max_failures: 0
finalization_wait: 5s
processes:
  - {name: again, min_duration: 300ms, max_failures: 3, cmdline: 'cat /proc/uptime >> starts; exit 1'}
  - {name: deaf, cmdline: 'trap \"\" TERM; touch deaf; while :; do sleep 0.05; done', stop_timeout: 300ms}
";
    let file = bench.file("task.yaml", task).display().to_string();
    let mut command = bench.dewar(&["run", &file, "--id", "t", "--detach"]);
    assert_eq!(
        code(&finish(
            command.env("LD_PRELOAD", &shim).spawn().expect("dewar")
        )),
        0
    );
    let starts = bench.sandbox("t").join("starts");
    let text = wait_for("three runs", || {
        let text = fs::read_to_string(&starts).ok()?;
        (text.lines().count() == 3).then_some(text)
    });
    let times: Vec<f64> = text
        .lines()
        .map(|line| {
            line.split(' ')
                .next()
                .and_then(|time| time.parse().ok())
                .expect("a time")
        })
        .collect();
    for pair in times.windows(2) {
        let pause = pair[1] - pair[0];
        // The kernel's own figure has hundredths; a jump would be hours, or nothing at all.
        assert!((0.28..60.0).contains(&pause), "{times:?}");
    }
    wait_for("the deaf process", || {
        bench.sandbox("t").join("deaf").exists().then_some(())
    });
    let mut kill = bench.dewar(&["kill", "t"]);
    let killed = finish(kill.env("LD_PRELOAD", &shim).spawn().expect("dewar"));
    assert_eq!(code(&killed), 0);
    let task = bench.task("t").expect("the task");
    assert_eq!(task["state"], "KILLED");
    // The times that are shown did jump, else nothing was tested.
    let runs = task["processes"][0]["runs"].as_array().expect("runs");
    let shown: Vec<&str> = runs
        .iter()
        .flat_map(|run| ["forked_at", "stopped_at"].map(|name| run[name].as_str().expect("a time")))
        .collect();
    assert!(!shown.is_sorted(), "{shown:?}");
}

#[test]
fn many_that_want_to_take_up_a_task_at_once_make_one_keeper() {
    let bench = Bench::new();
    let file = bench.file(
        "t.yaml",
        "processes: [{name: a, daemon: true, max_runs: 0, min_duration: 20ms, cmdline: 'mkdir busy && sleep 0.05 && rmdir busy'}]",
    );
    let file = file.display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    wait_for("some runs", || {
        let task = bench.task("t")?;
        (task["processes"][0]["totals"]["success"].as_u64()? > 3).then_some(())
    });
    for _ in 0..3 {
        let [root, keeper, _] = ours(&bench, "t");
        for pid in [root, keeper] {
            signal(pid, Signal::SIGKILL);
        }
        let clients: Vec<_> = (0..6)
            .map(|_| {
                let mut command = bench.dewar(&["attach", "t", "--format", "plain"]);
                command
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .expect("dewar")
            })
            .collect();
        wait_for("a client to take it up", || {
            let task = bench.task("t")?;
            // One that was killed may still be shown for a moment.
            let is_new = task["keeper_pid"].as_u64().is_some_and(|pid| pid != keeper);
            let is_whole = task["root_pid"].as_u64().is_some_and(|pid| pid != root);
            (is_new && is_whole && task["runner_pid"].is_u64()).then_some(())
        });
        for client in &clients {
            signal(u64::from(client.id()), Signal::SIGKILL);
        }
        for client in clients {
            finish(client);
        }
    }
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    let task = bench.task("t").expect("the task");
    // Two at once would have found the directory taken.
    assert_eq!(task["processes"][0]["totals"]["failed"], 0, "{task}");
}

#[test]
fn a_runner_that_was_stopped_is_gone_with_its_keeper() {
    let bench = Bench::new();
    start(&bench, "t");
    let [_, keeper, runner] = ours(&bench, "t");
    let known = Known::new(&runner.to_string());
    signal(runner, Signal::SIGSTOP);
    signal(keeper, Signal::SIGKILL);
    wait_for("a new runner", || {
        let now = bench.task("t")?["runner_pid"].as_u64()?;
        (now != runner).then_some(())
    });
    wait_for("the stopped one to go", || (!known.lives()).then_some(()));
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn a_read_only_root_is_refused_before_anything_starts_and_can_still_be_looked_at() {
    let bench = Bench::new();
    let disk = SmallDisk::new(&bench, "4M");
    let root = disk.path.join("root").display().to_string();
    let file = bench.file("task.yaml", "processes: [{name: a, cmdline: 'true'}]");
    let file = file.display().to_string();
    let run = |arguments: &[&str]| finish(bench.dewar_at(&root, arguments).spawn().expect("dewar"));
    assert_eq!(code(&run(&["run", &file, "--id", "before"])), 0);
    // Its keeper leaves a moment after its client, and has files open for writing until then.
    wait_for("the keeper to leave", || {
        let status = run(&["status", "before", "--format", "json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        let task = &status["tasks"][0];
        (task["keeper_pid"].is_null() && task["root_pid"].is_null()).then_some(())
    });
    disk.set_read_only(true);
    let output = run(&["run", &file, "--id", "t"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 2, "{said}");
    assert!(
        said.contains("Read-only file system") && said.contains("hint: "),
        "{said}"
    );
    let output = run(&["status", "before", "--format", "json"]);
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("SUCCESS"));
    assert_eq!(code(&run(&["run", &file, "--id", "before"])), 0);
    let output = run(&["gc", "--keep", "0"]);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: before: "));
    disk.set_read_only(false);
}

#[test]
fn a_disk_that_is_full_when_a_task_begins_is_a_clear_error() {
    let bench = Bench::new();
    let disk = SmallDisk::new(&bench, "64k");
    let root = disk.path.join("root").display().to_string();
    fs::write(disk.path.join("ballast"), vec![1; 60 << 10]).expect("ballast");
    let file = bench.file("task.yaml", "processes: [{name: a, cmdline: 'touch ran'}]");
    let file = file.display().to_string();
    let mut command = bench.dewar_at(&root, &["run", &file, "--id", "t"]);
    let output = finish(command.spawn().expect("dewar"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!([2, 4].contains(&code(&output)), "{said}");
    assert!(
        said.contains("No space left on device") || said.contains("LOST"),
        "{said}"
    );
    assert!(!disk.path.join("root/tasks/t/sandbox/ran").exists());
}
