//! A debugger: it traces a process and all that this one forks, lets them run, and holds the end of
//! the first one until it is told to let go. It is slow: every other end is held for a while.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};

/// How long every end is held. Far longer than the keeper takes to see it, and any time would do.
const SLOW: Duration = Duration::from_millis(10);

/// A debugger at work, in a thread of its own.
pub struct Debugger {
    let_go: Sender<()>,
    dead: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Debugger {
    /// Attaches to a process that runs.
    pub fn attach(pid: &str) -> Debugger {
        let pid = Pid::from_raw(pid.trim().parse().expect("a pid"));
        let (let_go, order) = channel();
        let (tell, dead) = channel();
        let (attached, wait) = channel();
        let thread = std::thread::spawn(move || {
            let options = Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE;
            ptrace::seize(pid, options).expect("seize");
            attached.send(()).expect("a test");
            follow(pid, &tell, &order);
        });
        wait.recv().expect("a debugger");
        Debugger {
            let_go,
            dead,
            thread,
        }
    }

    /// Waits for the end of the process; its debugger holds it from then on.
    pub fn sees_end(&self) {
        self.dead.recv().expect("an end");
    }

    /// Lets go of the process, which is dead.
    pub fn let_go(self) {
        self.let_go.send(()).expect("a debugger");
        self.thread.join().expect("a debugger's end");
    }
}

/// Lets everything run until `first` is dead, and reaps that one when `order` comes.
fn follow(first: Pid, tell: &Sender<()>, order: &Receiver<()>) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
    let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let (pid, is_end) = match waitid(Id::All, look | mine) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => (pid, true),
            Ok(status) => (status.pid().expect("a process"), false),
            Err(Errno::EINTR) => continue,
            Err(errno) => panic!("waitid: {errno}"),
        };
        if is_end && pid == first {
            tell.send(()).expect("a test");
            order.recv().expect("an order");
            waitpid(pid, Some(mine)).expect("its end");
            return;
        }
        if is_end {
            std::thread::sleep(SLOW);
        }
        match waitpid(pid, Some(mine)) {
            Ok(WaitStatus::Stopped(pid, signal)) => {
                // The stop of a child that was attached by its fork is ours.
                go_on(
                    pid,
                    (signal != Signal::SIGSTOP && signal != Signal::SIGTRAP).then_some(signal),
                );
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => go_on(pid, None),
            _ => {}
        }
    }
}

fn go_on(pid: Pid, signal: Option<Signal>) {
    match ptrace::cont(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("cont: {errno}"),
    }
}
