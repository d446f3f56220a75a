//! What waits to be started: launches and scripts of health checks, for a free slot, or because
//! dewar or the machine has no descriptor, process or memory left for them.
//!
//! A shortage is no failure of what waits: all of it pauses, then one is tried, and the pauses grow
//! until something can be started again. Nothing is started here.

use std::collections::VecDeque;

use crate::protocols::dewar::link as wire;

/// The first pause of a shortage, microseconds.
const PAUSE_US: u64 = 10_000;
/// The longest pause, microseconds.
const LONGEST_US: u64 = 1_000_000;

/// One start that waits.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// A run that has no record yet, or whose record a dead keeper has written.
    Run(wire::Launch),
    /// A script of a health check.
    Script(wire::Probe),
}

impl Waiting {
    /// True when both are the same start, asked for twice.
    fn is_same(&self, other: &Waiting) -> bool {
        let launch = |one: &wire::Launch| (one.process, one.run);
        match (self, other) {
            (Waiting::Run(one), Waiting::Run(other)) => launch(one) == launch(other),
            (Waiting::Script(one), Waiting::Script(other)) => {
                one.launch.as_ref().map(launch) == other.launch.as_ref().map(launch)
                    && (one.of_process, one.is_check) == (other.of_process, other.is_check)
            }
            _ => false,
        }
    }
}

/// All starts that wait, each with its task.
#[derive(Debug, Default)]
pub(super) struct LaunchQueue {
    waiting: VecDeque<(u32, Waiting)>,
    /// Something could not be started, and nothing since: when it is tried again, microseconds of
    /// CLOCK_BOOTTIME.
    again_at: Option<u64>,
    /// How many times in a row.
    shortages: u32,
}

impl LaunchQueue {
    /// Adds a start. One that waits already is asked for by a new runner, which knows better.
    pub fn add(&mut self, task: u32, start: Waiting) {
        let mut waiting = self.waiting.iter_mut();
        match waiting.find(|(other, one)| *other == task && one.is_same(&start)) {
            Some((_, one)) => *one = start,
            None => self.waiting.push_back((task, start)),
        }
    }

    /// The start that has waited longest, unless there is a shortage.
    pub fn next(&mut self, clock: u64) -> Option<(u32, Waiting)> {
        if self.again_at.is_some_and(|at| at > clock) {
            return None;
        }
        self.again_at = None;
        self.waiting.pop_front()
    }

    /// A start came to nothing at `clock`, for a shortage: it waits behind the others. True for the
    /// first one of a shortage, which is told.
    pub fn fell_short(&mut self, task: u32, start: Waiting, clock: u64) -> bool {
        self.add(task, start);
        let pause = PAUSE_US << self.shortages.min(10);
        self.again_at = Some(clock + pause.min(LONGEST_US));
        self.shortages += 1;
        self.shortages == 1
    }

    /// Something was started: no shortage is known any more.
    pub fn began(&mut self) {
        self.shortages = 0;
    }

    /// Nothing more of `task` is to be started.
    pub fn forget(&mut self, task: u32) {
        self.waiting.retain(|(other, _)| *other != task);
    }

    /// True when a start waits and nothing keeps it from being tried.
    pub fn is_ready(&self) -> bool {
        self.again_at.is_none() && !self.waiting.is_empty()
    }

    /// True while a run of `task` waits to be started.
    pub fn has_any_of(&self, task: u32) -> bool {
        let is_its =
            |(other, start): &(u32, Waiting)| *other == task && matches!(start, Waiting::Run(_));
        self.waiting.iter().any(is_its)
    }

    /// When the next start is to be tried again.
    pub fn due(&self) -> Option<u64> {
        self.again_at.filter(|_| !self.waiting.is_empty())
    }

    /// Gives back what a busy time took.
    pub fn shrink_to_fit(&mut self) {
        self.waiting.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(process: u32, run: u32) -> Waiting {
        Waiting::Run(wire::Launch {
            process,
            run,
            ..wire::Launch::default()
        })
    }

    fn shown(next: Option<(u32, Waiting)>) -> Option<(u32, u32, u32)> {
        match next? {
            (task, Waiting::Run(launch)) => Some((task, launch.process, launch.run)),
            (_, Waiting::Script(_)) => None,
        }
    }

    #[test]
    fn a_shortage_pauses_everything_and_is_told_once() {
        let mut queue = LaunchQueue::default();
        queue.add(0, run(1, 0));
        queue.add(0, run(2, 0));
        let (task, first) = queue.next(0).unwrap();
        assert!(queue.fell_short(task, first, 0));
        assert_eq!(queue.due(), Some(PAUSE_US));
        assert_eq!(shown(queue.next(PAUSE_US - 1)), None);
        // Another one has its turn.
        let (task, second) = queue.next(PAUSE_US).unwrap();
        assert!(!queue.fell_short(task, second, PAUSE_US), "it is known");
        assert_eq!(queue.due(), Some(3 * PAUSE_US), "pauses grow");
        assert_eq!(shown(queue.next(u64::MAX)), Some((0, 1, 0)));
        queue.began();
        let (task, second) = queue.next(u64::MAX).unwrap();
        assert!(queue.fell_short(task, second, 0), "a new shortage is told");
        assert_eq!(queue.due(), Some(PAUSE_US));
    }

    #[test]
    fn pauses_come_to_an_end_and_so_does_growing() {
        let mut queue = LaunchQueue::default();
        let mut clock = 0;
        queue.add(0, run(1, 0));
        for _ in 0..100 {
            let (task, one) = queue.next(clock).unwrap();
            queue.fell_short(task, one, clock);
            let due = queue.due().unwrap();
            assert!(due > clock && due - clock <= LONGEST_US);
            clock = due;
        }
    }

    #[test]
    fn what_is_asked_for_twice_is_started_once_and_a_stop_forgets_it() {
        let mut queue = LaunchQueue::default();
        queue.add(3, run(1, 0));
        queue.add(3, run(1, 0));
        queue.add(4, run(1, 0));
        assert_eq!(shown(queue.next(0)), Some((3, 1, 0)));
        queue.add(3, run(1, 1));
        queue.forget(3);
        assert_eq!(shown(queue.next(0)), Some((4, 1, 0)));
        assert_eq!(shown(queue.next(0)), None);
        assert_eq!(queue.due(), None);
    }
}
