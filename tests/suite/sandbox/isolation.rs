//! Private tasks: every way out is tried from inside and refused; and again with the protection
//! switched off that refuses it, where it must succeed: a test that cannot fail proves nothing.
//! They need root.
#![allow(unsafe_code)]

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

use serde_json::Value;

use crate::support::{Bench, code, wait_for};

/// A process of another user, outside of the task.
struct Foreigner(Child);

impl Foreigner {
    fn new() -> Foreigner {
        let child = Command::new("sleep").arg("98765").spawn();
        Foreigner(child.expect("sleep"))
    }

    fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        self.0.wait().expect("wait");
    }
}

/// What a prisoner is given.
struct Cell {
    bench: Bench,
    foreigner: Foreigner,
    sandbox: PathBuf,
    attempts: std::cell::Cell<u32>,
}

impl Cell {
    fn new() -> Cell {
        let bench = Bench::new();
        // Another user must be able to walk here, so that nothing else refuses it.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bench.path(), open).expect("chmod");
        let sandbox = bench.path().join("sandbox");
        fs::create_dir(&sandbox).expect("mkdir");
        bench.file("secret", "the secret\n");
        Cell {
            bench,
            foreigner: Foreigner::new(),
            attempts: std::cell::Cell::new(0),
            sandbox,
        }
    }

