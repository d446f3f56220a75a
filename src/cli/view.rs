//! How a followed task is shown: plain lines, JSON lines, a table that redraws itself, or nothing.

use std::{
    io::{self},
    os::fd::BorrowedFd,
};

use super::{
    flags::Format,
    live::{Ask, Live},
    plain::Plain,
    terminal::{Style, put},
};
use crate::engine::{
    client::{Output, Watched},
    history::Event,
};

/// One way of showing a task.
pub(super) enum View {
    Plain(Plain),
    Json,
    Live(Box<Live>),
    /// Nothing is shown; only the exit code matters.
    Quiet,
    /// Only the output of processes.
    Output(Plain),
    /// Only the states of the task as a whole, and notices for the user.
    Brief(Plain),
}

impl View {
    pub fn of(format: Format) -> View {
        let style = Style::of(&io::stderr());
        let is_live = match format {
            Format::Json => return View::Json,
            Format::Plain => false,
            Format::Live => true,
            Format::Auto => style.is_terminal && io::IsTerminal::is_terminal(&io::stdout()),
        };
        let plain = Plain::new();
        match is_live {
            true => View::Live(Box::new(Live::new(plain))),
            false => View::Plain(plain),
        }
    }

    pub fn brief() -> View {
        View::Brief(Plain::new())
    }

    pub fn output_only() -> View {
        View::Output(Plain::new())
    }

    /// Comes before anything else; `consoles` are the processes whose output is shown.
    pub fn begin(&mut self, watched: &Watched, consoles: &[String]) {
        match self {
            View::Plain(plain) => {
                plain.begin(watched);
                plain.say(&Plain::heading(plain.style, watched));
            }
            View::Live(live) => {
                let text = Plain::heading(Style::of(&io::stderr()), watched);
                live.begin(consoles, watched, &text);
            }
            View::Output(plain) | View::Brief(plain) => plain.begin(watched),
            View::Json | View::Quiet => {}
        }
    }

    /// Shows an event; `watched` is the task as it is after the event.
    pub fn event(&mut self, event: &Event, watched: &Watched) {
        match self {
            View::Brief(_) if matches!(event, Event::Run(_)) => {}
            View::Plain(plain) | View::Brief(plain) => {
                let text = plain.line(event, watched);
                plain.say(&text);
            }
            View::Json => {
                if let Ok(line) = serde_json::to_string(event) {
                    put(&mut io::stdout(), (line + "\n").as_bytes());
                }
            }
            View::Live(live) => live.event(event, watched),
            View::Quiet | View::Output(_) => {}
        }
    }

    /// Shows output of processes. False when output is all that was wanted and its reader has left.
    pub fn output(&mut self, lines: &[Output], watched: &Watched) -> bool {
        match self {
            View::Output(plain) => return plain.output(lines),
            View::Plain(plain) => {
                plain.output(lines);
            }
            View::Live(live) => live.output(lines, watched),
            View::Json | View::Quiet | View::Brief(_) => {}
        }
        true
    }

    /// Shows a message of the client itself.
    pub fn say(&mut self, text: &str, watched: &Watched) {
        match self {
            View::Plain(plain) => plain.say(&format!("{text}\n")),
            View::Live(live) => live.print(&format!("{text}\n"), watched),
            View::Json | View::Quiet | View::Output(_) | View::Brief(_) => {}
        }
    }

    /// Draws everything anew: the terminal has another size, or was another program's meanwhile.
    pub fn redraw(&mut self, watched: &Watched) {
        if let View::Live(live) = self {
            live.redraw(watched);
        }
    }

    /// Draws the times anew.
    pub fn tick(&mut self, watched: &Watched) {
        if let View::Live(live) = self {
            live.draw(watched);
        }
    }

    /// True when the picture changes by time alone.
    pub fn has_clock(&self) -> bool {
        matches!(self, View::Live(_))
    }

    /// Readable when keys were pressed.
    pub fn keyboard(&self) -> Option<BorrowedFd<'static>> {
        match self {
            View::Live(live) => live.keyboard(),
            _ => None,
        }
    }

    /// Leaves the terminal to the shell for a while.
    pub fn rest(&mut self) {
        if let View::Live(live) = self {
            live.rest();
        }
    }

    /// Leaves the terminal as it was before; nothing more is shown.
    pub fn give_back(&mut self) {
        *self = View::Quiet;
    }

    /// Takes in the keys that were pressed.
    pub fn press(&mut self, watched: &Watched) -> Vec<Ask> {
        match self {
            View::Live(live) => live.press(watched),
            _ => Vec::new(),
        }
    }

    /// Comes after everything else.
    pub fn finish(&mut self, watched: &Watched) {
        match self {
            View::Plain(plain) => {
                let text = plain.verdict(watched);
                plain.say(&text);
            }
            View::Live(live) => live.finish(watched),
            View::Json | View::Quiet | View::Output(_) | View::Brief(_) => {}
        }
    }
}
