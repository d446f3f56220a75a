//! `/proc/PID/stat`, taken apart: the kernel's one line about a process.
//!
//! Invariant: whatever a process calls itself, its fields are found. Fields have the numbers that
//! proc_pid_stat(5) gives them. Which processes are looked at, and what follows, is the callers'.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    str::FromStr,
};

/// The line of one process.
#[derive(Debug)]
pub struct ProcessStat {
    /// From the third field on.
    rest: String,
}

/// The first field behind the command.
const FIRST: usize = 3;

impl ProcessStat {
    /// Reads the line of a process; `None` when the kernel says something else than it should.
    ///
    /// # Errors
    /// What open and read say: `NotFound` or ESRCH when there is no such process.
    pub fn read(pid: i32) -> io::Result<Option<ProcessStat>> {
        read(&format!("/proc/{pid}/stat"))
    }

    /// Our own line.
    ///
    /// # Errors
    /// As of [`ProcessStat::read`].
    pub fn own() -> io::Result<Option<ProcessStat>> {
        read("/proc/self/stat")
    }

    /// Takes the line apart.
    pub fn parse(line: &[u8]) -> Option<ProcessStat> {
        // The command may contain anything, also spaces and parentheses: the last ')' ends it.
        let after = line.iter().rposition(|byte| *byte == b')')? + 1;
        let rest = std::str::from_utf8(line.get(after..)?).ok()?;
        Some(ProcessStat {
            rest: rest.trim().to_owned(),
        })
    }

    /// Field `number`, from 3 on.
    pub fn field<T: FromStr>(&self, number: usize) -> Option<T> {
        let mut fields = self.rest.split_ascii_whitespace();
        fields.nth(number.checked_sub(FIRST)?)?.parse().ok()
    }

    /// True when the process, or its first thread, is exiting; `None` when the kernel does not say.
    pub fn is_exiting(&self) -> Option<bool> {
        /// The kernel's flag of a thread that is exiting.
        const PF_EXITING: u32 = 4;
        Some(self.field::<u32>(9)? & PF_EXITING != 0)
    }

    /// The sum of these fields; one that is not there counts nothing.
    pub fn sum(&self, numbers: Range<usize>) -> u64 {
        let fields = self.rest.split_ascii_whitespace();
        fields
            .skip(numbers.start.saturating_sub(FIRST))
            .take(numbers.len())
            .map(|field| field.parse().unwrap_or(0))
            .sum()
    }
}

/// Reads a line in one piece: it is longer than a read that asks for the length first guesses, and
/// shorter than this.
fn read(path: &str) -> io::Result<Option<ProcessStat>> {
    let mut line = [0; 1024];
    let mut length = 0;
    let mut file = File::open(path)?;
    loop {
        let count = match file.read(&mut line[length..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += count;
        // The kernel gives it out as a whole, with its newline.
        if count == 0 || line[..length].ends_with(b"\n") {
            return Ok(ProcessStat::parse(&line[..length]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_hides_nothing() {
        let line = b"7 (a) b\xff (c) S 1 7 6 0 -1 4194560 1 2 3 4 10 20 30 40\n";
        let stat = ProcessStat::parse(line).expect("a line");
        assert_eq!(stat.field::<char>(3), Some('S'));
        assert_eq!(stat.field::<i32>(6), Some(6));
        assert_eq!(stat.field::<u32>(9), Some(4_194_560));
        assert_eq!(stat.sum(14..18), 100);
        assert_eq!(stat.field::<i32>(50), None);
        assert_eq!(stat.field::<i32>(2), None);
        assert!(ProcessStat::parse(b"7 no name").is_none());
    }
}
