//! The two clocks, read in one place.

use nix::time::{ClockId, clock_gettime};

/// This moment on both clocks. 0 for a clock that the kernel does not have.
pub fn now() -> Moment {
    let read = |clock| {
        clock_gettime(clock).map_or(0, |time| {
            time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1000
        })
    };
    Moment {
        boot_us: read(ClockId::CLOCK_BOOTTIME),
        wall_us: read(ClockId::CLOCK_REALTIME),
    }
}

/// A moment, on the clock that only moves forward (and counts sleep) and on the one people read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The time of CLOCK_BOOTTIME, microseconds.
    pub boot_us: u64,
    /// CLOCK_REALTIME, microseconds since 1970.
    pub wall_us: u64,
}
