//! Signals to runs and tasks: asking to stop, killing, and naming the processes that have not
//! stopped.

use rustix::process::Signal;

use super::{keeper::Keeper, runs::Run};
use crate::{
    engine::ipc::Key,
    protocols::dewar::link::StopSignal,
    sys::{
        process::{self, Stat},
        tree::{self, Snapshot},
    },
};

/// How many processes one message names at most.
const NAMED: usize = 10;

impl Keeper {
    /// The stop signal to the first process of every run, then to whatever else there is.
    pub(super) fn stop_everything(&mut self, task: u32, signals: &[StopSignal]) {
        self.runs.begin_stopping(task);
        let targets: Vec<(Stat, Signal)> = self
            .runs
            .of_task(task)
            .filter_map(|run| Some((identity(run)?, signal_of(run.key.process, signals))))
            .collect();
        for (target, signal) in &targets {
            tree::signal(target, *signal);
        }
        match self.look() {
            Ok(snapshot) => {
                // What a run has below it, or in its session, is stopped as it is itself.
                let owner = |stat: &Stat| {
                    let mut runs = self.runs.of_task(task);
                    runs.find(|run| run.pid == stat.session || snapshot.is_below(stat.pid, run.pid))
                };
                for stat in self.processes_of(task, &snapshot) {
                    let is_first = targets.iter().any(|(target, _)| target.pid == stat.pid);
                    if !is_first && !stat.is_dead() {
                        let signal = owner(&stat)
                            .map_or(Signal::TERM, |run| signal_of(run.key.process, signals));
                        tree::signal(&stat, signal);
                    }
                }
            }
            Err(error) => give_up(&error),
        }
        self.children_changed = true;
    }

    /// The stop signal to one run: its first process, then what is below that or in its session.
    /// What is left when the first process ends dies with the run, as at every end.
    pub(super) fn stop_run(&mut self, key: Key, number: u32) {
        let Some(first) = self.first_process(key) else {
            return;
        };
        let signal = named(number);
        tree::signal(&first, signal);
        match self.look() {
            Ok(snapshot) => {
                for stat in self.tree_of(key, first.pid, &snapshot) {
                    if stat.pid != first.pid && !stat.is_dead() {
                        tree::signal(&stat, signal);
                    }
                }
            }
            Err(error) => give_up(&error),
        }
    }

    fn first_process(&self, key: Key) -> Option<Stat> {
        identity(self.runs.get(self.runs.find(key)?)?)
    }

    /// What is below the first process of a run, or in its session.
    fn tree_of(&self, key: Key, first: i32, snapshot: &Snapshot) -> Vec<Stat> {
        let mut tree = snapshot.below(first, None);
        let ours = self.processes_of(key.task, snapshot);
        tree.extend(ours.iter().filter(|stat| stat.session == first));
        tree
    }

    /// SIGKILL to the tree of one run, also when its first process is dead already.
    pub(super) fn kill_run(&mut self, key: Key) {
        let Some(index) = self.runs.find(key) else {
            return;
        };
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        run.stopping = true;
        let (pid, first) = (run.pid, identity(run));
        if let Some(group) = self
            .runs
            .get(index)
            .and_then(|run| self.tasks.group_of(run))
        {
            group.kill();
        }
        let killed = tree::kill_all(
            || self.look(),
            |snapshot| {
                let mut tree = self.tree_of(key, pid, snapshot);
                tree.extend(first);
                tree
            },
        );
        if let Err(error) = killed {
            give_up(&error);
        }
    }

    /// SIGKILL to everything, again and again until nothing is left (each death comes back here).
    pub(super) fn kill_everything(&mut self, task: u32) {
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.killing_all = true;
        }
        self.runs.begin_stopping(task);
        if let Some(kept) = self.tasks.get(task) {
            kept.kill_grouped();
        }
        self.namespaces.kill(task);
        self.kill_tree(task);
        self.watch_strays();
        self.children_changed = true;
    }

    /// SIGKILL to all of a task that can be seen now.
    pub(super) fn kill_tree(&mut self, task: u32) {
        let killed = tree::kill_all(|| self.look(), |snapshot| self.processes_of(task, snapshot));
        if let Err(error) = killed {
            give_up(&error);
        }
    }

    /// Notes which processes have not stopped although the task was asked to: a notice for each
    /// run, and one for what belongs to none. `prospect` says what will happen to them.
    pub(super) fn tell_lingering(&mut self, task: u32, prospect: &str) {
        let Ok(snapshot) = self.look() else {
            return;
        };
        let mut left = self.processes_of(task, &snapshot);
        left.retain(|stat| !stat.is_dead());
        let runs = self.runs.of_task(task);
        let runs: Vec<(Key, i32)> = runs.map(|run| (run.key, run.pid)).collect();
        for (key, first) in runs {
            let mut its = Vec::new();
            left.retain(|stat| {
                let is_its = stat.pid == first
                    || stat.session == first
                    || snapshot.is_below(stat.pid, first);
                its.extend(is_its.then_some(*stat));
                !is_its
            });
            // Its first process, then what that one started.
            its.sort_by_key(|stat| (stat.pid != first, stat.start_ticks));
            if !its.is_empty() {
                let text = format!("has not stopped yet: {}; {prospect}", shown(&its));
                self.notice(text, key);
            }
        }
        if !left.is_empty() {
            let text = format!("has not stopped yet: {}; {prospect}", shown(&left));
            self.notice_of(task, text, None);
        }
    }
}

/// A keeper that cannot see its processes can neither stop nor end them: it gives way to its
/// successor, which has nothing open yet.
pub(super) fn give_up(error: &std::io::Error) -> ! {
    tracing::error!("cannot look at our processes: {error}; giving up");
    #[expect(clippy::exit, reason = "the root takes over")]
    std::process::exit(70);
}

/// `pid 7 (sleep 1000), pid 8 (cat)`.
pub(super) fn shown(stats: &[Stat]) -> String {
    let named = stats.iter().take(NAMED);
    let mut names: Vec<String> = named
        .map(|stat| format!("pid {} ({})", stat.pid, process::command(stat.pid)))
        .collect();
    if stats.len() > NAMED {
        names.push(format!("and {} more", stats.len() - NAMED));
    }
    names.join(", ")
}

fn signal_of(process: u32, signals: &[StopSignal]) -> Signal {
    let own = signals.iter().find(|signal| signal.process == process);
    own.map_or(Signal::TERM, |signal| named(signal.signal))
}

/// A number that this kernel does not know is SIGTERM: something has to be sent.
pub(super) fn named(number: u32) -> Signal {
    let number = i32::try_from(number).ok();
    number
        .and_then(Signal::from_named_raw)
        .unwrap_or(Signal::TERM)
}

/// The first process of a run, while it lives.
fn identity(run: &Run) -> Option<Stat> {
    let stat = process::stat(run.pid)?;
    (stat.start_ticks == run.start_ticks && !stat.is_dead()).then_some(stat)
}
