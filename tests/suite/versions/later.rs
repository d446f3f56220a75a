//! What a later version writes or says, made by hand: it is refused or answered, and nothing is
//! killed for it.

use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use dewar::journal::{self, FileStorage, Journal, Need};

use crate::{
    engine::broken_link::link,
    support::{Bench, Known, code, stderr, stdout},
    versions::meeting::{kill_all_of_ours, pid, wait_run},
};

const TASK: &str = "
finalization_wait: 2s
processes: [{name: p, cmdline: 'sleep 1000'}]
";
/// The field 2000 with nothing in it: of no kind that there is.
const UNKNOWN: [u8; 3] = [0x82, 0x7d, 0];

/// A task without root and keeper, whose process lives.
struct Abandoned {
    bench: Bench,
    process: Known,
    journal: PathBuf,
}

impl Abandoned {
    fn new() -> Abandoned {
        let bench = Bench::new();
        bench.detach("t", TASK);
        let run = wait_run(&bench, "t", "p", 0);
        kill_all_of_ours(&bench, "t");
        Abandoned {
            process: Known::new(&run["pid"].to_string()),
            journal: bench.root().join("tasks/t/journal"),
            bench,
        }
    }

    /// Nobody takes it up, every verb says `why`, and its process lives; with its own journal again
    /// it is taken up.
    fn is_refused(&self, why: &str) {
        for words in [
            &["kill", "t"][..],
            &["kill", "t", "--now"],
            &["attach", "t"],
            &["wait", "t"],
        ] {
            let output = self.bench.run(words);
            assert_ne!(code(&output), 0, "{words:?}");
            let said = stderr(&output);
            assert!(said.contains(why), "{words:?}: {said}");
            assert!(self.process.lives(), "{words:?} killed it");
        }
    }

    fn is_shown(&self) {
        let output = self.bench.run(&["status"]);
        assert!(stdout(&output).contains("ACTIVE"), "{}", stdout(&output));
        assert!(stderr(&output).contains("note: "), "{}", stderr(&output));
    }

    fn ends(&self, own: &[u8]) {
        fs::write(&self.journal, own).expect("its own journal");
        let output = self.bench.run(&["kill", "t"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(!self.process.lives());
    }
}

/// Writes the journal anew with another header.
fn with_header(path: &Path, change: impl FnOnce(&mut journal::Header)) {
    let mut replay = journal::read(path).expect("readable").expect("a task");
    let Some(journal::Kind::Header(header)) = &mut replay.records[0].kind else {
        panic!("no header");
    };
    change(header);
    let directory = fs::File::open(path.parent().expect("a directory")).expect("open");
    fs::remove_file(path).expect("remove");
    let storage = FileStorage::open(directory.into(), "journal").expect("a file");
    let mut journal = Journal::create(storage).expect("a journal");
    journal.append(replay.records).expect("append");
}

/// Appends a frame with these bytes.
fn append(path: &Path, payload: &[u8]) {
    let end = journal::read(path).expect("readable").expect("a task").end;
    let length = payload.len() as u32;
    let sum = crc32c::crc32c(&end.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &length.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, payload);
    let mut frame = b"\xd3frm".to_vec();
    frame.extend(length.to_le_bytes());
    frame.extend(sum.to_le_bytes());
    frame.extend(payload);
    let file = fs::File::options().write(true).open(path).expect("open");
    file.write_all_at(&frame, end).expect("write");
}

#[test]
fn a_task_that_needs_what_is_not_known_is_shown_and_left_alone() {
    let task = Abandoned::new();
    let own = fs::read(&task.journal).expect("its journal");
    with_header(&task.journal, |header| {
        header.needs.push(Need {
            feature: 1000,
            name: "`moon: full`".to_owned(),
            since: "7.2.0".to_owned(),
        });
    });
    task.is_refused("needs `moon: full` (feature 1000)");
    task.is_refused("dewar 7.2.0 or later can");
    task.is_shown();
    task.ends(&own);
}

#[test]
fn a_header_of_a_later_version_is_left_alone() {
    let task = Abandoned::new();
    let own = fs::read(&task.journal).expect("its journal");
    with_header(&task.journal, |header| header.version = 9);
    task.is_refused("has version 9");
    task.is_shown();
    task.ends(&own);
}

#[test]
fn a_record_that_is_not_known_is_left_alone_unless_it_may_be_passed_over() {
    let task = Abandoned::new();
    let own = fs::read(&task.journal).expect("its journal");
    append(
        &task.journal,
        &[0x0a, 3, UNKNOWN[0], UNKNOWN[1], UNKNOWN[2]],
    );
    task.is_refused("a record of a kind that this dewar");
    task.is_shown();
    // Its field 28 says that nothing depends on it.
    let mut passable = own.clone();
    fs::write(&task.journal, &passable).expect("write");
    append(
        &task.journal,
        &[0x0a, 6, 0xe0, 1, 1, UNKNOWN[0], UNKNOWN[1], UNKNOWN[2]],
    );
    passable = fs::read(&task.journal).expect("read");
    task.ends(&passable);
}

#[test]
fn a_journal_of_a_later_format_is_left_alone() {
    let task = Abandoned::new();
    let own = fs::read(&task.journal).expect("its journal");
    let mut later = own.clone();
    later[8] = 2;
    fs::write(&task.journal, later).expect("write");
    task.is_refused("has format version 2");
    task.ends(&own);
}

#[test]
fn an_order_that_the_keeper_does_not_know_is_answered_and_told() {
    let bench = Bench::new();
    bench.detach("t", TASK);
    wait_run(&bench, "t", "p", 0);
    let (keeper, runner) = (
        pid(&bench, "t", "keeper_pid"),
        pid(&bench, "t", "runner_pid"),
    );
    // A batch with one command.
    let command = [0x12, 3, UNKNOWN[0], UNKNOWN[1], UNKNOWN[2]];
    let mut bytes = (command.len() as u32).to_le_bytes().to_vec();
    bytes.extend(command);
    link(runner, keeper).write_all(&bytes).expect("write");
    let said = crate::support::wait_for("the notice", || {
        let said = bench.task("t")?["notices"].to_string();
        said.contains("does not know").then_some(said)
    });
    assert!(said.contains("an order of the runner"), "{said}");
    assert_eq!(pid(&bench, "t", "runner_pid"), runner, "it cost the runner");
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
}

#[test]
fn a_record_of_a_later_keeper_costs_a_runner_and_not_the_task() {
    let bench = Bench::new();
    bench.detach("t", TASK);
    let run = wait_run(&bench, "t", "p", 0);
    let (keeper, runner) = (
        pid(&bench, "t", "keeper_pid"),
        pid(&bench, "t", "runner_pid"),
    );
    // A report with one record, the number 99.
    let record = [0x0a, 7, 8, 99, 0x12, 3, UNKNOWN[0], UNKNOWN[1], UNKNOWN[2]];
    let mut bytes = (record.len() as u32).to_le_bytes().to_vec();
    bytes.extend(record);
    link(keeper, keeper).write_all(&bytes).expect("write");
    crate::support::wait_for("another runner", || {
        let now = bench.task("t")?["runner_pid"].as_u64()?;
        (now != runner).then_some(())
    });
    assert!(Known::new(&run["pid"].to_string()).lives());
    let log = fs::read_to_string(bench.root().join("tasks/t/engine.log")).expect("its log");
    assert!(log.contains("of a kind that this dewar"), "{log}");
    assert!(!log.contains("cannot be trusted"), "{log}");
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
}
