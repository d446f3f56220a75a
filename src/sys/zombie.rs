//! How a process ended that is dead and not reaped, as `/proc` tells it.
//!
//! waitid tells a parent only, and not before a tracer has let go. The kernel writes the wait
//! status into field 52 of `/proc/PID/stat` for a reader that may trace the process, and 0 for any
//! other reader, which is no success: so it is believed only where tracing is permitted. Nothing is
//! reaped here.

use std::{fs, io, os::fd::BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{process::looking, stat::ProcessStat};

/// The wait status of process `pid` that began at `start_ticks`; `None` while it is not a zombie,
/// and where the kernel does not tell this reader.
///
/// Only for a process whose pidfd is readable: the first thread of a living process may be a
/// zombie.
pub(crate) fn wait_status(pid: i32, start_ticks: u64) -> Option<i32> {
    // In this order: a process that is still there afterwards was there for the first question.
    if !may_be_traced(pid) {
        return None;
    }
    let line = looking(|| ProcessStat::read(pid)).ok()??;
    let is_it = line.field::<char>(3)? == 'Z' && line.field::<u64>(22)? == start_ticks;
    line.field(52).filter(|_| is_it)
}

/// True when this process may trace the zombie `pid`. Its program is gone, so the link to it leads
/// nowhere for a reader that may follow it.
fn may_be_traced(pid: i32) -> bool {
    let link = fs::read_link(format!("/proc/{pid}/exe"));
    link.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// True when all threads of the process behind `pidfd` have ended, reaped or not.
pub(crate) fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::process::CommandExt},
        process::{Child, Command},
    };

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::sys::process;

    /// A child that is dead, and not reaped.
    fn zombie(command: &mut Command) -> (Child, u64) {
        let child = command.spawn().unwrap();
        let ticks = process::stat(child.id() as i32).unwrap().start_ticks;
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        assert!(is_dead(pidfd.as_fd()));
        (child, ticks)
    }

    #[test]
    fn a_zombie_tells_its_wait_status_and_no_other_process_does() {
        for (script, status) in [("exit 7", 7 << 8), ("kill -9 $$", 9), ("exit 0", 0)] {
            let (mut child, ticks) = zombie(Command::new("sh").args(["-c", script]));
            let pid = child.id() as i32;
            assert_eq!(wait_status(pid, ticks), Some(status), "{script}");
            assert_eq!(wait_status(pid, ticks + 1), None, "another process");
            child.wait().unwrap();
            assert_eq!(wait_status(pid, ticks), None, "it is reaped");
        }
        let me = std::process::id() as i32;
        let ticks = process::stat(me).unwrap().start_ticks;
        assert_eq!(wait_status(me, ticks), None, "it is alive");
    }

    #[test]
    fn a_zero_for_a_reader_without_rights_is_no_success() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (mut child, ticks) = zombie(Command::new("sh").args(["-c", "exit 7"]));
        // Asked by another user, the kernel writes 0.
        let pid = child.id();
        let asked = Command::new("sh")
            .uid(65534)
            .gid(65534)
            .args([
                "-c",
                &format!("cut -d' ' -f52 /proc/{pid}/stat; ls -l /proc/{pid}/exe 2>&1"),
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        assert!(said.starts_with("0\n"), "{said}");
        assert!(said.contains("denied"), "{said}");
        assert_eq!(wait_status(pid as i32, ticks), Some(7 << 8));
        child.wait().unwrap();
    }
}