    /// Runs `script` in a private task that does without these protections; true when it got what
    /// it wanted.
    fn escapes(&self, script: &str, user: Option<&str>, without: &[&str]) -> bool {
        let script = script
            .replace("OUTSIDE", &self.bench.path().display().to_string())
            .replace("FOREIGNER", &self.foreigner.0.id().to_string());
        let process = serde_json::json!({"name": "prisoner", "cmdline": script, "user": user});
        let task = serde_json::json!({
            "isolation": {"level": "private", "without": without},
            "processes": [process],
        });
        let file = self
            .bench
            .file("task.json", &task.to_string())
            .display()
            .to_string();
        let attempt = self.attempts.get();
        self.attempts.set(attempt + 1);
        let id = format!("cell-{attempt}");
        let sandbox = self.sandbox.display().to_string();
        let output = self
            .bench
            .run(&["run", &file, "--id", &id, "--sandbox", &sandbox]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let task = self.bench.task(&id).unwrap_or_else(|| panic!("{said}"));
        let run = &task["processes"][0]["runs"][0];
        assert!(run["started_at"].is_string(), "it never ran: {said}");
        match code(&output) {
            0 => true,
            1 => false,
            code => panic!("{code}: {said}"),
        }
    }

    /// Refused as it is, and possible without what refuses it.
    fn refuses(&self, what: &str, script: &str, without: &[&str]) {
        self.refuses_to(what, script, None, without);
    }

    fn refuses_to(&self, what: &str, script: &str, user: Option<&str>, without: &[&str]) {
        assert!(!self.escapes(script, user, &[]), "{what}: it got out");
        assert!(
            self.escapes(script, user, without),
            "{what}: refused even without {without:?}, so nothing is proved"
        );
    }
}

#[test]
fn files_outside_cannot_be_read_or_written() {
    let cell = Cell::new();
    let off = &["mounts", "landlock"];
    cell.refuses("read", "grep -q secret OUTSIDE/secret", off);
    // In its own /tmp it may write wherever it likes: whether something was written is seen from
    // outside.
    let written = cell.bench.path().join("written");
    cell.escapes("echo x > OUTSIDE/written", None, &[]);
    assert!(!written.exists());
    cell.escapes("echo x > OUTSIDE/written", None, off);
    assert!(written.exists());
    cell.refuses(
        "write the machine's settings",
        "touch /etc/dewar-test && rm /etc/dewar-test",
        off,
    );
    let same = "cat /proc/sys/vm/swappiness > value && cat value > /proc/sys/vm/swappiness";
    cell.refuses("write the kernel's settings", same, off);
    cell.refuses("homes", "[ -n \"$(ls -A /var/lib)\" ]", off);
}

#[test]
fn landlock_alone_is_a_second_line() {
    let cell = Cell::new();
    // Not below /tmp, which it may write.
    let place = tempfile::TempDir::new_in("/srv").expect("a directory");
    let script = format!("echo x > {}/written", place.path().display());
    assert!(!cell.escapes(&script, None, &["mounts"]));
    assert!(cell.escapes(&script, None, &["mounts", "landlock"]));
}

#[test]
fn links_lead_nowhere() {
    let cell = Cell::new();
    let off = &["mounts", "landlock"];
    cell.refuses(
        "a symbolic link",
        "ln -sf OUTSIDE/secret link && cat link",
        off,
    );
    cell.refuses("dots", "cat ../secret", off);
    cell.refuses("a hard link", "rm -f hard; ln OUTSIDE/secret hard", off);
    cell.refuses(
        "a hard link to a program",
        "rm -f hard; ln /etc/hostname hard",
        off,
    );
    // What the keeper opens for it is opened beneath the sandbox, and no link is followed.
    let script = "mkdir -p .logs/next && ln -s OUTSIDE .logs/next/0 && sleep 0";
    assert!(cell.escapes(script, None, &[]));
    let task = r#"{"processes": [{"name": "next", "cmdline": "echo caught"}]}"#;
    let file = cell.bench.file("next.json", task).display().to_string();
    let sandbox = cell.sandbox.display().to_string();
    let output = cell
        .bench
        .run(&["run", &file, "--id", "next", "--sandbox", &sandbox]);
    assert_eq!(code(&output), 1);
    assert!(!cell.bench.path().join("stdout").exists());
}

#[test]
fn variables_are_not_read_through_links_that_a_private_task_made() {
    let cell = Cell::new();
    cell.bench.file("outside.env", "STOLEN=yes\n");
    let outside = cell.bench.path().join("outside.env");
    let link = cell.sandbox.join("own.env");
    let run = |task: &str, id: &str| {
        let task = task.replace("OWN", &link.display().to_string());
        let file = cell.bench.file("task.yaml", &task).display().to_string();
        let sandbox = cell.sandbox.display().to_string();
        code(
            &cell
                .bench
                .run(&["run", &file, "--id", id, "--sandbox", &sandbox]),
        )
    };
    let task = "isolation: private\nprocesses:\n  - {name: a, env_file: OWN, cmdline: '[ \"$STOLEN\" = yes ]'}\n";
    fs::write(&link, "STOLEN=yes\n").expect("write");
    assert_eq!(run(task, "plain"), 0);
    fs::remove_file(&link).expect("rm");
    std::os::unix::fs::symlink(&outside, &link).expect("symlink");
    assert_eq!(run(task, "link"), 1);
    let reason =
        cell.bench.task("link").expect("the task")["processes"][0]["runs"][0]["reason"].clone();
    assert!(
        reason
            .as_str()
            .unwrap_or_default()
            .contains("cannot read the variables"),
        "{reason}"
    );
    assert_eq!(
        run(&task.replace("isolation: private\n", ""), "directory"),
        0
    );
}

#[test]
fn foreign_processes_are_neither_seen_nor_signalled() {
    let mut cell = Cell::new();
    let look = "tr '\\0' ' ' < /proc/FOREIGNER/cmdline | grep -q 98765";
    cell.refuses("see", look, &["pids"]);
    assert!(!cell.escapes("kill -TERM FOREIGNER", None, &[]));
    assert!(cell.foreigner.lives());
    assert!(cell.escapes("kill -TERM FOREIGNER", None, &["pids"]));
    wait_for("its end", || (!cell.foreigner.lives()).then_some(()));
}

/// Tries what no tool has: a system call by its number.
fn call(arguments: &str) -> String {
    format!(
        "exec python3 -c 'import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); \
         sys.exit(0 if libc.syscall({arguments}) >= 0 else 1)'"
    )
}

/// Between fork and exec a child has the keeper's memory and the machine's view: no fellow may look
/// into it.
#[test]
fn nobody_looks_into_a_child_that_is_being_launched() {
    let cell = Cell::new();
    let spy = "
import os, time
end = time.time() + 1.5
own = os.getpid()
while time.time() < end:
    for pid in filter(str.isdigit, os.listdir('/proc')):
        if int(pid) in (1, own): continue
        try:
            name = os.readlink(f'/proc/{pid}/exe')
            if name.endswith('dewar'): os._exit(0)
        except OSError: pass
os._exit(1)";
    let task = serde_json::json!({
        "isolation": {"level": "private", "without": ["landlock"]},
        "processes": [
            {"name": "spy", "argv": ["python3", "-c", spy]},
            {"name": "fresh", "cmdline": "true", "daemon": true, "ephemeral": true, "min_duration": "20ms", "max_runs": 0},
        ],
    });
    let file = cell
        .bench
        .file("spy.json", &task.to_string())
        .display()
        .to_string();
    assert_eq!(code(&cell.bench.run(&["run", &file, "--id", "spy"])), 1);
    let status = cell.bench.task("spy").expect("the task");
    assert!(
        status["processes"][1]["totals"]["success"].as_u64() > Some(5),
        "{status:#}"
    );
}

#[test]
fn nobody_is_traced() {
    let cell = Cell::new();
    // PTRACE_SEIZE: nothing is stopped when it succeeds.
    let seize = call("101, 0x4206, FOREIGNER, 0, 0");
    cell.refuses(
        "trace a foreigner",
        &seize,
        &["pids", "seccomp", "capabilities", "landlock"],
    );
    // The keeper's child in the same namespace: its init has rights that the prisoner lacks.
    let init = call("101, 0x4206, 1, 0, 0");
    cell.refuses(
        "trace the init",
        &init,
        &["seccomp", "capabilities", "landlock"],
    );
}

#[test]
fn nothing_is_mounted_and_no_device_made() {
    let cell = Cell::new();
    let off = &["seccomp", "capabilities", "landlock"];
    cell.refuses("mount", "mount -t tmpfs x /mnt", off);
    cell.refuses("a namespace of its own", "unshare -m true", off);
    cell.refuses("a user namespace", "unshare -U true", &["seccomp"]);
    cell.refuses("a device", "rm -f disk; mknod disk b 8 0", off);
}

#[test]
fn no_program_gives_more_rights() {
    let cell = Cell::new();
    let program = cell.sandbox.join("whoami");
    fs::copy("/usr/bin/id", &program).expect("copy");
    chown(&program, Some(0), Some(0)).expect("chown");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("chmod");
    chown(&cell.sandbox, Some(65534), Some(65534)).expect("chown");
    let script = "[ \"$(./whoami -u)\" = 0 ]";
    cell.refuses_to(
        "setuid",
        script,
        Some("nobody"),
        &["no_new_privs", "mounts", "seccomp", "landlock"],
    );
}

#[test]
fn nothing_is_inherited_but_three_descriptors() {
    let cell = Cell::new();
    let script = "import os, sys; sys.exit(0 if os.path.exists('/proc/self/fd/9') else 1)";
    let task = serde_json::json!({
        "isolation": "private",
        "processes": [{"name": "prisoner", "argv": ["python3", "-c", script]}],
    });
    let file = cell
        .bench
        .file("fds.json", &task.to_string())
        .display()
        .to_string();
    let secret = fs::File::open(cell.bench.path().join("secret")).expect("the secret");
    let inherits = |id: &str, closes: bool| {
        let mut command = cell.bench.dewar(&["run", &file, "--id", id]);
        let secret = secret.try_clone().expect("a descriptor");
        // SAFETY: async-signal-safe calls between fork and exec; the filter was made before.
        unsafe {
            let filter = closes_nothing();
            command.pre_exec(move || {
                if libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&secret), 9) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                if !closes {
                    seccompiler::apply_filter(&filter).map_err(std::io::Error::other)?;
                }
                Ok(())
            });
        }
        code(&crate::support::finish(command.spawn().expect("dewar"))) == 0
    };
    assert!(!inherits("closed", true));
    assert!(inherits("open", false), "nothing is proved");
}

