//! What is mounted where, as far as it can be seen: pure, from the text of `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount whose root can be reached by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct Mount {
    id: u32,
    parent: u32,
    /// Its path.
    pub(in crate::sandbox) at: PathBuf,
    /// The type of its file system.
    pub(in crate::sandbox) fs: String,
    /// Options of the file system, such as the controllers of a cgroup hierarchy.
    pub(in crate::sandbox) options: String,
}

/// The mounts that a path leads to, those hidden under others left out; parents come before what is below them.
pub(in crate::sandbox) fn visible(mountinfo: &[u8]) -> Vec<Mount> {
    let all: Vec<Mount> = mountinfo.split(|&byte| byte == b'\n').filter_map(parse_line).collect();
    let is_known = |id| all.iter().any(|mount| mount.id == id);
    let mut seen = Vec::new();
    let mut open: Vec<&Mount> =
        all.iter().filter(|mount| !is_known(mount.parent) && mount.at == Path::new("/")).collect();
    while let Some(mount) = open.pop() {
        let children: Vec<&Mount> =
            all.iter().filter(|child| child.parent == mount.id && child.id != mount.id).collect();
        if let Some(cover) = children.iter().find(|child| child.at == mount.at) {
            open.push(cover);
            continue;
        }
        let hidden =
            |child: &Mount| children.iter().any(|other| child.at != other.at && child.at.starts_with(&other.at));
        open.extend(children.iter().filter(|child| !hidden(child)));
        seen.push(mount.clone());
    }
    seen.sort_by(|a, b| a.at.cmp(&b.at));
    seen
}

/// Every mount point, those hidden under others included.
pub(in crate::sandbox) fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(parse_line).map(|mount| mount.at).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let at = PathBuf::from(OsString::from_vec(unescape(fields.nth(2)?)));
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let fs = String::from_utf8_lossy(after.next()?).into_owned();
    let options = String::from_utf8_lossy(after.nth(1).unwrap_or_default()).into_owned();
    Some(Mount { id, parent, at, fs, options })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Blanks, tabs, newlines and backslashes stand as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (byte, tail.get(..3).and_then(octal)) {
            (b'\\', Some(value)) => {
                out.push(value);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// True for file systems that hold files, not the kernel's own state.
pub(in crate::sandbox) fn holds_files(fs: &str) -> bool {
    const KERNEL: [&str; 26] = [
        "autofs",
        "bdev",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "resctrl",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    ];
    !KERNEL.contains(&fs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        visible(text.as_bytes()).iter().map(|mount| mount.at.display().to_string()).collect()
    }

    #[test]
    fn mounts_come_with_their_parents_first_and_odd_names_in_full() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    30 27 0:40 / /srv/a\\040b rw shared:5 master:2 - xfs /dev/b rw,attr2\n\
                    22 27 0:21 / /proc rw - proc proc rw\n";
        let mounts = visible(text.as_bytes());
        assert_eq!(paths(text), ["/", "/proc", "/srv/a b"]);
        assert_eq!((mounts[2].fs.as_str(), mounts[2].options.as_str()), ("xfs", "rw,attr2"));
    }

    #[test]
    fn a_mount_under_another_is_not_seen() {
        let text = "1 0 8:1 / / rw - ext4 a rw\n\
                    2 1 8:2 / /a/b rw - ext4 b rw\n\
                    3 1 8:3 / /a rw - ext4 c rw\n\
                    4 3 8:4 / /a/z rw - ext4 d rw\n\
                    5 4 8:5 / /a/z rw - tmpfs e rw\n";
        let mounts = visible(text.as_bytes());
        assert_eq!(paths(text), ["/", "/a", "/a/z"]);
        assert_eq!(mounts[2].fs, "tmpfs", "the upper of two at one place");
    }

    #[test]
    fn this_machine_has_a_root() {
        let text = std::fs::read("/proc/self/mountinfo").expect("/proc is mounted");
        assert_eq!(visible(&text)[0].at, Path::new("/"));
    }
}
