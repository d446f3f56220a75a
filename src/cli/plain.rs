//! Plain output: one line an event, for pipes and logs.

use std::io::{self, Write};

use super::terminal::{Colour, Style, fit, harmless, put};
use crate::engine::{
    client::{Cut, Line, Missed, Output, Watched},
    history::{Event, ProcessState, ProcessStatus, RunStatus, WallTime},
    plan::{RunState, TaskState},
};

/// Prints lines: those of dewar on standard error, the output of processes on the stream that it
/// came from.
pub(super) struct Plain {
    pub(super) style: Style,
    out_style: Style,
    began: Option<WallTime>,
    width: usize,
}

impl Plain {
    pub(super) fn new() -> Plain {
        Plain {
            style: Style::of(&io::stderr()),
            out_style: Style::of(&io::stdout()),
            began: None,
            width: 0,
        }
    }

    pub fn style(&self) -> Style {
        self.style
    }

    pub(super) fn heading(style: Style, watched: &Watched) -> String {
        let status = &watched.status;
        let ports: Vec<String> = status
            .ports
            .iter()
            .map(|(name, port)| format!("  {}={port}", harmless(name)))
            .collect();
        format!(
            "{}  sandbox {}{}\n",
            style.paint(Colour::Blue, &harmless(&status.task_id)),
            harmless(&status.sandbox),
            ports.concat()
        )
    }

    pub fn begin(&mut self, watched: &Watched) {
        let states = &watched.status.states;
        self.began = states.first().map(|state| state.at);
        let names = watched
            .status
            .processes
            .iter()
            .map(|p| p.name.chars().count());
        self.width = names.max().unwrap_or(0).min(30);
    }

    pub fn say(&self, text: &str) {
        put(&mut io::stderr(), text.as_bytes());
    }

    /// False when its reader has left.
    pub(super) fn output(&self, output: &[Output]) -> bool {
        let mut is_read = true;
        for one in output {
            let line = match one {
                Output::Line(line) => line,
                Output::Missed(missed) => {
                    self.say(&self.missed(missed));
                    continue;
                }
                Output::Cut(cut) => {
                    self.say(&self.cut(cut));
                    continue;
                }
            };
            let (style, mut stream): (Style, Box<dyn Write>) = match line.stream {
                "stderr" => (self.style, Box::new(io::stderr())),
                _ => (self.out_style, Box::new(io::stdout())),
            };
            let bytes = match style.is_terminal {
                true => Plain::line_of(style, line).into_bytes(),
                false => {
                    let name = format!("{} | ", harmless(&line.process));
                    [name.as_bytes(), &line.text, b"\n"].concat()
                }
            };
            is_read &= put(&mut stream, &bytes);
        }
        is_read
    }

    /// Where output may be missing.
    pub fn missed(&self, missed: &Missed) -> String {
        let stream = missed.stream;
        let why = match missed.files {
            Some(1) => format!("a file of its {stream} was rotated away before it was read"),
            Some(files) => {
                format!("{files} files of its {stream} were rotated away before they were read")
            }
            None => format!("its {stream} was rotated faster than it was read"),
        };
        let is = match missed.files {
            Some(_) => "is",
            None => "may be",
        };
        let name = harmless(&missed.process);
        let text = format!("note: {name}: output {is} missing here: {why}");
        format!("{}\n", self.style.paint(Colour::Yellow, &text))
    }

    /// Where a log was cut.
    pub fn cut(&self, cut: &Cut) -> String {
        let (name, stream, bytes) = (harmless(&cut.process), cut.stream, cut.bytes);
        let text = format!(
            "note: {name}: its {stream} was cut: {bytes} bytes that were read are gone from the file"
        );
        format!("{}\n", self.style.paint(Colour::Yellow, &text))
    }

    /// A line of output as a terminal shows it.
    pub fn shown(&self, line: &Line) -> String {
        Plain::line_of(self.style, line)
    }

    fn line_of(style: Style, line: &Line) -> String {
        let name = style.paint(Colour::Grey, &format!("{} | ", harmless(&line.process)));
        format!("{name}{}\n", harmless(&String::from_utf8_lossy(&line.text)))
    }

