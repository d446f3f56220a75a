//! The second line: which paths a private task may use (landlock), and which of root's rights it
//! keeps.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError,
};
use thiserror::Error;

/// Why there are no rules.
#[derive(Debug, Error)]
pub enum RuleError {
    /// The kernel refuses one.
    #[error("landlock: {0}")]
    Rules(#[from] RulesetError),
    /// A path cannot be opened.
    #[error("landlock: {0}")]
    Path(#[from] PathFdError),
}

/// What a service that runs as root may still need, as a mask; see capabilities(7).
pub const KEPT_CAPABILITIES: u64 = mask(&[
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL, in its own pid namespace
    6,  // SETGID
    7,  // SETUID
    10, // NET_BIND_SERVICE
    18, // SYS_CHROOT
    29, // AUDIT_WRITE
]);

const fn mask(capabilities: &[u32]) -> u64 {
    let mut mask = 0;
    let mut at = 0;
    while at < capabilities.len() {
        mask |= 1 << capabilities[at];
        at += 1;
    }
    mask
}

/// The newest access rights that are asked for; older kernels enforce what they know.
const NEWEST: ABI = ABI::V5;

/// The version of landlock that this kernel has, 0 for none. See landlock(7).
#[allow(unsafe_code)]
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: asks for the version; nothing is read or written.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Rules that let everything below `root` (the task's root, as we see it) be read and executed, and
/// what is `writable` (in the task's view) be changed; nothing else. `None` where the kernel has no
/// landlock.
///
/// # Errors
/// When the kernel refuses a rule.
pub fn ruleset(root: &Path, writable: &[PathBuf]) -> Result<Option<OwnedFd>, RuleError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(
            PathFd::new(root)?,
            AccessFs::from_read(NEWEST),
        ))?;
    for path in writable {
        let seen = root.join(path.strip_prefix("/").unwrap_or(path));
        // A file has fewer rights than a directory.
        let access = match seen.is_dir() {
            true => AccessFs::from_all(NEWEST),
            false if seen.exists() => AccessFs::from_file(NEWEST),
            false => continue,
        };
        let opened = PathFd::new(&seen)?;
        rules = rules.add_rule(PathBeneath::new(opened, access))?;
    }
    Ok(rules.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_what_services_need_and_nothing_that_rules_the_machine() {
        let has = |capability: u32| KEPT_CAPABILITIES & 1 << capability != 0;
        assert!(has(10) && has(7));
        // SYS_PTRACE, SYS_ADMIN, MKNOD, SYS_MODULE, NET_ADMIN, SYS_RAWIO.
        assert!([19, 21, 27, 16, 12, 17].into_iter().all(|one| !has(one)));
    }
}
