//! Each rule is broken in a small tree and has to notice; what looks like a breach and is none has
//! to pass.

use crate::{
    architecture::{report::Rule, shape::Exceptions, tree::Tree, words::MOST_VAGUE},
    check,
};

const NONE: Exceptions = Exceptions {
    files: &[],
    functions: &[],
};

const DOCUMENT: &str = "\
# Rooms

| room | what lives there | may never import |
| --- | --- | --- |
| `cli/` (`verbs/`) | what people read | |
| `pages/` (later) | not yet built | `engine/*` |
| `mesos/fakes/` | for tests | only `cli` and tests use it |
| `mesos/protocol/` | messages | anything but `sys`, `task` |
| `engine/keeper/` | does | `engine/plan`, `mesos/*` |
| `engine/plan/` | decides | `journal`, anything that does I/O |
| `journal/` | records | |
| `task/` | plain types | anything but `sys` |
| `sys/` | clocks | everything |

| folder | files |
| --- | --- |
| `src/` | `lib.rs`, `main.rs` |
| `cli/` | `entry.rs` begins |
| `cli/verbs/` | `run.rs` is a verb |
| `engine/keeper/` | `root.rs`, `reap.rs` and `spawn.rs` do things; this is `prose` |
| `engine/plan/` | `plan.rs` |
| `journal/` | `file.rs`, `records.rs` |
| `mesos/fakes/` | `agent.rs` |
| `mesos/protocol/` | `client.rs` |
| `task/` | `task.rs` |
| `sys/` | `clock.rs` |
";

