//! Torn tails, corruption, golden files, and arbitrary bytes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;

use super::{
    checksummed_frame::{FRAME_HEADER, PREAMBLE},
    file::{Compacted, Journal},
    read::{JournalError, Replay, parse, read},
    records::{
        Again, Cover, End, Exec, Header, How, KillRequest, Kind, LaunchFailure, Lost, Notice,
        Record, Restart, Signal, Snapshot, Stage, Start, TaskState, Tenure, TimedOut, Totals,
    },
    storage::FileStorage,
};
use crate::sys::clock::Moment;

fn header() -> Header {
    Header {
        version: 1,
        task_id: "t".to_owned(),
        task: "{}".to_owned(),
        sandbox: "/sandbox".to_owned(),
        ..Header::default()
    }
}

fn start(run: u32) -> Record {
    let at = Moment {
        boot_us: 5,
        wall_us: 6,
    };
    Record::new(
        at,
        Kind::Start(Start {
            process: 1,
            run,
            pid: 77,
            start_ticks: 88,
            ..Start::default()
        }),
    )
}

fn storage(path: &Path) -> FileStorage {
    let directory = fs::File::open(path.parent().unwrap()).unwrap();
    FileStorage::open(
        directory.into(),
        path.file_name().unwrap().to_str().unwrap(),
    )
    .unwrap()
}

/// A journal of a header and `frames` starts, one a frame, as bytes; and where each frame ends.
fn written(frames: u32) -> (Vec<u8>, Vec<usize>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut journal = Journal::create(storage(file.path())).unwrap();
    let first = Record::new(Moment::default(), Kind::Header(header()));
    journal.append(vec![first]).unwrap();
    let mut ends = vec![journal.end() as usize];
    for run in 0..frames {
        journal.append(vec![start(run)]).unwrap();
        ends.push(journal.end() as usize);
    }
    (fs::read(file.path()).unwrap(), ends)
}

fn read_bytes(bytes: &[u8]) -> Result<Option<Replay>, JournalError> {
    parse(bytes, Path::new("journal"))
}

#[test]
fn what_was_appended_is_read_back() {
    let (bytes, ends) = written(3);
    let replay = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(replay.header, header());
    assert_eq!(replay.records[1..], [start(0), start(1), start(2)]);
    assert_eq!(replay.end as usize, ends[3]);
    assert_eq!(replay.torn, None);
}

#[test]
fn a_file_cut_anywhere_keeps_its_whole_frames() {
    let (bytes, ends) = written(3);
    for length in 0..ends[3] {
        let replay = read_bytes(&bytes[..length]).unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count();
        match replay {
            None => assert_eq!(whole, 0, "at {length}"),
            Some(replay) => {
                assert_eq!(replay.records.len(), whole, "at {length}");
                let is_torn = !ends.contains(&length);
                assert_eq!(replay.torn.is_some(), is_torn, "at {length}");
            }
        }
    }
}

#[test]
fn damage_before_a_whole_frame_is_corruption_and_has_an_offset() {
    let (bytes, ends) = written(3);
    for at in ends[0]..ends[1] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        match read_bytes(&bytes) {
            Err(JournalError::Corrupt { offset, .. }) => assert_eq!(offset as usize, ends[0]),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn damage_in_the_last_frame_is_a_torn_tail() {
    let (bytes, ends) = written(3);
    for at in ends[2]..ends[3] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        let replay = read_bytes(&bytes).unwrap().unwrap();
        assert_eq!(replay.records.len(), 3, "byte {at}");
        assert_eq!(replay.torn.unwrap().0 as usize, ends[2]);
    }
}

#[test]
fn a_frame_that_was_moved_is_no_frame() {
    let (bytes, ends) = written(2);
    let mut moved = bytes[..ends[0]].to_vec();
    moved.extend_from_slice(&bytes[ends[1]..ends[2]]);
    let replay = read_bytes(&moved).unwrap().unwrap();
    assert_eq!(replay.records.len(), 1);
    assert!(replay.torn.is_some());
}

#[test]
fn a_resumed_journal_goes_on_where_it_was_cut() {
    let (bytes, ends) = written(2);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &bytes[..ends[2] - 3]).unwrap();
    fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
    let replay = read(file.path()).unwrap().unwrap();
    let mut journal = Journal::resume(storage(file.path()), replay.end).unwrap();
    journal.append(vec![start(9)]).unwrap();
    journal.trim().unwrap();
    let replay = read(file.path()).unwrap().unwrap();
    assert_eq!(replay.records[1..], [start(0), start(9)]);
    assert_eq!(fs::metadata(file.path()).unwrap().len(), replay.end);
}

