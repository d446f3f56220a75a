//! Signals of the terminal, as a descriptor among others.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicUsize},
};

use signal_hook::consts::{SIGCONT, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};

use super::{failure::Failure, view::View};

/// Signals as descriptors. Registered before a task begins: from then on Ctrl-C means the task.
pub(super) struct Signals {
    pub(super) stops: UnixStream,
    /// Open for ever: an end of `stops` would be readable for ever.
    _stops_held: UnixStream,
    pub(super) resizes: UnixStream,
    /// Ctrl-Z.
    pub(super) suspends: UnixStream,
    /// They mean us: the last one ends us, once the terminal is as it was.
    pub(super) ends_us: Option<Arc<AtomicUsize>>,
}

impl Signals {
    /// Ctrl-C and SIGTERM end the task, not us.
    pub fn that_stop() -> Result<Signals, Failure> {
        Signals::register(Some(true)).map_err(Failure::internal)
    }

    /// Ctrl-C and SIGTERM end us, not the task; at once, unless `view` has a terminal to give back.
    pub fn that_leave(view: &View) -> Result<Signals, Failure> {
        match view.keyboard() {
            Some(_) => Signals::register(Some(false)),
            None => Signals::register(None),
        }
        .map_err(Failure::internal)
    }

    /// `stops`: Ctrl-C and SIGTERM are ours, and mean the task; `None`: they do what they always do.
    fn register(stops: Option<bool>) -> io::Result<Signals> {
        let pair = || -> io::Result<(UnixStream, UnixStream)> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            Ok((read, write))
        };
        let (stops_read, stops_write) = pair()?;
        let last = Arc::new(AtomicUsize::new(0));
        let ours: &[i32] = if stops.is_some() {
            &[SIGINT, SIGTERM]
        } else {
            &[]
        };
        for signal in ours.iter().copied() {
            signal_hook::flag::register_usize(signal, Arc::clone(&last), signal as usize)?;
            signal_hook::low_level::pipe::register(signal, stops_write.try_clone()?)?;
        }
        let (suspends_read, suspends_write) = pair()?;
        signal_hook::low_level::pipe::register(SIGTSTP, suspends_write)?;
        let (resizes_read, resizes_write) = pair()?;
        // After a stop in the background the terminal is to be set up again too.
        let second = resizes_write.try_clone()?;
        signal_hook::low_level::pipe::register(SIGCONT, second)?;
        signal_hook::low_level::pipe::register(SIGWINCH, resizes_write)?;
        Ok(Signals {
            stops: stops_read,
            _stops_held: stops_write,
            resizes: resizes_read,
            suspends: suspends_read,
            ends_us: (stops == Some(false)).then_some(last),
        })
    }
}

/// How many signals came.
pub(super) fn drain(mut pipe: &UnixStream) -> io::Result<usize> {
    let mut bytes = [0; 64];
    match pipe.read(&mut bytes) {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}
