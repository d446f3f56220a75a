//! The recorded behaviour of the original, case by case, by the real binary.
//!
//! Where we do better on purpose, `fixtures/vectors.differences.json` says what is expected instead
//! and why; docs/DIFFERENCES.md shows the same to people.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Map, Value};

use crate::support::{Bench, code, finish, signal, wait_for};

const ID: &str = "vec";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("a fixture");
    serde_json::from_str(&text).expect("JSON")
}

fn differences() -> Map<String, Value> {
    let path = fixtures().join("vectors.differences.json");
    read(&path).as_object().expect("an object").clone()
}

struct Case {
    bench: Bench,
    file: PathBuf,
    expect: Map<String, Value>,
    loose: Vec<String>,
    /// Every start of `dewar run`, in order.
    clients: Vec<Child>,
    codes: Vec<i32>,
}

fn check(name: &str) {
    let vector = read(&fixtures().join("vectors").join(format!("{name}.json")));
    let mut expect = vector["expect"].as_object().expect("expect").clone();
    // Codes of the original's runner are not ours.
    expect.remove("runner_exit_codes");
    if let Some(better) = differences().get(name) {
        let better = better["expect"].as_object().expect("expect");
        expect.extend(better.clone());
    }
    let loose = vector["loose"].as_array().cloned().unwrap_or_default();
    let mut task = vector["task"].clone();
    for argument in vector["runner_args"].as_array().into_iter().flatten() {
        let argument = argument.as_str().expect("a string");
        let user = argument.strip_prefix("--setuid=").expect("--setuid=");
        task["user"] = Value::from(user);
    }
    let bench = Bench::new();
    let mut case = Case {
        file: bench.file("task.json", &task.to_string()),
        bench,
        expect,
        loose: loose
            .iter()
            .filter_map(|key| Some(key.as_str()?.to_owned()))
            .collect(),
        clients: Vec::new(),
        codes: Vec::new(),
    };
    case.start();
    for action in vector["actions"].as_array().into_iter().flatten() {
        case.act(action);
    }
    case.judge(vector["timeout_s"].as_u64());
}

impl Case {
    fn start(&mut self) {
        let file = self.file.display().to_string();
        let arguments = [
            "run",
            &file,
            "--id",
            ID,
            "--sandbox",
            "sandbox",
            "--format",
            "plain",
        ];
        let mut command = self.bench.dewar(&arguments);
        self.clients.push(command.spawn().expect("dewar starts"));
    }

    fn act(&mut self, action: &Value) {
        if let Some(file) = action["when_file"].as_str() {
            let path = self.bench.path().join("sandbox").join(file);
            wait_for(file, || path.exists().then_some(()));
        }
        let task = || self.bench.task(ID).expect("the task");
        match action["do"].as_str().expect("do") {
            "signal_runner" => match action["signal"].as_str().expect("signal") {
                "SIGUSR1" | "SIGINT" => self.kill(&[]),
                "SIGUSR2" => self.kill(&["--now"]),
                "SIGTERM" | "SIGKILL" => {
                    let pid = task()["runner_pid"].as_u64().expect("a runner");
                    signal(pid, Signal::SIGKILL);
                }
                other => panic!("{other}"),
            },
            "signal_process" => {
                let process = action["process"].as_str().expect("process");
                let name: Signal = action["signal"].as_str().expect("signal").parse().unwrap();
                let task = task();
                let run = process_of(&task, process)["runs"]
                    .as_array()
                    .unwrap()
                    .last()
                    .cloned();
                signal(run.expect("a run")["pid"].as_u64().expect("a pid"), name);
            }
            // Ours needs no second start: the runner comes back by itself, and one more `run`
            // attaches.
            "rerun" => self.start(),
            "edit_task" => fs::write(&self.file, action["task"].to_string()).expect("write"),
            "cli_kill" => self.kill(&["--now"]),
            // The original's lock file has no counterpart.
            "lock_ckpt" => {}
            other => panic!("{other}"),
        }
    }

