//! Following the logs of several runs, line by line: what inotify says has changed is read on.
//!
//! It reads what processes have printed and nothing else; where a log goes on after a rotation is
//! `log_file`'s to know.

use std::{io, os::fd::BorrowedFd, path::Path};

use nix::sys::inotify::WatchDescriptor;

use super::{
    log_events::LogEvents,
    log_file::{LogFile, Start},
    log_line::Output,
};

/// Logs that are glanced at, at most: descriptors are few.
const GLANCES: usize = 400;

/// Several logs, woken by inotify.
#[derive(Debug)]
pub(crate) struct LogFollower {
    events: LogEvents,
    logs: Vec<Followed>,
    has_more: bool,
}

/// One stream of one run.
#[derive(Debug)]
struct Followed {
    process: String,
    run: u32,
    stream: &'static str,
    log: LogFile,
    /// What tells that it changed; `None`: nothing does, so it is looked at every time.
    watch: Option<WatchDescriptor>,
    /// It changed, or was not read to its end.
    is_due: bool,
}

impl LogFollower {
    /// Follows nothing yet.
    ///
    /// # Errors
    /// What inotify says.
    pub fn new() -> io::Result<LogFollower> {
        Ok(LogFollower {
            events: LogEvents::new()?,
            logs: Vec::new(),
            has_more: false,
        })
    }

