//! Many starts, and starts in a row: what waits for the disk, and what waits for what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dewar::journal::{self, Kind, Record};

use crate::support::{Bench, code, stderr};

/// What a test that depends on how fast the machine is may try, until one try shows it.
const TRIES: usize = 10;
/// What every frame of a journal begins with; each one is a wait for the disk.
const FRAME: &[u8] = b"\xd3frm";

/// Runs `count` processes to their end, one after the other if `is_chain`; returns the task's
/// journal. A link of a chain lives longer than a sync takes, and shorter than a record may wait.
fn run(bench: &Bench, id: &str, count: usize, is_chain: bool) -> PathBuf {
    let names: Vec<String> = (0..count).map(|index| format!("p{index}")).collect();
    let argv = match is_chain {
        true => "[sleep, '0.003']",
        false => "['true']",
    };
    let processes: Vec<String> = names
        .iter()
        .map(|name| format!("{{name: {name}, argv: {argv}}}"))
        .collect();
    let mut task = format!("processes: [{}]\n", processes.join(", "));
    if is_chain {
        task.push_str(&format!("constraints: [order: [{}]]\n", names.join(", ")));
    }
    let file = bench.file(&format!("{id}.yaml"), &task);
    let output = bench.run(&["run", &file.display().to_string(), "--id", id]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    bench.root().join("tasks").join(id).join("journal")
}

fn records(journal: &Path) -> Vec<Record> {
    let replay = journal::read(journal).expect("a journal");
    replay.expect("records").records
}

/// True when one of some tries is as it should be.
fn one_of_many(what: &str, mut is_it: impl FnMut(usize) -> Result<(), String>) {
    let mut seen = Vec::new();
    for number in 0..TRIES {
        match is_it(number) {
            Ok(()) => return,
            Err(other) => seen.push(other),
        }
    }
    panic!("{what}: {seen:?}");
}

#[test]
fn a_step_of_a_chain_waits_for_the_disk_once() {
    const STEPS: usize = 30;
    let bench = Bench::new();
    one_of_many("one frame a step", |number| {
        let journal = run(&bench, &format!("t{number}"), STEPS, true);
        let execs = records(&journal)
            .iter()
            .filter(|record| matches!(record.kind, Some(Kind::Exec(_))))
            .count();
        assert_eq!(execs, STEPS, "every exec is recorded");
        let bytes = fs::read(&journal).expect("a journal");
        let frames = bytes.windows(FRAME.len()).filter(|at| *at == FRAME).count();
        // Two a step if the exec has one of its own. A process that takes longer than a record may
        // wait costs one, too.
        match frames < STEPS + STEPS / 2 {
            true => Ok(()),
            false => Err(format!("{frames} frames for {STEPS} steps")),
        }
    });
}

#[test]
fn the_first_of_many_runs_before_the_last_is_forked() {
    const COUNT: usize = 500;
    let bench = Bench::new();
    one_of_many("an exec before the last start", |number| {
        let journal = run(&bench, &format!("t{number}"), COUNT, false);
        let records = records(&journal);
        let is_start = |record: &Record| matches!(record.kind, Some(Kind::Start(_)));
        let is_exec = |record: &Record| matches!(record.kind, Some(Kind::Exec(_)));
        let first_exec = records.iter().position(is_exec).expect("an exec");
        let before = records[..first_exec].iter().filter(|one| is_start(one));
        match before.count() {
            starts if starts < COUNT / 2 => Ok(()),
            starts => Err(format!("{starts} starts before the first exec")),
        }
    });
}

#[test]
fn a_kill_in_the_middle_of_many_starts_leaves_none_behind() {
    const COUNT: usize = 600;
    let bench = Bench::new();
    let processes: Vec<String> = (0..COUNT)
        .map(|index| format!("{{name: p{index}, argv: [sleep, '1000']}}"))
        .collect();
    bench.detach("t", &format!("processes: [{}]\n", processes.join(", ")));
    let killed = bench.run(&["kill", "t", "--now"]);
    assert_eq!(code(&killed), 0, "{}", stderr(&killed));
    let task = bench.task("t").expect("the task");
    assert_eq!(task["state"], "KILLED");
    let journal = bench.root().join("tasks/t/journal");
    let mut open = std::collections::BTreeSet::new();
    for record in records(&journal) {
        match record.kind {
            Some(Kind::Start(start)) => {
                assert!(open.insert(start.process), "one start a run");
            }
            Some(Kind::End(end)) => assert!(open.remove(&end.process), "one end a start"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "runs without an end: {open:?}");
}