/// A tree that keeps every rule.
const CLEAN: &[(&str, &str)] = &[
    (
        "src/lib.rs",
        "//! The small house.
        pub mod cli; pub mod engine; pub mod journal; pub mod mesos; pub mod sys; pub mod task;
        mod protocols { include!(concat!(env!(\"OUT_DIR\"), \"/protocols.rs\")); }",
    ),
    ("src/main.rs", "fn main() { dewar::cli::main() }"),
    (
        "src/cli/mod.rs",
        "mod entry; mod verbs; pub use entry::main;",
    ),
    (
        "src/cli/entry.rs",
        "use super::verbs::run; pub fn main() { run::run(); crate::engine::keeper::reap(); }",
    ),
    ("src/cli/verbs/mod.rs", "pub mod run;"),
    (
        "src/cli/verbs/run.rs",
        "use crate::mesos::fakes; pub fn run() { fakes::agent(); }",
    ),
    ("src/engine/mod.rs", "pub mod keeper; pub mod plan;"),
    (
        "src/engine/keeper/mod.rs",
        "mod reap; mod root; mod spawn; pub use reap::*; pub use spawn::{Spawn, spawn};",
    ),
    (
        "src/engine/keeper/reap.rs",
        "pub fn reap() -> Result<(), std::io::Error> { std::fs::remove_file(\"x\") }",
    ),
    (
        "src/engine/keeper/root.rs",
        "use super::{Spawn, spawn};
        pub fn root() -> Spawn { super::reap().ok(); spawn() }",
    ),
    (
        "src/engine/keeper/spawn.rs",
        "pub struct Spawn; pub fn spawn() -> Spawn { Spawn }
        #[cfg(test)] mod tests { use super::super::root; use crate::cli::main; }",
    ),
    ("src/engine/plan/mod.rs", "mod plan; pub use plan::Plan;"),
    (
        "src/engine/plan/plan.rs",
        "use crate::{sys::clock::Moment, task::Task};
        pub struct Plan { task: Task, now: Moment, signal: i32 }
        impl Plan { fn kill(&mut self) { self.signal = libc::SIGKILL; } }",
    ),
    (
        "src/journal/mod.rs",
        "mod file; mod records; pub use crate::protocols::journal as messages; pub use file::File;
        pub use records::Record;",
    ),
    (
        "src/journal/file.rs",
        "use super::Record; pub struct File { first: Record, inner: std::fs::File }",
    ),
    (
        "src/journal/records.rs",
        "pub use crate::protocols::journal::Header; pub struct Record;",
    ),
    ("src/mesos/mod.rs", "pub mod fakes; pub mod protocol;"),
    ("src/mesos/fakes/mod.rs", "mod agent; pub use agent::agent;"),
    ("src/mesos/fakes/agent.rs", "pub fn agent() {}"),
    ("src/mesos/protocol/mod.rs", "pub mod client;"),
    (
        "src/mesos/protocol/client.rs",
        "use crate::task::Task; pub fn send(task: Task) {}",
    ),
    ("src/task/mod.rs", "mod task; pub use task::Task;"),
    ("src/task/task.rs", "pub struct Task;"),
    ("src/sys/mod.rs", "pub mod clock;"),
    (
        "src/sys/clock.rs",
        "use std::time::Instant; pub struct Moment(u64); pub fn now() -> Instant { Instant::now() }",
    ),
];

/// What is found when one file of the clean tree has this text in the place of its own.
fn with(path: &str, text: &str) -> Vec<(Rule, String)> {
    let mut files = CLEAN.to_vec();
    files.retain(|(one, _)| *one != path);
    files.push((path, text));
    found(&files, DOCUMENT, &NONE)
}

/// What is found when this text is added to a file of the clean tree.
fn with_also(path: &str, text: &str) -> Vec<(Rule, String)> {
    let (_, own) = CLEAN.iter().find(|(one, _)| *one == path).expect(path);
    with(path, &format!("{own}\n{text}"))
}

fn found(files: &[(&str, &str)], document: &str, exceptions: &Exceptions) -> Vec<(Rule, String)> {
    let report = check(&Tree::of(files), document, exceptions);
    let findings = report.findings().iter();
    let mut found: Vec<_> = findings
        .map(|one| (one.rule, format!("{}: {}", one.path, one.text)))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// One finding, of this rule, whose text has all of these words.
#[track_caller]
fn assert_one(found: &[(Rule, String)], rule: Rule, words: &[&str]) {
    let [(one, text)] = found else {
        panic!("not one finding: {found:#?}");
    };
    assert_eq!(*one, rule, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn a_clean_house_passes() {
    assert_eq!(found(CLEAN, DOCUMENT, &NONE), []);
}

#[test]
fn an_arrow_upwards_is_found() {
    let found = with_also("src/task/task.rs", "use crate::journal::Record;");
    let words = ["src/task/task.rs", "src/journal/records.rs", "stands above"];
    assert_one(&found, Rule::Arrows, &words);
}

#[test]
fn an_arrow_upwards_hides_nowhere() {
    for text in [
        "fn f() { crate::journal::Record; }",
        "fn f() { use crate::journal as j; j::Record; }",
        "fn f(x: Vec<crate::journal::Record>) {}",
        "fn f() { println!(\"{}\", crate::journal::Record::new()); }",
        "fn f() { assert!(matches!(x, crate::journal::Record { .. })); }",
        "macro_rules! m { () => { $crate::journal::Record } }",
        "#[serde(with = \"crate::journal::Record\")] struct S;",
        "#[serde(default)] struct S { #[serde(with = \"crate::journal::Record\")] x: u8 }",
        "impl From<super::super::journal::Record> for Task {}",
        "mod inner { use super::super::super::journal::Record; }",
        "use crate as all; use all::journal::Record;",
        "use crate::journal::*; fn f() -> Record {}",
    ] {
        let found = with_also("src/task/task.rs", text);
        let arrows = found.iter().filter(|(rule, _)| *rule == Rule::Arrows);
        assert_ne!(arrows.count(), 0, "{text}: {found:#?}");
    }
}

#[test]
fn a_reexport_of_a_lower_room_hides_no_upper_one() {
    let found = with_also("src/sys/clock.rs", "use crate::task::messages::Header;");
    assert_one(&found, Rule::Arrows, &["src/sys/clock.rs", "`task`"]);
    let found = with_also("src/task/mod.rs", "pub use crate::journal::Record as Line;");
    assert_one(&found, Rule::Arrows, &["src/task/mod.rs", "stands above"]);
}

#[test]
fn a_broken_never_is_found() {
    let found = with_also(
        "src/engine/keeper/root.rs",
        "use crate::engine::plan::Plan;",
    );
    assert_one(&found, Rule::Arrows, &["never `engine/plan`"]);
    let found = with_also(
        "src/mesos/protocol/client.rs",
        "use crate::journal::Record;",
    );
    assert_one(&found, Rule::Arrows, &["never `journal`"]);
}

#[test]
fn a_room_that_only_some_may_use_is_closed_to_the_others() {
    // Not an arrow upwards, and no never of the room that imports it.
    let document = DOCUMENT.replace(
        "| `pages/` (later) | not yet built | `engine/*` |",
        "| `pages/` | text | |",
    );
    let document = document.replace(
        "| `cli/verbs/` |",
        "| `pages/` | `page.rs` |\n| `cli/verbs/` |",
    );
    let mut files = CLEAN.to_vec();
    files.push(("src/pages/page.rs", "use crate::mesos::fakes::agent;"));
    let found = found(&files, &document, &NONE);
    assert_one(
        &found,
        Rule::Arrows,
        &["src/pages/page.rs", "is not there for it"],
    );
}

#[test]
fn a_pure_room_does_no_io_itself() {
    let found = with_also("src/engine/plan/plan.rs", "use std::time::Instant;");
    assert_one(&found, Rule::Arrows, &["std::time::Instant", "pure"]);
}

#[test]
fn a_pure_room_borrows_no_io() {
    let found = with_also("src/engine/plan/plan.rs", "use crate::sys::clock::now;");
    assert_one(
        &found,
        Rule::Arrows,
        &["clock::now", "std::time::Instant", "pure"],
    );
    for number in [
        "use nix::sys::signal; fn f(s: signal::Signal) {}",
        "use nix::errno::Errno;",
    ] {
        assert_eq!(with_also("src/engine/plan/plan.rs", number), []);
    }
    let kill = "use nix::sys::signal; fn f() { signal::kill(1, None); }";
    let found = with_also("src/engine/plan/plan.rs", kill);
    assert_one(&found, Rule::Arrows, &["nix::sys::signal::kill"]);
    let moment = with_also(
        "src/engine/plan/plan.rs",
        "fn f() { crate::sys::clock::Moment(1); }",
    );
    assert_eq!(moment, []);
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    let found = with_also("src/engine/keeper/spawn.rs", "use super::root::root;");
    let words = [
        "uses Spawn, spawn of src/engine/keeper/spawn.rs",
        "which uses root of src/engine/keeper/root.rs",
    ];
    assert_one(&found, Rule::Circles, &words);
}

#[test]
fn a_circle_of_three_is_found_behind_a_reexport_and_a_glob() {
    let found = with(
        "src/engine/keeper/reap.rs",
        "pub fn reap() -> super::Spawn { super::spawn() }",
    );
    assert_eq!(found, []);
    let mut files = CLEAN.to_vec();
    for (path, text) in [
        (
            "src/engine/keeper/reap.rs",
            "pub fn reap() { super::spawn(); }",
        ),
        (
            "src/engine/keeper/root.rs",
            "pub fn root() { super::reap(); }",
        ),
        (
            "src/engine/keeper/spawn.rs",
            "pub struct Spawn; pub fn spawn() { super::root::root(); }",
        ),
    ] {
        files.retain(|(one, _)| *one != path);
        files.push((path, text));
    }
    let found = self::found(&files, DOCUMENT, &NONE);
    let words = [
        "uses spawn of src/engine/keeper/spawn.rs",
        "uses root of src/engine/keeper/root.rs",
        "uses reap of src/engine/keeper/reap.rs",
    ];
    assert_one(&found, Rule::Circles, &words);
}

#[test]
fn a_mod_rs_that_defines_something_is_found() {
    let found = with_also("src/task/mod.rs", "pub const MOST: u32 = 3;");
    assert_one(&found, Rule::Mods, &["src/task/mod.rs"]);
    let found = with_also("src/lib.rs", "mod inline { pub fn f() {} }");
    assert_one(&found, Rule::Mods, &["src/lib.rs"]);
}

#[test]
fn a_file_that_no_row_names_is_found() {
    let mut files = CLEAN.to_vec();
    files.push(("src/task/units.rs", "pub struct Bytes;"));
    let found = found(&files, DOCUMENT, &NONE);
    assert_one(&found, Rule::Names, &["src/task/units.rs"]);
}

#[test]
fn a_named_file_that_does_not_exist_is_found() {
    let document = DOCUMENT.replace("`task.rs`", "`task.rs`, `units.rs`");
    let found = found(CLEAN, &document, &NONE);
    assert_one(
        &found,
        Rule::Names,
        &["src/task/units.rs", "does not exist"],
    );
}

#[test]
fn a_file_without_a_room_and_a_room_without_files_are_found() {
    let mut files = CLEAN.to_vec();
    files.push(("src/http.rs", "pub struct Http;"));
    let document = DOCUMENT.replace("`main.rs`", "`main.rs`, `http.rs`");
    let found = found(&files, &document, &NONE);
    assert_one(&found, Rule::Names, &["src/http.rs", "no room"]);
    let document = DOCUMENT.replace("`pages/` (later)", "`pages/`");
    let found = self::found(CLEAN, &document, &NONE);
    assert_one(&found, Rule::Names, &["`pages` does not exist"]);
}

#[test]
fn a_table_that_cannot_be_read_is_found() {
    let without = DOCUMENT.replace("| room |", "| place |");
    let found = found(CLEAN, &without, &NONE);
    assert!(found.iter().any(|(rule, _)| *rule == Rule::Tables));
    for (old, new) in [
        ("`engine/plan`, `mesos/*`", "whatever is improper"),
        ("`engine/plan`, `mesos/*`", "`engine/plans`"),
    ] {
        let found = self::found(CLEAN, &DOCUMENT.replace(old, new), &NONE);
        assert!(found.iter().any(|(rule, _)| *rule == Rule::Tables), "{new}");
    }
}

const HEAD: &str = "pub struct Task;\n";

#[test]
fn a_long_file_is_found_and_its_tests_are_not_counted() {
    let lines = "// A line.\n".repeat(601);
    let found = with("src/task/task.rs", &format!("{HEAD}{lines}"));
    assert_one(&found, Rule::Lengths, &["602 lines"]);
    let tests = format!("{HEAD}#[cfg(test)]\nmod tests {{\n{lines}}}\n");
    assert_eq!(with("src/task/task.rs", &tests), []);
}

fn long_function(lines: usize) -> String {
    format!(
        "{HEAD}fn long(\n) {{\n{}}}\n",
        "    f();\n".repeat(lines - 3)
    )
}

#[test]
fn a_long_function_is_found() {
    assert_eq!(with("src/task/task.rs", &long_function(80)), []);
    let found = with("src/task/task.rs", &long_function(81));
    assert_one(&found, Rule::Lengths, &["`long` has 81 lines"]);
}

#[test]
fn an_exception_holds_only_as_long_as_it_is_needed() {
    const ONE: Exceptions = Exceptions {
        files: &[],
        functions: &[("src/task/task.rs: long", "a reason")],
    };
    let text = long_function(81);
    let mut files = CLEAN.to_vec();
    files.retain(|(one, _)| *one != "src/task/task.rs");
    files.push(("src/task/task.rs", &text));
    assert_eq!(found(&files, DOCUMENT, &ONE), []);
    let found = found(CLEAN, DOCUMENT, &ONE);
    assert_one(&found, Rule::Lengths, &["no longer needed"]);
}

#[test]
fn too_many_vague_words_are_found_and_the_user_nobody_is_not() {
    let vague = format!("{HEAD}// Nobody, `nobody`, \"nobody\", but somebody's.\n");
    let enough = format!("{HEAD}{}", "// Whoever it is.\n".repeat(MOST_VAGUE));
    assert_eq!(with("src/task/task.rs", &vague), []);
    assert_eq!(with("src/task/task.rs", &enough), []);
    let quoted = format!("{enough}// As `nobody`.\n");
    assert_eq!(with("src/task/task.rs", &quoted), []);
    let found = with("src/task/task.rs", &format!("{enough}{vague}"));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|(rule, _)| *rule == Rule::Words));
}

#[test]
fn a_doc_of_two_words_is_found() {
    let found = with("src/task/task.rs", "/// Its name.\npub struct Task;");
    assert_one(&found, Rule::Docs, &["Its name."]);
    let found = with_also("src/task/task.rs", "pub struct X {\n/// `A` - b.\n a: u8 }");
    assert_one(&found, Rule::Docs, &["`A` - b."]);
    assert_eq!(
        with(
            "src/task/task.rs",
            "/// What runs\n/// here.\npub struct Task;"
        ),
        []
    );
}

#[test]
fn a_wide_comment_is_found() {
    let wide = format!("{HEAD}// {}\n", "x".repeat(98));
    assert_one(&with("src/task/task.rs", &wide), Rule::Columns, &["101"]);
    let narrow = format!("{HEAD}// {}\n", "ö".repeat(97));
    assert_eq!(with("src/task/task.rs", &narrow), []);
}

#[test]
fn errors_states_and_times_as_text_are_found() {
    let text = "fn f() -> Result<Vec<u8>, String> { todo() }";
    let found = with_also("src/engine/keeper/root.rs", text);
    assert_one(&found, Rule::Types, &["root.rs", "an error as text"]);
    assert_eq!(with_also("src/task/task.rs", text), []);
    for field in ["pub state: String", "pub ended_at: Option<String>"] {
        let found = with_also("src/task/task.rs", &format!("pub struct X {{ {field} }}"));
        assert_one(&found, Rule::Types, &["a state or a time"]);
    }
}
