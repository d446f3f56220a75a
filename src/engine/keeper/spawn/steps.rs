//! The steps that a child takes between fork and exec, and what a failure of each means to people.

use std::io;

use super::child::{STEP_EXEC, STEPS};

/// What a failed slot says, for people, and exec's errno if it was exec that failed.
pub(crate) fn explain(error: u32, command: &str) -> (String, u32) {
    let (step, errno) = (error >> 16, error & 0xffff);
    let cause = io::Error::from_raw_os_error(errno as i32);
    let cause = cause.to_string();
    let cause = cause.split(" (os error").next().unwrap_or_default();
    if step == STEP_EXEC {
        (format!("cannot execute {command}: {cause}"), errno)
    } else {
        let step = STEPS.get(step as usize).copied().unwrap_or("start");
        (format!("cannot {step}: {cause}"), 0)
    }
}
