//! The steps that a child takes between fork and exec, and what a failure of each means to people.
//!
//! A failed step travels through a slot of the shared state as a number that also carries errno.
//! Numbers are for ever: a keeper may read what the child of an earlier version wrote.

use std::io;

/// A step between fork and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Start = 0,
    Descriptors = 1,
    OpenFiles = 2,
    Groups = 3,
    Group = 4,
    User = 5,
    Directory = 6,
    Exec = 7,
    Cgroup = 8,
    Limits = 9,
    Priority = 10,
    OomScoreAdj = 11,
    Namespaces = 12,
    Capabilities = 13,
    NoNewPrivs = 14,
    Landlock = 15,
    Seccomp = 16,
}

impl Step {
    const ALL: [Step; 17] = [
        Step::Start,
        Step::Descriptors,
        Step::OpenFiles,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Directory,
        Step::Exec,
        Step::Cgroup,
        Step::Limits,
        Step::Priority,
        Step::OomScoreAdj,
        Step::Namespaces,
        Step::Capabilities,
        Step::NoNewPrivs,
        Step::Landlock,
        Step::Seccomp,
    ];

    /// What a slot holds when this step failed with `errno`: the step in the upper half.
    pub fn failed(self, errno: i32) -> u32 {
        (self as u32) << 16 | errno as u32
    }

    /// The step with this number; a number that is not known is that of the start.
    fn of(number: u32) -> Step {
        let all = Step::ALL.get(number as usize);
        all.copied().unwrap_or(Step::Start)
    }

    /// What could not be done.
    fn name(self) -> &'static str {
        match self {
            Step::Start => "start",
            Step::Descriptors => "arrange its descriptors",
            Step::OpenFiles => "set the limits of open files",
            Step::Groups => "set the groups",
            Step::Group => "set the group",
            Step::User => "set the user",
            Step::Directory => "enter the working directory",
            Step::Exec => "execute",
            Step::Cgroup => "enter its cgroup",
            Step::Limits => "set its limits",
            Step::Priority => "set its priority",
            Step::OomScoreAdj => "set its oom_score_adj",
            Step::Namespaces => "enter the namespaces of its task",
            Step::Capabilities => "drop capabilities",
            Step::NoNewPrivs => "give up gaining rights",
            Step::Landlock => "restrict its paths (landlock)",
            Step::Seccomp => "restrict its system calls (seccomp)",
        }
    }
}

/// What a failed slot says, for people, and exec's errno if it was exec that failed.
pub(crate) fn explain(error: u32, command: &str) -> (String, u32) {
    let (step, errno) = (Step::of(error >> 16), error & 0xffff);
    let cause = io::Error::from_raw_os_error(errno as i32);
    let cause = cause.to_string();
    let cause = cause.split(" (os error").next().unwrap_or_default();
    match step {
        Step::Exec => (format!("cannot execute {command}: {cause}"), errno),
        step => (format!("cannot {}: {cause}", step.name()), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_ever() {
        for (number, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, number);
            assert_eq!(Step::of(number as u32), step);
        }
        assert_eq!(Step::of(99), Step::Start);
        assert_eq!(Step::Exec.failed(2), 0x7_0002);
    }

    #[test]
    fn exec_is_told_with_its_program_and_errno() {
        let of = |step: Step| explain(step.failed(libc::ENOENT), "prog");
        let text = "cannot execute prog: No such file or directory";
        assert_eq!(of(Step::Exec), (text.to_owned(), libc::ENOENT as u32));
        let text = "cannot enter its cgroup: No such file or directory";
        assert_eq!(of(Step::Cgroup), (text.to_owned(), 0));
    }
}
