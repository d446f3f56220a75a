//! A small ptrace tester: follows `dewar run`, tells root, keeper, runner and client apart by who
//! forked whom, and kills one of them before its N-th system call, or makes one of its system calls
//! fail. Everything else runs untraced.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use dewar::engine::ipc::RUNNER_VERB;
use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// The watch dog looks this often.
const LOOK: Duration = Duration::from_secs(1);
/// Nothing that is traced makes a system call for so long: it hangs. Everything of ours that is at
/// rest here waits for a process of a few milliseconds.
const QUIET: Duration = Duration::from_secs(60);
/// It makes system calls and comes to no end. A run takes a second, and a minute on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Client,
    Root,
    Keeper,
    Runner,
}

pub const ROLES: [Role; 4] = [Role::Client, Role::Root, Role::Keeper, Role::Runner];

/// What to kill, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    pub role: Role,
    /// Before this system call of the role, from 1.
    pub before: u64,
    /// The root dies in the same instant.
    pub root_too: bool,
}

/// System calls that fail without being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub role: Role,
    /// The numbers of the system calls, as in `libc::SYS_fdatasync`.
    pub calls: &'static [i64],
    /// The first of these calls that fails, from 1.
    pub from: u64,
    /// How many of them do.
    pub times: u64,
    pub errno: i32,
}

/// What a traced run came to.
#[derive(Debug, Default)]
pub struct Traced {
    /// The client's exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// System calls made by each role, over all its threads.
    pub calls: HashMap<Role, u64>,
    /// Something was killed.
    pub killed: bool,
    /// System calls that were made to fail.
    pub faults: u64,
    /// Calls that the fault is about.
    pub seen: u64,
    /// Which call of the keeper was the first that sent a signal by a pidfd.
    pub signalled: Option<u64>,
}

struct Tracee {
    role: Role,
    /// The process a thread belongs to.
    process: Pid,
    /// Children forked so far.
    forks: u32,
    in_call: bool,
    /// The present call was taken away; this is what it returns.
    faulty: bool,
    /// A child of the keeper that may be the runner: its exec tells. Its calls do not count yet.
    is_candidate: bool,
}

/// Runs `command` (a `dewar run`) under the tracer until the client and all of its dewar processes
/// are gone. Panics when they hang, and says where.
pub fn trace(command: Command, kill: Option<Kill>) -> Traced {
    follow(command, kill, None)
}

/// As [`trace`], with system calls that fail.
pub fn trace_fault(command: Command, fault: Fault) -> Traced {
    follow(command, None, Some(fault))
}

/// True for a command that takes a task up: its keeper forks other children before the runner, and
/// the runner is exec'ed. A keeper that is new forks its runner first.
fn takes_up(command: &Command) -> bool {
    command.get_args().any(|word| word == "attach")
}

fn follow(mut command: Command, kill: Option<Kill>, fault: Option<Fault>) -> Traced {
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
    }
    let execs_runner = takes_up(&command);
    let child = command.spawn().expect("dewar starts");
    let client = Pid::from_raw(child.id() as i32);
    waitpid(client, None).expect("the exec stop");
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(client, options).expect("options");
    let mut tracer = Tracer {
        tracees: HashMap::new(),
        early: Vec::new(),
        kill,
        fault,
        execs_runner,
        seen: 0,
        result: Traced::default(),
        client,
        alive: Arc::default(),
        hung: Arc::default(),
        stops: Arc::default(),
    };
    tracer.add(client, Role::Client, client);
    tracer.resume(client, None);
    tracer.run();
    // Reaped by the tracer already; the handle must not wait again.
    std::mem::forget(child);
    tracer.result.seen = tracer.seen;
    let hung = tracer.hung.lock().expect("a lock").take();
    assert!(hung.is_none(), "{}", hung.unwrap_or_default());
    tracer.result
}

struct Tracer {
    tracees: HashMap<Pid, Tracee>,
    /// Stops of children whose parents' fork events have not come yet.
    early: Vec<Pid>,
    kill: Option<Kill>,
    fault: Option<Fault>,
    /// The runner has not been found yet, and it is known by its exec.
    execs_runner: bool,
    /// Calls that the fault is about.
    seen: u64,
    result: Traced,
    client: Pid,
    alive: Arc<Mutex<HashMap<Pid, Role>>>,
    hung: Arc<Mutex<Option<String>>>,
    /// Stops of all tracees: while this grows, something happens.
    stops: Arc<AtomicU64>,
}

