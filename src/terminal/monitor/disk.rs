//! A disk that runs full while jobs write to it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Finding;
use crate::guest::DiskRoom;

/// Less than this is little, whatever the disk's size.
const LITTLE_BYTES: u64 = 200 << 20;

/// Full within this is soon.
const SOON: Duration = Duration::from_secs(15 * 60);

/// A rate needs looks over this time.
const RATE_OVER: Duration = Duration::from_secs(60);

/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(180);

/// Watches the disks of a box.
#[derive(Debug, Default)]
pub(in crate::terminal) struct DiskWatch {
    disks: BTreeMap<String, Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    most_free: u64,
    seen: Vec<(Duration, u64)>,
    told_at: Option<u64>,
}

impl DiskWatch {
    /// Takes in how much room there is.
    pub(in crate::terminal) fn look(&mut self, now: Duration, rooms: &[DiskRoom]) -> Option<Finding> {
        // Paths on one disk show the same figures: the first stands for all.
        let mut known: Vec<(u64, u64)> = Vec::new();
        let mut found = None;
        for room in rooms {
            let figures = (room.free_bytes, room.size_bytes);
            if room.size_bytes == 0 || known.contains(&figures) {
                continue;
            }
            known.push(figures);
            let finding = self.disks.entry(room.path.clone()).or_default().look(now, room);
            found = found.or(finding);
        }
        found
    }
}

impl Disk {
    fn look(&mut self, now: Duration, room: &DiskRoom) -> Option<Finding> {
        let free = room.free_bytes;
        self.most_free = self.most_free.max(free);
        self.seen.retain(|(then, _)| now.saturating_sub(*then) <= WINDOW);
        self.seen.push((now, free));
        if self.told_at.is_some_and(|told| free > told.saturating_mul(2)) {
            // Room was made: it may run full again.
            self.told_at = None;
        }
        // What was short of room before the job began is not its doing.
        let has_fallen = free < self.most_free - self.most_free / 10;
        if self.told_at.is_some() || !has_fallen {
            return None;
        }
        let full_in = self.full_in(now, free).filter(|left| *left < SOON && free < room.size_bytes / 5);
        if full_in.is_none() && free >= LITTLE_BYTES {
            return None;
        }
        self.told_at = Some(free);
        let full_in_s = full_in.map(|left| left.as_secs());
        Some(Finding::DiskFilling { path: room.path.clone(), free_bytes: free, full_in_s })
    }

    /// Time until it is full, if it has only ever become less in the window.
    fn full_in(&self, now: Duration, free: u64) -> Option<Duration> {
        let (then, before) = *self.seen.first()?;
        let over = now.saturating_sub(then);
        let falls = self.seen.windows(2).all(|pair| pair[1].1 < pair[0].1);
        if over < RATE_OVER || !falls || before <= free {
            return None;
        }
        Duration::try_from_secs_f64(free as f64 * over.as_secs_f64() / (before - free) as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    /// Looks every 15 s at a disk of 100 GB with so much room.
    fn told(free: impl IntoIterator<Item = u64>) -> Vec<Finding> {
        let mut watch = DiskWatch::default();
        let rooms = |free| {
            let room = |path: &str| DiskRoom {
                path: path.to_owned(),
                free_bytes: free,
                size_bytes: 100 * GB,
                free_inodes: 9,
                inodes: 9,
            };
            [room("/work"), room("/tmp")]
        };
        let looks = free.into_iter().enumerate();
        looks.filter_map(|(nth, free)| watch.look(Duration::from_secs(15 * nth as u64), &rooms(free))).collect()
    }

    #[test]
    fn a_disk_that_will_soon_be_full_is_told_once() {
        let found = told((0..20).map(|nth| 19 * GB - nth * GB / 2));
        assert_eq!(found.len(), 1, "{found:?}");
        let Finding::DiskFilling { path, full_in_s: Some(left), .. } = &found[0] else { panic!("{found:?}") };
        assert_eq!((path.as_str(), *left), ("/work", 510));
    }

    #[test]
    fn little_room_is_told_though_it_falls_by_leaps() {
        assert_eq!(told([GB, GB, GB, 100 << 20, 100 << 20]).len(), 1);
    }

    #[test]
    fn a_disk_that_was_short_before_or_falls_slowly_or_comes_and_goes_is_fine() {
        assert_eq!(told(std::iter::repeat_n(100 << 20, 100)), []);
        assert_eq!(told((0..1000).map(|nth| 19 * GB - nth * 1_000_000)), []);
        assert_eq!(told((0..1000).map(|nth| 19 * GB - (nth % 2) * 5 * GB)), []);
        assert_eq!(told((0..100).map(|nth| 90 * GB - nth * GB / 2)), []);
    }

    #[test]
    fn after_room_was_made_it_is_told_again() {
        assert_eq!(told([GB, 100 << 20, 90 << 20, 50 * GB, 50 * GB, 150 << 20]).len(), 2);
    }
}
