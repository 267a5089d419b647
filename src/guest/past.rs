//! What the records of guests say, read where they lie on the host: they outlive every box.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::command::Record;
use super::facts::Phase;

/// Whether the records below a directory of logs say how a command ended. What can't be read says nothing.
pub fn has_ended(logs: &Path, id: &str) -> bool {
    let Ok(file) = File::open(logs.join("records.jsonl")) else { return false };
    let records = BufReader::new(file).lines().map_while(Result::ok);
    let mut records = records.filter_map(|line| serde_json::from_str::<Record>(&line).ok());
    records.any(|record| match record {
        Record::Ended(state) => state.id == id && matches!(&state.phase, Phase::Ended(end) if end.exit.is_some()),
        Record::Started(_) | Record::ShellExited { .. } => false,
    })
}
