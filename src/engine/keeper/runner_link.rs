//! The runner as its keeper sees it: a process, a socket, what it is told next, and how many of
//! them have died.
//!
//! A runner that breaks off in the middle of a message, or says what cannot be meant, is killed; a
//! successor replays the journal, which is as it was. Runners that die young are started again with
//! growing pauses. What a batch asks for is not looked at here.

use std::os::fd::{AsFd, AsRawFd};

use nix::{
    errno::Errno,
    sys::{
        epoll::EpollFlags,
        socket::{MsgFlags, send},
    },
};
use rustix::process::{Signal, pidfd_send_signal};

use super::{
    batch_check,
    poller::{Poller, Token},
    runner_process::RunnerProcess,
};
use crate::{
    engine::ipc::{LinkBuffer, LinkError, frame_message, messages},
    journal::Record,
    protocols::dewar::link as wire,
    sys::executable::ITSELF,
};

/// How long a runner may take to leave once it has nothing more to do, microseconds.
pub(super) const LEAVE_US: u64 = 500_000;
/// How long a message may take from its first byte to its last, microseconds. Both ends are on one
/// machine: a longer one will never end, and would swallow every message that follows.
const MESSAGE_US: u64 = 5_000_000;
/// A runner that dies before this age died young, microseconds.
const YOUNG_US: u64 = 1_000_000;
/// After so many broken links in a row it is the runner's program that is broken.
const BROKEN: u32 = 2;
/// After so many runners in a row that died young it may be their program: a half-written one.
const QUICK: u32 = 3;
/// One in so many of the runners after that is made of the file again: it may be whole by then.
const RETRY: u32 = 3;

/// The connection to the present runner.
struct Runner {
    process: RunnerProcess,
    /// With its pid, its identity.
    start_ticks: u64,
    inbox: LinkBuffer,
    outbox: Vec<u8>,
    writable: bool,
    /// When it was started, microseconds of CLOCK_BOOTTIME.
    born: u64,
    /// What came over the link could not be used: nothing more is read from it or sent to it.
    is_broken: bool,
    /// How many batches it has sent.
    batches: u64,
    /// When it is killed, because it has closed its end of the link and goes on living.
    leave_by: Option<u64>,
    /// When the message has to be complete of which a part is in the inbox.
    complete_by: Option<u64>,
}

/// What has come over the link.
pub(super) struct Received {
    pub batches: Vec<wire::Batch>,
    /// False: nothing more will come.
    pub is_open: bool,
}

/// The link to the present runner, and to those that follow it.
#[derive(Default)]
pub(super) struct RunnerLink {
    runner: Option<Runner>,
    /// When a runner is to be started, microseconds of CLOCK_BOOTTIME.
    due: Option<u64>,
    /// How many runners in a row died young.
    young_deaths: u32,
    /// How many runners in a row went because what they said could not be used.
    broken_links: u32,
    /// The file's program does not know what a task needs, or does not believe a journal: the
    /// keeper's own image is asked.
    is_unfit: bool,
    /// What the runner is told next.
    report: wire::Report,
    /// How many reports this runner was sent.
    reports: u64,
    /// The number of the last report that needs an answer.
    to_answer: u64,
    /// The number of the last report that the runner has acted upon.
    answered: u64,
}

impl RunnerLink {
    /// The present runner's pid.
    pub fn pid(&self) -> Option<i32> {
        self.runner.as_ref().map(|runner| runner.process.pid)
    }

    /// True while there is a runner, dead or alive.
    pub fn has_runner(&self) -> bool {
        self.runner.is_some()
    }

    /// Watches and welcomes a new runner; `report` is the first that it gets. Reports that the last
    /// runner did not answer are answered by the new one's replay.
    ///
    /// # Errors
    /// What epoll says.
    pub fn welcome(
        &mut self,
        poller: &Poller,
        process: RunnerProcess,
        start_ticks: u64,
        report: wire::Report,
        clock: u64,
    ) -> std::io::Result<()> {
        poller.watch(process.link.as_fd(), Token::Link, 0)?;
        poller.watch(process.pidfd.as_fd(), Token::Runner, 0)?;
        self.runner = Some(Runner {
            process,
            start_ticks,
            inbox: LinkBuffer::default(),
            outbox: Vec::new(),
            writable: true,
            born: clock,
            is_broken: false,
            batches: 0,
            leave_by: None,
            complete_by: None,
        });
        self.answered = 0;
        self.reports = 0;
        self.report = report;
        Ok(())
    }

