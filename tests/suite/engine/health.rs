//! Health checks and the conditions of `after`, in local runs.

use std::fs;

use serde_json::Value;

use crate::support::{Bench, Known, code, wait_for};

fn run(bench: &Bench, task: &str) -> (i32, Value) {
    let file = bench.file("task.yaml", task).display().to_string();
    let output = bench.run(&["run", &file, "--id", "t", "--format", "plain"]);
    (code(&output), bench.task("t").expect("the task"))
}

fn events(bench: &Bench) -> String {
    fs::read_to_string(bench.sandbox("t").join("events")).unwrap_or_default()
}

fn process<'t>(task: &'t Value, name: &str) -> &'t Value {
    let all = task["processes"].as_array().expect("processes");
    all.iter()
        .find(|process| process["name"] == name)
        .expect("the process")
}

#[test]
fn a_client_waits_until_the_server_is_healthy() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
processes:
  - name: server
    ephemeral: true
    cmdline: 'sleep 0.4; mkdir site; echo OK > site/health; cd site; exec python3 -m http.server {{thermos.ports[http]}} --bind 127.0.0.1'
    health: {http: {port: '{{thermos.ports[http]}}', body: ok}, interval: 50ms, initial_interval: 20s}
  - name: client
    after: {server: healthy}
    cmdline: 'python3 -c \"import urllib.request; urllib.request.urlopen(\\\"http://127.0.0.1:{{thermos.ports[http]}}/health\\\")\"'
",
    );
    assert_eq!(code, 0, "{task}");
    assert_eq!(
        process(&task, "client")["runs"].as_array().map(Vec::len),
        Some(1)
    );
    let notices = task["notices"].to_string();
    assert!(
        notices.contains("\"text\":\"healthy\"") && notices.contains("server"),
        "{notices}"
    );
}

#[test]
fn conditions() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
max_failures: 3
processes:
  - {name: good, cmdline: 'echo good >> events'}
  - {name: bad, cmdline: 'echo bad >> events; exit 1'}
  - {name: service, daemon: true, ephemeral: true, cmdline: 'sleep 1000'}
  - {name: on_start, after: {service: started}, cmdline: 'echo on_start >> events'}
  - {name: on_success, after: {good: succeeded}, cmdline: 'echo on_success >> events'}
  - {name: on_end, after: {bad: completed, good: completed}, cmdline: 'echo on_end >> events'}
  - {name: on_failure, after: {bad: failed}, cmdline: 'echo on_failure >> events'}
  - {name: not_needed, after: {good: failed}, cmdline: 'echo not_needed >> events'}
  - {name: last, cmdline: 'echo last >> events'}
constraints:
  - order: [not_needed, last]
",
    );
    assert_eq!(code, 0, "{task}");
    let events = events(&bench);
    for name in ["on_start", "on_success", "on_end", "on_failure", "last"] {
        assert!(events.lines().any(|line| line == name), "{name}: {events}");
    }
    assert!(!events.contains("not_needed"), "{events}");
    let at = |name: &str| events.find(name).expect("it ran");
    assert!(
        at("good") < at("on_success") && at("bad") < at("on_failure"),
        "{events}"
    );
}

#[test]
fn what_can_never_come_is_a_deadlock_and_no_hang() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
max_failures: 2
processes:
  - {name: bad, cmdline: 'exit 1'}
  - {name: never, after: {bad: succeeded}, cmdline: 'true'}
",
    );
    assert_eq!(code, 1, "{task}");
    assert_eq!(process(&task, "never")["waiting_for"][0], "bad");
}

#[test]
fn an_unhealthy_run_fails_and_its_tree_dies() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
processes:
  - name: sick
    max_failures: 2
    min_duration: 0s
    cmdline: 'touch works; (sleep 0.5; rm works) & sleep 1000 & echo $! >> children; wait; sleep 1000'
    health: {shell: 'test -e works || { echo broken; exit 3; }', interval: 100ms, initial_interval: 0s, delay: 200ms}
",
    );
    assert_eq!(code, 1, "{task}");
    let runs = process(&task, "sick")["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2, "{task}");
    for run in runs {
        assert_eq!(run["state"], "FAILED");
        assert_eq!(
            run["reason"],
            "unhealthy: command returned non-zero exit status 3 with output \"broken\""
        );
    }
    for pid in fs::read_to_string(bench.sandbox("t").join("children"))
        .expect("pids")
        .lines()
    {
        assert!(!Known::new(pid).lives(), "{pid} is alive");
    }
}

#[test]
fn a_check_that_hangs_dies_with_its_tree_and_delays_no_other() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
processes:
  - name: hangs
    max_failures: 1
    cmdline: 'sleep 1000'
    health: {shell: 'sleep 999 & echo $! >> hung; wait', interval: 100ms, timeout: 700ms, initial_interval: 0s, max_consecutive_failures: 1}
  - name: works
    ephemeral: true
    cmdline: 'sleep 1000'
    health: {shell: 'echo check >> checks', interval: 50ms, initial_interval: 0s}
