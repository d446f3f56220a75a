//! The command line: exit codes, and the exact words that people read (snapshots).

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};

use crate::support::{
    Bench, code, finish,
    tracer::{Role, trace},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Times, pids and paths of this run out of the way.
fn stable(bench: &Bench, text: &str) -> String {
    let path = bench.path().canonicalize().expect("a path");
    let mut text = text.replace(&path.display().to_string(), "DIR");
    text = text.replace(&bench.path().display().to_string(), "DIR");
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let digits = word.chars().filter(char::is_ascii_digit).count();
            let is_time = word.ends_with('s') && word.contains('.') && digits >= 4;
            let is_date = word.contains("T") && word.ends_with('Z') && digits > 10;
            let is_pid = words.last().is_some_and(|last| last.ends_with("pid"));
            words.push(match () {
                () if is_time => "TIME".to_owned(),
                () if is_date => "DATE".to_owned(),
                () if is_pid && digits > 0 => "PID".to_owned(),
                () => word.to_owned(),
            });
        }
        // The width of what was replaced is no part of the message.
        let line = words.join(" ");
        out += line.trim_start_matches(' ').trim_end();
        out.push('\n');
    }
    out
}

#[test]
fn mistakes_are_shown_all_at_once() {
    let bench = Bench::new();
    let file = bench.file(
        "bad.yaml",
        "name: bad
max_concurency: 3
processes:
  - name: web
    cmdline: serve {{versoin}}
    max_failures: -2
    daemon: maybe
  - name: web
    cmdline: x
    min_duration: 5 parsecs
    timeout: 5s
  - {name: d, cmdline: x, daemon: true}
  - {name: ü/b, argv: []}
constraints:
  - order: [web, wbe]
  - order: [d, web, d]
",
    );
    let path = file.display().to_string();
    for verb in ["validate", "run", "inspect"] {
        let output = bench.run(&[verb, &path]);
        assert_eq!(code(&output), 2);
        insta::assert_snapshot!("mistakes", stable(&bench, &text(&output.stderr)));
    }
    assert!(!bench.root().exists(), "something was written");
}

#[test]
fn a_run_is_told_line_by_line() {
    let bench = Bench::new();
    let file = bench.file(
        "task.yaml",
        "name: words
max_failures: 2
processes:
  - {name: good, cmdline: 'echo hi', logger: {destination: both}}
  - {name: bad, cmdline: exit 3}
  - {name: missing, argv: [/no/such/program]}
  - {name: crash, cmdline: kill -SEGV $$, ephemeral: true}
  - {name: tidy, final: true, cmdline: 'true'}
constraints:
  - order: [good, bad]
  - order: [bad, crash]
  - order: [good, missing]
max_concurrency: 1
",
    );
    let path = file.display().to_string();
    let output = bench.run(&["run", &path, "--id", "words", "--format", "plain"]);
    assert_eq!(code(&output), 1);
    // Whether a short run is seen running is a matter of luck: a follower may learn of it when it
    // is over already.
    let told = stable(&bench, &text(&output.stderr));
    let told = told.lines().filter(|line| !line.contains("RUNNING"));
    insta::assert_snapshot!("plain", told.collect::<Vec<_>>().join("\n"));
    assert_eq!(text(&output.stdout), "good | hi\n");
    let status = bench.run(&["status", "words"]);
    insta::assert_snapshot!("status_one", stable(&bench, &text(&status.stdout)));
    let list = bench.run(&["status"]);
    insta::assert_snapshot!("status_list", stable(&bench, &text(&list.stdout)));
    let again = bench.run(&["run", &path, "--id", "words"]);
    assert_eq!(code(&again), 1);
    assert_eq!(text(&again.stderr), "words is over: FAILED\n");
}

#[test]
fn json_events_have_the_names_of_status() {
    let bench = Bench::new();
    let file = bench.file("task.yaml", "processes: [{name: a, cmdline: exit 3}]");
    let path = file.display().to_string();
    let output = bench.run(&["run", &path, "--id", "t", "--format", "json"]);
    assert_eq!(code(&output), 1);
    let events: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kinds: Vec<String> = events
        .iter()
        .map(|event| format!("{} {}", event["event"], event["state"]).replace('"', ""))
        .collect();
    assert_eq!(kinds.first().map(String::as_str), Some("task ACTIVE"));
    assert_eq!(kinds.last().map(String::as_str), Some("task FAILED"));
    let end = events
        .iter()
        .rev()
        .find(|event| event["event"] == "run")
        .expect("a run");
    assert_eq!(end["name"], "a");
    assert_eq!(end["exit_code"], 3);
    let task = bench.task("t").expect("the task");
    let run = task["processes"][0]["runs"][0]
        .as_object()
        .expect("a run")
        .clone();
    for (name, value) in run {
        assert_eq!(end[&name], value, "{name}");
    }
}

