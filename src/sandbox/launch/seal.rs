//! Turns the layers of a box that has ended into one of the store: nothing is copied, however much there is.
//!
//! The box's record says first what is about to happen, so that a seal that was cut short is gone on with.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::record::Record;
use crate::guest::Client;
use crate::process::Identity;
use crate::sandbox::changes::{LIST, OPENED};
use crate::sandbox::layers::{Kept, Parts, Store};

/// How long a box may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends everything in a box, its guest too.
///
/// # Errors
/// When its first process does not end.
pub(super) async fn end(client: &Client, process: Option<&Identity>) -> io::Result<()> {
    // What does not end by itself in time is killed with the first process.
    let _ = tokio::time::timeout(PATIENCE, client.shutdown()).await;
    let Some(held) = process.and_then(Identity::hold) else { return Ok(()) };
    held.kill();
    let ended = tokio::time::timeout(PATIENCE, held.ended()).await;
    ended.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("process {} does not end", held.pid())))
}

/// Makes the layers of the box in `dir` the layer `name` of the store, unless it has begun to with another name, and has
/// the record say so. Nothing may run in the box.
///
/// # Errors
/// When the disk does not take it. Called again, it goes on.
pub(in crate::sandbox) fn seal(dir: &Path, record: &mut Record, name: &str) -> io::Result<Kept> {
    let store = Store::beside(dir.parent().unwrap_or(dir));
    let name = match &record.sealing {
        Some(begun) => begun.clone(),
        None => {
            if store.path(name)?.exists() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a layer {name}")));
            }
            record.sealing = Some(name.to_owned());
            record.from.insert(0, name.to_owned());
            record.taken = None;
            record.save(dir)?;
            name.to_owned()
        }
    };
    let parts = Parts { dir: dir.join("u"), layers: record.layers.clone() };
    let beside = [OPENED, LIST].map(|file| dir.join(file));
    let kept = store.adopt(&name, &parts, record.rootful, &beside)?;
    record.layers.clear();
    record.sealing = None;
    record.save(dir)?;
    Ok(kept)
}
