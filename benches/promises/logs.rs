//! Output in rotate mode, beside s6-log in the same run: MB/s, CPU of the reader, bytes lost.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::json;

use super::{Bench, median, ours, wait_for};

const WIDTH: usize = 100;
const LINES: usize = 4_000_000;
const FILE: u64 = 10_000_000;
const BACKUPS: u32 = 60;

/// What one run came to.
struct Sample {
    mb_per_s: f64,
    cpu_per_gb: f64,
    lost: i64,
}

/// Writes numbered lines, so many in one write, as soon as the fifo `go` is written to.
pub fn produce(arguments: &[String]) {
    let number = |index: usize| arguments[index].parse::<usize>().expect("a number");
    let (lines, batch) = (number(0), number(1));
    let mut go = String::new();
    File::open(&arguments[2])
        .and_then(|mut fifo| fifo.read_to_string(&mut go))
        .expect("a fifo");
    let mut stdout = File::from(
        std::os::fd::AsFd::as_fd(&std::io::stdout())
            .try_clone_to_owned()
            .expect("an output"),
    );
    // Only the numbers change: the writer must not be what is measured.
    let mut line = [b'x'; WIDTH];
    line[..13].copy_from_slice(b"000000000000 ");
    line[WIDTH - 1] = b'\n';
    let mut text = line.repeat(batch);
    let mut next = 0usize;
    while next < lines {
        let count = batch.min(lines - next);
        for line in text.chunks_exact_mut(WIDTH).take(count) {
            let mut rest = next;
            for digit in line[..12].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            next += 1;
        }
        stdout.write_all(&text[..count * WIDTH]).expect("a reader");
    }
}

impl Bench {
    pub fn logs(&self) {
        for batch in [1, 64] {
            let mut all: Vec<(Sample, Option<Sample>)> = Vec::new();
            for round in 0..3 {
                let theirs = s6_log().map(|program| self.s6(&program, batch, round));
                all.push((self.pumped(batch, round), theirs));
            }
            let of = |pick: fn(&Sample) -> f64| {
                let ours = median(all.iter().map(|(ours, _)| pick(ours)).collect());
                let theirs: Vec<f64> = all
                    .iter()
                    .filter_map(|(_, theirs)| theirs.as_ref().map(pick))
                    .collect();
                (ours, (!theirs.is_empty()).then(|| median(theirs)))
            };
            let lost: i64 = all.iter().map(|(ours, _)| ours.lost).sum();
            for (what, unit, (ours, theirs)) in [
                ("MB/s", "MB/s", of(|sample| sample.mb_per_s)),
                ("CPU", "s/GB", of(|sample| sample.cpu_per_gb)),
            ] {
                let name = format!("rotated log, {batch} lines a write, {what}");
                let theirs = theirs.map(|theirs| ("s6-log", theirs));
                let promise = match (batch, what) {
                    (1, "MB/s") => ">= s6-log",
                    (64, "MB/s") => ">= 400 MB/s",
                    _ => "<= half of s6-log",
                };
                super::row(&name, ours, unit, theirs, promise);
            }
            super::row("bytes lost", lost as f64, "", None, "0");
        }
        if s6_log().is_none() {
            println!("s6-log is not here: install s6 to compare");
        }
    }

