//! System calls that a signal interrupted are made again.

use nix::{errno::Errno, sys::eventfd::EventFd};

/// Makes a call until it is not interrupted.
///
/// # Errors
/// What the call says, other than that.
pub(crate) fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Wakes another thread: `event` is readable, come what may.
///
/// # Errors
/// What write says, other than that the counter is as high as it goes.
pub(crate) fn wake(event: &EventFd) -> nix::Result<()> {
    match again(|| event.write(1)) {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(errno) => Err(errno),
    }
}
