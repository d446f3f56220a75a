//! The system calls that a private task does without: those that rule the machine, look into other
//! processes, or have been the way out of many a sandbox. They are answered with EPERM, so programs
//! can go on.

use std::collections::BTreeMap;

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// Newer than the C library's list.
const STATMOUNT: i64 = 457;
const LISTMOUNT: i64 = 458;
const OPEN_TREE_ATTR: i64 = 467;

/// Never needed by a service.
const REFUSED: &[i64] = &[
    // The file system's shape.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    STATMOUNT,
    LISTMOUNT,
    OPEN_TREE_ATTR,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
    // The kernel's inside.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Other namespaces.
    libc::SYS_setns,
    libc::SYS_unshare,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

/// Every flag that makes a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// The filters, in the order in which they are installed.
///
/// # Errors
/// None but a mistake of ours: a rule that does not compile.
pub fn filters() -> Result<Vec<Vec<sock_filter>>, seccompiler::BackendError> {
    let arch = match cfg!(target_arch = "aarch64") {
        true => TargetArch::aarch64,
        false => TargetArch::x86_64,
    };
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // A process may be cloned, a namespace not.
    let each_flag = (0..64)
        .map(|bit| 1u64 << bit)
        .filter(|flag| NAMESPACES & flag != 0);
    let clones = each_flag
        .map(|flag| rule(&[(0, SeccompCmpArgLen::Qword, flag, flag)]))
        .collect::<Result<_, _>>()?;
    refused.insert(libc::SYS_clone, clones);
    // Device nodes: of mknodat the mode is the third argument.
    let kinds = [libc::S_IFCHR, libc::S_IFBLK].map(u64::from);
    let format = u64::from(libc::S_IFMT);
    let nodes = |argument: u8| {
        kinds
            .iter()
            .map(|kind| rule(&[(argument, SeccompCmpArgLen::Dword, format, *kind)]))
            .collect::<Result<Vec<_>, _>>()
    };
    refused.insert(libc::SYS_mknodat, nodes(2)?);
    #[cfg(target_arch = "x86_64")]
    refused.insert(libc::SYS_mknod, nodes(1)?);
    // Pushing input into a terminal that is somebody else's too.
    let push = rule(&[(
        1,
        SeccompCmpArgLen::Dword,
        u64::from(u32::MAX),
        libc::TIOCSTI,
    )])?;
    refused.insert(libc::SYS_ioctl, vec![push]);
    let answer = |errno: i32| SeccompAction::Errno(errno as u32);
    let main = SeccompFilter::new(refused, SeccompAction::Allow, answer(libc::EPERM), arch)?;
    // Its flags are in memory, where no filter sees them: libraries fall back to clone.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let clone3 = SeccompFilter::new(unknown, SeccompAction::Allow, answer(libc::ENOSYS), arch)?;
    let mut filters = Vec::new();
    #[cfg(target_arch = "x86_64")]
    filters.push(no_x32());
    for filter in [main, clone3] {
        filters.push(filter.try_into()?);
    }
    Ok(filters)
}

/// All of (argument, its length, mask, value) must hold.
fn rule(
    conditions: &[(u8, SeccompCmpArgLen, u64, u64)],
) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions
        .iter()
        .map(|(argument, length, mask, value)| {
            let masked = SeccompCmpOp::MaskedEq(*mask);
            SeccompCondition::new(*argument, length.clone(), masked, *value)
        })
        .collect::<Result<Vec<_>, _>>()?;
    SeccompRule::new(conditions)
}

/// The x32 ABI has the same calls under other numbers, which the other filters do not know.
#[cfg(target_arch = "x86_64")]
fn no_x32() -> Vec<sock_filter> {
    const X32: u32 = 0x4000_0000;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let of = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    vec![
        // The number of the call is the first word of the data.
        of(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        of(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        of(libc::BPF_RET | libc::BPF_K, 0, 0, REFUSE),
        of(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_compile() {
        let filters = filters().unwrap();
        assert!(filters.len() >= 2);
        // The kernel takes 4096 instructions.
        assert!(filters.iter().all(|filter| filter.len() < 4096));
    }
}