    fn clock(&mut self, at: WallTime) -> String {
        let began = *self.began.get_or_insert(at);
        let seconds = seconds_of(at) - seconds_of(began);
        self.style.paint(Colour::Grey, &format!("{seconds:>9.3}s"))
    }

    pub fn line(&mut self, event: &Event, watched: &Watched) -> String {
        match event {
            Event::Task(task) => {
                let clock = self.clock(task.at);
                let state = self.style.state(task.state, 0);
                let mut line = format!("{clock}  {state}");
                if let Some(reason) = &task.reason {
                    line += &format!("  {}", harmless(reason));
                }
                let alive = watched.alive();
                if let (TaskState::Cleaning, Some(deadline), false) =
                    (task.state, task.deadline, alive.is_empty())
                {
                    line += &format!("\n{}", stopping(&alive, task.at, deadline));
                }
                line + "\n"
            }
            Event::Run(run) => {
                let at = run.run.stopped_at.or(run.run.began_at());
                let clock = at.map_or_else(String::new, |at| self.clock(at));
                let name = harmless(&run.name);
                let width = self.width;
                let what = describe(&run.run, self.style);
                if run.run.state == RunState::Forked {
                    return String::new();
                }
                let number = match run.run.run {
                    0 => String::new(),
                    number => format!("  run {number}"),
                };
                format!("{clock}  {name:width$}  {what}{number}\n")
            }
            Event::Notice(notice) => {
                let clock = self.clock(notice.at);
                let about = notice
                    .name
                    .as_deref()
                    .map(|name| format!("{}: ", harmless(name)));
                let text = harmless(&notice.text);
                format!("{clock}  note: {}{text}\n", about.unwrap_or_default())
            }
            Event::Status(_) | Event::Refused { .. } => String::new(),
        }
    }

    pub fn verdict(&self, watched: &Watched) -> String {
        let status = &watched.status;
        let mut text = String::new();
        for process in &status.processes {
            let last = process.runs.last();
            let has_failed = |run: &&RunStatus| run.state == RunState::Failed && !run.stopped;
            if let Some(run) = last.filter(has_failed) {
                let logs = format!("{}/.logs/{}/{}", status.sandbox, process.name, run.run);
                text += &format!(
                    "  {}: output in {}\n",
                    harmless(&process.name),
                    harmless(&logs)
                );
            }
        }
        let skipped = status.processes.iter().filter(|process| process.skipped);
        let skipped: Vec<String> = skipped.map(|process| harmless(&process.name)).collect();
        if !skipped.is_empty() {
            text += &format!("  skipped: {}\n", few(&skipped));
        }
        text
    }
}

/// The names of a list, as many as people want to read.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Which processes are still stopping, and when SIGKILL comes.
pub(super) fn stopping(alive: &[(&str, u32)], now: WallTime, deadline: WallTime) -> String {
    let who: Vec<String> = alive
        .iter()
        .map(|(name, pid)| format!("{} (pid {pid})", harmless(name)))
        .collect();
    let left = deadline.since(now).as_secs_f64();
    format!("  stopping: {}; SIGKILL in {left:.1}s", who.join(", "))
}

fn seconds_of(at: WallTime) -> f64 {
    at.timestamp().as_microsecond() as f64 / 1e6
}

/// Describes a run in a few words.
fn describe(run: &RunStatus, style: Style) -> String {
    let state = style.state(run.in_words(), 0);
    let reason = run.reason.as_deref().map(harmless);
    if run.stopped {
        return state;
    }
    match (&run.exit_code, &run.signal, reason) {
        (_, _, Some(reason)) => format!("{state}  {reason}"),
        (Some(0), _, None) => state,
        (Some(code), _, None) => format!("{state}  exit code {code}"),
        (None, Some(signal), None) => format!("{state}  {signal}"),
        (None, None, None) => match run.pid {
            Some(pid) => format!("{state}  pid {pid}"),
            None => state,
        },
    }
}

