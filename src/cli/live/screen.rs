//! The terminal of the live view: drawing in place, single keys, and leaving it as it was.
//!
//! The table is the last thing on the screen; output goes above it and stays in the scroll-back. No
//! control sequence reaches the terminal but those of this file.

use std::{io, os::fd::BorrowedFd};

use jiff::Timestamp;
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{
    board::{Ask, Board},
    frame::{Scene, frame},
    keys::keys,
    load::Loads,
    recent::Recent,
};
use crate::{
    cli::plain::Plain,
    engine::{
        client::{Output, Watched},
        history::Event,
        plan::RunState,
    },
};

/// Lines that are printed again when the screen has to be cleared.
const REPRINTED: usize = 50;

/// The live view of one task on one terminal.
pub(crate) struct Live {
    plain: Plain,
    board: Board,
    recent: Recent,
    loads: Loads,
    keyboard: Option<Keyboard>,
    /// Processes whose output goes above the table.
    consoles: Vec<String>,
    /// The last lines above the table; they are printed again after a resize.
    printed: Vec<String>,
    /// Rows of the table on the screen.
    drawn: usize,
    /// Another program has had the terminal since the last picture.
    is_away: bool,
}

impl Live {
    pub fn new(plain: Plain) -> Live {
        let keyboard = Keyboard::open();
        Live {
            plain,
            board: Board {
                has_keys: keyboard.is_some(),
                ..Board::default()
            },
            recent: Recent::default(),
            loads: Loads::default(),
            keyboard,
            consoles: Vec::new(),
            printed: Vec::new(),
            drawn: 0,
            is_away: false,
        }
    }

    pub fn begin(&mut self, consoles: &[String], watched: &Watched, text: &str) {
        self.consoles = consoles.to_vec();
        self.plain.begin(watched);
        self.print(text, watched);
    }

    pub fn event(&mut self, event: &Event, watched: &Watched) {
        if let Event::Refused { message, .. } = event {
            self.board.message = Some(message.clone());
            return self.draw(watched);
        }
        // What the table cannot show is printed above it.
        let is_told = match event {
            Event::Run(run) => run.run.stopped_at.is_some() && run.run.state != RunState::Success,
            _ => true,
        };
        let text = match is_told {
            true => self.plain.line(event, watched),
            false => String::new(),
        };
        self.print(&text, watched);
    }

    pub fn output(&mut self, output: &[Output], watched: &Watched) {
        let mut text = String::new();
        for one in output {
            match one {
                Output::Line(line) => {
                    self.recent.add(line);
                    if self.consoles.contains(&line.process) {
                        text += &self.plain.shown(line);
                    }
                }
                Output::Missed(missed) if self.consoles.contains(&missed.process) => {
                    text += &self.plain.missed(missed);
                }
                Output::Cut(cut) if self.consoles.contains(&cut.process) => {
                    text += &self.plain.cut(cut);
                }
                Output::Missed(_) | Output::Cut(_) => {}
            }
        }
        self.print(&text, watched);
    }

    /// Puts whole lines above the table.
    pub fn print(&mut self, text: &str, watched: &Watched) {
        self.printed.extend(text.lines().map(str::to_owned));
        let surplus = self.printed.len().saturating_sub(REPRINTED);
        self.printed.drain(..surplus);
        self.put(text, watched);
    }

    pub fn draw(&mut self, watched: &Watched) {
        self.loads.look(&watched.status);
        match self.is_away && self.may_draw() {
            true => self.redraw(watched),
            false => self.put("", watched),
        }
    }

    /// With a keyboard the client is a job of a shell, which may be in the background: then the
    /// terminal is the shell's.
    fn may_draw(&mut self) -> bool {
        let may = self.keyboard.is_none() || is_ours();
        self.is_away |= !may;
        may
    }

    /// Leaves the terminal to the shell for a while.
    pub fn rest(&mut self) {
        if let Some(keyboard) = &self.keyboard {
            keyboard.rest();
        }
        self.is_away = true;
    }

