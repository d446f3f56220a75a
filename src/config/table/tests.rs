//! The tables against what is decoded, and against the field tables of README.md and docs/.

use std::{collections::HashSet, ptr};

use serde_json::{Map, Value, json};

use super::{
    health::{HEALTH, HTTP_LIFECYCLE, HTTP_PROBE, LIFECYCLE, TCP_PROBE},
    isolation::{ISOLATION, VOLUME},
    job::{JOB, PARTITION, UPDATE},
    resources::{LIMITS, RESOURCES, RLIMIT},
    row::{Absent, Kind, Row, Table},
    task::{BACKOFF, CONSTRAINT, LOGGER, PROCESS, ROTATE, TASK},
    wrapper,
};
use crate::{
    config::{diagnostic::Diagnostics, load::Document, read_job::JobSource, template::Bindings},
    task::{Job, StopSignal},
};

/// A file with one map of a kind in it, and nothing in that map but what it needs.
struct Sample {
    table: &'static Table,
    file: File,
    text: Value,
    /// Where the map is, as a JSON pointer.
    at: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum File {
    Task,
    Job,
    /// What a scheduler sends to an executor.
    Data,
}

fn samples() -> Vec<Sample> {
    let mut samples = samples_of_tasks();
    samples.extend(samples_of_processes());
    samples.extend(samples_of_jobs());
    samples.extend(samples_of_data());
    samples
}

fn samples_of_tasks() -> Vec<Sample> {
    let task = |table, text, at| Sample {
        table,
        file: File::Task,
        text,
        at,
    };
    let two = json!([{"name": "b", "cmdline": "x"}, {"name": "a", "cmdline": "x"}]);
    let order = json!({"processes": two, "constraints": [{"order": ["a"]}]});
    let lifecycle = json!({"processes": [], "lifecycle": {"http": {"port": 1}}});
    let private = json!({
        "processes": [],
        "isolation": {"level": "private"},
        "volumes": [{"container_path": "/a", "host_path": "/b"}]
    });
    vec![
        task(
            &TASK,
            json!({"processes": [{"name": "a", "cmdline": "x"}]}),
            "",
        ),
        task(&PROCESS, json!({"processes": two}), "/processes/1"),
        task(&CONSTRAINT, order, "/constraints/0"),
        task(
            &RESOURCES,
            json!({"processes": [], "resources": {}}),
            "/resources",
        ),
        task(&LIFECYCLE, lifecycle.clone(), "/lifecycle"),
        task(&HTTP_LIFECYCLE, lifecycle, "/lifecycle/http"),
        task(
            &ISOLATION,
            json!({"processes": [], "isolation": {"level": "private"}}),
            "/isolation",
        ),
        task(&VOLUME, private, "/volumes/0"),
    ]
}

fn samples_of_processes() -> Vec<Sample> {
    // One process with this in it, and where the map is in that.
    let process = |table, name: &str, value: Value, at| {
        let mut text = json!({"processes": [{"name": "a", "cmdline": "x"}]});
        text["processes"][0][name] = value;
        Sample {
            table,
            file: File::Task,
            text,
            at,
        }
    };
    let rlimits = json!({"rlimits": {"nofile": {"soft": 2, "hard": 9}}});
    let http = json!({"http": {"port": 1}});
    let tcp = json!({"tcp": {"port": 1}});
    let shell = json!({"shell": "x"});
    vec![
        process(&LIMITS, "resources", json!({}), "/processes/0/resources"),
        process(
            &RLIMIT,
            "resources",
            rlimits,
            "/processes/0/resources/rlimits/nofile",
        ),
        process(&LOGGER, "logger", json!({}), "/processes/0/logger"),
        process(
            &ROTATE,
            "logger",
            json!({"rotate": {}}),
            "/processes/0/logger/rotate",
        ),
        process(&BACKOFF, "backoff", json!({}), "/processes/0/backoff"),
        process(&HEALTH, "health", shell, "/processes/0/health"),
        process(&HTTP_PROBE, "health", http, "/processes/0/health/http"),
        process(&TCP_PROBE, "health", tcp, "/processes/0/health/tcp"),
    ]
}

/// A file that has this beside its task.
fn around_task(
    table: &'static Table,
    file: File,
    (name, value): (&str, Value),
    at: &'static str,
) -> Sample {
    let mut text = json!({"task": {
        "resources": {"cpu": 1, "ram": "64MB", "disk": "64MB"},
        "processes": [{"name": "a", "cmdline": "x {{thermos.ports[health]}}"}]
    }});
    text[name] = value;
    Sample {
        table,
        file,
        text,
        at,
    }
}

fn samples_of_jobs() -> Vec<Sample> {
    let job =
        |table, name: &'static str, value, at| around_task(table, File::Job, (name, value), at);
    vec![
        job(&JOB, "instances", json!(1), ""),
        job(&UPDATE, "update_config", json!({}), "/update_config"),
        job(
            &PARTITION,
            "partition_policy",
            json!({}),
            "/partition_policy",
        ),
    ]
}

fn samples_of_data() -> Vec<Sample> {
    let data =
        |table, name: &'static str, value, at| around_task(table, File::Data, (name, value), at);
    let check = |table, value, at| data(table, "health_check_config", value, at);
    let http = json!({"health_checker": {"http": {}}});
    let shell = json!({"health_checker": {"shell": {"shell_command": "x"}}});
    let checker = "/health_check_config/health_checker";
    let lifecycle = json!({"http": {}});
    vec![
        data(&wrapper::AROUND_TASK, "instance", json!(1), ""),
        check(&wrapper::HEALTH_CHECK, json!({}), "/health_check_config"),
        check(
            &wrapper::HEALTH_CHECKER,
            json!({"health_checker": {}}),
            checker,
        ),
        check(
            &wrapper::HTTP_CHECKER,
            http,
            "/health_check_config/health_checker/http",
        ),
        check(
            &wrapper::SHELL_CHECKER,
            shell,
            "/health_check_config/health_checker/shell",
        ),
        data(
            &wrapper::LIFECYCLE,
            "lifecycle",
            lifecycle.clone(),
            "/lifecycle",
        ),
        data(
            &wrapper::HTTP_LIFECYCLE,
            "lifecycle",
            lifecycle,
            "/lifecycle/http",
        ),
    ]
}

/// A map in which `row` has another value than in its sample, and than by default.
fn changed(sample: &Sample, row: &Row) -> Map<String, Value> {
    let map = match sample.text.pointer(sample.at) {
        Some(Value::Object(map)) => map.clone(),
        other => panic!("{}: {other:?}", sample.at),
    };
    let with = |value: Value| {
        let mut map = map.clone();
        map.insert(row.name.to_owned(), value);
        map
    };
    let alone = |value: Value| match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    };
    let process = json!({"name": "other", "cmdline": "x"});
    match (sample.table.what, row.name) {
        ("a process", "argv") => alone(json!({"name": "a", "argv": ["x"]})),
        ("a process", "shell") => with("/bin/sh".into()),
        ("a process", "umask") => with("077".into()),
        ("a process", "stop_signal") => with("INT".into()),
        ("a constraint", "order") => with(json!(["a", "b"])),
        ("`health`", "http" | "tcp") => alone(json!({row.name: {"port": 1}})),
        ("a back-off", "jitter") => with(json!(0.5)),
        ("`http`", "path") => with("/other".into()),
        ("`http`", "status") => with(json!(204)),
        ("`http`", "graceful_shutdown_endpoint" | "shutdown_endpoint") => with("/other".into()),
        ("a volume", "host_path" | "container_path") => with("/other".into()),
        ("a volume", "tmpfs") => alone(json!({"container_path": "/a", "tmpfs": "1MB"})),
        ("a job" | "data", "task") => with(json!({
            "resources": {"cpu": 2, "ram": "64MB", "disk": "64MB"},
            "processes": [process]
        })),
        _ => with(match row.kind {
            Kind::Text => "other".into(),
            Kind::Texts | Kind::TextOrTexts => json!(["other"]),
            Kind::Choice(names) => {
                let now = map.get(row.name).and_then(Value::as_str);
                let now = now.unwrap_or(row.absent.text());
                let other = names.iter().find(|name| **name != now);
                json!(other.expect("a choice"))
            }
            Kind::Count | Kind::CountOrUnlimited => json!(7),
            Kind::Number | Kind::Seconds => json!(1.5),
            Kind::Integer | Kind::Whole => json!(-7),
            Kind::Boolean => json!(row.absent.text() != "true"),
            Kind::Period => "7s".into(),
            Kind::Size => "77MB".into(),
            Kind::Port => json!(77),
            Kind::Bound => json!(5),
            Kind::Variables => json!({"A": "b"}),
            Kind::Conditions => json!({"b": "started"}),
            Kind::Protections => json!(["seccomp"]),
            Kind::Placements => json!({"host": "limit:2"}),
            Kind::Rlimits(_) => json!({"nofile": 7}),
            Kind::WordOrMap(_) => "private".into(),
            Kind::Maps(table) if ptr::eq(table, &PROCESS) => json!([process]),
            Kind::Maps(table) if ptr::eq(table, &CONSTRAINT) => json!([{"order": ["a"]}]),
            Kind::Maps(_) => json!([{"container_path": "/a", "host_path": "/b"}]),
            Kind::Map(table) => nested(table),
            Kind::Aurora if row.name == "lifecycle" => json!({"http": {"shutdown_wait_secs": 1}}),
            Kind::Aurora => json!({"interval_secs": 77}),
            Kind::TaskOrPath => unreachable!("the tasks are above"),
        }),
    }
}

