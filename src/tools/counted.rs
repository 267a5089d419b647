//! What a box has counted, and how much room it has: what exit codes don't tell.

use crate::guest::DiskRoom;
use crate::sandbox::Counters;

/// Less is no room: what a program writes comes in pages and blocks.
const NO_ROOM: u64 = 64 << 10;

/// What a box has counted up to a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Processes killed for want of memory; None where that can't be told.
    pub oom_kills: Option<u64>,
    /// Processes that the limit of processes has kept from being made.
    pub forks_denied: Option<u64>,
    /// Disks that have no room at that moment.
    pub full: Vec<FullDisk>,
}

/// A disk without room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullDisk {
    /// A path on it.
    pub path: String,
    /// True where it has no inodes left, false where it has no bytes.
    pub of_inodes: bool,
}

impl Counted {
    pub(super) fn of(counters: Counters, rooms: &[DiskRoom]) -> Self {
        let full = rooms.iter().filter_map(|room| {
            // A file system that does not count inodes says that it has none at all.
            let of_inodes = room.inodes > 0 && room.free_inodes == 0;
            let is_full = of_inodes || (room.size_bytes > 0 && room.free_bytes < NO_ROOM);
            is_full.then(|| FullDisk { path: room.path.clone(), of_inodes })
        });
        Self { oom_kills: counters.oom_kills, forks_denied: counters.forks_denied, full: full.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_without_bytes_or_without_inodes() {
        let room = |free_bytes, free_inodes, inodes| DiskRoom {
            path: "/w".to_owned(),
            free_bytes,
            size_bytes: 1 << 30,
            free_inodes,
            inodes,
        };
        let full = |room| Counted::of(Counters::default(), &[room]).full.first().map(|full| full.of_inodes);
        assert_eq!(full(room(1 << 20, 5, 10)), None);
        assert_eq!(full(room(4096, 5, 10)), Some(false));
        assert_eq!(full(room(1 << 20, 0, 10)), Some(true));
        assert_eq!(full(room(1 << 20, 0, 0)), None);
    }
}
