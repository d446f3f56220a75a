//! The last lines of every process' output, within bounds.

use std::collections::{HashMap, VecDeque};

use crate::{cli::terminal::harmless, engine::client::Line};

/// Lines that are kept for each process.
const LINES: usize = 100;
/// Characters of a line that are kept: no terminal is wider.
const WIDEST: usize = 300;

#[derive(Debug, Default)]
pub(super) struct Recent {
    lines: HashMap<String, VecDeque<String>>,
}

impl Recent {
    pub fn add(&mut self, line: &Line) {
        let text = String::from_utf8_lossy(&line.text);
        // A progress bar overwrites its line; only what was written last counts.
        let text = text.trim_end_matches('\r');
        let text = text.rsplit('\r').next().unwrap_or_default();
        let text: String = harmless(&text.replace('\t', "    "))
            .chars()
            .take(WIDEST)
            .collect();
        let lines = self.lines.entry(line.process.clone()).or_default();
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    /// The last line that is not blank.
    pub fn last(&self, process: &str) -> Option<&str> {
        let mut lines = self.lines.get(process)?.iter().rev();
        lines
            .find(|line| !line.trim().is_empty())
            .map(String::as_str)
    }

    /// The last `count` lines, oldest first.
    pub fn tail(&self, process: &str, count: usize) -> Vec<&str> {
        let Some(lines) = self.lines.get(process) else {
            return Vec::new();
        };
        let from = lines.len().saturating_sub(count);
        lines.iter().skip(from).map(String::as_str).collect()
    }
}
