//! The live view in a real terminal: tmux draws it, types keys and resizes it. Needs tmux.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::support::{Bench, code, wait_for};

/// A tmux server of its own with one window, killed on drop.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// Runs a shell command in a window of this size; what it leaves stays on the screen.
    fn new(bench: &Bench, columns: u16, rows: u16, command: &str) -> Terminal {
        // A server that was killed a moment ago may still hold on to its socket.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tmux{}", COUNT.fetch_add(1, Ordering::SeqCst));
        let socket = bench.path().join(name).display().to_string();
        let terminal = Terminal { socket };
        let (x, y) = (columns.to_string(), rows.to_string());
        let command = format!("trap : INT; {command}; echo CODE=$?; exec sleep 1000");
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &x,
            "-y",
            &y,
            &command,
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(arguments)
            .env_remove("TMUX")
            .output()
            .expect("tmux: these tests need it");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen holds `text`.
    fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        wait_for(&format!("{what:?} on the screen"), || {
            last = self.screen();
            holds(&last).then(|| last.clone())
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let killed = Command::new("tmux")
            .args(["-S", &self.socket, "kill-server"])
            .output();
        let is_fine = killed.is_ok_and(|output| output.status.success());
        assert!(is_fine || std::thread::panicking(), "tmux was gone");
    }
}

const TASK: &str = r#"
name: live
max_failures: 0
finalization_wait: 5s
processes:
  - {name: server, cmdline: 'printf "\033[31mhostile\033[2J\033]0;title\007\n"; exec sleep 1000'}
  - {name: printer, cmdline: 'echo "for everybody"; exec sleep 1000', logger: {destination: both}}
  - {name: flappy, cmdline: 'echo "giving up"; exit 3', max_failures: 1}
  - {name: waiter, cmdline: 'true', after: {server: succeeded}}
  - {name: last, cmdline: 'true', final: true}
"#;

fn run(bench: &Bench, columns: u16, rows: u16) -> Terminal {
    let file = bench.file("task.yaml", TASK).display().to_string();
    let dewar = env!("CARGO_BIN_EXE_dewar");
    let root = bench.root().display().to_string();
    let command = format!("{dewar} --root {root} run {file} --id t");
    Terminal::new(bench, columns, rows, &command)
}

fn row<'s>(screen: &'s str, name: &str) -> &'s str {
    let mut rows = screen.lines();
    rows.find(|line| !line.contains(" | ") && line.trim_start_matches(['>', ' ']).starts_with(name))
        .unwrap_or_default()
}

#[test]
fn a_line_a_process_with_state_and_last_words_and_nothing_hostile() {
    let bench = Bench::new();
    let terminal = run(&bench, 90, 20);
    terminal.shows("hostile");
    let screen = terminal.until("all to run", |screen| {
        screen.contains("exit code 3 giving up")
            && screen.contains("printer | for everybody")
            && row(screen, "printer").contains("RUNNING")
    });
    assert!(row(&screen, "server").contains("RUNNING"), "{screen}");
    assert!(
        row(&screen, "server").contains("\\x1b[31mhostile\\x1b[2J"),
        "{screen}"
    );
    assert!(row(&screen, "flappy").contains("FAILED"), "{screen}");
    assert!(row(&screen, "flappy").contains("exit code 3"), "{screen}");
    assert!(
        row(&screen, "waiter").contains("waits for server"),
        "{screen}"
    );
    // What a process prints for people is above the table, once.
    let above = screen.split("ACTIVE  ").next().expect("text");
    assert_eq!(above.matches("hostile").count(), 0, "{screen}");
    let title = terminal.tmux(&["display-message", "-p", "#{pane_title}"]);
    assert_ne!(title.trim(), "title");
    // Redrawn many times, it is there once.
    assert_eq!(screen.matches("waits for server").count(), 1, "{screen}");
}

#[test]
fn keys_select_read_restart_and_stop() {
    let bench = Bench::new();
    let terminal = run(&bench, 90, 20);
    terminal.shows("giving up");
    terminal.press(&["Enter"]);
    let hostile = "\\x1b[31mhostile\\x1b[2J\\x1b]0;title\\x07";
    terminal.until("the log of server", |screen| {
        screen.contains("── server, run 0") && screen.lines().any(|line| line == hostile)
    });
    terminal.press(&["r"]);
    terminal.until("the second run", |screen| {
        screen.contains("── server, run 1") && row(screen, "server").contains("x2")
    });
    terminal.press(&["Down", "Down", "Down", "r"]);
    // A refusal is said, and nothing else happens.
    terminal.shows("waiter cannot be restarted: it has not begun: it waits for server");
    terminal.press(&["Escape", "s", "n"]);
    let screen = terminal.until("the help again", |screen| {
        screen.contains("s stop") && !screen.contains("stop the task")
    });
    assert!(screen.contains("ACTIVE"), "{screen}");
    terminal.press(&["s", "y"]);
    let screen = terminal.shows("CODE=3");
    assert!(
        screen.contains("live") || screen.contains("KILLED"),
        "{screen}"
    );
    assert!(row(&screen, "last").contains("SUCCESS"), "{screen}");
    assert!(
        !screen.contains("s stop"),
        "no keys after the end: {screen}"
    );
    // The terminal is as it was: what is typed is shown again.
    terminal.press(&["-l", "echoed"]);
    terminal.shows("echoed");
}

#[test]
fn it_survives_resizes_and_narrow_terminals() {
    let bench = Bench::new();
    let terminal = run(&bench, 100, 24);
    terminal.shows("giving up");
    terminal.press(&["l"]);
    terminal.shows("── server");
    for (columns, rows) in [(40u16, 12u16), (20, 5), (10, 3), (120, 30), (60, 15)] {
        let (x, y) = (columns.to_string(), rows.to_string());
        terminal.tmux(&["resize-window", "-x", &x, "-y", &y]);
        let screen = terminal.until("a table that fits", |screen| {
            let lines: Vec<&str> = screen.lines().filter(|line| !line.is_empty()).collect();
            let heading = lines.iter().filter(|line| line.contains("ACTIVE")).count();
            // Cut to the width, and drawn once.
            heading == 1
                && lines
                    .iter()
                    .all(|line| line.chars().count() <= usize::from(columns))
        });
        assert!(screen.contains('>'), "{columns}x{rows}:\n{screen}");
    }
    let screen = terminal.shows("waits for server");
    assert_eq!(screen.matches("waits for server").count(), 1, "{screen}");
}

#[test]
fn leaving_ends_the_watching_and_attach_shows_the_same() {
    let bench = Bench::new();
    let terminal = run(&bench, 90, 20);
    terminal.shows("giving up");
    terminal.press(&["q"]);
    terminal.shows("dewar attach t");
    terminal.shows("CODE=0");
    drop(terminal);
    assert_eq!(bench.task("t").expect("the task")["state"], "ACTIVE");
    let dewar = env!("CARGO_BIN_EXE_dewar");
    let command = format!("{dewar} --root {} attach t", bench.root().display());
    let terminal = Terminal::new(&bench, 90, 20, &command);
    // The output is read right after the table is drawn.
    terminal.until("the server's output", |screen| {
        screen
            .lines()
            .any(|line| line.contains("server") && line.contains("hostile"))
    });
    terminal.press(&["j", "l"]);
    terminal.shows("── printer, run 0");
    // Ctrl-C at attach ends the watching too.
    terminal.press(&["C-c"]);
    terminal.shows("CODE=130");
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
}
