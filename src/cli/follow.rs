//! Following a task to its end: events, output, Ctrl-C, and conversations that break.

use std::{
    io,
    os::fd::AsFd,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use signal_hook::consts::SIGTSTP;

use super::{
    failure::{Code, Failure, Outcome},
    live::Ask,
    signals::{Signals, drain},
    terminal::complain,
    view::View,
};
use crate::engine::{
    client::{Line, LogFollower, Opened, Session, Watched},
    history::{Event, TaskStatus},
    ipc::Request,
};

/// Whose output is shown while following.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nobody,
    /// Of these processes.
    Of(Vec<String>),
}

impl Shown {
    fn names(&self) -> &[String] {
        match self {
            Shown::Nobody => &[],
            Shown::Of(names) => names,
        }
    }
}

/// Between two pictures that only show more output.
const FRAME: Duration = Duration::from_millis(50);
/// Between two pictures when nothing happens: times are shown in seconds.
const CLOCK: Duration = Duration::from_secs(1);

fn timeout_of(duration: Duration) -> PollTimeout {
    let millis = duration.as_millis().max(1);
    PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}

pub(super) struct Follower<'s> {
    pub session: Box<Session<'s>>,
    pub watched: Watched,
    pub view: View,
    pub shown: Shown,
    pub signals: Signals,
    /// Leave as soon as ACTIVE is on disk.
    pub detach: bool,
    /// What was asked, to be asked again of a new runner: the old one may have died deaf.
    pub repeat: Option<Request>,
    /// When the last picture of output was drawn, if there was one.
    pub drawn_at: Option<Instant>,
}

/// Why following stopped.
enum Step {
    Continue,
    Broken,
    Done(Code),
}

impl Follower<'_> {
    /// Follows until the task is over; `news` is what was not shown yet.
    pub fn run(self, news: Vec<Event>) -> Outcome {
        let logs = LogFollower::new().map_err(Failure::internal)?;
        self.run_with(news, logs)
    }

    /// As [`run`](Self::run), going on where `logs` are.
    pub fn run_with(mut self, news: Vec<Event>, mut logs: LogFollower) -> Outcome {
        let mut stops = 0;
        self.view.begin(&self.watched, self.shown.names());
        if let Some(code) = self.tell(news, &mut logs) {
            return Ok(code);
        }
        loop {
            let step = self
                .wait(&mut logs, &mut stops)
                .map_err(Failure::internal)?;
            match step {
                Step::Continue => {}
                Step::Done(code) => return Ok(code),
                Step::Broken => {
                    let opened = self.session.reopen()?;
                    let (session, status) = match opened {
                        Opened::Open(session, status) => (Some(session), status),
                        Opened::Over(status) => (None, status),
                    };
                    let news = self.watched.again(*status);
                    let (watched, view, shown) = (self.watched, self.view, self.shown);
                    let Some(session) = session else {
                        return Ok(conclude(watched, view, &shown, news, &mut logs));
                    };
                    self = Follower {
                        session,
                        watched,
                        view,
                        shown,
                        signals: self.signals,
                        detach: self.detach,
                        repeat: self.repeat,
                        drawn_at: self.drawn_at,
                    };
                    if let Some(code) = self.tell(news, &mut logs) {
                        return Ok(code);
                    }
                    if let Some(request) = &self.repeat
                        && let Err(error) = self.session.request(request)
                    {
                        tracing::info!("asking again: {error}");
                    }
                }
            }
        }
    }

    fn wait(&mut self, logs: &mut LogFollower, stops: &mut u32) -> io::Result<Step> {
        if !self.session.has_pending() {
            // A picture is drawn so many times a second and no more often.
            let rest = self
                .drawn_at
                .map_or(Duration::ZERO, |at| FRAME.saturating_sub(at.elapsed()));
            let may_draw = !self.view.has_clock() || rest.is_zero();
            let nobody = self.signals.stops.as_fd();
            let mut fds = vec![
                PollFd::new(self.session.fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.stops.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.resizes.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.view.keyboard().unwrap_or(nobody), PollFlags::POLLIN),
            ];
            if may_draw {
                fds.push(PollFd::new(logs.fd(), PollFlags::POLLIN));
            }
            let has_more = logs.has_more() && may_draw;
            let timeout = match self.view.has_clock() {
                _ if has_more => PollTimeout::ZERO,
                true if !may_draw => timeout_of(rest),
                true => timeout_of(CLOCK),
                false => PollTimeout::NONE,
            };
            let found = match poll(&mut fds, timeout) {
                Ok(found) => found,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            drop(fds);
            if ready.get(4) == Some(&true) || has_more {
                let lines = logs.lines();
                if !lines.is_empty() {
                    if !self.view.output(&lines, &self.watched) {
                        return Ok(Step::Done(Code::Success));
                    }
                    self.drawn_at = Some(Instant::now());
                }
            } else if found == 0 && may_draw && self.view.has_clock() {
                self.view.tick(&self.watched);
            }
            if ready[3] && self.view.keyboard().is_some() {
                for ask in self.view.press(&self.watched) {
                    match ask {
                        Ask::Leave => return Ok(self.leave()),
                        Ask::Stop => {
                            *stops += 1;
                            self.ask_to_stop(*stops);
                        }
                        Ask::Restart(process) => self.ask_to_restart(process),
                    }
                }
            }
            if drain(&self.signals.suspends)? > 0 {
                self.view.rest();
                signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
            }
            if ready[2] && drain(&self.signals.resizes)? > 0 {
                self.view.redraw(&self.watched);
            }
            if ready[1]
                && let Some(last) = &self.signals.ends_us
            {
                self.view.give_back();
                let last = last.load(Ordering::SeqCst) as i32;
                signal_hook::low_level::emulate_default_handler(last)?;
            }
            if ready[1] {
                *stops += drain(&self.signals.stops)? as u32;
                self.ask_to_stop(*stops);
            }
            if !ready[0] {
                return Ok(Step::Continue);
            }
        }
        let Some(events) = self.session.events()? else {
            return Ok(Step::Broken);
        };
        // One by one: each is shown as things stood then.
        for event in events {
            if let Event::Refused { .. } = &event {
                self.view.event(&event, &self.watched);
            }
            if self.watched.take(&event)
                && let Some(code) = self.tell(vec![event], logs)
            {
                return Ok(Step::Done(code));
            }
        }
        Ok(Step::Continue)
    }

    /// The person has seen enough; the task goes on.
    fn leave(&mut self) -> Step {
        let id = self.session.id().to_owned();
        self.view.finish(&self.watched);
        complain(&format!("the task goes on; dewar attach {id}"));
        Step::Done(Code::Success)
    }

    fn ask_to_restart(&mut self, process: String) {
        let request = Request::Restart {
            task: Some(self.session.id().to_owned()),
            process,
        };
        // A runner that died is replaced; the person sees that nothing happened and asks again.
        if let Err(error) = self.session.request(&request) {
            tracing::info!("asking to restart: {error}");
        }
    }

    fn ask_to_stop(&mut self, times: u32) {
        let request = Request::Kill {
            task: Some(self.session.id().to_owned()),
            now: times > 1,
            budget_us: None,
        };
        // A runner that died is replaced, and then asked again.
        if let Err(error) = self.session.request(&request) {
            tracing::info!("asking to stop: {error}");
        }
        self.repeat = Some(request);
        let text = match times {
            1 => "stopping; once more to kill at once",
            _ => "killing",
        };
        self.view.say(text, &self.watched);
    }

    /// Shows what is new; the code when that was the end.
    fn tell(&mut self, news: Vec<Event>, logs: &mut LogFollower) -> Option<Code> {
        for event in news {
            show(&event, &self.watched, &mut self.view, &self.shown, logs);
            if let Event::Task(task) = &event {
                if let Some(code) = Code::of_state(task.state) {
                    self.view.finish(&self.watched);
                    return Some(code);
                }
                if self.detach {
                    return Some(Code::Success);
                }
            }
        }
        None
    }
}

