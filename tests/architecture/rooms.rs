//! The rooms: what ARCHITECTURE.md says of them, and whether the imports keep to it.
//!
//! Two tables are read. `| room | ... | may never import |` has the rooms from the top down; a room
//! may import what stands below it. `| folder | files |` names every source file.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::{
    imports::{Import, Imports, Outer},
    report::{Report, Rule},
    tree::{Source, Tree},
};

const DOCUMENT: &str = "ARCHITECTURE.md";

/// Crates and modules that reach out of the process, or that read a clock. A pure room names none.
const OUTSIDE: [&str; 16] = [
    "hyper",
    "hyper_util",
    "libc",
    "nix",
    "rustix",
    "signal_hook",
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tempfile",
    "tokio",
];

/// What these paths name is only a number.
const NUMBERS: [&str; 2] = ["nix::errno::Errno", "nix::sys::signal::Signal"];

/// One room and what it never imports.
#[derive(Debug)]
struct Room {
    /// The row of the table: rooms of one row stand beside each other.
    row: usize,
    /// Not built yet: it need not exist.
    is_later: bool,
    never: Vec<Never>,
}

/// One part of the column "may never import".
#[derive(Clone, Debug)]
enum Never {
    /// These rooms; `mesos/*` is each room of the wing.
    Rooms(Vec<String>),
    /// Every room but these.
    AnythingBut(Vec<String>),
    Everything,
    /// Whatever stands above it, which holds for every room.
    EverythingAbove,
    Io,
    /// Said of the others: only these rooms import this one.
    OnlyFor(Vec<String>),
}

/// The rooms of the table, by the folder below src/.
pub struct Rooms {
    rooms: BTreeMap<String, Room>,
}

impl Rooms {
    pub fn read(document: &str, report: &mut Report) -> Rooms {
        let mut rooms = BTreeMap::new();
        let rows = table(document, "room");
        if rows.is_empty() {
            report.add(Rule::Tables, DOCUMENT, 0, "it has no table of rooms");
        }
        for (row, (line, cells)) in rows.into_iter().enumerate() {
            let [first, _, last] = &cells[..] else {
                report.add(Rule::Tables, DOCUMENT, line, "a room's row has three cells");
                continue;
            };
            let (named, is_later) = names_of_rooms(first);
            let never = match nevers(last) {
                Ok(never) => never,
                Err(text) => {
                    report.add(Rule::Tables, DOCUMENT, line, text);
                    continue;
                }
            };
            if named.is_empty() {
                report.add(Rule::Tables, DOCUMENT, line, "a row names no room");
            }
            for name in named {
                let room = Room {
                    row,
                    is_later,
                    never: never.clone(),
                };
                rooms.insert(name, room);
            }
        }
        let rooms = Rooms { rooms };
        rooms.check_table(report);
        rooms
    }

    /// Every name in a "never" is a room's, or a wing of rooms.
    fn check_table(&self, report: &mut Report) {
        for (name, room) in &self.rooms {
            for never in &room.never {
                let (Never::Rooms(named) | Never::AnythingBut(named) | Never::OnlyFor(named)) =
                    never
                else {
                    continue;
                };
                for other in named {
                    if !self.rooms.keys().any(|room| is_named(room, other)) {
                        let text = format!("`{name}` names `{other}`, which is no room");
                        report.add(Rule::Tables, DOCUMENT, 0, text);
                    }
                }
            }
        }
    }

