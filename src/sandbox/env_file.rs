//! Files of variables: `NAME=VALUE` a line, as shells, systemd and compose read them.
//!
//! `#` begins a comment, `export` in front is allowed, values may be quoted: 'as it is', or "with
//! \\n, \\t, \\\" and \\\\". Nothing is expanded. A file is read with the rights of
//! the user that its variables are for: users see no more through dewar than without it.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::beneath::open_beneath;
use nix::{
    sys::prctl::{get_pdeathsig, set_pdeathsig},
    unistd::{Gid, Uid, getgroups, setfsgid, setfsuid, setgroups},
};
use thiserror::Error;

/// A larger file is no file of variables.
const LARGEST: u64 = 1 << 20;

/// Why a file of variables cannot be used.
#[derive(Debug, Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("cannot read the variables in {path}: {}", plain(.source))]
    Io {
        /// The file of variables.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A line is none of a file of variables.
    #[error("{path}:{line}:{column}: {why}")]
    Line {
        /// The file of variables.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// What was expected there.
        why: &'static str,
    },
}

fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The user with whose rights a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The user id of the reader.
    pub uid: u32,
    /// The id of the reader's primary group.
    pub gid: u32,
    /// The ids of all groups of the reader.
    pub groups: &'a [u32],
}

/// The variables in `path`, in the order of the file. Only for a process with one thread: rights
/// are borrowed for the whole of it. Below `tops` no link is followed.
///
/// # Errors
/// See [`EnvFileError`].
pub fn read_env_file(
    path: &Path,
    reader: Option<Reader<'_>>,
    tops: &[PathBuf],
) -> Result<Vec<(String, String)>, EnvFileError> {
    let text = match reader {
        None => read(path, tops),
        Some(reader) => read_as(path, tops, reader),
    };
    let text = text.map_err(|source| EnvFileError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    parse(&text).map_err(|(line, column, why)| EnvFileError::Line {
        path: path.to_path_buf(),
        line,
        column,
        why,
    })
}

fn read_as(path: &Path, tops: &[PathBuf], reader: Reader<'_>) -> io::Result<String> {
    let own = getgroups()?;
    let on_death = get_pdeathsig()?;
    let groups: Vec<Gid> = reader.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    let (gid, uid) = (
        setfsgid(Gid::from_raw(reader.gid)),
        setfsuid(Uid::from_raw(reader.uid)),
    );
    let text = read(path, tops);
    setfsuid(uid);
    setfsgid(gid);
    setgroups(&own)?;
    // Changing rights disarmed the signal that ends this process with its keeper. A keeper that
    // died just now is noticed at its link.
    set_pdeathsig(on_death)?;
    text
}

fn read(path: &Path, tops: &[PathBuf]) -> io::Result<String> {
    let file = open_beneath(path, tops)?;
    let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if !file.metadata()?.is_file() {
        return invalid("not a plain file");
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return invalid("larger than 1 MiB");
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => invalid("it contains a NUL character"),
        Ok(text) => Ok(text),
        Err(_) => invalid("it is not UTF-8"),
    }
}

/// Line and column from 1, and what is wrong there.
type Mistake = (usize, usize, &'static str);

fn parse(text: &str) -> Result<Vec<(String, String)>, Mistake> {
    let mut variables = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let wrong = |rest: &str, why| {
            let before = line.len() - rest.len();
            let column = line.get(..before).map_or(0, |text| text.chars().count());
            Err((index + 1, column + 1, why))
        };
        let rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        let exported = rest
            .strip_prefix("export")
            .filter(|rest| rest.starts_with([' ', '\t']));
        let rest = exported.map_or(rest, str::trim_start);
        let Some((name, value)) = rest.split_once('=') else {
            return wrong(rest, "expected NAME=VALUE");
        };
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return wrong(rest, "expected a variable's name before `=`");
        }
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => match quoted(&value[1..], quote) {
                Ok((value, after)) => {
                    let after = after.trim_start();
                    if !after.is_empty() && !after.starts_with('#') {
                        return wrong(after, "unexpected text after the closing quote");
                    }
                    value
                }
                Err(()) => return wrong(value, "the quote is not closed on this line"),
            },
            _ => bare(value).to_owned(),
        };
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

/// A comment after a space is no part of a bare value.
fn bare(value: &str) -> &str {
    let comments = value.match_indices('#').map(|(at, _)| at);
    let end = comments
        .filter(|at| *at == 0 || value[..*at].ends_with([' ', '\t']))
        .min();
    value[..end.unwrap_or(value.len())].trim_end()
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str, quote: char) -> Result<(String, &str), ()> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((value, &text[at + c.len_utf8()..])),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$' | '`'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => return Err(()),
            },
            c => value.push(c),
        }
    }
    Err(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    #[test]
    fn all_the_ways_to_write_a_variable() {
        let text = "\u{feff}# a comment\n\n A=1\nexport B = two words  # and why\nC='#not a \"comment\"\\n'\nD=\"a\\tb\\\"c\\\\d\\x\" # yes\nE=\nF=a#b\nexported=x\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "#not a \"comment\"\\n"),
            ("D", "a\tb\"c\\d\\x"),
            ("E", ""),
            ("F", "a#b"),
            ("exported", "x"),
        ];
        let found = pairs(text);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn mistakes_have_their_places() {
        assert_eq!(parse("A=1\n  what"), Err((2, 3, "expected NAME=VALUE")));
        assert_eq!(
            parse("=1"),
            Err((1, 1, "expected a variable's name before `=`"))
        );
        assert_eq!(
            parse("ü='x"),
            Err((1, 3, "the quote is not closed on this line"))
        );
        assert_eq!(
            parse("A='x' y"),
            Err((1, 7, "unexpected text after the closing quote"))
        );
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read_env_file(&fifo, None, &[]).unwrap_err().to_string();
        assert!(error.ends_with("not a plain file"), "{error}");
        let error = read_env_file(&directory.path().join("none"), None, &[]).unwrap_err();
        assert!(
            error.to_string().ends_with("No such file or directory"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_values_come_back(value in "[^'\\n\\r]*") {
            let text = format!("A='{value}'");
            prop_assert_eq!(pairs(&text), vec![("A".to_owned(), value)]);
        }
    }
}