impl Tracer {
    fn add(&mut self, pid: Pid, role: Role, process: Pid) {
        let tracee = Tracee {
            role,
            process,
            forks: 0,
            in_call: false,
            faulty: false,
            is_candidate: false,
        };
        self.tracees.insert(pid, tracee);
        self.alive.lock().expect("a lock").insert(pid, role);
    }

    /// Kills everything that is traced when it hangs, and says so: when nothing has happened for
    /// long, or when it goes round without coming to an end.
    fn watch_dog(&self) -> mpsc::Sender<()> {
        let (done, wait) = mpsc::channel();
        let (alive, kill) = (Arc::clone(&self.alive), self.kill);
        let (hung, fault) = (Arc::clone(&self.hung), self.fault);
        let stops = Arc::clone(&self.stops);
        std::thread::spawn(move || {
            let began = Instant::now();
            let (mut seen, mut moved) = (0, began);
            while wait.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let now = stops.load(Ordering::SeqCst);
                if now != seen {
                    (seen, moved) = (now, Instant::now());
                }
                let quiet = moved.elapsed();
                if quiet < QUIET && began.elapsed() < PATIENCE {
                    continue;
                }
                let alive = alive.lock().expect("a lock");
                let mut said = format!(
                    "it hangs, with {kill:?} and {fault:?}: {seen} stops in {:?}, the last one {quiet:?} ago",
                    began.elapsed()
                );
                for (pid, role) in &*alive {
                    said.push_str(&format!("\n{role:?}: {}", describe(*pid)));
                }
                *hung.lock().expect("a lock") = Some(said);
                for pid in alive.keys() {
                    let _ = nix::sys::signal::kill(*pid, Signal::SIGKILL);
                }
                return;
            }
        });
        done
    }

    fn forget(&mut self, pid: Pid) {
        self.tracees.remove(&pid);
        self.alive.lock().expect("a lock").remove(&pid);
    }

    fn run(&mut self) {
        let _done = self.watch_dog();
        while !self.tracees.is_empty() {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(status) => status,
                Err(Errno::ECHILD) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => panic!("waitpid: {errno}"),
            };
            self.stops.fetch_add(1, Ordering::SeqCst);
            match status {
                WaitStatus::PtraceSyscall(pid) => self.system_call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => self.stopped(pid, signal),
                WaitStatus::Exited(pid, code) => {
                    if pid == self.client {
                        self.result.code = Some(code);
                    }
                    self.forget(pid);
                }
                WaitStatus::Signaled(pid, ..) => {
                    self.forget(pid);
                }
                _ => {}
            }
        }
    }

    fn system_call(&mut self, pid: Pid) {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return;
        };
        tracee.in_call = !tracee.in_call;
        if tracee.is_candidate {
            self.resume(pid, None);
            return;
        }
        if let Some(fault) = self.fault.filter(|fault| fault.role == tracee.role) {
            let entering = tracee.in_call;
            if entering && called(pid).is_some_and(|call| fault.calls.contains(&call)) {
                self.seen += 1;
                let since = self.seen.checked_sub(fault.from);
                tracee.faulty = since.is_some_and(|since| since < fault.times);
                if tracee.faulty {
                    self.result.faults += 1;
                    skip_call(pid);
                }
            } else if !entering && std::mem::take(&mut tracee.faulty) {
                answer_call(pid, -i64::from(fault.errno));
            }
        }
        if tracee.in_call {
            let calls = self.result.calls.entry(tracee.role).or_default();
            *calls += 1;
            if tracee.role == Role::Keeper
                && self.result.signalled.is_none()
                && called(pid) == Some(libc::SYS_pidfd_send_signal)
            {
                self.result.signalled = Some(*calls);
            }
            let is_it = self
                .kill
                .is_some_and(|kill| kill.role == tracee.role && kill.before == *calls);
            if is_it && !self.result.killed {
                self.result.killed = true;
                let process = tracee.process;
                if self.kill.is_some_and(|kill| kill.root_too) {
                    let roots = self
                        .tracees
                        .iter()
                        .filter(|(_, one)| one.role == Role::Root);
                    for (root, _) in roots {
                        let _ = nix::sys::signal::kill(*root, Signal::SIGKILL);
                    }
                }
                let _ = nix::sys::signal::kill(process, Signal::SIGKILL);
                return;
            }
        }
        self.resume(pid, None);
    }

    fn event(&mut self, pid: Pid, event: i32) {
        let is_thread = event == ptrace::Event::PTRACE_EVENT_CLONE as i32;
        let is_fork = event == ptrace::Event::PTRACE_EVENT_FORK as i32
            || event == ptrace::Event::PTRACE_EVENT_VFORK as i32;
        if (is_thread || is_fork)
            && let Ok(new) = ptrace::getevent(pid)
        {
            let new = Pid::from_raw(new as i32);
            self.born(pid, new, is_thread);
        }
        if let Some(tracee) = self.tracees.get_mut(&pid)
            && event == ptrace::Event::PTRACE_EVENT_EXEC as i32
        {
            // The exec's own exit stop follows.
            tracee.in_call = true;
            if tracee.is_candidate && !is_runner(pid) {
                self.forget(pid);
                let _ = ptrace::detach(pid, None);
                return;
            }
            if tracee.is_candidate {
                tracee.is_candidate = false;
                self.execs_runner = false;
            }
        }
        self.resume(pid, None);
    }

    fn born(&mut self, parent: Pid, new: Pid, is_thread: bool) {
        let Some(tracee) = self.tracees.get_mut(&parent) else {
            return;
        };
        // clone() without CLONE_THREAD is a fork too: what shares the process is a thread.
        let threads = format!("/proc/{}/task/{new}", tracee.process);
        let is_thread = is_thread && std::path::Path::new(&threads).exists();
        let (role, process) = (tracee.role, tracee.process);
        let heir = match (role, tracee.forks) {
            _ if is_thread => Some((role, process)),
            (Role::Client, 0) => Some((Role::Root, new)),
            (Role::Root, 0) => Some((Role::Keeper, new)),
            (Role::Keeper, _) if self.execs_runner => Some((Role::Runner, new)),
            (Role::Keeper, 0) => Some((Role::Runner, new)),
            _ => None,
        };
        if !is_thread {
            tracee.forks += 1;
        }
        let is_early = self.early.iter().position(|pid| *pid == new);
        match heir {
            Some((role, process)) => {
                self.add(new, role, process);
                if role == Role::Runner && self.execs_runner {
                    let added = self.tracees.get_mut(&new).expect("added");
                    added.is_candidate = true;
                }
                if let Some(index) = is_early {
                    self.early.remove(index);
                    self.resume(new, None);
                }
            }
            None => {
                // A user's process: not ours to trace. It is let go at its first stop.
                match is_early {
                    Some(index) => {
                        self.early.remove(index);
                    }
                    None => {
                        let _ = waitpid(new, Some(WaitPidFlag::__WALL));
                    }
                }
                let _ = ptrace::detach(new, None);
            }
        }
    }

    fn stopped(&mut self, pid: Pid, signal: Signal) {
        if !self.tracees.contains_key(&pid) {
            self.early.push(pid);
            return;
        }
        // The first stop of a new tracee is ours; every other signal is its own.
        let own = (signal != Signal::SIGSTOP && signal != Signal::SIGTRAP).then_some(signal);
        self.resume(pid, own);
    }

    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        match ptrace::syscall(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("ptrace {pid}: {errno}"),
        }
    }
}

/// True when a process has become a runner.
fn is_runner(pid: Pid) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0);
    words.any(|word| word == RUNNER_VERB.as_bytes())
}

/// What a process is doing, as far as the kernel tells.
fn describe(pid: Pid) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let status: Vec<&str> = status.lines().take(3).collect();
    format!(
        "{pid}: {}; system call {}; waits at {}",
        status.join(", "),
        read("syscall").trim(),
        read("wchan")
    )
}

/// The call that a tracee, stopped at its entry, is about to make.
fn called(pid: Pid) -> Option<i64> {
    ptrace::getregs(pid).ok().map(|regs| regs.orig_rax as i64)
}

fn skip_call(pid: Pid) {
    let mut regs = ptrace::getregs(pid).expect("registers");
    regs.orig_rax = u64::MAX;
    ptrace::setregs(pid, regs).expect("registers");
}

fn answer_call(pid: Pid, answer: i64) {
    let mut regs = ptrace::getregs(pid).expect("registers");
    regs.rax = answer as u64;
    ptrace::setregs(pid, regs).expect("registers");
}