/// Makes every close_range of a process, and of all that it starts, do nothing and succeed.
fn closes_nothing() -> seccompiler::BpfProgram {
    let rules = std::collections::BTreeMap::from([(libc::SYS_close_range, Vec::new())]);
    let (allow, pretend) = (
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(0),
    );
    let arch = seccompiler::TargetArch::x86_64;
    let filter = seccompiler::SeccompFilter::new(rules, allow, pretend, arch).expect("a filter");
    filter.try_into().expect("a program")
}

#[test]
fn a_private_task_works_and_leaves_nothing() {
    let bench = Bench::new();
    let data = bench.path().join("data");
    fs::create_dir(&data).expect("mkdir");
    fs::write(data.join("given"), "given\n").expect("write");
    let task = format!(
        "isolation: private\nvolumes:\n  - {{host_path: {0}, container_path: /data}}\n  - {{host_path: {0}, container_path: /writable, mode: RW}}\n  - {{tmpfs: 1MiB, container_path: /scratch}}\nprocesses:
  - name: main
    cmdline: |
      set -e
      grep -q given /data/given; ! touch /data/x 2>/dev/null; touch /writable/y; touch /scratch/z /tmp/t /dev/shm/s
      getent hosts localhost > /dev/null; echo hi > /dev/null; [ -e /dev/fd/1 ]; echo $$ > pid
      [ \"$(id -u)\" = 0 ]; (setsid sleep 1000 &) ; echo done > result
  - name: second
    cmdline: '[ -e /tmp/t ] && kill -0 $(cat pid) 2>/dev/null || [ -e result ]'
  - name: last
    final: true
    cmdline: '[ -e /tmp/t ] && echo final >> result'
constraints: [{{order: [main, second]}}]\n",
        data.display()
    );
    let file = bench.file("task.yaml", &task).display().to_string();
    let output = bench.run(&["run", &file, "--id", "t"]);
    assert_eq!(
        code(&output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result = fs::read_to_string(bench.sandbox("t").join("result")).expect("result");
    assert_eq!(result, "done\nfinal\n");
    assert!(data.join("y").exists() && !data.join("x").exists());
    // Pids are the reader's, not the task's own.
    let inside = fs::read_to_string(bench.sandbox("t").join("pid")).expect("pid");
    let task = bench.task("t").expect("the task");
    let outside = task["processes"][0]["runs"][0]["pid"]
        .as_u64()
        .expect("a pid");
    assert_ne!(inside.trim(), outside.to_string());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(&bench.path().display().to_string()));
}

#[test]
fn the_end_of_the_init_kills_the_runs_and_they_run_again() {
    let bench = Bench::new();
    let task = "isolation: private\nprocesses:
  - name: main
    min_duration: 0
    cmdline: if [ -e once ]; then exit 0; fi; touch once; sleep 1000
";
    let file = bench.file("task.yaml", task).display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    wait_for("the first run", || {
        bench.sandbox("t").join("once").exists().then_some(())
    });
    let keeper = bench.task("t").expect("the task")["keeper_pid"]
        .as_u64()
        .expect("a pid");
    let children =
        fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("children");
    let init = children.split_whitespace().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "dewar-init"
    });
    let init: u64 = init.expect("an init").parse().expect("a pid");
    crate::support::signal(init, nix::sys::signal::Signal::SIGKILL);
    let code = code(&bench.run(&["wait", "t"]));
    let task = bench.task("t").expect("the task");
    assert_eq!(code, 0, "{task:#}");
    let runs = task["processes"][0]["runs"].as_array().expect("runs");
    let states: Vec<&Value> = runs.iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["KILLED", "SUCCESS"]);
}