/// A table with one line a process: its name, state, runs, and more.
pub(super) fn table(watched: &Watched, style: Style, columns: u16) -> Vec<String> {
    let processes = &watched.status.processes;
    let widest = processes.iter().map(|p| p.name.chars().count()).max();
    let width = widest.unwrap_or(0).min(30);
    let rows = processes.iter().map(|process| {
        let info = info(process, watched);
        let name: String = harmless(&process.name).chars().take(width).collect();
        let runs = match process.runs.len() {
            0 | 1 => String::new(),
            _ => format!("x{}", process.runs.last().map_or(0, |run| run.run + 1)),
        };
        let state = process.in_words();
        let used = 2 + width + 2 + state.to_string().len().max(8) + 1 + 5 + 1;
        let room = usize::from(columns).saturating_sub(used + 1);
        let info = fit(&info, room);
        let state = style.state(state, 8);
        format!("  {name:width$}  {state} {runs:5} {info}")
            .trim_end()
            .to_owned()
    });
    rows.collect()
}

/// What a table says of a process beside its state.
pub(super) fn info(process: &ProcessStatus, watched: &Watched) -> String {
    let run = process.runs.last();
    match (process.state, run) {
        (ProcessState::Waiting, _) if process.skipped && !process.waiting_for.is_empty() => {
            format!("waited for {}", harmless(&process.waiting_for.join(", ")))
        }
        (ProcessState::Waiting, _) => {
            let names = watched.waits_for(process);
            match (names.is_empty(), process.is_final) {
                (false, _) => format!("waits for {}", harmless(&names.join(", "))),
                (true, true) => "final".to_owned(),
                (true, false) => String::new(),
            }
        }
        (_, Some(run)) => {
            let plain = Style {
                colours: false,
                is_terminal: false,
            };
            let text = describe(run, plain);
            let text = text
                .strip_prefix(&run.in_words().to_string())
                .unwrap_or(&text)
                .trim_start();
            text.to_owned()
        }
        (_, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"task_id": "t", "name": "t", "state": "ACTIVE", "user": "u", "sandbox": "/s",
        "journal": "/j", "root_pid": 1, "keeper_pid": 2, "runner_pid": 3, "covered": true, "ports": {},
        "states": [], "deadline": null, "notices": [], "processes": [PROCESSES]}"#;

    fn process(name: &str, state: &str, waiting_for: &str, runs: &str) -> String {
        format!(
            r#"{{"name": "{name}", "final": false, "ephemeral": false, "daemon": false, "state": "{state}",
            "waiting_for": [{waiting_for}], "totals": {{"success": 0, "failed": 0, "killed": 0, "lost": 0}},
            "runs": [{runs}]}}"#
        )
    }

    fn run(number: u32, state: &str, code: &str, reason: &str) -> String {
        format!(
            r#"{{"run": {number}, "state": "{state}", "exit_code": {code}, "signal": null, "reason": {reason},
            "pid": 4711, "forked_at": null, "started_at": null, "stopped_at": null}}"#
        )
    }

    #[test]
    fn the_table_fits_its_terminal() {
        let runs = [
            run(0, "FAILED", "1", "null"),
            run(1, "RUNNING", "null", "null"),
        ]
        .join(",");
        let broken = run(
            0,
            "FAILED",
            "null",
            r#""cannot execute x: no such file, and more to say""#,
        );
        let processes = [
            process("install", "SUCCESS", "", &run(0, "SUCCESS", "0", "null")),
            process("server", "RUNNING", "", &runs),
            process(
                "wide \\u001b[31m and very long indeed, it is",
                "FAILED",
                "",
                &broken,
            ),
            process("client", "WAITING", r#""server", "install""#, ""),
        ];
        let text = STATUS.replace("PROCESSES", &processes.join(","));
        let (watched, _) = Watched::begin(serde_json::from_str(&text).unwrap());
        let style = Style {
            colours: false,
            is_terminal: true,
        };
        for columns in [80, 50] {
            let lines = table(&watched, style, columns);
            assert!(lines.iter().all(|line| !line.contains('\x1b')));
            assert!(
                lines
                    .iter()
                    .all(|line| line.chars().count() < usize::from(columns))
            );
        }
        insta::assert_snapshot!(table(&watched, style, 80).join("\n"));
    }
}
