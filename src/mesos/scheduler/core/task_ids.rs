//! The ids of tasks. An id ends with the task's serial, which no other task of this scheduler ever
//! has.

use super::state::Task;

/// The id of a task.
pub fn task_id(serial: u64, task: &Task) -> String {
    id_of(&task.job, task.instance, serial)
}

/// The id of the task that an instance of the job with this key had under this serial.
pub(super) fn id_of(key: &str, instance: u32, serial: u64) -> String {
    format!("{}-{instance}-{serial}", key.replace('/', "-"))
}

/// The serial at the end of a task's id; `None` if the id is not one of this scheduler's.
pub(super) fn serial_of(id: &str) -> Option<u64> {
    id.rsplit_once('-')?.1.parse().ok()
}
