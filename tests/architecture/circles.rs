//! Circles: files that import each other, directly or round other files.
//!
//! `mod.rs`, `lib.rs` and `main.rs` only pass names on, so they are part of no circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::architecture::{
    imports::Imports,
    report::{Report, Rule},
};

type Edges<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<&'a str>>>;

/// Reports the shortest circle through each file that is on one.
pub fn check(imports: &Imports, report: &mut Report) {
    let mut edges: Edges = BTreeMap::new();
    for import in &imports.inner {
        if defines(&import.from) && defines(&import.to) {
            let to = edges.entry(&import.from).or_default();
            let name = import.path.rsplit("::").next().unwrap_or_default();
            to.entry(&import.to).or_default().insert(name);
        }
    }
    let mut seen = BTreeSet::new();
    for start in edges.keys().copied() {
        let Some(circle) = shortest(&edges, start) else {
            continue;
        };
        let files: BTreeSet<&str> = circle.iter().copied().collect();
        if seen.insert(files) {
            report.add(Rule::Circles, start, 0, describe(&edges, &circle));
        }
    }
}

fn defines(path: &str) -> bool {
    !path.ends_with("/mod.rs") && path != "src/lib.rs" && path != "src/main.rs"
}

/// The files of the shortest way from a file back to itself.
fn shortest<'a>(edges: &Edges<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if *next == start {
                let mut circle = vec![file];
                while let Some(earlier) = came_from.get(circle[circle.len() - 1]) {
                    circle.push(earlier);
                }
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

/// "a.rs uses X of b.rs, which uses Y of a.rs".
fn describe(edges: &Edges, circle: &[&str]) -> String {
    let mut text = String::from("it");
    for (index, file) in circle.iter().enumerate() {
        let next = circle[(index + 1) % circle.len()];
        let names: Vec<&str> = edges[file][next].iter().copied().collect();
        if index > 0 {
            text.push_str(", which");
        }
        text.push_str(&format!(" uses {} of {next}", names.join(", ")));
    }
    text
}