/// The task ended while nobody talked to us.
fn conclude(
    watched: Watched,
    mut view: View,
    shown: &Shown,
    news: Vec<Event>,
    logs: &mut LogFollower,
) -> Code {
    for event in news {
        show(&event, &watched, &mut view, shown, logs);
    }
    view.finish(&watched);
    Code::of_state(watched.status.state).unwrap_or(Code::Internal)
}

/// Shows one event, with the output that belongs before it.
fn show(event: &Event, watched: &Watched, view: &mut View, shown: &Shown, logs: &mut LogFollower) {
    let is_shown = |name: &String| shown.names().contains(name);
    if let Event::Run(run) = event
        && (is_shown(&run.name) || view.has_clock())
    {
        let sandbox = Path::new(&watched.status.sandbox);
        match is_shown(&run.name) {
            true => logs.add(sandbox, &run.name, run.run.run, None),
            false => logs.glance(sandbox, &run.name, run.run.run),
        }
        if run.run.stopped_at.is_some() {
            let mut out = |lines: &[Line]| {
                view.output(lines, watched);
            };
            logs.finish(&run.name, run.run.run, &mut out);
        } else {
            let lines = logs.lines();
            if !lines.is_empty() {
                view.output(&lines, watched);
            }
        }
    }
    view.event(event, watched);
}

/// The processes of `status` whose output followers show.
pub(super) fn consoles(task: &crate::task::Task, status: &TaskStatus) -> Shown {
    let shown = task
        .processes
        .iter()
        .filter(|process| process.logger.destination.is_shown())
        .filter(|process| status.processes.iter().any(|p| p.name == process.name));
    Shown::Of(shown.map(|process| process.name.clone()).collect())
}
