//! Groups of cgroup v2 that a test makes for itself.
#![allow(unsafe_code)]

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
};

use super::wait_for;

/// Lets a program begin in a group of cgroup v2, as this user.
pub fn put(command: &mut Command, group: &Path, uid: u32) {
    let door = File::options()
        .write(true)
        .open(group.join("cgroup.procs"))
        .expect("a door");
    // SAFETY: async-signal-safe calls between fork and exec: one write, then other ids.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::write(&door, b"0")?;
            nix::unistd::setgroups(&[])?;
            nix::unistd::setresgid(uid.into(), uid.into(), uid.into())?;
            nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
            Ok(())
        });
    }
}

/// Removes a group and all below it, as soon as no process is in them.
pub fn remove_groups(group: &Path) {
    wait_for("the group's end", || {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_groups(&entry.path());
            }
        }
        match fs::remove_dir(group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => None,
            _ => Some(()),
        }
    });
}
