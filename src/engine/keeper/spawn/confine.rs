//! Fewer rights for a child, between fork and exec: raw system calls only, as in
//! [`child`](super::child).
//!
//! The order matters: what may be gained is bounded while we still may (before the identity), and
//! the filter of system calls is the last, because it refuses what the other steps need.
#![allow(unsafe_code)]

use std::{
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    ptr,
};

use super::steps::Step;

/// What a child gives up.
pub(crate) struct Confinement<'a> {
    /// The capabilities that it may have, as a mask; `None`: whatever it has.
    pub capabilities: Option<u64>,
    pub no_new_privs: bool,
    /// Landlock's rules for its paths.
    pub ruleset: Option<BorrowedFd<'a>>,
    /// Filters of system calls, the last one is asked first.
    pub filters: &'a [Vec<seccompiler::sock_filter>],
}

/// The kernel's `struct __user_cap_header_struct`, for 64 capabilities.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// Two of these make 64 bits, the lower half first.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION: u32 = 0x2008_0522;
/// Beyond what any kernel has.
const CAPABILITIES: u64 = 64;

impl Confinement<'_> {
    pub fn ruleset(&self) -> Option<RawFd> {
        self.ruleset.map(|ruleset| ruleset.as_raw_fd())
    }

    /// Capabilities that are not to be had cannot be gained by an exec either; false when that
    /// fails.
    pub fn bound_capabilities(&self) -> bool {
        let Some(kept) = self.capabilities else {
            return true;
        };
        for capability in (0..CAPABILITIES).filter(|one| kept & 1 << one == 0) {
            // SAFETY: numbers only.
            unsafe {
                if libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) == 1
                    && libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0
                {
                    return false;
                }
            }
        }
        true
    }

    /// Everything else.
    ///
    /// # Errors
    /// The step that failed; errno says why.
    pub(super) fn enforce(&self, ruleset: RawFd) -> Result<(), Step> {
        if self
            .capabilities
            .is_some_and(|kept| !drop_capabilities(kept))
        {
            return Err(Step::Capabilities);
        }
        // SAFETY: numbers, and filters that were laid out before the fork.
        unsafe {
            if self.no_new_privs && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return Err(Step::NoNewPrivs);
            }
            if self.ruleset.is_some() {
                if libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) != 0 {
                    return Err(Step::Landlock);
                }
                libc::close(ruleset);
            }
            for filter in self.filters {
                let program = libc::sock_fprog {
                    len: filter.len() as u16,
                    filter: filter.as_ptr().cast_mut().cast(),
                };
                let mode = libc::SECCOMP_SET_MODE_FILTER;
                if libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) != 0 {
                    return Err(Step::Seccomp);
                }
            }
        }
        Ok(())
    }
}

fn drop_capabilities(kept: u64) -> bool {
    let header = CapHeader {
        version: CAP_VERSION,
        pid: 0,
    };
    let mut data = [CapData {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: the kernel reads the header, and reads or writes two of the structures.
    unsafe {
        let none: *const libc::c_void = ptr::null();
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            none,
        );
        if libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) != 0 {
            return false;
        }
        for (half, data) in data.iter_mut().enumerate() {
            let kept = (kept >> (32 * half)) as u32;
            data.permitted &= kept;
            data.effective &= kept;
            data.inheritable = 0;
        }
        libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) == 0
    }
}
