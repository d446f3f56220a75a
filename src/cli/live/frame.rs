//! The picture that the live view draws, as lines. Pure. Lines fit the terminal, whatever names and
//! output are like.

use jiff::Timestamp;
use unicode_width::UnicodeWidthStr;

use super::{
    board::Board,
    load::{Load, Loads},
    recent::Recent,
};
use crate::{
    cli::{
        plain::info,
        terminal::{Colour, HasColour, Style, fit, harmless},
    },
    engine::{
        client::Watched,
        history::{ProcessState, ProcessStatus, WallTime},
    },
};

/// Lines of an open log, at most.
const LOG: usize = 12;
const NAME: usize = 24;
/// Columns; on a narrower terminal a line is plain text that is cut.
const CRAMPED: usize = 24;

/// All that a picture is made of.
pub(super) struct Scene<'a> {
    pub watched: &'a Watched,
    pub board: &'a Board,
    pub recent: &'a Recent,
    pub loads: &'a Loads,
    pub style: Style,
    pub now: Timestamp,
    /// The width of the terminal, at least 1.
    pub columns: usize,
    pub rows: usize,
}

/// The lines of the picture: fewer than the terminal has rows.
pub(super) fn frame(scene: &Scene<'_>) -> Vec<String> {
    let status = &scene.watched.status;
    let mut room = scene.rows.saturating_sub(1).max(1);
    let mut lines = vec![heading(scene)];
    room = room.saturating_sub(1);
    let has_footer = (scene.board.has_keys || scene.board.message.is_some()) && room > 2;
    room -= usize::from(has_footer);
    let log = match scene.board.shows_log && room > 4 {
        true => log(scene, (room / 2).min(LOG)),
        false => Vec::new(),
    };
    lines.extend(table(scene, room - log.len()));
    lines.extend(log);
    if has_footer {
        lines.push(footer(scene));
    }
    debug_assert!(
        lines.len() <= scene.rows.max(2),
        "{} processes",
        status.processes.len()
    );
    lines
}

fn heading(scene: &Scene<'_>) -> String {
    let status = &scene.watched.status;
    let style = scene.style;
    let done = status
        .processes
        .iter()
        .filter(|p| p.state == ProcessState::Success)
        .count();
    let mut text = format!("  {done}/{} done", status.processes.len());
    if let Some(state) = status.states.first() {
        text += &format!("  {}", short(since(state.at, scene.now)));
    }
    if let Some(deadline) = status.deadline {
        text += &format!("  SIGKILL in {}", short(until(deadline, scene.now)));
    }
    let state = status.state;
    if scene.columns < CRAMPED {
        let text = format!("{state}  {}", harmless(&status.task_id));
        return fit(&text, scene.columns - 1);
    }
    let left = scene.columns.saturating_sub(state.name().len() + 3);
    let id = fit(&harmless(&status.task_id), left);
    let text = fit(&text, left.saturating_sub(id.width()));
    let id = style.paint(Colour::Blue, &id);
    format!("{id}  {}{text}", style.state(state, 0))
}

/// Lines for the processes around the selected one, as many as there is room for.
fn table(scene: &Scene<'_>, room: usize) -> Vec<String> {
    let processes = &scene.watched.status.processes;
    let count = processes.len();
    let selected = scene.board.selected.min(count.saturating_sub(1));
    let is_cut = count > room;
    // The number of those that are left out takes a line of its own, where there is one.
    let says_more = is_cut && room > 1;
    let shown = room.saturating_sub(usize::from(says_more)).min(count);
    let first = match is_cut {
        true => selected
            .saturating_sub(shown / 2)
            .min(count.saturating_sub(shown)),
        false => 0,
    };
    let widest = processes.iter().map(|p| harmless(&p.name).width()).max();
    let width = widest.unwrap_or(0).min(NAME).min(scene.columns / 3);
    let numbered = processes.iter().enumerate().skip(first).take(shown);
    let mut lines: Vec<String> = numbered
        .map(|(index, process)| row(scene, process, index == selected, width))
        .collect();
    if says_more {
        let text = format!("  … {} more", count - shown);
        lines.push(fit(&text, scene.columns - 1));
    }
    lines
}