    fn kill(&self, flags: &[&str]) {
        let arguments: Vec<&str> = ["kill", ID].iter().chain(flags).copied().collect();
        let output = self.bench.run(&arguments);
        assert_eq!(
            code(&output),
            0,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn judge(&mut self, timeout: Option<u64>) {
        let is_accepted = self.expect["accepted"] == true;
        if is_accepted && self.expect["task_state"] == "RUNNING(timeout)" {
            std::thread::sleep(Duration::from_secs(timeout.expect("timeout_s").min(5)));
            let task = self.bench.task(ID).expect("the task");
            assert_eq!(task["state"], "ACTIVE");
            self.kill(&["--now"]);
            for client in self.clients.drain(..) {
                assert_eq!(code(&finish(client)), 3);
            }
            return;
        }
        let mut errors = String::new();
        for client in self.clients.drain(..) {
            let output = finish(client);
            errors += &String::from_utf8_lossy(&output.stderr);
            self.codes.push(code(&output));
        }
        if self.expect["accepted"] == false {
            assert!(
                self.codes.iter().all(|code| *code == 2),
                "{:?}\n{errors}",
                self.codes
            );
            assert!(errors.contains("error"), "no reason is given: {errors}");
            assert!(!self.bench.root().exists(), "something was written");
            return;
        }
        let task = self
            .bench
            .task(ID)
            .unwrap_or_else(|| panic!("no task\n{errors}"));
        let wanted = self.expect["task_state"].as_str().expect("task_state");
        assert_eq!(task["state"], wanted, "{task:#}\n{errors}");
        let code_of = match wanted {
            "SUCCESS" => 0,
            "FAILED" => 1,
            "KILLED" => 3,
            other => panic!("{other}"),
        };
        let codes: Vec<i32> = match self.expect.get("exit_codes") {
            Some(codes) => serde_json::from_value(codes.clone()).expect("codes"),
            None => vec![code_of; self.codes.len()],
        };
        assert_eq!(self.codes, codes, "{errors}");
        // The original marked a takeover by writing the state again.
        let states_wanted = self.expect["task_states"]
            .as_array_mut()
            .expect("task_states");
        states_wanted.dedup();
        self.compare("task_states", &states(&task));
        self.compare("processes", &runs(&task, |run| run["state"].clone()));
        let expected_codes = self.expect.get_mut("return_codes").expect("return_codes");
        for codes in expected_codes
            .as_object_mut()
            .expect("an object")
            .values_mut()
        {
            for code in codes.as_array_mut().expect("a list") {
                // The original's runner noted -1 for what it killed; we note the signal.
                if *code == -1 {
                    *code = Value::from(-9);
                }
            }
        }
        self.compare("return_codes", &runs(&task, return_code));
        self.compare_order(&task);
        self.compare_files();
    }

    fn compare(&self, key: &str, found: &Value) {
        if !self.loose.iter().any(|loose| loose == key) {
            assert_eq!(&self.expect[key], found, "{key}");
        }
    }

    fn compare_order(&self, task: &Value) {
        for pair in self.expect["order"].as_array().into_iter().flatten() {
            let ends = process_of(task, pair[0].as_str().unwrap());
            let starts = process_of(task, pair[1].as_str().unwrap());
            let end = ends["runs"].as_array().unwrap().last().unwrap()["stopped_at"].clone();
            let start = starts["runs"][0]["forked_at"].clone();
            assert!(end.as_str() <= start.as_str(), "{pair}: {end} {start}");
        }
    }

    fn compare_files(&self) {
        let directory = self.bench.path().canonicalize().expect("a path");
        let sandbox = directory.join("sandbox");
        let files = self.expect.get("files").and_then(Value::as_object);
        for (name, content) in files.into_iter().flatten() {
            let found = fs::read_to_string(sandbox.join(name)).ok();
            let wanted = content
                .as_str()
                .map(|text| text.replace("$DIR", &directory.display().to_string()));
            assert_eq!(found, wanted, "{name}");
        }
    }
}

fn process_of<'t>(task: &'t Value, name: &str) -> &'t Value {
    let processes = task["processes"].as_array().expect("processes");
    let found = processes.iter().find(|process| process["name"] == name);
    found.unwrap_or_else(|| panic!("no process {name}"))
}

fn states(task: &Value) -> Value {
    let states = task["states"].as_array().expect("states");
    states.iter().map(|state| state["state"].clone()).collect()
}

fn runs(task: &Value, what: impl Fn(&Value) -> Value) -> Value {
    let mut found = BTreeMap::new();
    for process in task["processes"].as_array().expect("processes") {
        let runs = process["runs"].as_array().expect("runs");
        if !runs.is_empty() {
            let name = process["name"].as_str().expect("a name").to_owned();
            found.insert(name, runs.iter().map(&what).collect::<Value>());
        }
    }
    serde_json::to_value(found).expect("JSON")
}

fn return_code(run: &Value) -> Value {
    match run["signal"].as_str() {
        Some(name) => {
            let signal: Signal = name.parse().expect("a signal");
            Value::from(-(signal as i32))
        }
        None => run["exit_code"].clone(),
    }
}

