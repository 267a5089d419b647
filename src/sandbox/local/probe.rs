//! Tries whether a box can be had here, and puts into words why not and what helps.

use std::fs;
use std::io;
use std::path::Path;

use super::backend::may_mount;
use crate::domain::Capability;
use crate::sandbox::SandboxError;
use crate::sandbox::launch::cgroup::Cgroups;
use crate::sandbox::launch::record::{Record, remove_tree};
use crate::sandbox::launch::step::StepError;
use crate::sandbox::launch::wire::{GuestPart, Plan, Setup, Walls};
use crate::sandbox::launch::{Launch, start};

/// Builds a box that nothing runs in and takes it down again. Blocks for as long as a box takes to start.
///
/// # Errors
/// What is missing, with its remedy.
pub(super) fn probe(launch: &Launch) -> Result<Vec<Capability>, SandboxError> {
    let place = fs::create_dir_all(&launch.state_dir)
        .and_then(|()| tempfile::Builder::new().prefix("probe-").tempdir_in(&launch.state_dir));
    let place = place.map_err(|error| SandboxError {
        what: format!("cannot write to the state directory {}", launch.state_dir.display()),
        because: Some(error.to_string()),
        hint: Some("set `LONGHAUL_STATE_DIR` to a directory of yours on a disk with room".to_owned()),
    })?;
    let dir = place.path().join("box");
    let tried = try_out(launch, &dir);
    // The probe's box has no process any more. What can't be removed of it is no reason to do without boxes.
    let _ = remove_tree(&dir);
    let _ = place.close();
    tried.map_err(|error| explain(&error, &launch.state_dir))
}

fn try_out(launch: &Launch, dir: &Path) -> Result<Vec<Capability>, StepError> {
    start::make_dir(dir)?;
    let mut record = Record {
        process: None,
        token: String::new(),
        uncontained: false,
        written_through: false,
        cgroups: Vec::new(),
        elsewhere: Vec::new(),
        workspace: "/".into(),
        layers: Vec::new(),
        rootful: false,
        from: Vec::new(),
        sealing: None,
        taken: None,
        facts: None,
        groups: Cgroups::default(),
    };
    let rootful = may_mount();
    let plan = Plan {
        rootful,
        dir: dir.to_owned(),
        workspace: None,
        bind_workspace: false,
        home: None,
        state_dir: launch.state_dir.clone(),
        no_network: false,
        cgroup_tasks: Vec::new(),
        cgroup_v2: None,
        nproc: None,
        stack: Vec::new(),
    };
    let guest = GuestPart {
        token: String::new(),
        runtime_dir: "/run/longhaul".into(),
        program: "/".into(),
        env: std::collections::BTreeMap::new(),
        cwd: "/".into(),
        log_cap_bytes: None,
    };
    let standing = start::start(&launch.program, &Setup { walls: Walls::Box(plan), guest }, dir, &mut record);
    if let Some(held) = record.process.as_ref().and_then(crate::process::Identity::hold) {
        held.kill();
        held.reap_now();
    }
    let mut capabilities = standing?.capabilities;
    let as_whom = if rootful { "as root" } else { "as an ordinary user" };
    capabilities.push(Capability { name: format!("box over this machine's own files, {as_whom}"), missing: None });
    Ok(capabilities)
}

/// What a failed step means here, and what helps.
pub(super) fn explain(error: &StepError, state_dir: &Path) -> SandboxError {
    let knob =
        |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned());
    let signs = Signs {
        userns_clone_off: knob("kernel/unprivileged_userns_clone").as_deref() == Some("0"),
        no_user_namespaces: knob("user/max_user_namespaces").as_deref() == Some("0"),
        apparmor_restricts: knob("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1"),
        in_container: ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists()),
        rootful: may_mount(),
        state_on: file_system(state_dir),
    };
    let hint = remedy(error, &signs);
    SandboxError {
        what: "cannot make a box from this machine's own files".to_owned(),
        because: Some(format!("{error}: {}", error.source)),
        hint: Some(hint),
    }
}