/// A map of a table's kind that is not what its absence means.
fn nested(table: &'static Table) -> Value {
    let is = |other: &'static Table| ptr::eq(table, other);
    match () {
        () if is(&HEALTH) => json!({"shell": "x"}),
        () if is(&LIFECYCLE) => json!({"http": {"port": 1}}),
        () if is(&HTTP_LIFECYCLE) => json!({"port": 77}),
        () if is(&RESOURCES) || is(&LIMITS) => json!({"pids": 7}),
        () if is(&LOGGER) => json!({"mode": "rotate"}),
        () if is(&ROTATE) => json!({"backups": 7}),
        () if is(&BACKOFF) => json!({}),
        () if is(&UPDATE) => json!({"batch_size": 7}),
        () if is(&PARTITION) => json!({"delay_secs": 7}),
        () if is(&wrapper::HEALTH_CHECKER) => json!({"shell": {"shell_command": "x"}}),
        () if is(&wrapper::HTTP_CHECKER) => json!({"endpoint": "/other"}),
        () if is(&wrapper::SHELL_CHECKER) => json!({"shell_command": "x"}),
        () if is(&wrapper::HTTP_LIFECYCLE) => json!({"shutdown_wait_secs": 1}),
        () => panic!("no sample of {}", table.what),
    }
}

