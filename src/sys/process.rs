//! What /proc says about processes: identity, parents, sessions.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::stat::ProcessStat;

/// The fields of /proc/PID/stat that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: i32,
    pub state: u8,
    pub parent: i32,
    pub session: i32,
    /// Clock ticks since boot: with the pid and the boot id, a process' identity.
    pub start_ticks: u64,
}

impl Stat {
    /// True when `other` describes the same process.
    pub fn is_same(&self, other: &Stat) -> bool {
        self.pid == other.pid && self.start_ticks == other.start_ticks
    }

    pub fn is_dead(&self) -> bool {
        is_of_the_dead(self.state)
    }
}

/// True for the states of a process or thread that runs no more.
fn is_of_the_dead(state: u8) -> bool {
    matches!(state, b'Z' | b'X' | b'x')
}

/// Descriptors that only [`looking`] uses: a keeper that has no other left must still see its
/// processes.
pub(crate) const RESERVE: u64 = 8;

/// Looks, with the reserve if it has to be.
pub(super) fn looking<T>(look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match look() {
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
            let found = look();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
            found
        }
        other => other,
    }
}

/// Reads /proc/PID/stat; `None` when there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let line = looking(|| ProcessStat::read(pid)).ok()??;
    taken_apart(pid, &line)
}

/// True when a process is on its way to its end: it has a SIGKILL that it has not taken, or is
/// exiting. False of one whose first thread alone has ended.
pub(crate) fn is_dying(pid: i32) -> bool {
    let line = looking(|| ProcessStat::read(pid)).ok().flatten();
    let Some(line) = line else { return true };
    let is_zombie = line.field(3) == Some('Z');
    (line.is_exiting() == Some(true) && !is_zombie) || has_sigkill(pid)
}

/// A SIGKILL waits for the process or its first thread.
fn has_sigkill(pid: i32) -> bool {
    const BIT: u64 = 1 << (libc::SIGKILL - 1);
    let text = looking(|| fs::read_to_string(format!("/proc/{pid}/status"))).unwrap_or_default();
    text.lines().any(|line| {
        let waits = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"));
        let waits = waits.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        waits.is_some_and(|set| set & BIT != 0)
    })
}

fn taken_apart(pid: i32, line: &ProcessStat) -> Option<Stat> {
    let state = u8::try_from(line.field::<char>(3)?).ok()?;
    Some(Stat {
        pid,
        // The state is that of the first thread; a process without that one may be alive.
        state: match (state, line.field::<u32>(20)) {
            (b'Z', Some(2..)) => living_thread(pid).unwrap_or(state),
            _ => state,
        },
        parent: line.field(4)?,
        session: line.field(6)?,
        start_ticks: line.field(22)?,
    })
}

/// The state of a thread of this process that is not dead.
fn living_thread(pid: i32) -> Option<u8> {
    let threads = looking(|| fs::read_dir(format!("/proc/{pid}/task"))).ok()?;
    let states = threads.flatten().filter_map(|thread| {
        let line = looking(|| fs::read(thread.path().join("stat"))).ok()?;
        u8::try_from(ProcessStat::parse(&line)?.field::<char>(3)?).ok()
    });
    let mut living = states.filter(|state| !is_of_the_dead(*state));
    living.next()
}

/// Every process of the machine, as one pass over /proc sees them.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for entry in looking(|| fs::read_dir("/proc"))? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        stats.extend(pid.and_then(stat));
    }
    Ok(stats)
}

/// Our own children, living and dead.
pub(crate) fn children() -> io::Result<Vec<i32>> {
    // Orphans are given to the thread group's first thread, and only that one forks.
    children_of(std::process::id() as i32)
}

/// The children of a process with one thread, living and dead; none when it is gone.
pub(crate) fn children_of(parent: i32) -> io::Result<Vec<i32>> {
    match looking(|| read_whole(format!("/proc/{parent}/task/{parent}/children").as_ref())) {
        Ok(text) => Ok(pids_in(&text).collect()),
        // Gone, or a kernel that does not say.
        Err(error) if is_gone(&error) && has_children_files() => Ok(Vec::new()),
        Err(error) if is_gone(&error) => children_by_parent(parent),
        Err(error) => Err(error),
    }
}

/// The children of a process with any number of threads; none when it is gone.
pub(crate) fn children_of_threads(parent: i32) -> io::Result<Vec<i32>> {
    let threads = match looking(|| fs::read_dir(format!("/proc/{parent}/task"))) {
        Ok(threads) => threads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for thread in threads {
        // A thread that ends meanwhile has no children any more, nor a directory.
        let Ok(thread) = thread else { break };
        let path = thread.path().join("children");
        match looking(|| read_whole(&path)) {
            Ok(text) => found.extend(pids_in(&text)),
            Err(error) if is_gone(&error) && has_children_files() => {}
            Err(error) if is_gone(&error) => return children_by_parent(parent),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn pids_in(text: &str) -> impl Iterator<Item = i32> + '_ {
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// A kernel without CONFIG_PROC_CHILDREN does not list the children of a thread.
fn has_children_files() -> bool {
    let me = std::process::id();
    Path::new(&format!("/proc/{me}/task/{me}/children")).exists()
}

fn children_by_parent(parent: i32) -> io::Result<Vec<i32>> {
    let all = all()?.into_iter();
    Ok(all
        .filter(|stat| stat.parent == parent)
        .map(|stat| stat.pid)
        .collect())
}

/// A file of /proc, which does not say how long it is, in as few reads as the kernel allows.
fn read_whole(path: &Path) -> io::Result<String> {
    /// The kernel gives out no more at a time.
    const PIECE: usize = 4096;
    let mut text = String::with_capacity(2 * PIECE);
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// A short name for people: the command line, else the command.
pub(crate) fn command(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let text = match words.is_empty() {
        true => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(),
        false => words.join(" "),
    };
    text.trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(60)
        .collect()
}

/// The identity of the running kernel; pids and boot times mean nothing under another one.
pub fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_is_no_trap() {
        let line = b"7 (a) b) S 3 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let line = ProcessStat::parse(line).unwrap();
        let stat = taken_apart(7, &line).unwrap();
        assert_eq!((stat.parent, stat.session, stat.start_ticks), (3, 5, 4711));
    }

    #[test]
    fn we_are_a_process_ourselves() {
        let me = std::process::id() as i32;
        assert_eq!(stat(me).unwrap().pid, me);
        assert!(all().unwrap().iter().any(|stat| stat.pid == me));
    }
}
