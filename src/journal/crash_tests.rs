//! Every image that a crash may leave of a journal: what was synced is there, of what was not any
//! part may be, torn at any byte, or none.
//!
//! Short histories are enumerated, long ones drawn at random: DEWAR_IMAGES=100000 for the whole
//! (SPECIFICATION.md).

use std::{cell::RefCell, io, path::Path, rc::Rc};

use super::{
    file::{Compacted, Journal},
    read::parse,
    records::{Header, Kind, Notice, Record, Snapshot},
    storage::Storage,
};
use crate::sys::clock::Moment;

#[derive(Clone, Debug)]
enum Op {
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    SetLen {
        file: usize,
        length: usize,
    },
    Sync {
        file: usize,
    },
    /// The name is this file's from here on.
    Rename {
        file: usize,
    },
    SyncDirectory,
}

/// A disk that remembers in which order it was written to.
#[derive(Debug, Default)]
struct Disk {
    ops: Vec<Op>,
    files: usize,
    /// What the files held before the first operation.
    before: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Simulated {
    disk: Rc<RefCell<Disk>>,
    file: usize,
}

impl Simulated {
    fn new(before: Vec<u8>) -> Simulated {
        let disk = Disk {
            ops: Vec::new(),
            files: 1,
            before,
        };
        Simulated {
            disk: Rc::new(RefCell::new(disk)),
            file: 0,
        }
    }

    fn push(&self, op: Op) -> io::Result<()> {
        self.disk.borrow_mut().ops.push(op);
        Ok(())
    }
}

impl Storage for Simulated {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.push(Op::Write {
            file: self.file,
            offset: offset as usize,
            bytes: bytes.to_vec(),
        })
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.push(Op::SetLen {
            file: self.file,
            length: length as usize,
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.push(Op::Sync { file: self.file })
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let disk = self.disk.borrow();
        let mut content = disk.start(self.file);
        disk.ops
            .iter()
            .for_each(|op| apply(op, self.file, &mut content));
        Ok(content)
    }

    fn fresh(&mut self) -> io::Result<Simulated> {
        let mut disk = self.disk.borrow_mut();
        disk.files += 1;
        Ok(Simulated {
            disk: Rc::clone(&self.disk),
            file: disk.files - 1,
        })
    }

    fn supplant(&mut self, fresh: Simulated) -> io::Result<()> {
        self.push(Op::Rename { file: fresh.file })?;
        self.push(Op::SyncDirectory)?;
        self.file = fresh.file;
        Ok(())
    }
}

impl Disk {
    fn start(&self, file: usize) -> Vec<u8> {
        match file {
            0 => self.before.clone(),
            _ => Vec::new(),
        }
    }
}

fn apply(op: &Op, file: usize, content: &mut Vec<u8>) {
    match op {
        Op::Write {
            file: of,
            offset,
            bytes,
        } if *of == file => {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(bytes);
        }
        Op::SetLen { file: of, length } if *of == file => content.resize(*length, 0),
        _ => {}
    }
}

/// What of the unsynced operations has reached the disk.
struct Luck<'l> {
    /// One for each, in their order.
    survives: &'l [bool],
    /// Of the last that does, if it is a write, only so many bytes.
    torn: Option<usize>,
}

impl Disk {
    /// The file that has the name at a crash after `point` operations, and its unsynced operations.
    fn at(&self, point: usize, rename_survives: bool) -> (usize, Vec<usize>, usize) {
        let mut named = 0;
        let mut pending = None;
        for op in &self.ops[..point] {
            match op {
                Op::Rename { file } => pending = Some(*file),
                Op::SyncDirectory => named = pending.take().unwrap_or(named),
                _ => {}
            }
        }
        if let Some(file) = pending.filter(|_| rename_survives) {
            named = file;
        }
        let synced = self.ops[..point]
            .iter()
            .rposition(|op| matches!(op, Op::Sync { file } if *file == named));
        let from = synced.map_or(0, |at| at + 1);
        let unsynced = (from..point).filter(|at| match &self.ops[*at] {
            Op::Write { file, .. } | Op::SetLen { file, .. } => *file == named,
            _ => false,
        });
        (named, unsynced.collect(), from)
    }

