//! `dewar gc`: removes the directories of tasks that are over.

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        terminal::{complain, harmless, print},
    },
    engine::store::{Policy, Store, collect},
    sys::clock::now,
    task::{Bytes, Period},
};

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Remove tasks that ended longer ago than this, for example 36h [default, if no limit is
    /// given: 7d]
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<Period>,
    /// Keep at most so many tasks that are over, the newest
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Keep at most so many bytes of tasks that are over, the newest
    #[arg(long, value_name = "SIZE")]
    pub max_bytes: Option<Bytes>,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

/// The age at which tasks are removed when no limit is given.
const STANDARD_AGE: Period = Period::from_secs(7 * 86_400);

pub(crate) fn gc(store: &Store, args: &GcArgs) -> Outcome {
    let is_said = args.older_than.is_some() || args.keep.is_some() || args.max_bytes.is_some();
    let age = args.older_than.or((!is_said).then_some(STANDARD_AGE));
    let policy = Policy {
        age_us: age.map(Period::as_micros),
        count: args.keep,
        bytes: args.max_bytes.map(|bytes| bytes.0),
    };
    let collected =
        collect(store, &policy, now().wall_us, args.dry_run).map_err(Failure::rejected)?;
    let what = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    for task in &collected.removed {
        print(&format!(
            "{what} {}  {}",
            harmless(&task.id),
            about(task.bytes)
        ));
    }
    let bytes = collected.removed.iter().map(|task| task.bytes).sum();
    let count = collected.removed.len();
    let tasks = if count == 1 { "task" } else { "tasks" };
    print(&format!("{what} {count} {tasks}, {}", about(bytes)));
    for (id, error) in &collected.failed {
        complain(&format!("error: {}: {}", harmless(id), harmless(error)));
    }
    Ok(match collected.failed.is_empty() {
        true => Code::Success,
        false => Code::Failed,
    })
}

/// A size with one decimal.
fn about(bytes: u64) -> String {
    let units = [("GB", 30), ("MB", 20), ("KB", 10)];
    for (unit, shift) in units {
        if bytes >= 1 << shift {
            return format!("{:.1} {unit}", bytes as f64 / f64::from(1u32 << shift));
        }
    }
    Bytes(bytes).to_string()
}