/// The whole file with `map` in the place of the sample's.
fn with_map(sample: &Sample, map: Map<String, Value>) -> Value {
    let mut text = sample.text.clone();
    let place = text.pointer_mut(sample.at).expect("a map");
    *place = Value::Object(map);
    text
}

/// What becomes of a file, or every mistake in it.
fn decoded(file: File, text: &Value) -> Result<Value, Diagnostics> {
    let text = text.to_string();
    let bindings = Bindings {
        ports: [("health".to_owned(), 1), ("other".to_owned(), 2)].into(),
        ..Bindings::default()
    };
    match file {
        File::Task => {
            let task = Document::parse(&text, true)?.resolve(0, &bindings)?.task;
            Ok(serde_json::to_value(task).expect("JSON"))
        }
        File::Job => {
            let source = JobSource {
                job: &text,
                job_is_json: true,
                task: None,
                role: "me",
            };
            let (job, _) = Job::read(&source).map_err(|mistakes| mistakes.diagnostics)?;
            Ok(serde_json::to_value(job).expect("JSON"))
        }
        File::Data => {
            let mut document = Document::parse(&text, true)?;
            let wrapper = document.take_wrapper().expect("a wrapped task");
            assert_eq!(wrapper.ignored, Vec::<String>::new());
            let task = document.resolve(0, &bindings)?.task;
            Ok(json!([
                format!("{wrapper:?}"),
                document.outer_health(&bindings),
                document.outer_lifecycle(&bindings),
                task,
            ]))
        }
    }
}

