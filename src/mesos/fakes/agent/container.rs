//! Where the executor runs: started as an agent starts one, and ended as an agent ends one.

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

/// What every executor gets, whatever the agent's own is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An executor's process and its sandbox.
#[derive(Debug)]
pub struct Container {
    child: Child,
}

impl Container {
    /// Starts `command` in `sandbox` with exactly this environment (and PATH): standard input from
    /// nowhere, output into files of the sandbox.
    ///
    /// # Errors
    /// What the system says.
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
            // A group of its own: what a terminal sends to us is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Container { child })
    }

    /// The container's first process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the first process is dead, without reaping it: its pid stays its own. False when
    /// it is still alive after `patience`.
    ///
    /// # Errors
    /// What the system says.
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

    /// SIGKILL to the first process and its group: all that an agent without cgroups is sure to
    /// reach.
    pub fn destroy(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        // Both fail when it is dead already.
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
