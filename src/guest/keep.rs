//! Copies of large output inside the box, so that whoever works there can search what was not shown.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::facts::{KeptOutput, Refusal};
use super::log::RawLog;
use super::segments::Segments;
use super::supervisor::{Supervisor, refusal_of};

/// Most bytes of one copy.
const LARGEST: u64 = 64 << 20;

const PIECE: u64 = 256 << 10;

/// Copies part of a log to a text file in the box's directory for temporary files.
///
/// # Errors
/// When there is no such directory, or no room in it.
pub(super) async fn keep(boss: &Supervisor, log: Rc<RawLog>, offset: u64, end: u64) -> Result<KeptOutput, Refusal> {
    let dir = directory(boss);
    let path = dir.join(format!("{}-{offset}.txt", log.name.trim_end_matches(".log")));
    let shown = path.to_string_lossy().into_owned();
    if !dir.is_dir() {
        DirBuilder::new().mode(0o700).create(&dir).map_err(|error| refusal_of(&error, &shown))?;
    }
    let (files, last) = (log.files(), end.min(offset.saturating_add(LARGEST)));
    // Disks take their time, and the guest's thread must not wait for them.
    let copied = tokio::task::spawn_blocking(move || copy(&files, offset, last, &path)).await;
    copied.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| refusal_of(&error, &shown))?;
    Ok(KeptOutput { path: shown, complete: last == end })
}

fn copy(files: &Segments, mut at: u64, end: u64, to: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(to)?);
    let mut text = LineEnds::default();
    while at < end {
        let piece = files.read(at, PIECE.min(end - at))?;
        if piece.is_empty() {
            break;
        }
        at += piece.len() as u64;
        file.write_all(&text.of(&piece))?;
    }
    file.flush()
}

/// Removes the copies.
pub(super) fn forget(boss: &Supervisor) {
    // Most boxes never had any.
    let _ = fs::remove_dir_all(directory(boss));
}

fn directory(boss: &Supervisor) -> PathBuf {
    let tmp = boss.setup.base_env.get("TMPDIR").map_or("/tmp", String::as_str);
    // Boxes that share their temporary files must not share this.
    let digest = Sha256::digest(&boss.setup.token);
    PathBuf::from(tmp).join(format!("longhaul-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]))
}

/// Turns the two characters with which a terminal ends a line into one.
#[derive(Debug, Default)]
struct LineEnds {
    returned: bool,
}

impl LineEnds {
    fn of(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + 1);
        for byte in piece {
            if std::mem::replace(&mut self.returned, *byte == b'\r') && *byte != b'\n' {
                out.push(b'\r');
            }
            if *byte != b'\r' {
                out.push(*byte);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_one_character_at_any_cut() {
        let raw = b"a\r\nb\rc\r\r\nd";
        for cut in 0..=raw.len() {
            let mut ends = LineEnds::default();
            let text = [ends.of(&raw[..cut]), ends.of(&raw[cut..])].concat();
            assert_eq!(text, b"a\nb\rc\r\nd", "cut at {cut}");
        }
    }
}
