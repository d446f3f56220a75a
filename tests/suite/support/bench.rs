//! What the tests share: a root directory of their own, the binary, and its answers.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a machine that is busy with other things; reached only when
/// something hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at what has no event of its own.
const LOOK: Duration = Duration::from_millis(5);

/// A root directory that is removed, with every task in it killed, when the test is over.
pub struct Bench {
    directory: TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let directory = TempDir::with_prefix("dewar-test-").expect("a temporary directory");
        Bench { directory }
    }

    /// Where the test may write.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    /// `dewar --root ROOT ...`.
    pub fn dewar(&self, arguments: &[&str]) -> Command {
        self.dewar_at(&self.root().display().to_string(), arguments)
    }

    /// `dewar ...` with another root directory.
    pub fn dewar_at(&self, root: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewar"));
        command
            .arg("--root")
            .arg(root)
            .args(arguments)
            .current_dir(self.path())
            .env_remove("DEWAR_ROOT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `dewar ...` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let child = self.dewar(arguments).spawn().expect("dewar starts");
        finish(child)
    }

    /// Begins a task of this text, without following it.
    pub fn detach(&self, id: &str, task: &str) {
        let file = self.file(&format!("{id}.yaml"), task).display().to_string();
        let output = self.run(&["run", &file, "--id", id, "--detach"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(stdout(&output).trim(), id);
    }

    /// The task's object of `status --format json`.
    pub fn task(&self, id: &str) -> Option<Value> {
        let output = self.run(&["status", id, "--format", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["tasks"].get(0).cloned()
    }

    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.root().join("tasks").join(id).join("sandbox")
    }

    /// Overwrites four bytes in the middle of a task's journal.
    pub fn damage(&self, id: &str) {
        let journal = self.root().join("tasks").join(id).join("journal");
        let file = fs::File::options().write(true).open(journal);
        file.and_then(|file| file.write_all_at(b"XXXX", 20))
            .expect("a journal to damage");
    }

    /// What a failed test leaves to look into: the status of every task, and what dewar said about
    /// itself.
    fn show_state(&self) {
        let status = self.run(&["status", "--format", "json"]);
        println!("status:\n{}", String::from_utf8_lossy(&status.stdout));
        let tasks = fs::read_dir(self.root().join("tasks"))
            .into_iter()
            .flatten();
        for task in tasks.flatten() {
            let log = fs::read_to_string(task.path().join("engine.log")).unwrap_or_default();
            if !log.is_empty() {
                println!("engine.log of {:?}:\n{log}", task.file_name());
            }
        }
    }

    fn kill_everything(&self) {
        let output = self.run(&["status", "--format", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        for task in status["tasks"].as_array().into_iter().flatten() {
            let state = task["state"].as_str().unwrap_or_default();
            if ["ACTIVE", "CLEANING", "FINALIZING"].contains(&state) {
                self.run(&[
                    "kill",
                    "--now",
                    task["task_id"].as_str().unwrap_or_default(),
                ]);
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_state();
        }
        if self.root().exists() {
            self.kill_everything();
        }
    }
}

/// Waits for a child, but not for ever.
pub fn finish(child: Child) -> Output {
    let pid = child.id();
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(output);
    });
    match wait.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("output"),
        Err(_) => {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("it did not end within {PATIENCE:?}: {words}");
        }
    }
}

/// Waits until `what` gives something. Where it gives up it says what it waited for; the bench then
/// shows the state of its tasks.
pub fn wait_for<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {name}");
        std::thread::sleep(LOOK);
    }
}

pub fn signal(pid: u64, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("kill");
}

/// The processes of a task, by the HOME that they have: its sandbox.
pub fn living_in(sandbox: &Path) -> Vec<u64> {
    let home = format!("HOME={}", sandbox.display());
    let is_theirs = |pid: &u64| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| variable == home.as_bytes())
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_theirs).collect()
}

/// Kills several as if in one instant: none of them sees another one's end, however busy the
/// machine is.
pub fn kill_at_once(pids: &[u64]) {
    for one in [
        nix::sys::signal::Signal::SIGSTOP,
        nix::sys::signal::Signal::SIGKILL,
    ] {
        for pid in pids {
            signal(*pid, one);
        }
    }
}

/// A process that the test got to know while it lived: its pid and its start time. Another test
/// rewinds the kernel's pid counter, so a pid alone may soon be another process'.
#[derive(Debug)]
pub struct Known {
    pub pid: String,
    start: Option<String>,
}

impl Known {
    pub fn new(pid: &str) -> Known {
        let pid = pid.trim().to_owned();
        let start = stat(&pid).map(|(_, start)| start);
        Known { pid, start }
    }

    /// As a record names it.
    pub fn since(pid: impl ToString, start: impl ToString) -> Known {
        let (pid, start) = (pid.to_string(), Some(start.to_string()));
        Known { pid, start }
    }

    /// True while it can still do something: a zombie that is not reaped cannot.
    pub fn lives(&self) -> bool {
        stat(&self.pid)
            .is_some_and(|(state, start)| state != "Z" && state != "X" && Some(start) == self.start)
    }
}

/// State and start time of a process.
fn stat(pid: &str) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.to_owned();
    Some((state, words.nth(18)?.to_owned()))
}

/// The code of a process that exited.
pub fn code(output: &Output) -> i32 {
    output
        .status
        .code()
        .unwrap_or_else(|| panic!("ended by a signal: {:?}\n{}", output.status, stderr(output)))
}

/// What a program wrote to its standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program wrote to its standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process of a task's status.
pub fn process_of(status: &Value, name: &str) -> Value {
    let processes = status["processes"].as_array().expect("processes");
    let process = processes.iter().find(|process| process["name"] == name);
    process.expect("the process").clone()
}

/// A small tmpfs (mounting needs root); unmounted on drop.
pub struct SmallDisk {
    pub path: PathBuf,
}

impl SmallDisk {
    pub fn new(bench: &Bench, size: &str) -> SmallDisk {
        let path = bench.path().join("disk");
        fs::create_dir(&path).expect("mkdir");
        let disk = SmallDisk { path };
        disk.mount(&[
            "-t",
            "tmpfs",
            "-o",
            &format!("size={size},mode=0755"),
            "tmpfs",
        ]);
        disk
    }

    /// Nothing can be written any more, or again.
    pub fn set_read_only(&self, is_read_only: bool) {
        let way = if is_read_only { "ro" } else { "rw" };
        // Forced: files are open for writing.
        self.mount(&["-o", &format!("remount,{way}")]);
    }

    fn mount(&self, arguments: &[&str]) {
        let mounted = Command::new("mount")
            .args(arguments)
            .arg(&self.path)
            .output();
        let output = mounted.expect("mount");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "mounting needs root: {said}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}
