//! A timer on CLOCK_BOOTTIME: it does not jump with the wall clock and counts the machine's sleep.
#![allow(unsafe_code)]

use std::{io, os::fd::OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug)]
pub(crate) struct BootTimer(AsyncFd<OwnedFd>);

impl BootTimer {
    /// A timer that is not set. Only within a runtime.
    pub fn new() -> io::Result<BootTimer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // SAFETY: the descriptor is owned by the AsyncFd, which deregisters it before closing it.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(BootTimer(timer))
    }

    /// Fires at `wake_at` (microseconds of CLOCK_BOOTTIME), or never.
    pub fn set(&self, wake_at: Option<u64>) -> io::Result<()> {
        // Zero would disarm it.
        let at = wake_at.map_or(0, |at| at.max(1));
        let setting = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: (at / 1_000_000) as i64,
                tv_nsec: (at % 1_000_000 * 1_000) as _,
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &setting)?;
        Ok(())
    }

    /// Waits until it fires.
    pub async fn fired(&self) -> io::Result<()> {
        // Setting the timer again clears its count, so there is nothing to read.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