    /// Readable when a log may have grown.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
    }

    /// As [`add`](Self::add), for a view that only shows the last lines.
    pub fn glance(&mut self, sandbox: &Path, process: &str, run: u32) {
        // What is not on the screen anyway can do without.
        if self.logs.len() < GLANCES {
            self.follow(sandbox, process, run, None);
        }
    }

    /// Begins to follow the output of a run; nothing happens when it is followed already.
    pub fn add(&mut self, sandbox: &Path, process: &str, run: u32, start: Start) {
        self.follow(sandbox, process, run, Some(start));
    }

    /// Without a `start` it is a glance.
    fn follow(&mut self, sandbox: &Path, process: &str, run: u32, start: Option<Start>) {
        let is_known = |one: &Followed| one.process == process && one.run == run;
        if self.logs.iter().any(is_known) {
            return;
        }
        let directory = sandbox.join(".logs").join(process).join(run.to_string());
        let watch = self.events.watch(&directory);
        for stream in ["stdout", "stderr"] {
            let path = directory.join(stream);
            let log = match start {
                Some(start) => LogFile::open(process, stream, path, start),
                None => LogFile::glance(process, stream, path),
            };
            self.logs.push(Followed {
                process: process.to_owned(),
                run,
                stream,
                log,
                watch,
                is_due: true,
            });
        }
    }

    /// Stops following a run that is over, after its last lines; they are given out piece by piece.
    pub fn finish(&mut self, process: &str, run: u32, out: &mut dyn FnMut(&[Output])) {
        let is_it = |one: &Followed| one.process == process && one.run == run;
        let logs = std::mem::take(&mut self.logs);
        let (over, others): (Vec<Followed>, Vec<Followed>) = logs.into_iter().partition(is_it);
        self.logs = others;
        let watch = over.first().and_then(|one| one.watch);
        for mut one in over {
            let mut made = || self.events.made(one.watch, one.stream);
            one.log.read_out(&mut made, out);
        }
        if let Some(watch) = watch {
            self.events.unwatch(watch);
        }
    }

    /// True when [`lines`](Self::lines) has something to give although no event tells of it: it
    /// left something for the next turn, or the events of this log were read with another one's.
    pub fn has_more(&self) -> bool {
        self.has_more || self.events.has_changed()
    }

    /// What is new, but not more than one turn's worth: a process may write faster than it is
    /// shown.
    pub fn lines(&mut self) -> Vec<Output> {
        let changed = self.events.take_changed();
        let mut lines = Vec::new();
        self.has_more = false;
        for one in &mut self.logs {
            let is_changed = match (&changed, one.watch) {
                (Some(changed), Some(watch)) => changed.contains(&watch),
                _ => true,
            };
            if is_changed || one.is_due {
                let mut made = || self.events.made(one.watch, one.stream);
                one.is_due = one.log.read(&mut made, &mut lines);
                self.has_more |= one.is_due;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
        path::PathBuf,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// Lines as they are, and where files are missing their number.
    fn texts(output: Vec<Output>) -> Vec<String> {
        let texts = output.into_iter().map(|output| match output {
            Output::Line(line) => String::from_utf8_lossy(&line.text).into_owned(),
            Output::Missed(missed) => match missed.files {
                Some(files) => format!("{files} MISSED"),
                None => "MISSED".to_owned(),
            },
            Output::Cut(cut) => format!("{} CUT", cut.bytes),
        });
        texts.collect()
    }

    /// A log that is written and rotated as the keeper does it.
    struct Rotator {
        sandbox: tempfile::TempDir,
        backups: u32,
        file: File,
    }

    impl Rotator {
        fn new(backups: u32) -> Rotator {
            let sandbox = tempfile::tempdir().unwrap();
            let directory = sandbox.path().join(".logs/a/0");
            fs::create_dir_all(&directory).unwrap();
            let file = File::create(directory.join("stdout")).unwrap();
            Rotator {
                sandbox,
                backups,
                file,
            }
        }

        fn path(&self, number: u32) -> PathBuf {
            let directory = self.sandbox.path().join(".logs/a/0");
            match number {
                0 => directory.join("stdout"),
                number => directory.join(format!("stdout.{number}")),
            }
        }

        fn write(&mut self, text: &str) {
            self.file.write_all(text.as_bytes()).unwrap();
        }

        /// Renames the files with these numbers, the oldest first.
        fn rename(&self, numbers: std::ops::Range<u32>) {
            for number in numbers.rev() {
                let (from, to) = (self.path(number), self.path(number + 1));
                if from.exists() {
                    fs::rename(from, to).unwrap();
                }
            }
        }

        fn rotate(&mut self) {
            self.rename(0..self.backups);
            self.file = File::create(self.path(0)).unwrap();
        }

        fn follower(&self, start: Start) -> LogFollower {
            let mut follower = LogFollower::new().unwrap();
            follower.add(self.sandbox.path(), "a", 0, start);
            follower
        }
    }

    fn all(follower: &mut LogFollower) -> Vec<String> {
        let mut all = texts(follower.lines());
        while follower.has_more() {
            all.extend(texts(follower.lines()));
        }
        all
    }

    fn finished(mut follower: LogFollower) -> Vec<String> {
        let mut last = Vec::new();
        follower.finish("a", 0, &mut |lines| last.extend_from_slice(lines));
        texts(last)
    }

    #[test]
    fn lines_are_followed_through_rotation() {
        let mut log = Rotator::new(5);
        log.write("one\ntwo\nthree\nfo");
        let mut follower = log.follower(Start::Last(2));
        assert_eq!(texts(follower.lines()), ["three"]);
        log.write("ur\n");
        // Several rotations between two looks.
        log.rotate();
        log.write("five\n");
        log.rotate();
        log.write("six");
        assert_eq!(texts(follower.lines()), ["four", "five"]);
        assert_eq!(finished(follower), ["six"]);
    }

    /// A process that opens its log again cuts it; what it writes then is no longer than before.
    #[test]
    fn a_file_that_was_cut_is_told_and_read_from_its_beginning() {
        let mut log = Rotator::new(5);
        log.write("one\ntwo\nthree\nfo");
        let mut follower = log.follower(Start::Oldest);
        assert_eq!(all(&mut follower), ["one", "two", "three"]);
        log.file = File::create(log.path(0)).unwrap();
        log.write("four\n");
        assert_eq!(all(&mut follower), ["fo", "16 CUT", "four"]);
        log.file.set_len(0).unwrap();
        assert_eq!(all(&mut follower), ["5 CUT"]);
        assert_eq!(finished(follower), Vec::<String>::new());
    }

    #[test]
    fn files_that_are_gone_are_told_and_those_that_are_held_are_read() {
        let mut log = Rotator::new(2);
        log.write("0\n");
        let mut follower = log.follower(Start::Oldest);
        assert_eq!(all(&mut follower), ["0"]);
        log.write("still 0\n");
        for number in 1..=6 {
            log.rotate();
            log.write(&format!("{number}\n"));
        }
        // The file that was followed is open, so its end is read though it has no name any more.
        assert_eq!(all(&mut follower), ["still 0", "3 MISSED", "4", "5", "6"]);
        // All that came after it are there, and it has just lost its own name.
        for number in 7..=9 {
            log.rotate();
            log.write(&format!("{number}\n"));
        }
        assert!(!log.path(3).exists());
        assert_eq!(all(&mut follower), ["7", "8", "9"]);
        assert_eq!(finished(follower), Vec::<String>::new());
    }

    #[test]
    fn what_was_rotated_before_the_first_look_is_read_when_all_is_wanted() {
        let mut log = Rotator::new(9);
        for number in 0..5 {
            log.write(&format!("{number}\n"));
            log.rotate();
        }
        log.write("5\n");
        assert_eq!(
            finished(log.follower(Start::Oldest)),
            ["0", "1", "2", "3", "4", "5"]
        );
        assert_eq!(finished(log.follower(Start::Present)), ["5"]);
        assert_eq!(finished(log.follower(Start::Last(0))), Vec::<String>::new());
    }

    #[test]
    fn a_look_into_the_middle_of_a_rotation_skips_no_file() {
        // At every step of the rotation: 3 becomes 4, 2 becomes 3, and so on.
        for first in 0..=4 {
            let mut log = Rotator::new(9);
            log.write("0\n");
            let mut follower = log.follower(Start::Oldest);
            assert_eq!(all(&mut follower), ["0"]);
            for number in 1..=4 {
                log.rotate();
                log.write(&format!("{number}\n"));
            }
            log.rename(first..5);
            let mut seen = all(&mut follower);
            log.rename(0..first);
            log.file = File::create(log.path(0)).unwrap();
            log.write("5\n");
            seen.extend(all(&mut follower));
            assert_eq!(seen, ["1", "2", "3", "4", "5"], "from {first}");
        }
    }

    #[test]
    fn a_writer_that_rotates_while_it_is_followed_loses_no_line() {
        const LINES: u32 = 20_000;
        let mut log = Rotator::new(1000);
        let mut follower = log.follower(Start::Oldest);
        let is_done = AtomicBool::new(false);
        let mut seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..LINES {
                    log.write(&format!("{number}\n"));
                    if number % 50 == 0 {
                        log.rotate();
                    }
                }
                is_done.store(true, Ordering::SeqCst);
            });
            let mut seen = Vec::new();
            while !is_done.load(Ordering::SeqCst) {
                seen.extend(all(&mut follower));
            }
            seen
        });
        seen.extend(finished(follower));
        let wanted: Vec<String> = (0..LINES).map(|number| number.to_string()).collect();
        let pairs = seen.iter().zip(&wanted);
        let different = pairs.enumerate().find(|(_, (seen, wanted))| seen != wanted);
        assert_eq!(different, None);
        assert_eq!(seen.len(), wanted.len());
    }

    #[test]
    fn what_a_process_planted_is_not_read_and_keeps_nothing_busy() {
        let mut log = Rotator::new(5);
        log.write("0\n");
        let mut follower = log.follower(Start::Oldest);
        assert_eq!(all(&mut follower), ["0"]);
        fs::rename(log.path(0), log.path(1)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", log.path(0)).unwrap();
        assert_eq!(all(&mut follower), Vec::<String>::new());
        fs::remove_file(log.path(0)).unwrap();
        nix::unistd::mkfifo(&log.path(0), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(all(&mut follower), Vec::<String>::new());
        fs::remove_file(log.path(0)).unwrap();
        fs::write(log.path(0), "1\n").unwrap();
        assert_eq!(all(&mut follower), ["1"]);
    }

    #[test]
    fn the_end_of_one_log_hides_no_line_of_another() {
        let sandbox = tempfile::tempdir().unwrap();
        let mut files = ["a", "b"].map(|process| {
            let directory = sandbox.path().join(".logs").join(process).join("0");
            fs::create_dir_all(&directory).unwrap();
            File::create(directory.join("stdout")).unwrap()
        });
        let mut follower = LogFollower::new().unwrap();
        for process in ["a", "b"] {
            follower.add(sandbox.path(), process, 0, Start::Oldest);
        }
        while follower.has_more() || !follower.lines().is_empty() {}
        files[1].write_all(b"late\n").unwrap();
        follower.finish("a", 0, &mut |_| {});
        assert!(follower.has_more());
        assert_eq!(texts(follower.lines()), ["late"]);
    }
}
