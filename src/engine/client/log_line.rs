//! What a follower of logs gives out: lines, and where lines are missing.

/// A piece of what a process has printed, or the news that a piece of it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// One line of output.
    Line(Line),
    /// Between the line before and the line after, others may be missing.
    Missed(Missed),
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub process: String,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without the newline.
    pub text: Vec<u8>,
}

/// Files of a log were rotated away before the follower could read them. How long they were is not
/// known: a file that was never opened leaves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    pub process: String,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// How many files, at most. `None`: it is not known; there may have been none.
    pub files: Option<u64>,
}
