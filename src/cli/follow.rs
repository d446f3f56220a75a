//! Following a task to its end: events, output, Ctrl-C, and conversations that break.

use std::{
    io::{self, Read},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use signal_hook::consts::{SIGINT, SIGTERM, SIGWINCH};

use super::{
    failure::{Code, Failure, Outcome},
    logs::{Line, LogFollower},
    session::{Opened, Session},
    view::View,
    watched::Watched,
};
use crate::runner::{Event, Request, TaskStatus};

/// Whose output is shown while following.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nobody,
    /// Of these processes.
    Of(Vec<String>),
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
}

/// Signals as descriptors. Registered before a task begins: from then on Ctrl-C means the task.
pub(super) struct Signals {
    stops: UnixStream,
    resizes: UnixStream,
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
        self.view.begin(&self.watched);
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
            let mut fds = [
                PollFd::new(self.session.fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.stops.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.resizes.as_fd(), PollFlags::POLLIN),
                PollFd::new(logs.fd(), PollFlags::POLLIN),
            ];
            let timeout = match logs.has_more() {
                true => PollTimeout::ZERO,
                false => PollTimeout::NONE,
            };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready = fds.map(|fd| fd.any().unwrap_or(false));
            if ready[3] || logs.has_more() {
                let lines = logs.lines();
                if !lines.is_empty() {
                    self.view.output(&lines, &self.watched);
                }
            }
            if ready[2] && drain(&self.signals.resizes)? > 0 {
                self.view.redraw(&self.watched);
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
            if self.watched.take(&event)
                && let Some(code) = self.tell(vec![event], logs)
            {
                return Ok(Step::Done(code));
            }
        }
        Ok(Step::Continue)
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
                if let Some(code) = Code::of_state(&task.state) {
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
    Code::of_state(&watched.status.state).unwrap_or(Code::Internal)
}

/// Shows one event, with the output that belongs before it.
fn show(event: &Event, watched: &Watched, view: &mut View, shown: &Shown, logs: &mut LogFollower) {
    if let (Event::Run(run), Shown::Of(names)) = (event, shown)
        && names.contains(&run.name)
    {
        logs.add(
            Path::new(&watched.status.sandbox),
            &run.name,
            run.run.run,
            None,
        );
        if run.run.stopped_at.is_some() {
            let mut out = |lines: &[Line]| view.output(lines, watched);
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

impl Signals {
    /// Ctrl-C and SIGTERM end the task, not us.
    pub fn that_stop() -> Result<Signals, Failure> {
        Signals::register(true).map_err(Failure::internal)
    }

    /// Ctrl-C and SIGTERM end us, not the task.
    pub fn that_leave() -> Result<Signals, Failure> {
        Signals::register(false).map_err(Failure::internal)
    }

    fn register(stops: bool) -> io::Result<Signals> {
        let pair = || -> io::Result<(UnixStream, UnixStream)> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            Ok((read, write))
        };
        let (stops_read, stops_write) = pair()?;
        if stops {
            let second = stops_write.try_clone()?;
            signal_hook::low_level::pipe::register(SIGINT, stops_write)?;
            signal_hook::low_level::pipe::register(SIGTERM, second)?;
        } else {
            // Kept open for ever, so that nothing is ever readable there.
            std::mem::forget(stops_write);
        }
        let (resizes_read, resizes_write) = pair()?;
        signal_hook::low_level::pipe::register(SIGWINCH, resizes_write)?;
        Ok(Signals {
            stops: stops_read,
            resizes: resizes_read,
        })
    }
}

/// How many signals came.
fn drain(mut pipe: &UnixStream) -> io::Result<usize> {
    let mut bytes = [0; 64];
    match pipe.read(&mut bytes) {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// The processes of `status` whose output followers show.
pub(super) fn consoles(task: &crate::config::Task, status: &TaskStatus) -> Shown {
    let shown = task
        .processes
        .iter()
        .filter(|process| process.logger.destination.is_shown())
        .filter(|process| status.processes.iter().any(|p| p.name == process.name));
    Shown::Of(shown.map(|process| process.name.clone()).collect())
}