/// What the machine says of itself that tells causes apart.
#[derive(Debug, Clone, Default)]
struct Signs {
    userns_clone_off: bool,
    no_user_namespaces: bool,
    apparmor_restricts: bool,
    in_container: bool,
    rootful: bool,
    state_on: Option<&'static str>,
}

fn remedy(error: &StepError, signs: &Signs) -> String {
    let refused = matches!(error.source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS));
    let about = |word: &str| error.step.contains(word);
    let instead = "or use `--sandbox docker`";
    if !signs.rootful && signs.no_user_namespaces {
        return format!("as root: `sysctl -w user.max_user_namespaces=15000`, {instead}");
    }
    if !signs.rootful && signs.userns_clone_off {
        return format!("as root: `sysctl -w kernel.unprivileged_userns_clone=1`, {instead}");
    }
    if !signs.rootful && signs.apparmor_restricts && refused {
        return format!(
            "AppArmor lets only named programs make user namespaces; as root: \
             `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, {instead}"
        );
    }
    if let (true, Some(kind)) = (about("overlay"), signs.state_on) {
        return format!(
            "the state directory lies on {kind}, which can't hold a box's changes: \
             set `LONGHAUL_STATE_DIR` to a directory on ext4, xfs or btrfs"
        );
    }
    if signs.in_container && refused {
        return "this is a container already: give it the engine's socket and use `--sandbox docker`, \
                or use `--sandbox host` since the container is a box"
            .to_owned();
    }
    if about("overlay") {
        return format!("overlayfs is needed (kernel 5.11 or later for ordinary users; `modprobe overlay`), {instead}");
    }
    if about("namespace") {
        return format!(
            "this kernel or a filter around this program forbids new namespaces: run outside of it, {instead}"
        );
    }
    if error.source.kind() == io::ErrorKind::StorageFull {
        return "make room where the state directory lies, or set `LONGHAUL_STATE_DIR` elsewhere".to_owned();
    }
    "use `--sandbox docker`".to_owned()
}

/// The name of a file system that is known not to carry a box's upper layer; None for others.
fn file_system(path: &Path) -> Option<&'static str> {
    // From linux/magic.h.
    const UNFIT: [(i64, &str); 6] = [
        (0x794c_7630, "overlayfs"),
        (0x6969, "NFS"),
        (0x6573_5546, "FUSE"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x0102_1997, "9p"),
    ];
    #[expect(clippy::useless_conversion, reason = "the type differs between machines")]
    let magic = i64::from(rustix::fs::statfs(path).ok()?.f_type);
    UNFIT.iter().find(|(unfit, _)| *unfit == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: &str, errno: i32) -> StepError {
        StepError { step: step.to_owned(), source: io::Error::from_raw_os_error(errno) }
    }

    #[test]
    fn each_cause_has_its_own_remedy() {
        let user = refused("enter a new user namespace", libc::EPERM);
        let says = |error: &StepError, signs: Signs, word: &str| {
            let hint = remedy(error, &signs);
            assert!(hint.contains(word), "{hint}");
        };
        says(&user, Signs { userns_clone_off: true, ..Signs::default() }, "kernel.unprivileged_userns_clone=1");
        says(&user, Signs { no_user_namespaces: true, ..Signs::default() }, "user.max_user_namespaces");
        says(&user, Signs { apparmor_restricts: true, ..Signs::default() }, "apparmor_restrict_unprivileged_userns=0");
        says(&user, Signs { in_container: true, rootful: true, ..Signs::default() }, "already");
        let overlay = refused("mount an overlay over /", libc::EINVAL);
        says(&overlay, Signs { state_on: Some("overlayfs"), rootful: true, ..Signs::default() }, "LONGHAUL_STATE_DIR");
        says(&overlay, Signs::default(), "modprobe overlay");
        says(&refused("read /etc", libc::EIO), Signs::default(), "docker");
    }

    #[test]
    fn a_refusal_says_what_the_system_said() {
        let error = explain(&refused("mount /proc", libc::EPERM), Path::new("/"));
        assert_eq!(error.because.as_deref(), Some("cannot mount /proc: Operation not permitted (os error 1)"));
    }
}