    /// What to exec for the next runner: the program at `path`, or the keeper's own image when the
    /// runners that were made of that program could not be understood, cannot look after these
    /// tasks, or do not live.
    pub fn program<'a>(&self, path: &'a str) -> &'a str {
        let quick = self.young_deaths.checked_sub(QUICK);
        let dies_young = quick.is_some_and(|more| more % RETRY != RETRY - 1);
        match self.is_unfit || dies_young || self.broken_links >= BROKEN {
            true => ITSELF,
            false => path,
        }
    }

    /// True when the present or last runner's word is final: it was made of the keeper's own image.
    pub fn is_own_image(&self) -> bool {
        let runner = self.runner.as_ref();
        runner.is_some_and(|runner| runner.process.is_own_image)
    }

    /// The next runner is made of the keeper's own image: the last one was of another, which is too
    /// old for these tasks, or does not believe what this image may.
    pub fn use_own_image(&mut self) {
        self.is_unfit = true;
    }

    /// Tells of a command that this keeper does not know: the number `command` of the last batch.
    pub fn tell_not_understood(&mut self, task: u32, command: u32) {
        let batch = self.runner.as_ref().map_or(0, |runner| runner.batches);
        self.report.not_understood.push(wire::NotUnderstood {
            task,
            batch,
            command,
        });
    }

    /// Tells of a record that was pushed.
    pub fn tell_record(&mut self, seq: u64, task: u32, record: Record) {
        self.report.records.push(wire::Numbered {
            seq,
            record: Some(record),
            task,
        });
    }

    /// Tells that the records up to `seq` are on disk.
    pub fn tell_durable(&mut self, seq: u64) {
        self.report.durable = seq;
    }

    /// Tells that no process of `task` is left.
    pub fn tell_empty(&mut self, task: u32) {
        self.report.empty.push(task);
    }

    /// Tells how a health check's script ended.
    pub fn tell_probed(&mut self, probed: wire::Probed) {
        self.report.probed.push(probed);
    }

    /// Tells that the journal cannot be written.
    pub fn tell_failure(&mut self, error: String) {
        self.report.journal_failed = Some(error);
    }

    /// True when the runner has acted upon all that it was told.
    pub fn is_answered(&self) -> bool {
        self.answered >= self.to_answer
    }

    /// Sends what there is to tell.
    pub fn send_report(&mut self, poller: &Poller) {
        let report = &self.report;
        let is_news = !report.records.is_empty()
            || !report.empty.is_empty()
            || !report.journals.is_empty()
            || !report.probed.is_empty()
            || !report.not_understood.is_empty()
            || report.journal_failed.is_some();
        let Some(runner) = &mut self.runner else {
            return;
        };
        if is_news || report.durable > 0 {
            self.reports += 1;
            self.report.number = self.reports;
            if is_news {
                self.to_answer = self.reports;
            }
            let report = std::mem::take(&mut self.report);
            if !runner.is_broken {
                runner.outbox.extend(frame_message(&report));
            }
        }
        runner.send_out(poller);
    }

    /// The socket takes bytes again.
    pub fn send_rest(&mut self, poller: &Poller) {
        if let Some(runner) = &mut self.runner {
            runner.send_out(poller);
        }
    }

    /// Takes in what the runner sent.
    ///
    /// # Errors
    /// The link is broken.
    pub fn receive(&mut self, clock: u64) -> Result<Received, LinkError> {
        match &mut self.runner {
            Some(runner) if !runner.is_broken => {
                let is_open = runner.read();
                let batches: Vec<wire::Batch> = messages(&mut runner.inbox)?;
                let began_before = runner.complete_by.filter(|_| batches.is_empty());
                runner.complete_by = match runner.inbox.is_empty() || !is_open {
                    true => None,
                    false => began_before.or(Some(clock + MESSAGE_US)),
                };
                Ok(Received { batches, is_open })
            }
            _ => Ok(Received {
                batches: Vec::new(),
                is_open: true,
            }),
        }
    }

    /// Believes a batch, or nothing of it. `needed` are the features of all tasks.
    ///
    /// # Errors
    /// The batch contradicts itself or what is known; the runner does not know what it must.
    pub fn believe(&mut self, batch: &wire::Batch, needed: &[u32]) -> Result<(), LinkError> {
        batch_check::check(batch, self.reports)?;
        if let Some(runner) = &mut self.runner {
            runner.batches += 1;
            let is_known = |feature: &u32| batch.knows.contains(feature);
            if runner.batches == 1 && !needed.iter().all(is_known) {
                self.is_unfit = !runner.process.is_own_image;
                return Err(LinkError::Unfit);
            }
        }
        self.answered = self.answered.max(batch.answers);
        Ok(())
    }

    /// What the runner says cannot be used: it is killed, and its pidfd tells when it is dead.
    pub fn break_off(&mut self, poller: &Poller, error: &LinkError) {
        let Some(runner) = &mut self.runner else {
            return;
        };
        let pid = runner.process.pid;
        tracing::error!("the link to the runner (pid {pid}) is broken: {error}; replacing it");
        runner.is_broken = true;
        runner.complete_by = None;
        runner.outbox.clear();
        runner.kill();
        poller.forget(runner.process.link.as_fd());
    }

    /// The runner closed its end. It is leaving, and its pidfd tells when it has; a runner that
    /// stays will never say anything again, and is killed.
    pub fn closed(&mut self, poller: &Poller, clock: u64) {
        if let Some(runner) = &mut self.runner {
            runner.leave_by = Some(clock + LEAVE_US);
            poller.forget(runner.process.link.as_fd());
        }
    }

    /// Kills a runner that closed its link and did not leave in time.
    pub fn kill_silent(&mut self, clock: u64) {
        if let Some(runner) = &mut self.runner
            && runner.leave_by.is_some_and(|by| by <= clock)
        {
            tracing::warn!("the runner closed its link and did not leave; killing it");
            runner.leave_by = None;
            runner.kill();
        }
    }

    /// Breaks off with a runner whose message does not come to its end.
    pub fn break_off_unfinished(&mut self, poller: &Poller, clock: u64) {
        let complete_by = self.runner.as_ref().and_then(|runner| runner.complete_by);
        if complete_by.is_some_and(|by| by <= clock) {
            self.break_off(poller, &LinkError::Unfinished(MESSAGE_US / 1000));
        }
    }

    /// Kills the last runner, which did not leave in time; its death is not waited for.
    pub fn kill_last(&mut self) {
        if let Some(runner) = self.runner.take() {
            tracing::warn!("the runner did not leave; killing it");
            runner.kill();
        }
    }

    /// The runner is dead: returns its pid and when it began, once.
    pub fn take_dead(&mut self, poller: &Poller, clock: u64) -> Option<(i32, u64)> {
        let runner = self.runner.take()?;
        poller.forget(runner.process.pidfd.as_fd());
        let is_own_image = runner.process.is_own_image;
        // Where the keeper's own image does no better, the file may by now.
        self.is_unfit &= !is_own_image;
        match runner.is_broken && !is_own_image {
            true => self.broken_links += 1,
            false => self.broken_links = 0,
        }
        match clock - runner.born < YOUNG_US {
            true => self.young_deaths += 1,
            false => self.young_deaths = 0,
        }
        Some((runner.process.pid, runner.start_ticks))
    }

    /// A runner could not even be started, so it died as young as can be.
    pub fn start_failed(&mut self) {
        self.young_deaths += 1;
    }

    /// Plans the next runner: at once the first time, then with growing pauses, so that runners
    /// that cannot live do not eat the machine.
    pub fn start_again(&mut self, clock: u64) {
        const PAUSE_US: u64 = 50_000;
        const LONGEST_US: u64 = 5_000_000;
        let pause = match self.young_deaths {
            0 | 1 => 0,
            deaths => (PAUSE_US << deaths.min(10)).min(LONGEST_US),
        };
        self.due = Some(clock + pause);
    }

    /// True when a runner is to be started now, once.
    pub fn take_start(&mut self, clock: u64) -> bool {
        self.due.take_if(|due| *due <= clock).is_some()
    }

    /// When something is to be done although nothing happens.
    pub fn due(&self) -> Option<u64> {
        let runner = self.runner.as_ref();
        let silent = runner.and_then(|runner| runner.leave_by);
        let unfinished = runner.and_then(|runner| runner.complete_by);
        [self.due, silent, unfinished].into_iter().flatten().min()
    }

    /// Gives back what a large batch took.
    pub fn shrink_to_fit(&mut self) {
        if let Some(runner) = &mut self.runner {
            runner.inbox.shrink_to_fit();
            runner.outbox.shrink_to_fit();
        }
    }
}