    /// The room that a file stands in: the longest that its path begins with.
    fn of(&self, path: &str) -> Option<(&str, &Room)> {
        let inner = path.strip_prefix("src/")?;
        let is_in = |name: &str| {
            let rest = inner.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let rooms = self.rooms.iter().filter(|(name, _)| is_in(name));
        let longest = rooms.max_by_key(|(name, _)| name.len());
        longest.map(|(name, room)| (name.as_str(), room))
    }

    /// Arrows upwards, and what a room imports although it never may.
    pub fn check_imports(&self, imports: &Imports, report: &mut Report) {
        // A path that leads to an item names the item's room too: one of the two is enough.
        let leads_further = |import: &Import| {
            let room = self.of(&import.to).map(|(name, _)| name);
            imports.inner.iter().any(|other| {
                (&other.from, other.line, &other.path) == (&import.from, import.line, &import.path)
                    && !other.item.is_empty()
                    && self.of(&other.to).map(|(name, _)| name) == room
            })
        };
        let mut seen = BTreeSet::new();
        for import in &imports.inner {
            if let Some(text) = self.breach(import)
                && (!import.item.is_empty() || !leads_further(import))
                && seen.insert((&import.from, &import.to, &import.item))
            {
                report.add(Rule::Arrows, &import.from, import.line, text);
            }
        }
        self.check_purity(imports, report);
    }

    fn breach(&self, import: &Import) -> Option<String> {
        let (to_name, to) = self.of(&import.to)?;
        let Import { path, to: file, .. } = import;
        let Some((from_name, from)) = self.of(&import.from) else {
            // A wing's or the crate's own file; the binary only begins the cli.
            return (import.from == "src/main.rs" && to_name != "cli")
                .then(|| format!("the binary imports `{path}` ({file})"));
        };
        if from_name == to_name {
            return None;
        }
        if to.row < from.row {
            return Some(format!(
                "`{from_name}` imports `{path}` ({file}): `{to_name}` stands above it"
            ));
        }
        let is_forbidden = |never: &Never| match never {
            Never::Rooms(named) => named.iter().any(|other| is_named(to_name, other)),
            Never::AnythingBut(named) => !named.iter().any(|other| is_named(to_name, other)),
            Never::Everything => true,
            Never::EverythingAbove | Never::Io | Never::OnlyFor(_) => false,
        };
        if from.never.iter().any(is_forbidden) {
            return Some(format!(
                "`{from_name}` imports `{path}` ({file}): never `{to_name}`"
            ));
        }
        let is_closed = |never: &Never| match never {
            Never::OnlyFor(named) => !named.iter().any(|other| is_named(from_name, other)),
            _ => false,
        };
        to.never.iter().any(is_closed).then(|| {
            format!("`{from_name}` imports `{path}` ({file}): `{to_name}` is not there for it")
        })
    }

    /// What reaches out of the process, in a pure room or as an item that one imports.
    fn check_purity(&self, imports: &Imports, report: &mut Report) {
        let is_pure = |file: &str| {
            self.of(file)
                .is_some_and(|(_, room)| room.never.iter().any(|n| matches!(n, Never::Io)))
        };
        for (file, outer) in &imports.outer {
            for Outer { line, path, .. } in outer {
                if is_pure(file) && is_outside(path) {
                    let text = format!("`{path}` reaches out of the process: this room is pure");
                    report.add(Rule::Arrows, file, *line, text);
                }
            }
        }
        for import in &imports.inner {
            if !is_pure(&import.from) || is_pure(&import.to) || import.item.is_empty() {
                continue;
            }
            let Import { item, member, .. } = import;
            let member = member.as_ref().map(|member| format!("{item}::{member}"));
            let is_meant = |outer: &&Outer| {
                outer.item == *item || member.as_ref().is_some_and(|name| outer.item == *name)
            };
            let outer = imports.outer.get(&import.to).into_iter().flatten();
            let mut outer = outer.filter(is_meant);
            if let Some(outer) = outer.find(|outer| is_outside(&outer.path)) {
                let Import { path, to, .. } = import;
                let outer = &outer.path;
                let text = format!("this room is pure, and `{path}` ({to}) uses `{outer}`");
                report.add(Rule::Arrows, &import.from, import.line, text);
            }
        }
    }

    /// Files without a room, rooms without files, and files that no row names.
    pub fn check_files(&self, tree: &Tree, document: &str, report: &mut Report) {
        for (path, source) in &tree.sources {
            if self.of(path).is_none() && !self.is_above_rooms(path, source) {
                report.add(Rule::Names, path, 0, "it is in no room of the table");
            }
        }
        for (name, room) in &self.rooms {
            let prefix = format!("src/{name}/");
            let exists = tree.sources.keys().any(|path| path.starts_with(&prefix));
            if !exists && !room.is_later {
                let text = format!("the room `{name}` does not exist");
                report.add(Rule::Names, DOCUMENT, 0, text);
            }
        }
        let named = named_files(document, report);
        for path in tree.sources.keys() {
            if !path.ends_with("/mod.rs") && !named.contains_key(path) {
                report.add(Rule::Names, path, 0, "no row of ARCHITECTURE.md names it");
            }
        }
        for (path, line) in named {
            if !tree.sources.contains_key(&path) {
                let text = format!("it names {path}, which does not exist");
                report.add(Rule::Names, DOCUMENT, line, text);
            }
        }
    }

    /// `lib.rs`, `main.rs`, and the `mod.rs` of a wing.
    fn is_above_rooms(&self, path: &str, source: &Source) -> bool {
        if ["src/lib.rs", "src/main.rs"].contains(&path) {
            return true;
        }
        let wing = format!("{}/", source.module.join("/"));
        path.ends_with("/mod.rs") && self.rooms.keys().any(|name| name.starts_with(&wing))
    }
}

/// True for a path that reaches out of the process. A constant is only a number, and a module on
/// the way to one does nothing by itself: paths that begin with its name are looked at in full.
fn is_outside(path: &str) -> bool {
    let is_below = |path: &str, name: &str| {
        let rest = path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let last = path.rsplit("::").next().unwrap_or_default();
    let is_constant = last.chars().all(|letter| !letter.is_lowercase());
    let is_number = |name: &&str| is_below(path, name) || is_below(name, path);
    !is_constant
        && OUTSIDE.iter().any(|name| is_below(path, name))
        && !NUMBERS.iter().any(is_number)
}

/// True when a name of the table means this room: itself or its wing, `mesos/*`.
fn is_named(room: &str, name: &str) -> bool {
    match name.strip_suffix("/*") {
        Some(wing) => room
            .strip_prefix(wing)
            .is_some_and(|rest| rest.starts_with('/')),
        None => room == name,
    }
}

/// The rows of the first table whose first column has this title, with their lines.
fn table(document: &str, title: &str) -> Vec<(usize, Vec<String>)> {
    let head = format!("| {title} |");
    let mut lines = document.lines().enumerate();
    if !lines.any(|(_, line)| line.starts_with(&head)) {
        return Vec::new();
    }
    let rows = lines.skip(1).take_while(|(_, line)| line.starts_with('|'));
    rows.map(|(index, line)| {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        let cells = inner.split('|').map(|cell| cell.trim().to_owned());
        (index + 1, cells.collect())
    })
    .collect()
}

/// "`cli/` (`verbs/`, `job/`)": the rooms are outside of the brackets. "(later)": not built yet.
fn names_of_rooms(cell: &str) -> (Vec<String>, bool) {
    let mut outside = String::new();
    let mut depth = 0;
    for letter in cell.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            letter if depth == 0 => outside.push(letter),
            _ => {}
        }
    }
    let names = quoted(&outside).into_iter();
    let names = names.map(|name| name.trim_end_matches('/').to_owned());
    (names.collect(), cell.contains("(later)"))
}