    fn producer(&self, batch: usize, go: &Path) -> Vec<String> {
        nix::unistd::mkfifo(go, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let exe = std::env::current_exe().expect("our own path");
        [
            exe.display().to_string(),
            "__produce".to_owned(),
            LINES.to_string(),
            batch.to_string(),
            go.display().to_string(),
        ]
        .to_vec()
    }

    fn pumped(&self, batch: usize, round: u32) -> Sample {
        let id = format!("logs{batch}-{round}");
        let go = self.path().join(format!("{id}.go"));
        let hold = self.path().join(format!("{id}.hold"));
        nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let task = json!({"processes": [
            {"name": "p", "argv": self.producer(batch, &go),
             "logger": {"mode": "rotate", "rotate": {"log_size": FILE, "backups": BACKUPS}}},
            {"name": "hold", "argv": ["cat", hold]},
        ]});
        let file = self.task(&id, &task);
        let mut command = self.dewar();
        command.arg("run").arg(file).args(["--id", &id, "--detach"]);
        assert!(command.status().expect("dewar").success());
        let state = |state: &'static str| {
            wait_for(|| {
                let task = self.status(&id);
                (task["processes"][0]["state"] == state).then_some(task)
            })
        };
        let pids = ours(&state("RUNNING"));
        let cpu = || pids.iter().map(|pid| on_cpu(*pid)).sum::<f64>();
        let (before, began) = (cpu(), Instant::now());
        let wall = std::time::SystemTime::now();
        fs::write(&go, "go").expect("the fifo");
        let task = state("SUCCESS");
        let used = cpu() - before;
        let stopped = task["processes"][0]["runs"][0]["stopped_at"].as_str();
        let stopped: jiff::Timestamp = stopped.expect("an end").parse().expect("a time");
        let wall = jiff::Timestamp::try_from(wall).expect("a time");
        let seconds = stopped.duration_since(wall).as_secs_f64();
        assert!(seconds > 0.0 && seconds <= began.elapsed().as_secs_f64() + 0.01);
        fs::write(&hold, "").expect("the fifo");
        wait_for(|| (self.status(&id)["state"] == "SUCCESS").then_some(()));
        let directory = self
            .path()
            .join("root/tasks")
            .join(&id)
            .join("sandbox/.logs/p/0");
        let sample = sample(seconds, used, &directory, "stdout");
        fs::remove_dir_all(directory).expect("the logs");
        sample
    }

    fn s6(&self, program: &Path, batch: usize, round: u32) -> Sample {
        let name = format!("s6-{batch}-{round}");
        let directory = self.path().join(&name);
        let go = self.path().join(format!("{name}.go"));
        fs::create_dir(&directory).expect("a directory");
        let (read, write) = std::io::pipe().expect("a pipe");
        let mut logger = Command::new(program)
            .args(["-b", &format!("n{BACKUPS}"), &format!("s{FILE}")])
            .arg(&directory)
            .stdin(Stdio::from(OwnedFd::from(read)))
            .spawn()
            .expect("s6-log");
        let argv = self.producer(batch, &go);
        let mut producer = Command::new(&argv[0])
            .args(&argv[1..])
            .stdout(Stdio::from(OwnedFd::from(
                write.try_clone().expect("a descriptor"),
            )))
            .spawn()
            .expect("the producer");
        let began = Instant::now();
        fs::write(&go, "go").expect("the fifo");
        assert!(producer.wait().expect("its end").success());
        // We still hold the pipe, so it lives and its CPU can be read when all has arrived.
        let pid = u64::from(logger.id());
        wait_for(|| (bytes(&directory, "") >= (LINES * WIDTH) as u64).then_some(()));
        let seconds = began.elapsed().as_secs_f64();
        let used = on_cpu(pid);
        drop(write);
        assert!(logger.wait().expect("its end").success());
        let sample = sample(seconds, used, &directory, "");
        fs::remove_dir_all(directory).expect("the logs");
        sample
    }
}

fn sample(seconds: f64, cpu: f64, directory: &Path, prefix: &str) -> Sample {
    let total = (LINES * WIDTH) as f64;
    for entry in fs::read_dir(directory).expect("the logs").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_log =
            name.starts_with(prefix) && !["lock", "state", "stderr"].contains(&name.as_str());
        if is_log && entry.metadata().is_ok_and(|meta| meta.len() > 0) {
            let text = fs::read(entry.path()).expect("a log");
            assert_eq!(text.last(), Some(&b'\n'), "{name} is cut within a line");
            assert_eq!(text.len() % WIDTH, 0, "{name} has a torn line");
        }
    }
    Sample {
        mb_per_s: total / 1e6 / seconds,
        cpu_per_gb: cpu / (total / 1e9),
        lost: (LINES * WIDTH) as i64 - bytes(directory, prefix) as i64,
    }
}

fn bytes(directory: &Path, prefix: &str) -> u64 {
    let entries = fs::read_dir(directory).expect("the logs").flatten();
    let logs = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(prefix) && !["lock", "state"].contains(&name.as_str())
    });
    logs.map(|entry| entry.metadata().map_or(0, |meta| meta.len()))
        .sum()
}

/// Seconds of CPU of all threads.
fn on_cpu(pid: u64) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let of = |path: PathBuf| -> f64 {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let nanos = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<f64>().ok());
        nanos.unwrap_or_default() / 1e9
    };
    tasks.flatten().map(|entry| of(entry.path())).sum()
}

fn s6_log() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join("s6-log"))
        .find(|program| program.exists())
}
