//! Rights given up for good before the guest begins: capabilities, privileges by exec, system calls, abstract sockets.

use std::collections::BTreeMap;
use std::io;

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::domain::Capability;
use crate::sandbox::launch::step::{During, StepError};

/// What root in a box keeps, valid only inside its user namespace: enough for package managers and services.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE);

/// System calls that no work in a box needs and that widen the way to the kernel.
const REFUSED: [libc::c_long; 42] = [
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_fanotify_init,
];

/// Gives up everything; what can't be undone comes last.
///
/// # Errors
/// When a right can't be given up: then the box must not begin.
pub(super) fn give_up_rights(rootful: bool, capabilities: &mut Vec<Capability>) -> Result<(), StepError> {
    rustix::thread::set_no_new_privs(true).during(|| "give up privileges by exec".to_owned())?;
    capabilities.push(Capability {
        name: "abstract sockets of the host kept away".to_owned(),
        missing: scope_abstract_sockets().err().map(|error| {
            format!("needs Landlock of kernel 6.12 ({error}); with the host's network, use `--network none` to be safe")
        }),
    });
    drop_capabilities(if rootful { KEPT } else { CapabilitySet::empty() }).during(|| "drop capabilities".to_owned())?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during(|| "close this process to others".to_owned())?;
    filter_system_calls().during(|| "filter system calls".to_owned())
}

fn drop_capabilities(keep: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Root in the box is root to whoever asks a socket for its peer; with the host's network, sockets without a path would
/// be in reach.
fn scope_abstract_sockets() -> io::Result<()> {
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    #[repr(C)]
    struct Ruleset {
        files: u64,
        network: u64,
        scoped: u64,
    }
    let rules = Ruleset { files: 0, network: 0, scoped: SCOPE_ABSTRACT_UNIX_SOCKET };
    // SAFETY: the structure lives through the call, and its size is given with it.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, size_of::<Ruleset>(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).expect("descriptors are small");
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    // SAFETY: plain numbers only.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, std::os::fd::AsRawFd::as_raw_fd(&fd), 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn filter_system_calls() -> io::Result<()> {
    for program in programs().map_err(io::Error::other)? {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The filters, in the order to apply them: the last must not stand in the way of the others.
fn programs() -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, errno: i32| {
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()), arch)
    };
    // Its flags lie in memory, where a filter can't look: without it, libc falls back to `clone`, whose flags it sees.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut programs = vec![filter(clone3, libc::ENOSYS)?.try_into()?, filter(refused()?, libc::EPERM)?.try_into()?];
    programs.extend(other_numbers());
    Ok(programs)
}

fn refused() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let has = |argument, bits: u64| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bits), bits)?;
        SeccompRule::new(vec![condition])
    };
    let is = |argument, value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?])
    };
    let new_user = u64::try_from(libc::CLONE_NEWUSER).expect("a flag is positive");
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_unshare, vec![has(0, new_user)?]);
    rules.insert(libc::SYS_clone, vec![has(0, new_user)?]);
    // Typing into the terminal one was started from.
    let (type_in, paste) = (u64::from(libc::TIOCSTI as u32), u64::from(libc::TIOCLINUX as u32));
    rules.insert(libc::SYS_ioctl, vec![is(1, type_in)?, is(1, paste)?]);
    #[cfg(target_arch = "x86_64")]
    rules.extend([(libc::SYS_iopl, Vec::new()), (libc::SYS_ioperm, Vec::new())]);
    Ok(rules)
}

/// On x86-64 every call has a second number, 2^30 higher (x32); the filters above don't know those.
#[cfg(target_arch = "x86_64")]
fn other_numbers() -> Option<BpfProgram> {
    use seccompiler::sock_filter;
    const LOAD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    Some(vec![
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: 1 << 30 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ERRNO | libc::ENOSYS.cast_unsigned() },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    ])
}

/// Other machines have one number for each call.
#[cfg(not(target_arch = "x86_64"))]
fn other_numbers() -> Option<BpfProgram> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_this_machine() {
        assert!(programs().expect("they compile").len() >= 2);
    }
}
