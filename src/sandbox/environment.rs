//! The variables that every process of a task gets, and names that are safe for files.

use std::collections::BTreeMap;

/// HOME, LOGNAME, USER and PATH of a task's processes; PATH is that of this process, or else
/// `default_path`.
pub fn own_variables(sandbox: &str, user: &str, default_path: &str) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| default_path.to_owned());
    let own = [
        ("HOME", sandbox),
        ("LOGNAME", user),
        ("USER", user),
        ("PATH", path.as_str()),
    ];
    own.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Variables as exec takes them: NAME=VALUE.
pub fn assignments(variables: BTreeMap<String, String>) -> Vec<String> {
    let variables = variables.into_iter();
    variables
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// The part of `text` that can name a file: at most 100 characters, none of them special, no
/// leading dot. It may be empty.
pub fn file_name(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| match c {
            c if c.is_alphanumeric() || "-_.".contains(c) => c,
            _ => '_',
        })
        .take(100)
        .collect();
    safe.trim_start_matches('.').to_owned()
}
