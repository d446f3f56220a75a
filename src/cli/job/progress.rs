//! The progress of a job: one line that is redrawn on a terminal, one line a change elsewhere.

use std::io::{Write, stdout};

use super::args::JobFormat;
use crate::{
    cli::{
        failure::{Code, Failure},
        terminal::{Colour, Style, harmless, harmless_json, put},
    },
    mesos::scheduler::core::{JobView, Totals, UpdateView},
};

/// What the client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Every instance runs, or (of a batch job) has ended.
    Settled,
    /// The update of the job has ended.
    Updated,
    /// The job is gone.
    Gone,
    /// Nothing: the job is watched until the user leaves.
    Never,
}

/// Shows a job's views as they come.
pub(super) struct Progress {
    goal: Goal,
    format: JobFormat,
    style: Style,
    last: String,
    /// A line stands on the terminal that is to be redrawn.
    is_drawn: bool,
    /// The reader of standard output has left.
    is_deserted: bool,
}

impl Progress {
    pub fn new(goal: Goal, format: JobFormat) -> Progress {
        Progress {
            goal,
            format,
            style: Style::of(&stdout()),
            last: String::new(),
            is_drawn: false,
            is_deserted: false,
        }
    }

    /// Shows one line of the answer; the exit code when the goal is reached, or cannot be any more.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Code>, Failure> {
        // An empty line says that the scheduler is alive.
        if line.is_empty() {
            return Ok(None);
        }
        let value: serde_json::Value = serde_json::from_slice(line).map_err(Failure::internal)?;
        if self.format == JobFormat::Json {
            self.put(&harmless_json(&value));
        }
        if self.is_deserted {
            return Ok(Some(Code::Success));
        }
        if value["gone"] == true {
            self.show("it is gone", "");
            return Ok(Some(match self.goal {
                Goal::Gone | Goal::Never => Code::Success,
                Goal::Settled | Goal::Updated => Code::Failed,
            }));
        }
        let view: JobView = serde_json::from_value(value).map_err(Failure::internal)?;
        let about = match (&view.why, &view.trouble) {
            _ if !view.connected => "no master hears the scheduler".to_owned(),
            (Some(why), _) => why.clone(),
            (None, Some(trouble)) if !is_settled(&view) => trouble.clone(),
            _ => String::new(),
        };
        let words = words(&view);
        self.show(&words, &about);
        Ok(self.reached(&view))
    }

    /// True when the client waits for the end of the job.
    pub fn is_for_its_end(&self) -> bool {
        self.goal == Goal::Gone
    }

    /// Leaves the cursor at the beginning of a line.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            // The line that was drawn may have been cut; the last one is printed in whole.
            let painted = self.style.paint(Colour::Cyan, &self.last);
            put(&mut stdout(), format!("\r\x1b[K{painted}\n").as_bytes());
        }
    }

    fn put(&mut self, line: &str) {
        self.is_deserted |= !put(&mut stdout(), format!("{line}\n").as_bytes());
    }

    fn reached(&self, view: &JobView) -> Option<Code> {
        match self.goal {
            Goal::Gone | Goal::Never => None,
            Goal::Settled => is_settled(view).then_some(match view.totals.failed {
                0 => Code::Success,
                _ => Code::Failed,
            }),
            Goal::Updated => {
                let update = view.update.as_ref();
                match update.filter(|update| update.is_active) {
                    Some(_) => None,
                    None => Some(match update.map(|update| update.state.name()) {
                        Some("ROLLED_FORWARD") | None => Code::Success,
                        Some(_) => Code::Failed,
                    }),
                }
            }
        }
    }

    fn show(&mut self, words: &str, about: &str) {
        if self.format == JobFormat::Json {
            return;
        }
        let mut text = words.to_owned();
        if !about.is_empty() {
            text += &format!("  ({})", harmless(about));
        }
        if text == self.last {
            return;
        }
        self.last.clone_from(&text);
        if !self.style.is_terminal {
            return self.put(&text);
        }
        let width = rustix::termios::tcgetwinsize(stdout());
        let width = width.map_or(0, |size| usize::from(size.ws_col));
        let width = if width < 20 { 80 } else { width };
        let shown: String = text.chars().take(width - 1).collect();
        let painted = self.style.paint(Colour::Cyan, &shown);
        let mut out = stdout();
        put(&mut out, format!("\r\x1b[K{painted}").as_bytes());
        // `put` has said what cannot be written.
        let _ = out.flush();
        self.is_drawn = true;
    }
}

/// True when no instance of the job is starting, ending or being updated.
fn is_settled(view: &JobView) -> bool {
    let Totals {
        wanted,
        running,
        finished,
        failed,
        ..
    } = view.totals;
    let is_updating = view.update.as_ref().is_some_and(|update| update.is_active);
    let ended = finished + failed;
    let has_all = match view.service {
        true => running + ended == wanted,
        false => ended == wanted,
    };
    has_all && view.totals.killing == 0 && !is_updating
}

/// A job in a few words: `12/20 running, 3 starting, 5 pending; update 4/20, 5 in hand`.
pub(super) fn words(view: &JobView) -> String {
    let totals = &view.totals;
    let mut words = match view.service {
        true => format!("{}/{} running", totals.running, totals.wanted),
        false => format!("{}/{} finished", totals.finished, totals.wanted),
    };
    for (state, count) in totals.by_state() {
        let is_said = match view.service {
            true => state == "running",
            false => state == "finished",
        };
        if count > 0 && !is_said {
            words += &format!(", {count} {state}");
        }
    }
    if let Some(update) = &view.update {
        words += &format!("; {}", update_words(update));
    }
    words
}

fn update_words(update: &UpdateView) -> String {
    let what = match update.is_restart {
        true => "restart",
        false => "update",
    };
    let state = update.state.name().to_ascii_lowercase().replace('_', " ");
    let mut words = format!("{what} {state} {}/{}", update.done, update.total);
    if update.is_active && update.working > 0 {
        words += &format!(", {} in hand", update.working);
    }
    if update.failed > 0 {
        words += &format!(", {} failed", update.failed);
    }
    if !update.reason.is_empty() {
        let first = update.reason.lines().next().unwrap_or_default();
        words += &format!(" ({})", harmless(first));
    }
    words
}
