//! A transient scope of systemd that is delegated to dewar: where a user may make cgroups on a
//! desktop.
//!
//! systemd owns the tree of cgroups, and dewar may not divide the group that a shell was started
//! in. It may divide a transient scope with `Delegate=yes`, which lives as long as a process is in
//! it. See org.freedesktop.systemd1(5).
//!
//! systemd's own programs do the talking: a D-Bus library for one call is a third of a build. None
//! of them outlives its call, whatever happens.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use thiserror::Error;

use super::hierarchies::group_of;

/// How long systemd may take to answer; after that a task goes on without a scope.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no scope.
#[derive(Debug, Error)]
pub enum DelegateError {
    /// There is no systemd on this machine, or none for this user.
    #[error("there is no systemd to ask for a scope")]
    Absent,
    /// systemd refused the request, or cannot be reached; in its own words.
    #[error("systemd gives no scope: {0}")]
    Bus(String),
    /// systemd does not answer in time.
    #[error("systemd gives no scope: it has not answered for {PATIENCE:?}")]
    Silent,
    /// The job that starts the scope failed.
    #[error("systemd could not make the scope {scope}: {result}")]
    Job {
        /// The scope's name.
        scope: String,
        /// What systemd says of its end.
        result: String,
    },
}

/// Moves `pid`, a process of dewar that has not begun yet, into a scope of its own: of the systemd
/// of the system for root, else of the user's. `scope` ends in `.scope`. Returns when it is there.
///
/// # Errors
/// See [`DelegateError`].
pub fn delegate(scope: &str, pid: u32) -> Result<(), DelegateError> {
    let is_root = nix::unistd::geteuid().is_root();
    let (runtime, whose) = match is_root {
        true => (Some("/run".into()), "--system"),
        false => (std::env::var_os("XDG_RUNTIME_DIR"), "--user"),
    };
    let is_there = runtime.is_some_and(|runtime| Path::new(&runtime).join("systemd").is_dir());
    if !is_there {
        return Err(DelegateError::Absent);
    }
    let until = Instant::now() + PATIENCE;
    carry_out(&mut request(whose, scope, pid), until).map_err(|refusal| match refusal {
        Refusal::Late => DelegateError::Silent,
        Refusal::Said(words) => DelegateError::Bus(words),
    })?;
    let job = |result: String| DelegateError::Job {
        scope: scope.to_owned(),
        result,
    };
    carry_out(&mut end_of_job(whose, scope), until).map_err(|refusal| match refusal {
        Refusal::Late => DelegateError::Silent,
        Refusal::Said(words) => job(words),
    })?;
    match group_of(pid) {
        Some(group) if Path::new(&group).file_name() == Some(OsStr::new(scope)) => Ok(()),
        group => Err(job(format!(
            "process {pid} is in {} instead",
            group.as_deref().unwrap_or("no group")
        ))),
    }
}

/// Asks for the scope. It is answered when the job is queued, not when it is done.
fn request(whose: &str, scope: &str, pid: u32) -> Command {
    let mut busctl = Command::new("busctl");
    busctl
        .args([whose, "call", "org.freedesktop.systemd1"])
        .arg("/org/freedesktop/systemd1")
        .args(["org.freedesktop.systemd1.Manager", "StartTransientUnit"])
        // Name and mode, four properties, and no other units along with it.
        .args(["ssa(sv)a(sa(sv))", scope, "fail", "4"])
        .args(["Description", "s", "dewar: a task with limits"])
        .args(["PIDs", "au", "1", &pid.to_string()])
        .args(["Delegate", "b", "true"])
        .args(["CollectMode", "s", "inactive-or-failed"])
        .arg("0");
    busctl
}

/// Waits for the job: to start what is being started is the same job, and to start what runs is
/// none.
fn end_of_job(whose: &str, scope: &str) -> Command {
    let mut systemctl = Command::new("systemctl");
    systemctl.args([whose, "--no-ask-password", "start", scope]);
    systemctl
}

/// Why a program of systemd did not do what it was asked.
#[derive(Debug)]
enum Refusal {
    /// The program had no time left, and was killed.
    Late,
    /// The program failed; its words.
    Said(String),
}

/// Runs a program that must be over at `until`. Whatever is returned, it is dead and reaped.
fn carry_out(command: &mut Command, until: Instant) -> Result<(), Refusal> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| Refusal::Said(format!("cannot run `{name}`: {error}"));
    // A file, unlike a pipe, takes what the program says without a reader, and has an end also
    // while a process that the program left behind holds it open.
    let mut words = memfd_create(c"words", MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(|errno| failed(errno.into()))?;
    let theirs = words.try_clone().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(theirs);
    let mut child = command.spawn().map_err(failed)?;
    let in_time = wait_for(&child, until);
    if !matches!(in_time, Ok(true)) {
        child.kill().map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if !in_time.map_err(failed)? {
        return Err(Refusal::Late);
    }
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    words
        .rewind()
        .and_then(|()| words.read_to_end(&mut said))
        .map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    Err(Refusal::Said(match said.trim() {
        "" => format!("`{name}` says nothing but {status}"),
        said => said.to_owned(),
    }))
}

/// False when `child` still runs at `until`.
fn wait_for(child: &Child, until: Instant) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, left) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn a_program_that_does_not_answer_holds_nothing_up_and_is_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let began = Instant::now();
        let mut silent = shell("echo $$ > \"$0\"; exec sleep 1000");
        silent.arg(&file);
        // It may be killed before it has written its pid: then there is no process to look for.
        let result = carry_out(&mut silent, began + Duration::from_millis(100));
        assert!(matches!(result, Err(Refusal::Late)), "{result:?}");
        assert!(began.elapsed() < Duration::from_secs(100));
        let pid = std::fs::read_to_string(&file).unwrap_or_default();
        if !pid.is_empty() {
            assert!(!Path::new("/proc").join(pid.trim()).exists());
        }
    }

    #[test]
    fn who_has_no_time_left_is_not_waited_for() {
        let result = carry_out(&mut shell("sleep 1000"), Instant::now());
        assert!(matches!(result, Err(Refusal::Late)), "{result:?}");
    }

    #[test]
    fn who_refuses_is_quoted() {
        let until = Instant::now() + Duration::from_secs(100);
        let quoted = |command: &mut Command| match carry_out(command, until) {
            Err(Refusal::Said(words)) => words,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            quoted(&mut shell("echo Call failed: no >&2; exit 1")),
            "Call failed: no"
        );
        assert_eq!(
            quoted(&mut shell("exit 3")),
            "`sh` says nothing but exit status: 3"
        );
        assert_eq!(
            quoted(&mut Command::new("/nobody/has/this")),
            "cannot run `/nobody/has/this`: No such file or directory (os error 2)"
        );
    }

    /// What a program leaves running keeps its standard error open.
    #[test]
    fn what_it_leaves_behind_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let mut leaving = shell("sleep 1000 & echo $! > \"$0\"");
        leaving.arg(&file);
        let began = Instant::now();
        carry_out(&mut leaving, began + Duration::from_secs(100)).expect("well");
        assert!(began.elapsed() < Duration::from_secs(100));
        let pid = std::fs::read_to_string(&file).expect("a pid");
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().expect("a number"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
    }
}