#[test]
fn status_has_every_field_that_scripts_depend_on() {
    let bench = Bench::new();
    assert_eq!(text(&bench.run(&["status"]).stdout), "no tasks\n");
    let empty = bench.run(&["status", "--format", "json"]);
    let empty: serde_json::Value = serde_json::from_slice(&empty.stdout).expect("JSON");
    assert_eq!(empty, serde_json::json!({"tasks": []}));
    assert!(!bench.root().exists(), "status only looks");
    let file = bench.file(
        "task.yaml",
        "processes: [{name: a, cmdline: 'true {{thermos.ports[http]}}'}]",
    );
    let path = file.display().to_string();
    let output = bench.run(&["run", &path, "--id", "t", "--port", "http=8123"]);
    assert_eq!(code(&output), 0);
    let task = bench.task("t").expect("the task");
    for name in ["task_id", "name", "state", "user", "sandbox", "journal"] {
        assert!(task[name].is_string(), "{name}");
    }
    for name in ["root_pid", "keeper_pid", "runner_pid"] {
        assert!(
            task.as_object().expect("an object").contains_key(name),
            "{name}"
        );
    }
    assert_eq!(task["ports"], serde_json::json!({"http": 8123}));
    let process = &task["processes"][0];
    assert_eq!(
        process["totals"],
        serde_json::json!({"success": 1, "failed": 0, "killed": 0, "lost": 0})
    );
    for name in [
        "name",
        "final",
        "ephemeral",
        "daemon",
        "state",
        "waiting_for",
        "runs",
    ] {
        assert!(
            process.as_object().expect("an object").contains_key(name),
            "{name}"
        );
    }
    let run = &process["runs"][0];
    for name in ["forked_at", "started_at", "stopped_at"] {
        let time = run[name].as_str().expect(name);
        assert_eq!(
            (time.len(), &time[19..20], &time[23..]),
            (24, ".", "Z"),
            "{time}"
        );
    }
    assert_eq!(run["exit_code"], 0);
    assert!(run["signal"].is_null() && run["reason"].is_null());
}

#[test]
fn bad_usage_is_exit_2_and_unknown_tasks_are_exit_1() {
    let bench = Bench::new();
    let missing = bench.path().join("missing.yaml").display().to_string();
    for arguments in [
        vec!["run"],
        vec!["run", &missing],
        vec!["frobnicate"],
        vec!["validate", &missing],
        vec!["run", &missing, "--port", "http=99999"],
        vec!["run", &missing, "--set", "x"],
        vec!["kill", "t", "--wait", "soon"],
    ] {
        assert_eq!(code(&bench.run(&arguments)), 2, "{arguments:?}");
    }
    for verb in ["status", "tail", "kill", "attach", "wait"] {
        let output = bench.run(&[verb, "nobody"]);
        assert_eq!(code(&output), 1, "{verb}");
        assert!(
            text(&output.stderr).contains("no task \"nobody\""),
            "{}",
            text(&output.stderr)
        );
    }
    assert_eq!(code(&bench.run(&["status", "../x"])), 1);
    let file = bench.file("task.yaml", "processes: [{name: a, cmdline: x}]");
    let path = file.display().to_string();
    assert_eq!(code(&bench.run(&["run", &path, "--id", "a/b"])), 2);
    let root = bench.run(&["--root", "/proc/nowhere", "run", &path]);
    assert_eq!(code(&root), 2, "{}", text(&root.stderr));
    assert_eq!(code(&bench.run(&["run", "--help"])), 0);
}