",
    );
    assert_eq!(code, 1, "{task}");
    assert_eq!(
        process(&task, "hangs")["runs"][0]["reason"],
        "unhealthy: health check timed out"
    );
    for pid in fs::read_to_string(bench.sandbox("t").join("hung"))
        .expect("pids")
        .lines()
    {
        assert!(!Known::new(pid).lives(), "{pid} is alive");
    }
    let checks = fs::read_to_string(bench.sandbox("t").join("checks")).expect("checks");
    assert!(checks.lines().count() > 5, "{checks}");
}

#[test]
fn a_task_that_does_not_work_fails() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
health: {tcp: {port: '{{thermos.ports[none]}}'}, interval: 50ms, initial_interval: 100ms, max_consecutive_failures: 1}
processes:
  - {name: a, cmdline: 'sleep 1000'}
  - {name: f, final: true, cmdline: 'echo final >> events'}
",
    );
    assert_eq!(code, 1, "{task}");
    assert_eq!(task["state"], "FAILED");
    assert!(
        task["states"]
            .to_string()
            .contains("failed health check: cannot connect to port"),
        "{task}"
    );
    assert_eq!(events(&bench), "final\n");
}

#[test]
fn a_snoozing_check_succeeds_and_a_new_runner_checks_on() {
    let bench = Bench::new();
    let file = bench.file(
        "task.yaml",
        "
processes:
  - name: a
    cmdline: 'touch .healthchecksnooze; sleep 1000'
    health: {shell: 'exit 1', interval: 50ms, initial_interval: 500ms}
",
    );
    let file = file.display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    let is_healthy = |task: &Value| task["notices"].to_string().contains("\"text\":\"healthy\"");
    let task = wait_for("health", || bench.task("t").filter(is_healthy));
    let runner = task["runner_pid"].as_u64().expect("a runner");
    crate::support::signal(runner, nix::sys::signal::Signal::SIGKILL);
    wait_for("a new runner", || {
        let now = bench.task("t")?["runner_pid"].as_u64()?;
        (now != runner).then_some(())
    });
    fs::remove_file(bench.sandbox("t").join(".healthchecksnooze")).expect("the file");
    assert_eq!(code(&bench.run(&["wait", "t"])), 1);
    let task = bench.task("t").expect("the task");
    assert_eq!(process(&task, "a")["runs"][0]["state"], "FAILED", "{task}");
}

#[test]
fn mistakes_are_found() {
    let bench = Bench::new();
    let file = bench.file(
        "task.yaml",
        "
processes:
  - {name: a, cmdline: x, after: {b: healthy, nobody: started}}
  - {name: b, cmdline: x, after: {a: finished}}
  - {name: c, cmdline: x, final: true, after: {a: started}, health: {interval: 5s}}
  - {name: d, cmdline: x, health: {http: {port: 70000, path: 'no path'}, timeout: 0s}}
",
    );
    let output = bench.run(&["validate", &file.display().to_string()]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).replace(&file.display().to_string(), "FILE");
    insta::assert_snapshot!(said);
}

const SERVER: &str = r#"
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open("events", "a").write(self.path + "\n")
        self.send_response(200)
        self.end_headers()
        if self.path == sys.argv[2]:
            self.wfile.flush()
            os._exit(0)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
open("up", "w").close()
server.serve_forever()
"#;

/// Runs a server that ends at a request to `ends_at`, kills the task, and returns what happened.
fn ended_over_http(ends_at: &str) -> String {
    let bench = Bench::new();
    let script = bench.file("server.py", SERVER).display().to_string();
    let task = format!(
        "
lifecycle: {{http: {{port: '{{{{thermos.ports[http]}}}}', graceful_shutdown_wait: 300ms, shutdown_wait: 300ms}}}}
processes:
  - {{name: server, cmdline: 'trap \"echo TERM >> events; exit 1\" TERM; python3 {script} {{{{thermos.ports[http]}}}} {ends_at} & wait $!; wait $!'}}
  - {{name: last, final: true, cmdline: 'echo final >> events'}}
"
    );
    let file = bench.file("task.yaml", &task).display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    wait_for("the server", || {
        bench.sandbox("t").join("up").exists().then_some(())
    });
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    assert_eq!(bench.task("t").expect("the task")["state"], "KILLED");
    events(&bench)
}

#[test]
fn a_task_is_asked_over_http_before_it_is_sent_signals() {
    assert_eq!(ended_over_http("/quitquitquit"), "/quitquitquit\nfinal\n");
    assert_eq!(
        ended_over_http("/abortabortabort"),
        "/quitquitquit\n/abortabortabort\nfinal\n"
    );
    assert_eq!(
        ended_over_http("/never"),
        "/quitquitquit\n/abortabortabort\nTERM\nfinal\n"
    );
}

