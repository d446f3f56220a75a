//! Signals of the terminal as descriptors, which a poll waits for like any other.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicUsize},
};

use signal_hook::consts::{SIGCONT, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};

use super::{failure::Failure, view::View};

/// Signals as descriptors. They are registered before a task begins, so that no Ctrl-C is missed.
pub(super) struct Signals {
    /// Readable after Ctrl-C or SIGTERM.
    pub(super) stops: UnixStream,
    /// Kept open: at the end of `stops` a poll would never wait again.
    _stops_held: UnixStream,
    /// Readable when the terminal has another size, or after SIGCONT.
    pub(super) resizes: UnixStream,
    /// Readable after Ctrl-Z.
    pub(super) suspends: UnixStream,
    /// Set where Ctrl-C and SIGTERM end the client and not the task. Holds the number of the last
    /// one, which is carried out once the terminal is as it was before.
    pub(super) ends_us: Option<Arc<AtomicUsize>>,
}

/// What Ctrl-C and SIGTERM do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    /// They end the task.
    EndTask,
    /// They end the client, after it has given back the terminal.
    EndClient,
    /// They end the client at once, as the kernel does it.
    NotCaught,
}

impl Signals {
    /// Ctrl-C and SIGTERM end the task, not the client.
    pub fn that_stop() -> Result<Signals, Failure> {
        Signals::register(Stops::EndTask).map_err(Failure::internal)
    }

    /// Ctrl-C and SIGTERM end the client, not the task; at once, unless `view` has changed the
    /// terminal.
    pub fn that_leave(view: &View) -> Result<Signals, Failure> {
        let stops = match view.keyboard() {
            Some(_) => Stops::EndClient,
            None => Stops::NotCaught,
        };
        Signals::register(stops).map_err(Failure::internal)
    }

    fn register(stops: Stops) -> io::Result<Signals> {
        let pair = || -> io::Result<(UnixStream, UnixStream)> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            Ok((read, write))
        };
        let (stops_read, stops_write) = pair()?;
        let last = Arc::new(AtomicUsize::new(0));
        let caught: &[i32] = match stops {
            Stops::EndTask | Stops::EndClient => &[SIGINT, SIGTERM],
            Stops::NotCaught => &[],
        };
        for signal in caught.iter().copied() {
            signal_hook::flag::register_usize(signal, Arc::clone(&last), signal as usize)?;
            signal_hook::low_level::pipe::register(signal, stops_write.try_clone()?)?;
        }
        let (suspends_read, suspends_write) = pair()?;
        signal_hook::low_level::pipe::register(SIGTSTP, suspends_write)?;
        let (resizes_read, resizes_write) = pair()?;
        // After SIGCONT the terminal has to be set up again, as after a resize.
        let second = resizes_write.try_clone()?;
        signal_hook::low_level::pipe::register(SIGCONT, second)?;
        signal_hook::low_level::pipe::register(SIGWINCH, resizes_write)?;
        Ok(Signals {
            stops: stops_read,
            _stops_held: stops_write,
            resizes: resizes_read,
            suspends: suspends_read,
            ends_us: (stops == Stops::EndClient).then_some(last),
        })
    }
}

/// Empties the pipe of a signal, and returns how many signals came.
pub(super) fn drain(mut pipe: &UnixStream) -> io::Result<usize> {
    let mut bytes = [0; 64];
    match pipe.read(&mut bytes) {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}