fn row(scene: &Scene<'_>, process: &ProcessStatus, is_selected: bool, width: usize) -> String {
    let style = scene.style;
    let cursor = match is_selected && scene.board.has_keys {
        true => ">",
        false => " ",
    };
    if scene.columns < CRAMPED {
        let text = format!(
            "{cursor} {} {}",
            harmless(&process.name),
            process.in_words()
        );
        return fit(&text, scene.columns - 1);
    }
    let name = pad(&fit(&harmless(&process.name), width), width);
    // What is longer than a state takes its room from what comes behind.
    let state = fit(
        &process.in_words().to_string(),
        scene.columns.saturating_sub(2 + width + 1 + 1),
    );
    let state = pad(&state, 8);
    let columns = scene.columns.saturating_sub(state.width() - 8);
    let mut used = 2 + width + 1 + state.width();
    let state = style.paint(process.in_words().colour(), &state);
    let mut text = format!("{cursor} {name} {state}");
    // On a narrow terminal the least important columns are left out.
    if columns >= 50 {
        let runs = match process.runs.last() {
            Some(run) if run.run > 0 => format!("x{}", run.run + 1),
            _ => String::new(),
        };
        let runs = format!(" {runs:>4}");
        used += runs.width();
        text += &runs;
    }
    if columns >= 40 {
        let took = format!(" {:>6}", took(process, scene.now));
        used += took.width();
        text += &took;
    }
    if columns >= 70 && scene.loads.is_known() {
        let load = match process.state {
            ProcessState::Running => scene.loads.of(&process.name),
            _ => Load::default(),
        };
        let cpu = load
            .cpu
            .map_or_else(String::new, |share| format!("{:.0}%", share * 100.0));
        let memory = load.memory.map_or_else(String::new, tight);
        let load = format!(" {cpu:>5} {memory:>5}");
        used += load.width();
        text += &style.paint(Colour::Cyan, &load);
    }
    let room = scene.columns.saturating_sub(used + 2);
    let about = about(scene, process);
    let said = match process.state {
        ProcessState::Waiting => None,
        _ => scene.recent.last(&process.name),
    };
    let about = fit(&about, room);
    let left = room.saturating_sub(about.width() + 1);
    text += &format!(" {about}");
    if let Some(said) = said.filter(|_| left > 3) {
        let said = fit(said, left);
        if !about.is_empty() {
            text.push(' ');
        }
        text += &style.paint(Colour::Grey, &said);
    }
    text.trim_end().to_owned()
}

/// What the table says of a process beside its last line of output.
fn about(scene: &Scene<'_>, process: &ProcessStatus) -> String {
    match (process.state, process.next_start_at) {
        // Its last line says more than its pid, when there is one.
        (ProcessState::Running, _) if scene.recent.last(&process.name).is_some() => String::new(),
        (_, Some(next)) => {
            let left = short(until(next, scene.now));
            let text = format!("{} again in {left}", last_end(process));
            text.trim_start().to_owned()
        }
        _ => info(process, scene.watched),
    }
}

fn last_end(process: &ProcessStatus) -> String {
    match process.runs.last() {
        Some(run) => match (run.exit_code, &run.signal, &run.reason) {
            (_, _, Some(reason)) => format!("{};", harmless(reason)),
            (Some(code), ..) => format!("exit code {code};"),
            (_, Some(signal), _) => format!("{signal};"),
            _ => String::new(),
        },
        None => String::new(),
    }
}

fn log(scene: &Scene<'_>, room: usize) -> Vec<String> {
    let Some(process) = scene.watched.status.processes.get(scene.board.selected) else {
        return Vec::new();
    };
    let run = process.runs.last().map_or(0, |run| run.run);
    let title = format!("── {}, run {run} ", harmless(&process.name));
    let title = fit(&title, scene.columns.saturating_sub(1));
    let line = "─".repeat(scene.columns.saturating_sub(title.width() + 1).min(60));
    let mut lines = vec![scene.style.paint(Colour::Grey, &format!("{title}{line}"))];
    let tail = scene.recent.tail(&process.name, room.saturating_sub(1));
    if tail.is_empty() {
        lines.push(fit("(nothing yet)", scene.columns - 1));
    }
    lines.extend(tail.into_iter().map(|line| fit(line, scene.columns - 1)));
    lines
}