#[test]
fn the_time_after_sigterm_begins_with_sigterm_also_after_requests_that_hang() {
    let bench = Bench::new();
    let script = bench.file(
        "hang.py",
        "import socket, sys, time\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nopen('up', 'w').close()\nkeep = []\nwhile True: keep.append(s.accept())\n",
    );
    let task = format!(
        "
lifecycle: {{http: {{port: '{{{{thermos.ports[p]}}}}', graceful_shutdown_wait: 300ms, shutdown_wait: 300ms}}}}
processes:
  - name: a
    stop_timeout: 500ms
    cmdline: 'trap \"sleep 0.2; echo clean >> events; exit 0\" TERM; python3 {} {{{{thermos.ports[p]}}}} & while :; do sleep 0.05; done'
",
        script.display()
    );
    let file = bench.file("task.yaml", &task).display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    wait_for("the server", || {
        bench.sandbox("t").join("up").exists().then_some(())
    });
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    assert_eq!(events(&bench), "clean\n");
}

#[test]
fn what_waits_for_a_skipped_process_is_skipped_too() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
processes:
  - {name: main, cmdline: 'true'}
  - {name: undo, cmdline: 'true', after: {main: failed}}
  - {name: mail, cmdline: 'true', after: {undo: succeeded}}
  - {name: always, cmdline: 'echo always >> events', after: {undo: completed}}
",
    );
    assert_eq!(code, 0, "{task}");
    assert_eq!(events(&bench), "always\n");
}

#[test]
fn final_processes_are_checked_too() {
    let bench = Bench::new();
    let (code, task) = run(
        &bench,
        "
processes:
  - {name: a, cmdline: 'true'}
  - {name: server, cmdline: 'while [ ! -e done ]; do sleep 0.05; done', final: true, health: {shell: 'true', interval: 50ms}}
  - {name: client, cmdline: 'echo client >> events; touch done', final: true, after: {server: healthy}}
",
    );
    assert_eq!(code, 0, "{task}");
    assert_eq!(events(&bench), "client\n");
}

#[test]
fn a_check_dies_with_its_keeper_and_one_that_writes_too_much_fails() {
    let bench = Bench::new();
    let file = bench.file(
        "task.yaml",
        "
processes:
  - name: a
    cmdline: 'sleep 1000'
    health: {shell: 'if [ ! -e once ]; then echo $$ > once; sleep 999; fi; yes', interval: 50ms, timeout: 20s, initial_interval: 0s}
",
    );
    let file = file.display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    let check = wait_for("the check", || {
        let text = fs::read_to_string(bench.sandbox("t").join("once")).ok()?;
        text.ends_with('\n').then(|| Known::new(&text))
    });
    let keeper = bench.task("t").expect("the task")["keeper_pid"].as_u64();
    crate::support::signal(keeper.expect("a keeper"), nix::sys::signal::Signal::SIGKILL);
    wait_for("the check to die", || (!check.lives()).then_some(()));
    assert_eq!(code(&bench.run(&["wait", "t"])), 1);
    let task = bench.task("t").expect("the task");
    let reason = process(&task, "a")["runs"][0]["reason"].to_string();
    assert!(reason.contains("non-zero exit status 1"), "{reason}");
}

/// How long the only run of a task lived that never works, in milliseconds.
fn lifetime(health: &str) -> i128 {
    let bench = Bench::new();
    let task =
        format!("processes: [{{name: a, cmdline: 'exec sleep 1000', health: {{{health}}}}}]");
    let (code, task) = run(&bench, &task);
    assert_eq!(code, 1, "{task}");
    let run = &process(&task, "a")["runs"][0];
    assert!(run["reason"].to_string().contains("unhealthy"), "{run}");
    let at = |name: &str| -> jiff::Timestamp {
        let text = run[name].as_str().expect("a time");
        text.parse().expect("RFC 3339")
    };
    let lived = at("stopped_at").duration_since(at("started_at"));
    lived.as_millis()
}

#[test]
fn a_grace_is_a_time_whatever_its_attempts_take() {
    // Twenty attempts fit into the grace, and each of them takes its whole time-out.
    let lived = lifetime("shell: 'sleep 50', interval: 100ms, initial_interval: 2s, timeout: 2s");
    assert!((2_000..20_000).contains(&lived), "{lived} ms");
    // So it is with a server that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let http = format!("http: {{port: {port}}}, interval: 50ms, initial_interval: 1s, timeout: 1s");
    let lived = lifetime(&http);
    assert!((1_000..15_000).contains(&lived), "{lived} ms");
}