    /// Clears the screen and draws everything anew: the terminal has another size, or was another
    /// program's meanwhile.
    pub fn redraw(&mut self, watched: &Watched) {
        if !self.may_draw() {
            return;
        }
        if let Some(keyboard) = &self.keyboard {
            keyboard.listen();
        }
        self.is_away = false;
        let (columns, rows) = size();
        let table = self.picture(watched, columns, rows).len();
        let mut room = rows.saturating_sub(table + 1);
        let mut again = Vec::new();
        for line in self.printed.iter().rev() {
            // A line may be wider than the terminal. The bytes of colours are counted too: then
            // fewer lines are printed than would fit.
            let height = line.chars().count() / columns.max(1) + 1;
            if height > room {
                break;
            }
            room -= height;
            again.push(line.as_str());
        }
        again.reverse();
        let mut text = "\x1b[H\x1b[2J".to_owned();
        for line in again {
            text += line;
            text.push('\n');
        }
        self.drawn = 0;
        self.put(&text, watched);
    }

    /// Draws the last picture, without a selection, and leaves the terminal as it was before.
    pub fn finish(&mut self, watched: &Watched) {
        self.board = Board::default();
        self.keyboard = None;
        self.draw(watched);
        self.drawn = 0;
        let text = self.plain.verdict(watched);
        self.plain.say(&text);
    }

    /// Readable when keys were pressed.
    pub fn keyboard(&self) -> Option<BorrowedFd<'static>> {
        self.keyboard
            .as_ref()
            .filter(|_| is_ours())
            .map(|_| stdin())
    }

    /// Takes in the keys that were pressed.
    pub fn press(&mut self, watched: &Watched) -> Vec<Ask> {
        let mut bytes = [0; 256];
        let count = match rustix::io::read(stdin(), &mut bytes) {
            Ok(count) if count > 0 => count,
            // The terminal is gone.
            _ => {
                self.keyboard = None;
                self.board.has_keys = false;
                0
            }
        };
        let status = &watched.status;
        let pressed = keys(&bytes[..count]).into_iter();
        let asks = pressed
            .filter_map(|key| self.board.press(key, status))
            .collect();
        self.draw(watched);
        asks
    }

    fn picture(&self, watched: &Watched, columns: usize, rows: usize) -> Vec<String> {
        frame(&Scene {
            watched,
            board: &self.board,
            recent: &self.recent,
            loads: &self.loads,
            style: self.plain.style(),
            now: Timestamp::now(),
            columns,
            rows,
        })
    }

    /// Writes `above` and the table under it, over the table that is there, in one piece.
    fn put(&mut self, above: &str, watched: &Watched) {
        if !self.may_draw() {
            return;
        }
        let (columns, rows) = size();
        let lines = self.picture(watched, columns, rows);
        let mut text = String::new();
        if self.drawn > 0 {
            text += &format!("\x1b[{}A\r", self.drawn);
        }
        // The line is cleared before it is written: behind a full line the cursor stands on its
        // last character, which would be cleared too.
        for line in above.lines().chain(lines.iter().map(String::as_str)) {
            text += "\x1b[K";
            text += line;
            text.push('\n');
        }
        text += "\x1b[J";
        self.drawn = lines.len();
        self.plain.say(&text);
    }
}

fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| {
        (usize::from(size.ws_col), usize::from(size.ws_row))
    })
}

/// Standard input while it gives single keys.
struct Keyboard {
    before: Termios,
}

impl Keyboard {
    /// `None` when standard input is no terminal, or the client is in the background.
    fn open() -> Option<Keyboard> {
        // In the background the kernel would stop the client for asking.
        if !is_ours() {
            return None;
        }
        let keyboard = Keyboard {
            before: tcgetattr(stdin()).ok()?,
        };
        keyboard.listen();
        Some(keyboard)
    }

    /// Asks for single keys that are not shown; Ctrl-C stays a signal.
    fn listen(&self) {
        let mut single = self.before.clone();
        single
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        self.set(&single);
    }

    /// Sets the terminal as it was before.
    fn rest(&self) {
        self.set(&self.before);
    }

    fn set(&self, modes: &Termios) {
        if is_ours()
            && let Err(errno) = tcsetattr(stdin(), OptionalActions::Now, modes)
        {
            tracing::info!("the terminal keeps its modes: {errno}");
        }
    }
}

/// True when the shell has not put the client into the background.
fn is_ours() -> bool {
    rustix::termios::tcgetpgrp(stdin()) == Ok(rustix::process::getpgrp())
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.rest();
    }
}