fn footer(scene: &Scene<'_>) -> String {
    let room = scene.columns.saturating_sub(1);
    match &scene.board.message {
        Some(message) => {
            let text = fit(&harmless(message), room);
            scene.style.paint(Colour::Yellow, &text)
        }
        None => {
            let keys = "↑↓ select  enter log  r restart  s stop  q leave";
            scene.style.paint(Colour::Grey, &fit(keys, room))
        }
    }
}

/// How long the present run has taken so far, or the last one took.
fn took(process: &ProcessStatus, now: Timestamp) -> String {
    let last = process.runs.last();
    let Some(run) = last.filter(|_| process.state != ProcessState::Waiting) else {
        return String::new();
    };
    let took = match &run.stopped_at {
        Some(_) => run.took().map(|took| took.as_secs_f64()),
        None => run.started_at.map(|at| since(at, now)),
    };
    took.map_or_else(String::new, short)
}

fn since(at: WallTime, now: Timestamp) -> f64 {
    now.duration_since(at.timestamp()).as_secs_f64().max(0.0)
}

fn until(at: WallTime, now: Timestamp) -> f64 {
    at.timestamp().duration_since(now).as_secs_f64().max(0.0)
}

/// At most six characters: `0.3s`, `12s`, `3m05s`, `2h10m`, `3d04h`.
fn short(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Bytes in at most five characters: `312K`, `1.5G`.
fn tight(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value {
        _ if unit == 0 => format!("{value:.0}{}", UNITS[unit]),
        small if small < 10.0 => format!("{small:.1}{}", UNITS[unit]),
        large => format!("{large:.0}{}", UNITS[unit]),
    }
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::client::Line;
    use crate::engine::history::TaskStatus;

    const STATUS: &str = r#"{"task_id": "web-20261123-164545.801251", "name": "web", "state": "ACTIVE", "user": "u",
        "sandbox": "/s", "journal": "/j", "root_pid": 1, "keeper_pid": 2, "runner_pid": 3, "covered": true, "ports": {},
        "states": [{"state": "ACTIVE", "at": "2026-11-23T16:45:45.801Z"}], "deadline": null, "notices": [], "processes": [
        {"name": "install", "final": false, "ephemeral": false, "daemon": false, "state": "SUCCESS", "waiting_for": [],
         "totals": {"success": 1, "failed": 0, "killed": 0, "lost": 0}, "runs": [
          {"run": 0, "state": "SUCCESS", "exit_code": 0, "signal": null, "reason": null, "pid": 7,
           "forked_at": "2026-11-23T16:45:46Z", "started_at": "2026-11-23T16:45:46Z", "stopped_at": "2026-11-23T16:45:49.500Z"}]},
        {"name": "server", "final": false, "ephemeral": false, "daemon": true, "state": "RUNNING", "waiting_for": [],
         "totals": {"success": 0, "failed": 1, "killed": 0, "lost": 0}, "runs": [
          {"run": 1, "state": "RUNNING", "exit_code": null, "signal": null, "reason": null, "pid": 8,
           "forked_at": "2026-11-23T16:45:50Z", "started_at": "2026-11-23T16:45:50Z", "stopped_at": null}]},
        {"name": "fläp \u001b[31m with a name that is rather long", "final": false, "ephemeral": false, "daemon": false,
         "state": "WAITING", "waiting_for": [], "next_start_at": "2026-11-23T16:46:00Z",
         "totals": {"success": 0, "failed": 12, "killed": 0, "lost": 0}, "runs": [
          {"run": 11, "state": "FAILED", "exit_code": 3, "signal": null, "reason": null, "pid": 9,
           "forked_at": "2026-11-23T16:45:50Z", "started_at": "2026-11-23T16:45:50Z", "stopped_at": "2026-11-23T16:45:50Z"}]},
        {"name": "client", "final": false, "ephemeral": false, "daemon": false, "state": "WAITING", "waiting_for": ["server"],
         "totals": {"success": 0, "failed": 0, "killed": 0, "lost": 0}, "runs": []}]}"#;

    pub fn status() -> TaskStatus {
        serde_json::from_str(STATUS).unwrap()
    }

    fn picture(board: &Board, columns: usize, rows: usize) -> String {
        let (watched, _) = Watched::begin(status());
        let mut recent = Recent::default();
        for text in [
            "starting",
            "GET /\x1b[2J\x1b[31mred\ttab 200",
            "50 %\r100 % 日本語 done\r",
            "",
        ] {
            recent.add(&Line {
                process: "server".to_owned(),
                stream: "stdout",
                text: text.as_bytes().to_vec(),
            });
        }
        let load = Load {
            cpu: Some(0.374),
            memory: Some(123_456_789),
        };
        let loads = Loads::with(&[("server", load)]);
        let scene = Scene {
            watched: &watched,
            board,
            recent: &recent,
            loads: &loads,
            style: Style {
                colours: false,
                is_terminal: true,
            },
            now: "2026-11-23T16:45:57.250Z".parse().unwrap(),
            columns,
            rows,
        };
        let lines = frame(&scene);
        assert!(lines.len() < rows.max(3), "{} lines on {rows}", lines.len());
        for line in &lines {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(
                line.width() < columns.max(2),
                "{} > {columns}: {line}",
                line.width()
            );
        }
        lines.join("\n")
    }

    #[test]
    fn wide_narrow_and_tiny_terminals() {
        let board = Board {
            selected: 1,
            has_keys: true,
            ..Board::default()
        };
        let open = Board {
            shows_log: true,
            selected: 1,
            has_keys: true,
            message: Some("fläp cannot be restarted: \x1b[1m".to_owned()),
            ..Board::default()
        };
        insta::assert_snapshot!("wide", picture(&board, 100, 24));
        insta::assert_snapshot!("log", picture(&open, 80, 16));
        insta::assert_snapshot!("narrow", picture(&board, 42, 24));
        insta::assert_snapshot!("short", picture(&board, 80, 6));
        insta::assert_snapshot!("tiny", picture(&open, 20, 4));
        for columns in 1..120 {
            for rows in 1..30 {
                picture(&open, columns, rows);
                picture(&board, columns, rows);
            }
        }
    }

    #[test]
    fn what_is_skipped_or_has_stopped_is_called_so() {
        let text = STATUS
            .replace(r#""state": "WAITING", "waiting_for": ["server"]"#, r#""state": "WAITING", "skipped": true, "waiting_for": ["server"]"#)
            .replace(r#""daemon": true, "state": "RUNNING""#, r#""daemon": true, "state": "FAILED""#)
            .replace(
                r#"{"run": 1, "state": "RUNNING", "exit_code": null, "signal": null"#,
                r#"{"run": 1, "state": "FAILED", "exit_code": 143, "signal": null, "stopped": true"#,
            );
        let (watched, _) = Watched::begin(serde_json::from_str(&text).unwrap());
        for columns in 1..140 {
            let scene = Scene {
                watched: &watched,
                board: &Board::default(),
                recent: &Recent::default(),
                loads: &Loads::default(),
                style: Style {
                    colours: false,
                    is_terminal: true,
                },
                now: "2026-11-23T16:45:57.250Z".parse().unwrap(),
                columns,
                rows: 24,
            };
            let lines = frame(&scene);
            assert!(
                lines.iter().all(|line| line.width() < columns.max(2)),
                "{lines:?}"
            );
            if columns >= 80 {
                assert!(lines[2].contains("stopped (exit 143)"), "{lines:?}");
                assert!(lines[4].contains("skipped  "), "{lines:?}");
                assert!(lines[4].contains("waited for server"), "{lines:?}");
            }
        }
    }

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0.34, "0.3s"),
            (59.9, "59s"),
            (185.0, "3m05s"),
            (7800.0, "2h10m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(short(seconds), text);
        }
    }

    #[test]
    fn text_is_cut_by_columns_not_by_characters() {
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 0), "");
    }
}