fn described(result: &Result<Value, Diagnostics>, text: &Value) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(mistakes) => mistakes.render(&text.to_string(), "file", false),
    }
}

#[test]
fn every_field_of_the_tables_is_decoded() {
    for sample in samples() {
        let before = decoded(sample.file, &sample.text);
        assert!(before.is_ok(), "{}", described(&before, &sample.text));
        for row in sample.table.rows() {
            let text = with_map(&sample, changed(&sample, row));
            let after = decoded(sample.file, &text);
            let name = format!("`{}` of {}", row.name, sample.table.what);
            let value = described(&after, &text);
            assert!(after.is_ok(), "{name} is refused: {value}");
            // Which cluster a job is for is said by where it is sent.
            let is_looked_at = row.name != "cluster";
            let has_effect = after.as_ref().ok() != before.as_ref().ok();
            assert_eq!(has_effect, is_looked_at, "{name} changes: {value}");
        }
    }
}

#[test]
fn the_defaults_of_the_tables_are_those_that_are_decoded() {
    let mut compared = 0;
    for sample in samples() {
        for row in sample.table.rows() {
            let Absent::Value(default) = row.absent else {
                continue;
            };
            let mut map = changed(&sample, row);
            map.remove(row.name);
            let absent = decoded(sample.file, &with_map(&sample, map.clone()));
            map.insert(row.name.to_owned(), default.into());
            let text = with_map(&sample, map);
            let written = decoded(sample.file, &text);
            let name = format!("`{}` of {}", row.name, sample.table.what);
            let shown = (described(&absent, &text), described(&written, &text));
            assert!(absent.is_ok(), "{name}: {}", shown.0);
            assert_eq!(shown.0, shown.1, "{name} is not {default} by default");
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared}");
    assert_eq!(
        default_of(&PROCESS, "stop_signal"),
        StopSignal::TERM.to_string()
    );
}

fn default_of(table: &'static Table, name: &str) -> &'static str {
    let row = table.rows().find(|row| row.name == name);
    row.expect("a field").absent.text()
}

#[test]
fn a_field_that_is_in_no_table_is_refused_with_the_names_there_are() {
    let mut samples = samples();
    samples.retain(|sample| sample.table.what != "data");
    for mut sample in samples {
        // An executor forgives what it does not understand; a job file has the same maps.
        if sample.file == File::Data {
            sample.file = File::Job;
        }
        let Some(Value::Object(mut map)) = sample.text.pointer(sample.at).cloned() else {
            panic!("{}", sample.at);
        };
        map.insert("nonesuch".to_owned(), json!(1));
        let text = with_map(&sample, map.clone());
        let mistakes = decoded(sample.file, &text).expect_err("an unknown field");
        let message = format!("unknown field `nonesuch` in {}", sample.table.what);
        let mistake = mistakes.iter().find(|one| one.message == message);
        let names: Vec<&str> = sample.table.names().collect();
        let help = format!("known fields are {}", names.join(", "));
        let found = mistake.and_then(|one| one.help.clone());
        assert_eq!(found, Some(help), "{message}");
        map.remove("nonesuch");
        for name in names.into_iter().filter(|name| name.len() > 4) {
            let mut map = map.clone();
            map.insert(format!("{name}x"), json!(1));
            let mistakes = decoded(sample.file, &with_map(&sample, map));
            let mistakes = mistakes.expect_err("an unknown field");
            let near = format!("did you mean `{name}`?");
            let mut helps = mistakes.iter().filter_map(|one| one.help.as_ref());
            assert!(helps.any(|help| *help == near), "{name}");
        }
    }
}

/// The tables by the head of the first column of the documentation's field tables about them.
fn documented() -> [(&'static str, &'static Table); 9] {
    [
        ("task", &TASK),
        ("process", &PROCESS),
        ("health", &HEALTH),
        ("resources", &LIMITS),
        ("isolation", &ISOLATION),
        ("volume", &VOLUME),
        ("job", &JOB),
        ("update_config", &UPDATE),
        ("lifecycle", &LIFECYCLE),
    ]
}

/// The rows of one field table: names, defaults, and the line.
type DocRow = (Vec<String>, Vec<String>, String);

/// Every field table in `text`: `| `NAME` | default | ... |` at its head.
fn field_tables(text: &str) -> Vec<(&'static Table, Vec<DocRow>)> {
    let words = |cell: &str| {
        let words = cell
            .split(", ")
            .map(|word| word.trim_matches('`').to_owned());
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(
            inner
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect(),
        )
    };
    let mut found = Vec::new();
    let mut rows: Option<(&'static Table, Vec<DocRow>)> = None;
    for line in text.lines().chain([""]) {
        let Some(cells) = cells(line) else {
            found.extend(rows.take());
            continue;
        };
        if let Some((_, rows)) = &mut rows {
            if !cells[0].starts_with("---") {
                rows.push((words(&cells[0]), words(&cells[1]), line.to_owned()));
            }
        } else if cells.get(1).is_some_and(|cell| cell == "default") {
            let name = cells[0].trim_matches('`');
            let known = documented().into_iter().find(|(known, _)| *known == name);
            let (_, table) = known.unwrap_or_else(|| panic!("a table of fields of what? {line}"));
            rows = Some((table, Vec::new()));
        }
    }
    found
}

/// The row that a dotted name leads to, and those that it leads through.
fn walk(table: &'static Table, name: &str) -> Vec<&'static Row> {
    let mut table = Some(table);
    let steps = name.split('.').map(|step| {
        let rows = table.unwrap_or_else(|| panic!("nothing is in there: {name}"));
        let row = rows.rows().find(|row| row.name == step);
        let row = row.unwrap_or_else(|| panic!("{} has no `{step}`: {name}", rows.what));
        table = below(row);
        row
    });
    steps.collect()
}

fn below(row: &Row) -> Option<&'static Table> {
    match row.kind {
        Kind::Map(table) | Kind::Maps(table) | Kind::WordOrMap(table) | Kind::Rlimits(table) => {
            Some(table)
        }
        _ => None,
    }
}

#[test]
fn the_documentation_has_every_field_and_its_default() {
    let mut named: HashSet<*const Row> = HashSet::new();
    for file in ["README.md", "docs/LIMITS.md", "docs/SCHEDULER.md"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).expect("documentation");
        for (table, rows) in field_tables(&text) {
            for (names, defaults, line) in rows {
                let paths: Vec<_> = names.iter().map(|name| walk(table, name)).collect();
                let ends = paths.iter().filter_map(|path| path.last());
                let expected: Vec<&str> = ends.map(|row| row.absent.text()).collect();
                let is_without = defaults.is_empty() && expected.iter().all(|text| text.is_empty());
                assert!(
                    is_without || expected == defaults,
                    "{file}: the defaults are {expected:?}: {line}"
                );
                for path in paths {
                    let (end, through) = path.split_last().expect("a name");
                    named.insert(ptr::from_ref(*end));
                    let through = through.iter().filter(|row| row.absent.text().is_empty());
                    named.extend(through.map(|row| ptr::from_ref(*row)));
                }
            }
        }
    }
    let mut missing = Vec::new();
    let mut tables: Vec<&'static Table> = vec![&TASK, &JOB];
    let mut seen: HashSet<*const Table> = HashSet::new();
    while let Some(table) = tables.pop() {
        if !seen.insert(ptr::from_ref(table)) {
            continue;
        }
        for row in table.rows() {
            tables.extend(below(row));
            if !named.contains(&ptr::from_ref(row)) {
                missing.push(format!("`{}` of {}", row.name, table.what));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "no field table has {}",
        missing.join(", ")
    );
}
