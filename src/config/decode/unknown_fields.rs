//! What is said of a field that its map does not have: the near name, or all names there are.
//!
//! The names come from the map's table, so that a hint never names a field that is not read.

use crate::config::{diagnostic::Diagnostics, table::row::Table, text::node::Entry};

/// Refuses `entry`, a field that `table` does not have.
pub(super) fn complain(table: &'static Table, entry: &Entry, diagnostics: &mut Diagnostics) {
    let (key, what) = (entry.key.as_str(), table.what);
    if table.later.contains(&key) {
        diagnostics
            .error(&entry.key_span, format!("`{key}` of {what}: not yet"))
            .help("this version of dewar does not have it; remove it");
        return;
    }
    let known: Vec<&str> = table.names().collect();
    diagnostics
        .unknown(&entry.key_span, format!("unknown field `{key}` in {what}"))
        .label("unknown field")
        .help(format!("known fields are {}", known.join(", ")))
        .did_you_mean(key, known.into_iter());
}
