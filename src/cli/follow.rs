//! Following a task to its end: events, output, Ctrl-C, and conversations that break.

use std::{
    io,
    os::fd::AsFd,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nix::poll::PollTimeout;
use signal_hook::consts::SIGTSTP;

use super::{
    failure::{Code, Failure, Outcome},
    live::Ask,
    signals::{Signals, drain},
    sources::{Ready, Source, Sources},
    terminal::complain,
    view::View,
};
use crate::engine::{
    client::{LogFollower, Opened, Output, Session, Start, Watched},
    history::{Event, TaskStatus},
    ipc::Request,
};

/// Between two pictures that only show more output.
const FRAME: Duration = Duration::from_millis(50);
/// Between two pictures when nothing happens: times are shown in seconds.
const CLOCK: Duration = Duration::from_secs(1);

/// A task that is followed, and how it is shown.
pub(super) struct Follower<'s> {
    session: Box<Session<'s>>,
    watched: Watched,
    view: View,
    /// Names of the processes whose output is shown.
    shown: Vec<String>,
    signals: Signals,
    /// Where the output of the runs that are told first begins; later ones are shown from their
    /// beginning.
    pub start: Start,
    /// Leave as soon as ACTIVE is on disk.
    pub detach: bool,
    /// What was asked, to be asked again of a new runner: the old one may have died before it read
    /// it.
    pub repeat: Option<Request>,
    /// When the last picture of output was drawn, if there was one.
    drawn_at: Option<Instant>,
    /// How often the user has asked to stop.
    stops: u32,
}

/// What came of waiting.
enum Step {
    Continue,
    /// The runner is gone.
    Broken,
    Done(Code),
}