/// A disk may be full right after a compaction: what the last words need must be there by then.
#[test]
fn a_compacted_journal_has_room_for_last_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = Journal::create(storage(&path)).unwrap();
    let at = Moment::default();
    let header = Record::new(at, Kind::Header(header()));
    journal.append(vec![header]).unwrap();
    // More than the first piece of space, also when it is compacted.
    let runs = 1500;
    (0..runs).for_each(|run| journal.append(vec![start(run)]).unwrap());
    let snapshot = Snapshot {
        dropped: Vec::new(),
        kept: (1..runs).map(start).collect(),
        through: u64::from(runs) + 1,
    };
    let compacted = journal
        .compact(Record::new(at, Kind::Snapshot(snapshot)))
        .unwrap();
    assert!(matches!(compacted, Compacted::Done), "{compacted:?}");
    let before = fs::metadata(&path).unwrap().len();
    journal.last_words(vec![start(runs)]).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), before);
}

#[test]
fn a_journal_that_others_may_write_is_not_believed() {
    let (bytes, _) = written(1);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    fs::set_permissions(file.path(), PermissionsExt::from_mode(0o620)).unwrap();
    assert!(matches!(
        read(file.path()),
        Err(JournalError::Untrusted { .. })
    ));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let (mut bytes, _) = written(1);
    bytes[8] = 9;
    let error = read_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("format version 9"), "{error}");
}

/// Files that earlier versions wrote, committed for ever; the last one is what this version writes.
/// `DEWAR_GOLDEN=write` makes that.
#[test]
fn golden_files_stay_readable() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journals");
    let all = [
        ("v1.journal", golden()),
        ("v1-compacted.journal", compacted()),
    ];
    if std::env::var("DEWAR_GOLDEN").is_ok_and(|value| value == "write") {
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in &all {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
    for (name, bytes) in &all {
        let replay = read_bytes(&fs::read(directory.join(name)).unwrap());
        let replay = replay.unwrap().unwrap();
        let expected = read_bytes(bytes).unwrap().unwrap();
        assert_eq!(replay.records, expected.records, "{name}");
        assert_eq!(replay.torn, None, "{name}");
    }
}

/// What came with compactions: a snapshot in its place, and the records of restarts, signals,
/// time-outs.
fn compacted() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut journal = Journal::create(storage(file.path())).unwrap();
    let at = |clock: u64| Moment {
        boot_us: clock,
        wall_us: 1_790_000_000_000_000 + clock,
    };
    let past = Totals {
        process: 0,
        success: 1,
        failed: 200,
        killed: 3,
        lost: 4,
        forgiven_success: 1,
        forgiven_failed: 190,
        forgiven_killed: 3,
        forgiven_lost: 4,
        streak: 10,
        started: true,
        healthy: true,
        finished: true,
        failed_for_good: true,
        skipped: false,
    };
    let active = Stage {
        state: TaskState::Active.into(),
        outcome: TaskState::Success.into(),
        ..Stage::default()
    };
    let start = |run| {
        Kind::Start(Start {
            process: 0,
            run,
            pid: 100 + run,
            start_ticks: 7,
            ..Start::default()
        })
    };
    let header = Header {
        task: serde_json::to_string(&crate::task::Task::of(
            "golden".to_owned(),
            vec![crate::task::Process {
                cmdline: Some("true".to_owned()),
                max_failures: 0,
                max_runs: 0,
                ..crate::task::Process::named("flappy".to_owned())
            }],
        ))
        .unwrap(),
        ..header()
    };
    let snapshot = Snapshot {
        dropped: vec![past],
        kept: vec![
            Record::new(at(1), Kind::Stage(active)),
            Record::new(at(2), start(208)),
        ],
        through: 630,
    };
    let (process, run) = (0, 208);
    let later = [
        Kind::Exec(Exec { process, run }),
        Kind::Signal(Signal {
            process,
            run,
            signal: 1,
            is_owed: false,
        }),
        Kind::TimedOut(TimedOut {
            process,
            run,
            after_us: 5_000_000,
        }),
        Kind::End(End {
            process,
            run,
            how: Some(How::Signaled(9)),
            ..End::default()
        }),
        Kind::Restart(Restart { process }),
        start(209),
    ];
    let later = later.into_iter().zip(3..);
    for frame in [
        vec![Record::new(at(0), Kind::Header(header))],
        vec![Record::new(at(2), Kind::Snapshot(snapshot))],
        later
            .map(|(kind, clock)| Record::new(at(clock), kind))
            .collect(),
    ] {
        journal.append(frame).unwrap();
    }
    journal.trim().unwrap();
    fs::read(file.path()).unwrap()
}

