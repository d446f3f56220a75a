//! The container of an executor: started and ended as an agent does it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, pidfd_open};

/// The `PATH` of every executor, regardless of the agent's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An executor's process and its sandbox.
#[derive(Debug)]
pub struct Container {
    child: Child,
}

impl Container {
    /// Starts `command` in `sandbox` with exactly this environment and `PATH`. Standard input is
    /// empty, output goes into files of the sandbox.
    ///
    /// # Errors
    /// If a system call fails.
    pub fn launch(
        command: &[String],
        sandbox: &Path,
        environment: &BTreeMap<String, String>,
    ) -> io::Result<Container> {
        let [program, arguments @ ..] = command else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        fs::create_dir_all(sandbox)?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("PWD", sandbox)
            .envs(environment)
            .current_dir(sandbox)
            .stdin(Stdio::null())
            .stdout(File::create(sandbox.join("stdout"))?)
            .stderr(File::create(sandbox.join("stderr"))?)
            // A process group of its own: signals of a terminal are not for the executor.
            .process_group(0)
            .spawn()?;
        Ok(Container { child })
    }

    /// The pid of the container's first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the first process is dead, without reaping it, so that its pid stays its own.
    /// False when it is still alive after `patience`.
    ///
    /// # Errors
    /// If a system call fails.
    pub fn wait_dead(&self, patience: Duration) -> io::Result<bool> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let until = Instant::now() + patience;
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

    /// Sends SIGKILL to the first process and its group: an agent without cgroups reaches no more
    /// for certain.
    pub fn destroy(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        // Both fail when the process is dead already.
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = kill(pid, Signal::SIGKILL);
        if let Err(error) = self.child.wait() {
            tracing::warn!("waiting for the executor: {error}");
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.destroy();
    }
}
