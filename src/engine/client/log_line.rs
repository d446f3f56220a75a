//! What a follower of logs gives out: lines, and where lines are missing.

/// A piece of what a process has printed, or the news that a piece of it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// One line of output.
    Line(Line),
    /// Between the line before and the line after, others may be missing.
    Missed(Missed),
    /// The file was made shorter than what was read of it; what it holds now follows.
    Cut(Cut),
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

/// A log was cut, by a program that opened it again or by a hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub process: String,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// How many bytes had been read of it: they are gone from the file.
    pub bytes: u64,
}
