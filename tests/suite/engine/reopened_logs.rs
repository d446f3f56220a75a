//! A process that opens its own output again by name (`> /dev/stdout`) neither cuts nor overwrites
//! what is in its log.

use std::fs;

use nix::{sys::signal::Signal, unistd::Uid};
use serde_json::{Value, json};

use crate::support::{Bench, code, kill_at_once, signal, stderr, wait_for};

/// A way to print a line by an opening of its own, and which log the lines of that process are in.
/// All but the last three would cut a file; the two before the last one write over its beginning.
const WAYS: [(&str, &str, &str); 10] = [
    ("bash", "stdout", "echo two > /dev/stdout"),
    ("dash", "stdout", "sh -c 'echo two > /dev/stdout'"),
    ("number", "stdout", "echo two > /proc/self/fd/1"),
    ("short", "stdout", "echo two > /dev/fd/1"),
    ("error", "stderr", "echo two > /dev/stderr"),
    ("tee", "stderr", "echo two | tee /dev/stderr > /dev/null"),
    (
        "python",
        "stdout",
        r#"python3 -c 'open("/dev/stdout", "w").write("two\n")'"#,
    ),
    ("both-ways", "stdout", "echo two 1<> /dev/stdout"),
    (
        "overwriting",
        "stdout",
        r#"python3 -c 'import os; os.write(os.open("/dev/stdout", os.O_WRONLY), b"two\n")'"#,
    ),
    ("appending", "stdout", "echo two >> /dev/stdout"),
];

/// A process for every way; it prints a line before and one after.
fn processes(logger: &Value) -> Vec<Value> {
    let each = WAYS.iter().map(|(name, stream, way)| {
        let also = match *stream {
            "stderr" => " >&2",
            _ => "",
        };
        let cmdline = format!("echo one{also}; {way}; echo three{also}");
        json!({"name": name, "cmdline": cmdline, "logger": logger})
    });
    each.collect()
}

fn log(bench: &Bench, name: &str) -> String {
    let path = bench.sandbox("t").join(".logs").join(name);
    fs::read_to_string(path).unwrap_or_default()
}

fn keeps_every_line(task: &Value, about: &str) {
    let bench = Bench::new();
    let file = bench.file("task.json", &task.to_string());
    let output = bench.run(&["run", &file.display().to_string(), "--id", "t"]);
    assert_eq!(code(&output), 0, "{about}: {}", stderr(&output));
    for (name, stream, _) in WAYS {
        let found = log(&bench, &format!("{name}/0/{stream}"));
        assert_eq!(found, "one\ntwo\nthree\n", "{name}, {about}");
    }
}

#[test]
fn output_that_is_opened_again_loses_no_byte_whatever_the_logger() {
    for logger in [
        json!({}),
        json!({"mode": "rotate"}),
        json!({"destination": "both"}),
        json!({"destination": "console"}),
        json!({"destination": "both", "mode": "rotate"}),
    ] {
        keeps_every_line(
            &json!({"processes": processes(&logger)}),
            &logger.to_string(),
        );
    }
}

#[test]
fn output_that_another_user_opens_again_loses_no_byte() {
    let mut processes = processes(&json!({}));
    if Uid::effective().is_root() {
        for process in &mut processes {
            process["user"] = json!("nobody");
        }
    }
    keeps_every_line(&json!({"processes": processes}), "another user");
}

#[test]
fn output_that_a_private_task_opens_again_loses_no_byte() {
    let task = json!({"isolation": "private", "processes": processes(&json!({}))});
    keeps_every_line(&task, "private");
}