#[test]
fn processes_get_what_they_ask_for() {
    let bench = Bench::new();
    let file = bench.file(
        "task.yaml",
        "processes:
  - {name: mask, cmdline: umask, umask: 027, logger: {destination: console}}
  - {name: where, cmdline: 'mkdir -p sub; cd sub; basename $PWD', logger: {destination: console}}
  - {name: inside, argv: [pwd], working_dir: sub, logger: {destination: console}}
  - {name: shell, shell: /bin/sh -eu, cmdline: 'echo $0; false; echo unreached', max_failures: 1, logger: {destination: console}}
  - {name: env, argv: [sh, -c, 'echo $GREETING $HOME'], env: {GREETING: hello}, logger: {destination: console}}
  - {name: who, cmdline: id -un, user: nobody, logger: {destination: console}}
  - {name: stdin, argv: [cat], logger: {destination: console}}
  - {name: signals, cmdline: 'grep -E \"^Sig(Ign|Blk)\" /proc/self/status', logger: {destination: console}}
  - {name: fds, cmdline: 'ls /proc/self/fd | wc -l', logger: {destination: console}}
max_failures: 0
constraints: [{order: [mask, where, inside, env, who, stdin, signals, fds, shell]}]
",
    );
    let path = file.display().to_string();
    let output = bench.run(&["run", &path, "--id", "t", "--format", "plain"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    insta::assert_snapshot!("processes", stable(&bench, &text(&output.stdout)));
    let bad = bench.file(
        "bad.yaml",
        "user: nosuchuser\nprocesses: [{name: a, cmdline: x}]",
    );
    let bad = bench.run(&["run", &bad.display().to_string()]);
    assert_eq!(code(&bad), 2);
    assert!(text(&bad.stderr).contains("unknown user \"nosuchuser\""));
}

#[test]
fn a_failed_exec_is_known_at_once_with_its_reason() {
    let bench = Bench::new();
    let file = bench.file(
        "task.yaml",
        "max_failures: 0
processes:
  - {name: missing, argv: [no-such-program]}
  - {name: directory, argv: [/tmp]}
  - {name: nowhere, argv: ['true'], working_dir: /no/such/directory}
",
    );
    let path = file.display().to_string();
    let output = bench.run(&["run", &path, "--id", "t"]);
    assert_eq!(code(&output), 0);
    let task = bench.task("t").expect("the task");
    let runs: Vec<String> = task["processes"]
        .as_array()
        .expect("processes")
        .iter()
        .map(|process| {
            let run = &process["runs"][0];
            format!("{} {} {}", run["state"], run["exit_code"], run["reason"])
        })
        .collect();
    assert_eq!(
        runs,
        [
            r#""FAILED" 127 "cannot execute no-such-program: No such file or directory""#,
            r#""FAILED" 126 "cannot execute /tmp: Permission denied""#,
            r#""FAILED" null "cannot enter the working directory: No such file or directory""#,
        ]
    );
}

#[test]
fn one_command_is_a_task_and_the_originals_spellings_work() {
    let bench = Bench::new();
    let output = bench.run(&[
        "simplerun",
        "--task_id",
        "s",
        "-E",
        "who=world",
        "-P",
        "http:8080",
        "--",
        "echo",
        "hello {{who}} {{thermos.ports[http]}};",
        "exit 3",
    ]);
    assert_eq!(code(&output), 1);
    assert_eq!(text(&output.stdout), "simple | hello world 8080\n");
    let file = bench.file(
        "t.yaml",
        "processes: [{name: a, cmdline: 'echo {{x}} {{thermos.ports[p]}} > out'}]",
    );
    let file = file.display().to_string();
    let output = bench.run(&[
        "run",
        &file,
        "--task_id",
        "t",
        "-E",
        "x=1",
        "-P",
        "p:81",
        "--daemon",
    ]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "t\n");
    assert_eq!(code(&bench.run(&["wait", "t"])), 0);
    let out = std::fs::read_to_string(bench.sandbox("t").join("out")).expect("out");
    assert_eq!(out, "1 81\n");
    // They are for those who know them; help shows ours.
    let help = text(&bench.run(&["run", "--help"]).stdout);
    assert!(
        help.contains("--id") && !help.contains("--task_id") && !help.contains("-P,"),
        "{help}"
    );
}

#[test]
fn every_verb_has_help_with_examples_a_page_and_completions() {
    let bench = Bench::new();
    let help = text(&bench.run(&["--help"]).stdout);
    let verbs: Vec<String> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    assert!(verbs.len() >= 19, "{verbs:?}");
    let pages = bench.path().join("man");
    assert_eq!(code(&bench.run(&["man", &pages.display().to_string()])), 0);
    let completions: Vec<String> = ["bash", "zsh", "fish"]
        .map(|shell| text(&bench.run(&["completions", shell]).stdout))
        .to_vec();
    for verb in &verbs {
        let help = text(&bench.run(&[verb, "--help"]).stdout);
        let has_examples = help.contains("Examples:") || verb == "executor";
        assert!(has_examples, "{verb}: {help}");
        assert!(pages.join(format!("dewar-{verb}.1")).exists(), "{verb}");
        assert!(
            completions.iter().all(|text| text.contains(verb.as_str())),
            "{verb}"
        );
    }
    let verbs_of_jobs = [
        "create", "update", "status", "watch", "kill", "restart", "scale", "pause", "resume",
        "abort", "drain", "agents", "quota",
    ];
    for verb in verbs_of_jobs {
        let help = text(&bench.run(&["job", verb, "--help"]).stdout);
        assert!(help.contains("Examples:"), "job {verb}: {help}");
        assert!(
            pages.join(format!("dewar-job-{verb}.1")).exists(),
            "job {verb}"
        );
    }
    // Shells can read what they are given.
    let script = bench.file("completions", &completions[0]);
    let checked = Command::new("bash").arg("-n").arg(script).status();
    assert!(checked.expect("bash").success());
}

/// The schema accepts what dewar accepts, and refuses what it can know to be wrong.
#[test]
fn the_schema_agrees_with_the_fixtures() {
    let bench = Bench::new();
    let schema: serde_json::Value =
        serde_json::from_slice(&bench.run(&["schema"]).stdout).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut accepted = 0;
    let mut check = |path: &std::path::Path, task: &serde_json::Value| {
        let mut arguments = vec!["validate".to_owned(), path.display().to_string()];
        for port in ["http", "a", "b", "web", "health", "admin"] {
            arguments.extend(["--port".to_owned(), format!("{port}=1")]);
        }
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let is_fine = code(&bench.run(&words)) == 0;
        let errors: Vec<String> = validator
            .iter_errors(task)
            .map(|error| error.to_string())
            .collect();
        if is_fine {
            accepted += 1;
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
        errors.is_empty()
    };
    for name in ["hello", "web", "limits"] {
        let path = fixtures.join(name).with_extension("yaml");
        // As JSON, with the defaults left out.
        let source = std::fs::read_to_string(&path).expect("a fixture");
        let value = yaml(&bench, &source);
        assert!(check(&path, &value), "{name}");
    }
    for entry in std::fs::read_dir(fixtures.join("vectors"))
        .expect("vectors")
        .flatten()
    {
        let vector = std::fs::read_to_string(entry.path()).expect("a vector");
        let vector: serde_json::Value = serde_json::from_str(&vector).expect("JSON");
        let task = &vector["task"];
        if task.is_null() {
            continue;
        }
        let path = bench.file("vector.json", &task.to_string());
        check(&path, task);
    }
    assert!(accepted > 40, "{accepted}");
    for bad in [
        r#"{"processes": [{"name": "a"}]}"#,
        r#"{"processes": [{"name": "a", "cmdline": "x", "tiemout": 5}]}"#,
        r#"{"processes": [{"name": "a", "cmdline": "x", "after": {"b": "started?"}}]}"#,
        r#"{"processes": [{"name": "a", "cmdline": "x", "health": {"tcp": {"port": 0}}}]}"#,
        r#"{"name": "a"}"#,
    ] {
        let value = serde_json::from_str(bad).expect("JSON");
        assert!(!validator.is_valid(&value), "{bad}");
    }
}

/// A YAML file as JSON: what `inspect` prints is a task file too.
fn yaml(bench: &Bench, source: &str) -> serde_json::Value {
    let file = bench.file("fixture.yaml", source).display().to_string();
    let output = bench.run(&["inspect", &file]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every task in the documents is one that dewar takes.
#[test]
fn examples_in_the_documents_are_valid() {
    let bench = Bench::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for document in ["README.md", "docs/COMING_FROM.md"] {
        let source = std::fs::read_to_string(root.join(document)).expect("a document");
        let blocks = source.split("```yaml\n").skip(1);
        // Other people's files are no tasks of ours.
        let tasks = blocks
            .filter_map(|block| block.split("```").next())
            .filter(|block| block.contains("  - name: ") || block.contains("\nprocesses:\n  - "));
        for task in tasks {
            let path = bench.file("example.yaml", task).display().to_string();
            let output = bench.run(&["validate", &path]);
            assert_eq!(
                code(&output),
                0,
                "{document}:\n{task}\n{}",
                text(&output.stderr)
            );
            checked += 1;
        }
    }
    assert!(checked >= 3, "{checked}");
}

#[test]
fn the_schema_of_jobs_takes_jobs() {
    let bench = Bench::new();
    let schema: serde_json::Value =
        serde_json::from_slice(&bench.run(&["schema", "--job"]).stdout).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let job = serde_json::json!({
        "name": "web", "instances": 3, "service": true, "max_task_failures": -1, "priority": -5,
        "constraints": {"host": "limit:2"}, "ports": ["http"],
        "update_config": {"batch_size": 2, "watch_secs": 0.5},
        "partition_policy": {"reschedule": true, "delay_secs": "1m"},
        "task": {"resources": {"cpu": 1}, "processes": [{"name": "a", "cmdline": "true"}]},
    });
    let errors: Vec<String> = validator
        .iter_errors(&job)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    for (field, wrong) in [("servce", "true"), ("update_config", "fast"), ("task", "")] {
        let mut job = job.clone();
        match wrong.is_empty() {
            true => drop(job.as_object_mut().expect("a map").remove(field)),
            false => job[field] = wrong.into(),
        }
        assert!(!validator.is_valid(&job), "{field}");
    }
}

/// What a task or a file is called is no verb.
#[test]
fn only_the_verb_decides_whether_a_root_is_forked() {
    let bench = Bench::new();
    let file = bench.file("run", "processes: [{name: a, cmdline: x}]");
    let file = file.display().to_string();
    for (arguments, forks) in [
        (vec!["status", "run"], false),
        (vec!["tail", "run", "simplerun"], false),
        (vec!["validate", "run"], false),
        (vec!["inspect", file.as_str(), "--set", "x=run"], false),
        (vec!["--root", "run", "status"], false),
        (vec!["run", "missing.yaml"], true),
        (vec!["--root=x", "run", "missing.yaml"], true),
        (vec!["simplerun", "--port", "x", "--", "true"], true),
    ] {
        let traced = trace(bench.dewar(&arguments), None);
        let has_forked = traced.calls.keys().any(|role| *role != Role::Client);
        assert_eq!(has_forked, forks, "{arguments:?}: {:?}", traced.calls);
    }
}

#[test]
fn words_that_are_no_text_are_usage_errors() {
    for before in [&[][..], &["__runner", "3", "4"], &["status"]] {
        // Without --root in front: such a word may come first.
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewar"));
        command.args(before).arg(OsStr::from_bytes(b"\xff"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().expect("dewar"));
        assert_eq!(code(&output), 2, "{before:?}: {}", text(&output.stderr));
    }
}

/// The schema of output describes what is printed, and refuses what is never printed.
#[test]
fn the_schema_of_output_takes_output() {
    let bench = Bench::new();
    let schema: serde_json::Value =
        serde_json::from_slice(&bench.run(&["schema", "--output"]).stdout).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let file = bench.file(
        "task.yaml",
        "processes: [{name: a, cmdline: kill -9 $$, max_failures: 2, min_duration: 1}, \
         {name: b, cmdline: exit 3}, {name: c, cmdline: 'true', after: {a: started}}]\n\
         max_failures: 1",
    );
    let path = file.display().to_string();
    let events = bench.run(&["run", &path, "--id", "t", "--format", "json"]);
    let status = bench.run(&["status", "--format", "json"]);
    let explained = bench.run(&["explain", "t", "--format", "json"]);
    let events = text(&events.stdout);
    let mut outputs: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for output in [&status, &explained] {
        outputs.push(serde_json::from_slice(&output.stdout).expect("JSON"));
    }
    assert!(outputs.len() > 8, "{outputs:?}");
    for output in &outputs {
        let errors: Vec<String> = validator
            .iter_errors(output)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let list = &outputs[outputs.len() - 2];
    for (field, wrong) in [
        ("/tasks/0/state", "RUNNING"),
        ("/tasks/0/states/0/at", "2026-11-23T16:45:45Z"),
        ("/tasks/0/processes/0/state", "ACTIVE"),
        ("/tasks/0/processes/0/runs/0/state", "WAITING"),
        ("/tasks/0/processes/0/runs/0/pid", "4711"),
    ] {
        let mut list = list.clone();
        *list.pointer_mut(field).expect(field) = wrong.into();
        assert!(!validator.is_valid(&list), "{field}");
    }
}