/// The column "may never import", read part by part.
fn nevers(cell: &str) -> Result<Vec<Never>, String> {
    let mut nevers = Vec::new();
    for part in cell.split(';').map(str::trim) {
        let names = quoted(part);
        if part.is_empty() {
            continue;
        } else if let Some(rest) = part.strip_prefix("only ") {
            nevers.push(Never::OnlyFor(quoted(rest)));
            continue;
        } else if part.starts_with("anything but") {
            nevers.push(Never::AnythingBut(names));
            continue;
        } else if part == "everything above" {
            nevers.push(Never::EverythingAbove);
            continue;
        } else if part == "everything" {
            nevers.push(Never::Everything);
            continue;
        }
        let prose = part.ends_with("anything that does I/O");
        if prose {
            nevers.push(Never::Io);
        }
        if names.is_empty() && !prose {
            return Err(format!("\"{part}\" forbids nothing that a test can check"));
        }
        nevers.push(Never::Rooms(names));
    }
    Ok(nevers)
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The files of the table of files, with the lines that name them.
fn named_files(document: &str, report: &mut Report) -> BTreeMap<String, usize> {
    let rows = table(document, "folder");
    if rows.is_empty() {
        report.add(Rule::Tables, DOCUMENT, 0, "it has no table of files");
    }
    let mut files = BTreeMap::new();
    let mut folders = BTreeSet::new();
    for (line, cells) in rows {
        let folder = quoted(&cells[0]).into_iter().next().unwrap_or_default();
        if !folders.insert(folder.clone()) {
            report.add(Rule::Tables, DOCUMENT, line, format!("`{folder}` twice"));
        }
        let inner = folder.trim_start_matches("src/");
        for name in quoted(&cells[1..].join(" ")) {
            if name.ends_with(".rs") {
                files.insert(format!("src/{inner}{name}"), line);
            }
        }
    }
    files
}
