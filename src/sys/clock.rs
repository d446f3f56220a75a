//! The two clocks, read in one place.

use nix::time::{ClockId, clock_gettime};

use crate::journal::Moment;

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
