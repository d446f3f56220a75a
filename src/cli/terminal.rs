//! Printing on a terminal: colours, and text in which nothing can steer the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
};

use crate::engine::{
    history::{InWords, ProcessState},
    plan::{RunState, TaskState},
};

/// Whether text for a stream may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub colours: bool,
    pub is_terminal: bool,
}

impl Style {
    pub fn of(stream: &impl IsTerminal) -> Style {
        let is_terminal = stream.is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Style {
            colours: is_terminal && !set("NO_COLOR") && !dumb,
            is_terminal,
        }
    }

    pub fn paint(self, colour: Colour, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            false => text.to_owned(),
        }
    }

    /// A state in its colour, padded to `width`.
    pub fn state(self, state: impl HasColour, width: usize) -> String {
        self.paint(state.colour(), &format!("{state:width$}"))
    }
}

/// A state that has a colour.
pub(super) trait HasColour: Display {
    fn colour(&self) -> Colour;
}

impl HasColour for TaskState {
    fn colour(&self) -> Colour {
        match self {
            TaskState::Success => Colour::Green,
            TaskState::Active | TaskState::Finalizing => Colour::Cyan,
            TaskState::Failed | TaskState::Lost => Colour::Red,
            TaskState::Killed | TaskState::Cleaning => Colour::Yellow,
        }
    }
}

impl HasColour for ProcessState {
    fn colour(&self) -> Colour {
        match self {
            ProcessState::Success => Colour::Green,
            ProcessState::Running => Colour::Cyan,
            ProcessState::Failed | ProcessState::Lost => Colour::Red,
            ProcessState::Killed => Colour::Yellow,
            ProcessState::Waiting | ProcessState::Forked => Colour::Grey,
        }
    }
}

impl HasColour for InWords {
    fn colour(&self) -> Colour {
        match self {
            InWords::State(state) => state.colour(),
            InWords::Skipped => Colour::Grey,
            InWords::Stopped(_) => Colour::Yellow,
        }
    }
}

impl HasColour for RunState {
    fn colour(&self) -> Colour {
        ProcessState::from(*self).colour()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Cyan = 36,
    Grey = 90,
}

/// `text` without anything that steers a terminal: C0 and C1 controls become `\xNN`.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// JSON in one line, its control characters escaped: also those that JSON allows and terminals
/// obey.
pub(super) fn harmless_json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if !text.chars().any(char::is_control) {
        return text;
    }
    let escaped = |c: char| match c.is_control() {
        true => format!("\\u{:04x}", c as u32),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Writes and flushes. False when the reader has left (`| head`), which is no error of dewar.
pub(super) fn put(stream: &mut impl Write, text: &[u8]) -> bool {
    let written = stream.write_all(text).and_then(|()| stream.flush());
    match written {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            tracing::warn!("cannot write: {error}");
            true
        }
    }
}

/// Prints a line to standard error. That it cannot be written is no error.
pub(super) fn complain(line: &str) {
    put(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}

/// Prints a line to standard output. That it cannot be written is no error.
pub(super) fn print(line: &str) {
    put(&mut std::io::stdout(), format!("{line}\n").as_bytes());
}

/// As much of `text` as fits into `width` columns; what is cut ends in `…`.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide >= width {
            break;
        }
        used += wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        let value = serde_json::json!("a\u{9b}b\u{7f}");
        assert_eq!(harmless_json(&value), r#""a\u009bb\u007f""#);
        assert_eq!(harmless("a\x1b[2Jb\u{9b}c\td"), "a\\x1b[2Jb\\x9bc\td");
    }
}
