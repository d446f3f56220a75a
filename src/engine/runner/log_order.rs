//! How the keeper is to take a process' output: straight into its log files, or through a pipe.
//!
//! A log file that its process opens again by the name /dev/stdout is cut to nothing, or written
//! over from its beginning: such an opening has a position of its own, and the kernel tells of it
//! when it is too late. A pipe can neither be cut nor written over. But it costs two descriptors
//! and 1.4 kB a process, and a process waits at a full one while no keeper reads. So only those
//! get one that must (rotated or shown) and those that say that they open their output again.

use crate::{
    protocols::dewar::link::Log,
    task::{Destination, LogMode, Process},
};

/// What names the output of the process that uses it.
const DEVICES: [&str; 2] = ["/dev/stdout", "/dev/stderr"];
/// The same as numbers: /dev/fd/1, /proc/self/fd/1, /proc/$$/fd/1.
const NUMBERS: [&str; 2] = ["/fd/1", "/fd/2"];

/// The order for a process; `echoes`: what is for a console goes to the keeper's own output too.
///
/// It follows from the task alone: a later runner gives the same one for a run that it finds.
pub(super) fn log_order(spec: &Process, echoes: bool) -> Log {
    let logger = &spec.logger;
    let is_kept = logger.destination != Destination::None;
    let rotates = logger.mode == LogMode::Rotate;
    Log {
        keep: is_kept,
        rotate_bytes: if rotates { logger.rotate.log_size.0 } else { 0 },
        backups: logger.rotate.backups,
        echo: echoes && logger.destination.is_shown(),
        pipe: is_kept && (logger.destination.is_shown() || names_its_output(spec)),
    }
}

/// The process' command or variables say that it opens its output again by name.
fn names_its_output(spec: &Process) -> bool {
    let command = spec.cmdline.iter().chain(&spec.shell);
    let arguments = spec.argv.iter().flatten();
    let mut texts = command.chain(arguments).chain(spec.env.values());
    texts.any(|text| {
        let has_number = |name: &str| {
            let mut rests = text.split(name).skip(1);
            rests.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        };
        DEVICES.iter().any(|device| text.contains(device))
            || NUMBERS.iter().any(|name| has_number(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keeper::is_pumped;

    fn with_cmdline(cmdline: &str) -> Process {
        Process {
            cmdline: Some(cmdline.to_owned()),
            ..Process::named("a".to_owned())
        }
    }

    #[test]
    fn a_process_that_names_its_output_gets_a_pipe() {
        for (cmdline, expected) in [
            ("echo one; echo two > /dev/stdout", true),
            ("echo one | tee /dev/stderr", true),
            ("echo one > /proc/self/fd/1", true),
            ("echo one > /proc/$$/fd/2; true", true),
            ("cat /dev/fd/10; echo one >/dev/fd/1", true),
            ("cat /dev/fd/10 /dev/fd/3 /dev/stdin", false),
            ("echo one >&2", false),
        ] {
            let process = with_cmdline(cmdline);
            assert_eq!(log_order(&process, false).pipe, expected, "{cmdline}");
        }
        let mut process = with_cmdline("exec serve");
        process
            .env
            .insert("LOG".to_owned(), "/dev/stderr".to_owned());
        assert!(log_order(&process, false).pipe);
        let argv = ["serve", "--log=/dev/stdout"].map(str::to_owned);
        let process = Process {
            argv: Some(argv.to_vec()),
            ..Process::named("a".to_owned())
        };
        assert!(is_pumped(&log_order(&process, false)));
    }

    #[test]
    fn what_is_shown_or_rotated_is_pumped_and_what_is_kept_nowhere_is_not() {
        for (destination, mode, expected) in [
            (Destination::File, LogMode::Standard, false),
            (Destination::Console, LogMode::Standard, true),
            (Destination::Both, LogMode::Standard, true),
            (Destination::File, LogMode::Rotate, true),
        ] {
            let mut process = with_cmdline("true");
            process.logger.destination = destination;
            process.logger.mode = mode;
            let is_pumped = is_pumped(&log_order(&process, false));
            assert_eq!(is_pumped, expected, "{destination:?} {mode:?}");
        }
        let mut process = with_cmdline("echo > /dev/stdout");
        process.logger.destination = Destination::None;
        let log = log_order(&process, true);
        assert!(!log.keep && !is_pumped(&log));
    }
}