    fn image(&self, point: usize, rename_survives: bool, luck: &Luck<'_>) -> Vec<u8> {
        let (file, unsynced, from) = self.at(point, rename_survives);
        let mut content = self.start(file);
        for op in &self.ops[..from] {
            apply(op, file, &mut content);
        }
        let survivors: Vec<usize> = unsynced
            .iter()
            .zip(luck.survives)
            .filter(|(_, survives)| **survives)
            .map(|(at, _)| *at)
            .collect();
        for at in &survivors {
            let mut op = self.ops[*at].clone();
            if let (Some(torn), Op::Write { bytes, .. }) = (luck.torn, &mut op)
                && Some(at) == survivors.last()
            {
                bytes.truncate(torn);
            }
            apply(&op, file, &mut content);
        }
        content
    }
}

/// A journal on a simulated disk, and what must be found of it.
struct History {
    disk: Rc<RefCell<Disk>>,
    journal: Option<Journal<Simulated>>,
    /// Every record that was ever handed over.
    truth: Vec<Record>,
    /// After so many operations so many records are promised.
    promised: Vec<(usize, usize)>,
    /// What each compaction kept, and what it stands for.
    compactions: Vec<(u64, Vec<Record>)>,
}

/// Something that is done with a journal.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Append(usize),
    /// Keeps every third record.
    Compact,
    Reopen,
    Trim,
}

fn record(number: usize) -> Record {
    let text = "x".repeat(number % 50);
    let kind = match number {
        0 => Kind::Header(Header {
            task_id: "t".to_owned(),
            ..Header::default()
        }),
        number => Kind::Notice(Notice {
            text: format!("{number} {text}"),
            ..Notice::default()
        }),
    };
    Record::new(Moment::default(), kind)
}

impl History {
    fn new() -> History {
        let storage = Simulated::new(Vec::new());
        let disk = Rc::clone(&storage.disk);
        History {
            disk,
            journal: Some(Journal::create(storage).unwrap()),
            truth: Vec::new(),
            promised: vec![(0, 0)],
            compactions: Vec::new(),
        }
    }

    fn ops(&self) -> usize {
        self.disk.borrow().ops.len()
    }

    fn journal(&mut self) -> &mut Journal<Simulated> {
        self.journal.as_mut().unwrap()
    }

    fn does(&mut self, deed: Deed) {
        match deed {
            Deed::Append(count) => {
                let first = self.truth.len();
                let records: Vec<Record> = (first..first + count).map(record).collect();
                self.truth.extend(records.clone());
                self.journal().append(records).unwrap();
                self.promised.push((self.ops(), self.truth.len()));
            }
            Deed::Compact => {
                let through = self.truth.len().saturating_sub(1).max(1);
                let kept: Vec<Record> = self.truth[1..through].iter().step_by(3).cloned().collect();
                let snapshot = Snapshot {
                    dropped: Vec::new(),
                    kept: kept.clone(),
                    through: through as u64,
                };
                let snapshot = Record::new(Moment::default(), Kind::Snapshot(snapshot));
                if let Compacted::Done = self.journal().compact(snapshot).unwrap() {
                    self.compactions.push((through as u64, kept));
                }
            }
            Deed::Trim => self.journal().trim().unwrap(),
            Deed::Reopen => {
                let mut storage = self.journal.take().unwrap().into_storage();
                let bytes = storage.read().unwrap();
                let replay = parse(&bytes, Path::new("")).unwrap().unwrap();
                self.journal = Some(Journal::resume(storage, replay.end).unwrap());
            }
        }
    }