/// One record of every kind and every way to end, in the present format.
fn golden() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut journal = Journal::create(storage(file.path())).unwrap();
    let mut clock = 0;
    let mut record = |kind| {
        clock += 1_000;
        let at = Moment {
            boot_us: clock,
            wall_us: 1_790_000_000_000_000 + clock,
        };
        Record::new(at, kind)
    };
    let full = Header {
        user: "nobody".to_owned(),
        uid: 65534,
        gid: 65534,
        sandbox_given: true,
        ports: [("http".to_owned(), 8080)].into(),
        hostname: "host".to_owned(),
        environment: vec!["HOME=/sandbox".to_owned()],
        ..header()
    };
    let tenure = Tenure {
        boot_id: "6f1c".to_owned(),
        keeper_pid: 10,
        cover: Cover::Whole.into(),
    };
    let begun = |run| {
        Kind::Start(Start {
            process: 0,
            run,
            pid: 100 + run,
            start_ticks: 4711,
            ..Start::default()
        })
    };
    let ended = |run, how| {
        Kind::End(End {
            process: 0,
            run,
            how: Some(how),
            ..End::default()
        })
    };
    let stage = |state: TaskState, budget_us| {
        Kind::Stage(Stage {
            state: state.into(),
            outcome: TaskState::Killed.into(),
            budget_us,
            reason: "because".to_owned(),
            ..Stage::default()
        })
    };
    let reason = "why".to_owned();
    let frames = [
        vec![Kind::Header(full), Kind::Tenure(tenure)],
        vec![stage(TaskState::Active, 0), begun(0)],
        vec![
            Kind::Again(Again {
                process: 0,
                run: 0,
                pid: 200,
                start_ticks: 5000,
                ..Again::default()
            }),
            Kind::Exec(Exec { process: 0, run: 0 }),
        ],
        vec![
            ended(0, How::Exited(3)),
            begun(1),
            ended(1, How::Signaled(9)),
            begun(2),
        ],
        vec![
            ended(
                2,
                How::LaunchFailed(LaunchFailure {
                    reason: reason.clone(),
                    exec_errno: 2,
                }),
            ),
            begun(3),
            ended(
                3,
                How::Lost(Lost {
                    reason: reason.clone(),
                }),
            ),
        ],
        vec![Kind::Notice(Notice {
            text: "look".to_owned(),
            process: Some(0),
            run: Some(3),
            ..Notice::default()
        })],
        vec![Kind::Snapshot(Snapshot {
            dropped: vec![Totals {
                process: 0,
                success: 1,
                failed: 2,
                killed: 3,
                lost: 4,
                ..Totals::default()
            }],
            kept: vec![start(10)],
            through: 0,
        })],
        vec![
            Kind::Kill(KillRequest {
                now: true,
                budget_us: Some(7),
                reason,
            }),
            stage(TaskState::Cleaning, 7),
            stage(TaskState::Killed, 0),
        ],
    ];
    for frame in frames {
        journal
            .append(frame.into_iter().map(&mut record).collect())
            .unwrap();
    }
    journal.trim().unwrap();
    fs::read(file.path()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        keep in 0..60usize,
    ) {
        let (good, _) = written(2);
        let keep = keep.min(bytes.len());
        bytes[..keep].copy_from_slice(&good[..keep]);
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn a_flipped_bit_never_invents_a_record(at in 0..200usize, bit in 0..8u32) {
        let (good, ends) = written(2);
        let mut bytes = good.clone();
        let at = at % ends[2];
        bytes[at] ^= 1 << bit;
        if let Ok(Some(replay)) = read_bytes(&bytes) {
            let whole = read_bytes(&good).unwrap().unwrap();
            let known = whole.records.starts_with(&replay.records);
            prop_assert!(known);
            prop_assert!(at >= PREAMBLE || replay.records.len() == 3);
        }
        prop_assert!(ends[0] > FRAME_HEADER);
    }
}

#[test]
fn a_frame_that_no_reader_would_believe_is_not_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut journal = Journal::create(storage(file.path())).unwrap();
    let first = Record::new(Moment::default(), Kind::Header(header()));
    journal.append(vec![first]).unwrap();
    let notice = Kind::Notice(Notice {
        text: "x".repeat(65 << 20),
        ..Notice::default()
    });
    let record = Record::new(Moment::default(), notice);
    let error = journal.append(vec![record]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
    let replay = parse(&fs::read(file.path()).unwrap(), file.path()).unwrap();
    assert_eq!(replay.unwrap().records.len(), 1);
}
