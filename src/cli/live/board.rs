//! What the keys do: which process is selected, whether its log is open, what is asked for. Pure.

use super::keys::Key;
use crate::engine::history::TaskStatus;

/// Something that the user asks for by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Restart this process.
    Restart(String),
    /// Stop the task, as Ctrl-C does.
    Stop,
    /// Leave the view; the task goes on.
    Leave,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Prompt {
    #[default]
    None,
    /// Whether to stop the task.
    Stop,
}

/// What the keys have changed in the view.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Index of the selected process.
    pub selected: usize,
    pub shows_log: bool,
    /// A message for the user, until the next key.
    pub message: Option<String>,
    /// Standard input is a terminal that gives keys.
    pub has_keys: bool,
    pub prompt: Prompt,
}

impl Board {
    /// Takes in a key.
    pub fn press(&mut self, key: Key, status: &TaskStatus) -> Option<Ask> {
        self.message = None;
        let last = status.processes.len().saturating_sub(1);
        self.selected = self.selected.min(last);
        if std::mem::take(&mut self.prompt) == Prompt::Stop {
            return matches!(key, Key::Char('y' | 'Y')).then_some(Ask::Stop);
        }
        match key {
            Key::Up | Key::Char('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Char('j') => self.selected = (self.selected + 1).min(last),
            Key::First | Key::Char('g') => self.selected = 0,
            Key::Last | Key::Char('G') => self.selected = last,
            Key::Enter | Key::Char('l' | ' ') => self.shows_log = !self.shows_log,
            Key::Escape => self.shows_log = false,
            Key::Char('r') => {
                let process = status.processes.get(self.selected)?;
                self.message = Some(format!("restarting {}", process.name));
                return Some(Ask::Restart(process.name.clone()));
            }
            Key::Char('s') => {
                self.prompt = Prompt::Stop;
                self.message = Some("stop the task? y/n".to_owned());
            }
            Key::Char('q') => return Some(Ask::Leave),
            Key::Char(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::live::frame::tests::status;

    fn press(board: &mut Board, keys: &str) -> Vec<Ask> {
        let status = status();
        let keys = keys.chars().map(Key::Char);
        keys.filter_map(|key| board.press(key, &status)).collect()
    }

    #[test]
    fn the_selection_stays_within_the_table() {
        let mut board = Board::default();
        press(&mut board, "kkk");
        assert_eq!(board.selected, 0);
        press(&mut board, "jjjjjjjjjjjjj");
        assert_eq!(board.selected, 3);
        press(&mut board, "g");
        assert_eq!(board.selected, 0);
    }

    #[test]
    fn a_stop_is_confirmed_and_a_restart_names_its_process() {
        let mut board = Board::default();
        assert_eq!(press(&mut board, "sn"), []);
        assert_eq!(press(&mut board, "sy"), [Ask::Stop]);
        assert_eq!(press(&mut board, "jr"), [Ask::Restart("server".to_owned())]);
        assert_eq!(press(&mut board, "q"), [Ask::Leave]);
        press(&mut board, "l");
        assert!(board.shows_log);
        assert_eq!(board.press(Key::Escape, &status()), None);
        assert!(!board.shows_log);
    }
}