    /// Reads an image of a crash after `point` operations.
    fn check(&self, point: usize, image: &[u8]) {
        let replay = match parse(image, Path::new("journal")) {
            Ok(replay) => replay,
            Err(error) => panic!("after operation {point}: {error}"),
        };
        let promised = self.promised.iter().rev().find(|(ops, _)| *ops <= point);
        let promised = promised.map_or(0, |(_, count)| *count);
        let possible: Vec<usize> = self.promised.iter().map(|(_, count)| *count).collect();
        let Some(replay) = replay else {
            assert_eq!(promised, 0, "after operation {point}: all is lost");
            return;
        };
        let total = replay.total() as usize;
        assert!(
            total >= promised,
            "after operation {point}: {total} of {promised}"
        );
        let (through, expected) = match replay.compacted_through() {
            0 => (0, Vec::new()),
            through => {
                let kept = self.compactions.iter().find(|(at, _)| *at == through);
                let mut expected = vec![self.truth[0].clone(), replay.records[1].clone()];
                expected.extend(kept.expect("a known compaction").1.clone());
                (through as usize, expected)
            }
        };
        let mut expected = expected;
        expected.extend(self.truth[through..total].to_vec());
        assert_eq!(replay.records, expected, "after operation {point}");
        // What was handed over together is there together.
        assert!(
            possible.contains(&total),
            "after operation {point}: a part of a frame"
        );
        // And it goes on from there.
        let storage = Simulated::new(image.to_vec());
        let mut journal = Journal::resume(storage, replay.end).unwrap();
        journal.append(vec![record(7)]).unwrap();
        let bytes = journal.into_storage().read().unwrap();
        let again = parse(&bytes, Path::new("")).unwrap().unwrap();
        assert_eq!(again.total() as usize, total + 1);
        assert_eq!(again.torn, None);
    }

    /// Every image of a crash after `point` operations.
    fn check_all(&self, point: usize) -> usize {
        let mut images = 0;
        for rename_survives in [false, true] {
            let (_, unsynced, _) = self.disk.borrow().at(point, rename_survives);
            for choice in 0..1u32 << unsynced.len() {
                let survives: Vec<bool> = (0..unsynced.len())
                    .map(|at| choice >> at & 1 == 1)
                    .collect();
                let last = survives.iter().rposition(|survives| *survives);
                let length = last.map_or(0, |last| match &self.disk.borrow().ops[unsynced[last]] {
                    Op::Write { bytes, .. } => bytes.len(),
                    _ => 0,
                });
                // Zeros ahead are long and all the same.
                let near = (0..length).filter(|at| *at < 300 || at % 4096 == 0);
                for torn in near.map(Some).chain([None]) {
                    let luck = Luck {
                        survives: &survives,
                        torn,
                    };
                    let image = self.disk.borrow().image(point, rename_survives, &luck);
                    self.check(point, &image);
                    images += 1;
                }
            }
        }
        images
    }
}

#[test]
fn every_image_of_short_histories() {
    use Deed::{Append, Compact, Reopen, Trim};
    let histories: [&[Deed]; 5] = [
        &[Append(2), Append(1), Append(3)],
        &[Append(2), Append(4), Compact, Append(1)],
        &[Append(5), Compact, Compact, Reopen, Append(2), Compact],
        &[Append(1), Reopen, Append(1), Reopen, Append(1)],
        &[Append(3), Append(1), Trim],
    ];
    let mut images = 0;
    for deeds in histories {
        let mut history = History::new();
        for deed in deeds {
            history.does(*deed);
        }
        for point in 0..=history.ops() {
            images += history.check_all(point);
        }
    }
    println!("{images} images");
    assert!(images > 5_000, "{images}");
}

#[test]
fn random_images_of_long_histories() {
    let wanted: usize = std::env::var("DEWAR_IMAGES").map_or(3_000, |count| {
        count.parse().expect("DEWAR_IMAGES is a number")
    });
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut draw = move |below: usize| {
        // Xorshift64, Marsaglia 2003.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    let mut images = 0;
    while images < wanted {
        let mut history = History::new();
        history.does(Deed::Append(1));
        for _ in 0..20 + draw(60) {
            history.does(match draw(12) {
                0 => Deed::Compact,
                1 => Deed::Reopen,
                2 => Deed::Trim,
                _ => Deed::Append(1 + draw(6)),
            });
        }
        for _ in 0..60 {
            let point = draw(history.ops() + 1);
            let rename_survives = draw(2) == 0;
            let (_, unsynced, _) = history.disk.borrow().at(point, rename_survives);
            let survives: Vec<bool> = unsynced.iter().map(|_| draw(2) == 0).collect();
            let torn = (draw(2) == 0).then(|| draw(400));
            let luck = Luck {
                survives: &survives,
                torn,
            };
            let image = history.disk.borrow().image(point, rename_survives, &luck);
            history.check(point, &image);
            images += 1;
        }
    }
}