impl Runner {
    /// Reads what is there; false when nothing more will come.
    fn read(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        loop {
            match nix::unistd::read(&self.process.link, &mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.inbox.extend(&chunk[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(errno) => {
                    tracing::warn!("reading from the runner: {errno}");
                    return false;
                }
            }
        }
    }

    fn send_out(&mut self, poller: &Poller) {
        if self.is_broken {
            return;
        }
        while !self.outbox.is_empty() {
            let fd = self.process.link.as_raw_fd();
            match send(fd, &self.outbox, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => {
                    self.outbox.drain(..count);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // It died: its pidfd tells, and the next runner replays.
                Err(_) => self.outbox.clear(),
            }
        }
        let writable = self.outbox.is_empty();
        // A link that the runner has closed is not watched any more.
        if writable != self.writable && self.leave_by.is_none() {
            self.writable = writable;
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, !writable);
            poller.change(self.process.link.as_fd(), interest, Token::Link);
        }
    }

    /// Ends it; its pidfd tells when it is dead.
    fn kill(&self) {
        if let Err(errno) = pidfd_send_signal(&self.process.pidfd, Signal::KILL) {
            tracing::error!("cannot kill the runner: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    /// A link to a process that only sleeps, and the runner's end of it.
    fn link(poller: &Poller) -> (RunnerLink, OwnedFd) {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let process = RunnerProcess {
            pid: child.id() as i32,
            pidfd,
            link: ours.into(),
            is_own_image: false,
        };
        std::thread::spawn(move || child.wait());
        let mut link = RunnerLink::default();
        let report = wire::Report::default();
        link.welcome(poller, process, 0, report, 0).unwrap();
        (link, theirs.into())
    }

    #[test]
    fn what_follows_nonsense_is_not_read() {
        let poller = Poller::new().unwrap();
        let (mut link, theirs) = link(&poller);
        nix::unistd::write(&theirs, &[0xff; 4]).unwrap();
        let error = link.receive(0).err().unwrap();
        link.break_off(&poller, &error);
        nix::unistd::write(&theirs, &frame_message(&wire::Batch::default())).unwrap();
        assert!(link.receive(0).unwrap().batches.is_empty());
        assert!(link.take_dead(&poller, 1).is_some());
        assert!(link.take_dead(&poller, 1).is_none());
    }

    #[test]
    fn a_runner_that_closes_its_link_and_stays_is_killed() {
        let poller = Poller::new().unwrap();
        let (mut link, theirs) = link(&poller);
        nix::unistd::write(&theirs, &[9, 0, 0, 0, 0x18]).unwrap();
        drop(theirs);
        let received = link.receive(0).unwrap();
        assert!(received.batches.is_empty() && !received.is_open);
        link.closed(&poller, 100);
        assert_eq!(link.due(), Some(100 + LEAVE_US));
        link.kill_silent(100 + LEAVE_US);
        assert_eq!(link.due(), None, "it is killed once");
        link.kill_last();
    }

    #[test]
    fn a_message_that_never_ends_is_waited_for_a_while() {
        let poller = Poller::new().unwrap();
        let (mut link, theirs) = link(&poller);
        let batch = frame_message(&wire::Batch {
            answers: 0,
            commands: vec![wire::Command::default()],
            ..wire::Batch::default()
        });
        // A message in two pieces is none that never ends.
        let (first, rest) = batch.split_at(3);
        nix::unistd::write(&theirs, first).unwrap();
        link.receive(100).unwrap();
        assert_eq!(link.due(), Some(100 + MESSAGE_US));
        nix::unistd::write(&theirs, rest).unwrap();
        assert_eq!(link.receive(200).unwrap().batches.len(), 1);
        assert_eq!(link.due(), None);
        // What follows a length without its bytes is swallowed, and changes no time.
        nix::unistd::write(&theirs, &[0, 0, 0, 1]).unwrap();
        link.receive(300).unwrap();
        nix::unistd::write(&theirs, &batch).unwrap();
        link.receive(400).unwrap();
        assert_eq!(link.due(), Some(300 + MESSAGE_US));
        link.break_off_unfinished(&poller, 299 + MESSAGE_US);
        assert_eq!(link.due(), Some(300 + MESSAGE_US));
        link.break_off_unfinished(&poller, 300 + MESSAGE_US);
        assert_eq!(link.due(), None, "it is broken off once");
        link.kill_last();
    }

    #[test]
    fn runners_that_die_young_are_started_with_growing_pauses() {
        let poller = Poller::new().unwrap();
        let (mut link, _theirs) = link(&poller);
        link.kill_last();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            link.start_failed();
            link.start_again(1000);
            pauses.push(link.due().unwrap() - 1000);
        }
        assert_eq!(pauses[..4], [0, 200_000, 400_000, 800_000]);
        assert_eq!(pauses[11], 5_000_000);
        assert!(!link.take_start(1000));
        assert!(link.take_start(5_001_000) && !link.take_start(5_001_000));
    }

    #[test]
    fn a_program_whose_runners_talk_nonsense_twice_is_not_used_again() {
        let mut link = RunnerLink {
            broken_links: 1,
            ..RunnerLink::default()
        };
        assert_eq!(link.program("/bin/dewar"), "/bin/dewar");
        link.broken_links = 2;
        assert_eq!(link.program("/bin/dewar"), ITSELF);
    }

    #[test]
    fn a_program_that_does_not_live_is_tried_again_now_and_then() {
        let mut link = RunnerLink::default();
        let mut programs = Vec::new();
        for _ in 0..8 {
            programs.push(link.program("file") == ITSELF);
            link.start_failed();
        }
        let (file, own) = (false, true);
        assert_eq!(programs, [file, file, file, own, own, file, own, own]);
    }

    #[test]
    fn a_runner_that_does_not_know_what_a_task_needs_is_replaced_by_the_present_image() {
        let poller = Poller::new().unwrap();
        let (mut link, _theirs) = link(&poller);
        let knows = |knows: &[u32]| wire::Batch {
            knows: knows.to_vec(),
            ..wire::Batch::default()
        };
        let error = link.believe(&knows(&[1]), &[1, 4]).unwrap_err();
        assert!(matches!(error, LinkError::Unfit), "{error}");
        assert_eq!(link.program("/bin/dewar"), ITSELF);
        link.kill_last();
    }

    #[test]
    fn a_runner_says_once_what_it_knows() {
        let poller = Poller::new().unwrap();
        let (mut link, _theirs) = link(&poller);
        let first = wire::Batch {
            knows: vec![1, 4, 9],
            ..wire::Batch::default()
        };
        link.believe(&first, &[4, 1]).unwrap();
        // A task that it opened itself may need more than others did.
        link.believe(&wire::Batch::default(), &[4, 1]).unwrap();
        assert_eq!(link.program("/bin/dewar"), "/bin/dewar");
        link.tell_not_understood(3, 1);
        let told = wire::NotUnderstood {
            task: 3,
            batch: 2,
            command: 1,
        };
        assert_eq!(link.report.not_understood, [told]);
        link.kill_last();
    }

    #[test]
    fn where_the_present_image_does_no_better_the_file_is_tried_again() {
        let poller = Poller::new().unwrap();
        let (mut link, _theirs) = link(&poller);
        link.use_own_image();
        assert_eq!(link.program("/bin/dewar"), ITSELF);
        if let Some(runner) = &mut link.runner {
            runner.process.is_own_image = true;
            runner.kill();
        }
        assert!(link.is_own_image() && link.take_dead(&poller, YOUNG_US).is_some());
        assert_eq!(link.program("/bin/dewar"), "/bin/dewar");
    }
}