/// What is printed goes through a pipe, a second pipe behind it, and rotated files; a keeper dies.
#[test]
fn output_is_opened_again_after_rotation_behind_a_full_pipe_and_after_the_keepers_death() {
    for logger in [
        json!({"destination": "both"}),
        json!({"mode": "rotate", "rotate": {"log_size": 20000, "backups": 1000}}),
    ] {
        let bench = Bench::new();
        let cmdline = "mkfifo go; exec python3 -c '
import os
number = 0
for part in range(3):
    for i in range(40000):
        how = os.O_WRONLY | (os.O_TRUNC if i % 2 else 0)
        out = os.open(\"/dev/stdout\", how) if i % 100 == 0 else os.dup(1)
        os.write(out, b\"line %08d\\n\" % number)
        os.close(out)
        number += 1
    open(\"go\").read()
'";
        let task = json!({"processes": [{"name": "a", "cmdline": cmdline, "logger": logger}]});
        bench.detach("t", &task.to_string());
        let go = bench.sandbox("t").join("go");
        let all = |lines: u32| -> String {
            let lines = (0..lines).map(|number| format!("line {number:08}\n"));
            lines.collect()
        };
        for part in 1..=3 {
            let wanted = all(part * 40_000);
            wait_for("all lines of a part", || {
                let numbered = (1..=1000)
                    .rev()
                    .map(|number| format!("a/0/stdout.{number}"));
                let names = numbered.chain(["a/0/stdout".to_owned()]);
                let found: String = names.map(|name| log(&bench, &name)).collect();
                (found.len() >= wanted.len()).then(|| {
                    let mut pairs = found.bytes().zip(wanted.bytes());
                    let at = pairs.position(|(a, b)| a != b);
                    assert_eq!((found.len(), at), (wanted.len(), None), "{logger}");
                })
            });
            if part == 1 {
                let keeper = bench.task("t").expect("the task")["keeper_pid"].as_u64();
                signal(keeper.expect("a keeper"), Signal::SIGKILL);
            }
            fs::write(&go, "").expect("write");
        }
        assert_eq!(code(&bench.run(&["wait", "t"])), 0);
    }
}

/// What a process prints while root and keeper are both dead waits in its pipe.
#[test]
fn a_pipe_of_a_shown_process_is_read_on_after_the_death_of_root_and_keeper() {
    let bench = Bench::new();
    let cmdline = "mkfifo go.1 go.2; echo one; read -r _ < go.1; echo two > /dev/stdout; \
                   read -r _ < go.2; echo three";
    let logger = json!({"destination": "both"});
    let task = json!({"processes": [{"name": "a", "cmdline": cmdline, "logger": logger}]});
    bench.detach("t", &task.to_string());
    wait_for("a line", || {
        (log(&bench, "a/0/stdout") == "one\n").then_some(())
    });
    let task = bench.task("t").expect("the task");
    kill_at_once(&["root_pid", "keeper_pid"].map(|who| task[who].as_u64().expect("a pid")));
    // One each: a writer that has not closed its end yet would be the next reader's, too.
    let go = |name: &str| fs::write(bench.sandbox("t").join(name), "\n").expect("write");
    go("go.1");
    let attached = bench.dewar(&["attach", "t"]).spawn().expect("dewar");
    wait_for("another line", || {
        (log(&bench, "a/0/stdout") == "one\ntwo\n").then_some(())
    });
    go("go.2");
    assert_eq!(code(&crate::support::finish(attached)), 0);
    assert_eq!(log(&bench, "a/0/stdout"), "one\ntwo\nthree\n");
}

/// A process that says nothing of the kind writes its file itself: no keeper holds a descriptor for
/// it, and it never waits for one.
#[test]
fn an_ordinary_process_writes_its_log_itself() {
    let bench = Bench::new();
    let task = json!({"processes": [
        {"name": "plain", "cmdline": "exec sleep 1000"},
        {"name": "named", "cmdline": "exec sleep 1000 > /dev/stdout"},
        {"name": "silent", "cmdline": "exec sleep 1000 > /dev/stdout", "logger": {"destination": "none"}},
    ]});
    bench.detach("t", &task.to_string());
    let output = |name: &str, number: u32| {
        wait_for("a program", || {
            let status = bench.task("t")?;
            let process = crate::support::process_of(&status, name);
            let run = process["runs"].get(0)?.clone();
            run["started_at"].as_str()?;
            let pid = run["pid"].as_u64()?;
            fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()
        })
    };
    for (number, file) in [(1, "stdout"), (2, "stderr")] {
        let path = bench.sandbox("t").join(".logs/plain/0").join(file);
        assert_eq!(
            output("plain", number),
            path.canonicalize().expect("a path")
        );
        let named = output("named", number).display().to_string();
        assert!(named.starts_with("pipe:"), "{named}");
        assert_eq!(output("silent", number).display().to_string(), "/dev/null");
    }
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}