#[test]
fn every_vector_is_tested_and_every_difference_is_documented() {
    let mut names: Vec<String> = fs::read_dir(fixtures().join("vectors"))
        .expect("vectors")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            path.file_stem().unwrap().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, VECTORS);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/DIFFERENCES.md");
    let table = fs::read_to_string(path).expect("docs/DIFFERENCES.md");
    for (name, difference) in differences() {
        let row = format!(
            "| {} | {} |",
            &name[..3],
            difference["reason"].as_str().unwrap()
        );
        assert!(
            table.contains(&row),
            "missing in docs/DIFFERENCES.md: {row}"
        );
    }
}

macro_rules! vectors {
    ($($test:ident $name:literal)*) => {
        const VECTORS: &[&str] = &[$($name),*];
        $(#[test]
        fn $test() {
            check($name);
        })*
    };
}

vectors! {
    v001_success "001-success"
    v002_fail "002-fail"
    v003_command_not_found "003-command-not-found"
    v004_not_executable "004-not-executable"
    v006_child_killed_by_signal "006-child-killed-by-signal"
    v008_chain "008-chain"
    v009_diamond "009-diamond"
    v010_failure_blocks_dependents "010-failure-blocks-dependents"
    v011_task_max_failures_2_one_fails "011-task-max-failures-2-one-fails"
    v013_task_max_failures_2_deadlock "013-task-max-failures-2-deadlock"
    v014_task_max_failures_0 "014-task-max-failures-0"
    v016_process_max_failures_3 "016-process-max-failures-3"
    v018_process_max_failures_0 "018-process-max-failures-0"
    v019_min_duration "019-min-duration"
    v020_daemon_max_failures "020-daemon-max-failures"
    v022_ephemeral_outlives "022-ephemeral-outlives"
    v024_ephemeral_only "024-ephemeral-only"
    v025_ephemeral_after_main "025-ephemeral-after-main"
    v026_final_after_success "026-final-after-success"
    v027_final_after_failure "027-final-after-failure"
    v029_final_fails "029-final-fails"
    v030_final_exceeds_finalization_wait "030-final-exceeds-finalization-wait"
    v032_sigterm_ignored_finalization_wait "032-sigterm-ignored-finalization-wait"
    v033_sigterm_handled "033-sigterm-handled"
    v035_kill "035-kill"
    v036_lose "036-lose"
    v038_interrupt "038-interrupt"
    v039_sigterm_runner "039-sigterm-runner"
    v040_runner_killed_resume "040-runner-killed-resume"
    v042_process_sigkilled "042-process-sigkilled"
    v044_resume_changed_task "044-resume-changed-task"
    v045_rerun_finished "045-rerun-finished"
    v046_cycle "046-cycle"
    v047_self_order "047-self-order"
    v049_all_unknown_in_order "049-all-unknown-in-order"
    v050_order_mixes_final "050-order-mixes-final"
    v051_duplicate_names "051-duplicate-names"
    v052_empty_processes "052-empty-processes"
    v054_depends_on_ephemeral "054-depends-on-ephemeral"
    v055_daemon_depends_on_regular "055-daemon-depends-on-regular"
    v056_max_concurrency_1 "056-max-concurrency-1"
    v058_bad_name_slash "058-bad-name-slash"
    v059_bad_name_dot "059-bad-name-dot"
    v060_unbound_ref "060-unbound-ref"
    v061_unbound_port "061-unbound-port"
    v063_environment "063-environment"
    v064_thermos_profile "064-thermos-profile"
    v067_empty_cmdline "067-empty-cmdline"
    v068_multiline_cmdline "068-multiline-cmdline"
    v069_logger_none "069-logger-none"
    v070_logger_rotate "070-logger-rotate"
    v073_missing_cmdline "073-missing-cmdline"
    v074_missing_processes "074-missing-processes"
    v075_wrong_type "075-wrong-type"
    v077_defaults "077-defaults"
    v078_max_concurrency_negative "078-max-concurrency-negative"
    v079_run_limit "079-run-limit"
    v080_final_only "080-final-only"
    v082_lost_does_not_count "082-lost-does-not-count"
    v083_unknown_user "083-unknown-user"
    v084_cli_kill "084-cli-kill"
    v085_empty_order "085-empty-order"
    v088_daemon_keeps_task_alive "088-daemon-keeps-task-alive"
    v089_finalization_wait_0 "089-finalization-wait-0"
    v092_ephemeral_chain "092-ephemeral-chain"
    v093_escape "093-escape"
    v094_launch_failure "094-launch-failure"
    v095_logger_both "095-logger-both"
    v097_unknown_task_attribute "097-unknown-task-attribute"
    v098_coercion "098-coercion"
    v099_float_min_duration "099-float-min-duration"
}