/// A record that cannot be kept: the task is LOST, everything dies, and our own leave, namespaces
/// or not.
#[test]
fn a_private_task_whose_journal_fails_is_lost_and_leaves() {
    let bench = Bench::new();
    let task = "isolation: private\nprocesses:\n  - {name: a, min_duration: 0, daemon: true, cmdline: 'sleep 0.2'}\n  - {name: b, cmdline: sleep 1000}\n";
    let file = bench.file("task.yaml", task).display().to_string();
    let mut command = bench.dewar(&["run", &file, "--id", "t", "--format", "plain"]);
    let client = command.spawn().expect("dewar");
    let keeper = wait_for("both to run", || {
        let status = bench.task("t")?;
        let is_running = status["processes"][1]["state"] == "RUNNING";
        status["keeper_pid"].as_u64().filter(|_| is_running)
    });
    // Nothing can be written behind its first byte any more.
    let limited = Command::new("prlimit")
        .args(["--fsize=1:1", "--pid", &keeper.to_string()])
        .status();
    assert!(limited.expect("prlimit").success());
    assert_eq!(code(&crate::support::finish(client)), 4);
    let root = bench.root().display().to_string();
    wait_for("our own to leave", || {
        let mut entries = fs::read_dir("/proc").expect("/proc").flatten();
        let is_left = entries.any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&root)
        });
        (!is_left).then_some(())
    });
}

