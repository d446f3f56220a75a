//! The house keeps its rules: this test reads the sources and ARCHITECTURE.md, and reports what
//! broke which rule. CONTRIBUTING.md says how its report is read.
//!
//! `architecture/` has a file a group of rules, and `awake.rs`, which breaks each rule once in a
//! small tree and sees it noticed.

mod architecture {
    mod awake;
    pub mod circles;
    pub mod imports;
    pub mod names;
    pub mod report;
    pub mod rooms;
    pub mod shape;
    pub mod tree;
    pub mod words;
}

use std::{fs, path::Path};

use architecture::{
    circles,
    imports::Imports,
    report::Report,
    rooms::Rooms,
    shape::{self, Exceptions},
    tree::Tree,
    words,
};

/// What is longer than it should be. These lists may only shrink: at most 6 files and 11 functions.
const LONG: Exceptions = Exceptions {
    files: &[],
    functions: &[],
};

/// Holds a tree and its document against every rule.
fn check(tree: &Tree, document: &str, exceptions: &Exceptions) -> Report {
    let mut report = Report::default();
    let imports = Imports::of(tree);
    let rooms = Rooms::read(document, &mut report);
    rooms.check_imports(&imports, &mut report);
    rooms.check_files(tree, document, &mut report);
    circles::check(&imports, &mut report);
    shape::check_mods(tree, &mut report);
    shape::check_lengths(tree, exceptions, &mut report);
    shape::check_types(tree, &mut report);
    words::check_vague(tree, &mut report);
    words::check_docs(tree, &mut report);
    words::check_columns(tree, &mut report);
    report
}

#[test]
fn the_house_keeps_its_rules() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(manifest.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let report = check(&Tree::read(manifest), &document, &LONG);
    assert!(report.is_empty(), "the house breaks its rules:\n{report}");
}

#[test]
fn exceptions_are_few_and_have_reasons() {
    assert!(LONG.files.len() <= 6 && LONG.functions.len() <= 11);
    let all = || LONG.files.iter().chain(LONG.functions);
    assert!(all().all(|(_, reason)| reason.split(' ').count() > 2));
}