impl<'s> Follower<'s> {
    pub fn new(
        session: Box<Session<'s>>,
        watched: Watched,
        view: View,
        shown: Vec<String>,
        signals: Signals,
    ) -> Follower<'s> {
        Follower {
            session,
            watched,
            view,
            shown,
            signals,
            start: Start::Oldest,
            detach: false,
            repeat: None,
            drawn_at: None,
            stops: 0,
        }
    }

    /// Follows until the task is over; `news` is what was not shown yet.
    pub fn run(self, news: Vec<Event>) -> Outcome {
        let logs = LogFollower::new().map_err(Failure::internal)?;
        self.run_with(news, logs)
    }

    /// As [`run`](Self::run), going on where `logs` are.
    pub fn run_with(mut self, news: Vec<Event>, mut logs: LogFollower) -> Outcome {
        self.view.begin(&self.watched, &self.shown);
        if let Some(code) = self.tell(news, &mut logs) {
            return Ok(code);
        }
        self.start = Start::Oldest;
        loop {
            let step = self.wait(&mut logs).map_err(Failure::internal)?;
            let news = match step {
                Step::Continue => continue,
                Step::Done(code) => return Ok(code),
                Step::Broken => match self.session.reopen()? {
                    Opened::Open(session, status) => {
                        self.session = session;
                        self.watched.again(*status)
                    }
                    Opened::Over(status) => {
                        let news = self.watched.again(*status);
                        let (watched, view) = (self.watched, self.view);
                        return Ok(conclude(watched, view, &self.shown, news, &mut logs));
                    }
                },
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

    /// Waits for the next thing to happen, and does what follows from it.
    fn wait(&mut self, logs: &mut LogFollower) -> io::Result<Step> {
        if self.session.has_pending() {
            return self.take_events(logs);
        }
        // A picture is drawn so many times a second and no more often.
        let rest = self
            .drawn_at
            .map_or(Duration::ZERO, |at| FRAME.saturating_sub(at.elapsed()));
        let may_draw = !self.view.has_clock() || rest.is_zero();
        let has_more = logs.has_more() && may_draw;
        let timeout = match self.view.has_clock() {
            _ if has_more => PollTimeout::ZERO,
            true if !may_draw => timeout_of(rest),
            true => timeout_of(CLOCK),
            false => PollTimeout::NONE,
        };
        let ready = self.sources(logs, may_draw).wait(timeout)?;
        if ready.has(Source::Logs) || has_more {
            if !self.show_output(logs) {
                return Ok(Step::Done(Code::Success));
            }
        } else if ready.is_empty() && may_draw && self.view.has_clock() {
            self.view.tick(&self.watched);
        }
        if ready.has(Source::Keyboard)
            && let Some(step) = self.press()
        {
            return Ok(step);
        }
        self.take_signals(&ready)?;
        match ready.has(Source::Session) {
            true => self.take_events(logs),
            false => Ok(Step::Continue),
        }
    }

    fn sources<'fd>(&'fd self, logs: &'fd LogFollower, may_draw: bool) -> Sources<'fd> {
        let mut sources = Sources::default();
        sources.add(Source::Session, self.session.fd());
        sources.add(Source::Stops, self.signals.stops.as_fd());
        sources.add(Source::Suspends, self.signals.suspends.as_fd());
        sources.add(Source::Resizes, self.signals.resizes.as_fd());
        if let Some(keyboard) = self.view.keyboard() {
            sources.add(Source::Keyboard, keyboard);
        }
        if may_draw {
            sources.add(Source::Logs, logs.fd());
        }
        sources
    }

    /// False when output is all that was wanted and its reader has left.
    fn show_output(&mut self, logs: &mut LogFollower) -> bool {
        let lines = logs.lines();
        if lines.is_empty() {
            return true;
        }
        let is_read = self.view.output(&lines, &self.watched);
        self.drawn_at = Some(Instant::now());
        is_read
    }

    /// Takes in the keys that were pressed; a step when the user leaves.
    fn press(&mut self) -> Option<Step> {
        for ask in self.view.press(&self.watched) {
            match ask {
                Ask::Leave => return Some(self.leave()),
                Ask::Stop => self.ask_to_stop(1),
                Ask::Restart(process) => self.ask_to_restart(process),
            }
        }
        None
    }

    fn take_signals(&mut self, ready: &Ready) -> io::Result<()> {
        if ready.has(Source::Suspends) && drain(&self.signals.suspends)? > 0 {
            self.view.rest();
            signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
        }
        if ready.has(Source::Resizes) && drain(&self.signals.resizes)? > 0 {
            self.view.redraw(&self.watched);
        }
        if ready.has(Source::Stops) {
            if let Some(last) = &self.signals.ends_us {
                self.view.give_back();
                let last = last.load(Ordering::SeqCst) as i32;
                signal_hook::low_level::emulate_default_handler(last)?;
            }
            let count = drain(&self.signals.stops)?;
            self.ask_to_stop(count as u32);
        }
        Ok(())
    }

    fn take_events(&mut self, logs: &mut LogFollower) -> io::Result<Step> {
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

    /// The user has seen enough; the task goes on.
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
        // A runner that died is replaced; the user sees that nothing happened and asks again.
        if let Err(error) = self.session.request(&request) {
            tracing::info!("asking to restart: {error}");
        }
    }

    /// The user has asked so many times more.
    fn ask_to_stop(&mut self, times: u32) {
        self.stops += times;
        let request = Request::Kill {
            task: Some(self.session.id().to_owned()),
            now: self.stops > 1,
            budget_us: None,
        };
        // A runner that died is replaced, and then asked again.
        if let Err(error) = self.session.request(&request) {
            tracing::info!("asking to stop: {error}");
        }
        self.repeat = Some(request);
        let text = match self.stops {
            1 => "stopping; once more to kill at once",
            _ => "killing",
        };
        self.view.say(text, &self.watched);
    }

    /// Shows what is new; the code when that was the end.
    fn tell(&mut self, news: Vec<Event>, logs: &mut LogFollower) -> Option<Code> {
        for event in news {
            let shown = Shown {
                names: &self.shown,
                start: self.start,
            };
            show(&event, &self.watched, &mut self.view, shown, logs);
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

fn timeout_of(duration: Duration) -> PollTimeout {
    let millis = duration.as_millis().max(1);
    PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}

/// The task ended while there was no conversation.
fn conclude(
    watched: Watched,
    mut view: View,
    names: &[String],
    news: Vec<Event>,
    logs: &mut LogFollower,
) -> Code {
    let shown = Shown {
        names,
        start: Start::Oldest,
    };
    for event in news {
        show(&event, &watched, &mut view, shown, logs);
    }
    view.finish(&watched);
    Code::of_state(watched.status.state).unwrap_or(Code::Internal)
}

/// Whose output is shown, and from where.
#[derive(Clone, Copy)]
struct Shown<'a> {
    names: &'a [String],
    start: Start,
}

/// Shows one event, with the output that belongs before it.
fn show(
    event: &Event,
    watched: &Watched,
    view: &mut View,
    shown: Shown<'_>,
    logs: &mut LogFollower,
) {
    if let Event::Run(run) = event {
        let is_shown = shown.names.contains(&run.name);
        if is_shown || view.has_clock() {
            let sandbox = Path::new(&watched.status.sandbox);
            match is_shown {
                true => logs.add(sandbox, &run.name, run.run.run, shown.start),
                false => logs.glance(sandbox, &run.name, run.run.run),
            }
            if run.run.stopped_at.is_some() {
                let mut out = |lines: &[Output]| {
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
    }
    view.event(event, watched);
}

/// The processes of `status` whose output followers show.
pub(super) fn consoles(task: &crate::task::Task, status: &TaskStatus) -> Vec<String> {
    let shown = task
        .processes
        .iter()
        .filter(|process| process.logger.destination.is_shown())
        .filter(|process| status.processes.iter().any(|p| p.name == process.name));
    shown.map(|process| process.name.clone()).collect()
}