#[test]
fn what_cannot_be_built_is_named_and_nothing_begins() {
    let bench = Bench::new();
    let file = |volume: &str| {
        let task = format!(
            "isolation: private\nvolumes: [{volume}]\nprocesses: [{{name: a, cmdline: 'true'}}]\n"
        );
        bench.file("task.yaml", &task).display().to_string()
    };
    let refused = |volume: &str| {
        let output = bench.run(&["run", &file(volume), "--id", "t"]);
        assert_eq!(code(&output), 2);
        assert!(bench.task("t").is_none());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused("{host_path: /no/such/place, container_path: /data}");
    assert!(
        said.contains("cannot show /no/such/place to a private task: No such file"),
        "{said}"
    );
    let said = refused("{host_path: /tmp, container_path: /usr/no/place}");
    assert!(
        said.contains("cannot make the directory /usr/no: Read-only file system"),
        "{said}"
    );
    let said = refused("{host_path: ../up, container_path: /data}");
    assert!(said.contains("bad path \"../up\" of a volume"), "{said}");
}

#[test]
fn a_sandbox_that_cannot_be_one_is_named_and_the_machine_is_as_it_was() {
    let bench = Bench::new();
    let task = "user: nobody\nprocesses: [{name: a, cmdline: 'true'}]\n";
    let file = bench.file("task.yaml", task).display().to_string();
    let refused = |sandbox: &Path| {
        let sandbox = sandbox.display().to_string();
        let output = bench.run(&["run", &file, "--id", "t", "--sandbox", &sandbox]);
        assert_eq!(code(&output), 2);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let plain = bench.file("plain", "");
    assert!(refused(&plain).contains("plain: it is no directory"));
    let others = bench.path().join("others");
    fs::create_dir(&others).expect("mkdir");
    let said = refused(&others);
    assert!(
        said.contains("it belongs to root, and nobody may not write there"),
        "{said}"
    );
    let disk = crate::support::SmallDisk::new(&bench, "64k");
    disk.set_read_only(true);
    let said = refused(&disk.path);
    assert!(said.contains("Read-only file system"), "{said}");
    let said = refused(&disk.path.join("below"));
    assert!(said.contains("Read-only file system"), "{said}");
    let hostile = bench.path().join("new\nline/\u{1b}[31m");
    let output = bench.run(&[
        "run",
        &file,
        "--id",
        "h",
        "--sandbox",
        &hostile.display().to_string(),
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains('\u{1b}'), "{said:?}");
}
