//! Proves a transcript, or says what is wrong with it. Reads only: no lock, no write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::line::hex;
use super::{BlobError, Head, HeadError, ReadError, ReadProblem, Reader, RequestReader, blobs};
use crate::domain::{BlobRef, CheckpointId, Entry, Event, RunSpec};

/// Something that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the transcript it concerns, from 1.
    pub line: Option<u64>,
    /// What kind it is, such as `edited line`.
    pub name: &'static str,
    /// What is wrong, in words.
    pub what: String,
}

/// What was proved, and what not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The transcript's file.
    pub file: PathBuf,
    /// Entries that were proved.
    pub entries: u64,
    /// Their size.
    pub size_bytes: u64,
    /// The last one proved.
    pub last: Head,
    /// The run's head file, where there is one.
    pub head: Option<Head>,
    /// Whether the last entry is the end of the run.
    pub ended: bool,
    /// Blobs that were held against their names.
    pub blobs: u64,
    /// Model requests that were put together and held against their hashes.
    pub requests: u64,
    /// Collected files that were held against their hashes.
    pub artifacts: u64,
    /// What is wrong; empty if all is as recorded.
    pub problems: Vec<Problem>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Whether all is as recorded.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, line: impl Into<Option<u64>>, name: &'static str, what: impl ToString) {
        self.problems.push(Problem { line: line.into(), name, what: what.to_string() });
    }
}

/// Proves the transcript at `path` (a file, or a run's directory) and, in a run's directory, all that it names.
///
/// # Errors
/// Only where nothing can be read at all; whatever is wrong with what was read is a [`Problem`].
pub fn verify(path: &Path) -> Result<VerifyReport, ReadError> {
    let file = if path.is_dir() { path.join("journal.jsonl") } else { path.to_owned() };
    let beside = file.parent().map(Path::to_owned).unwrap_or_default();
    let of_run = file.file_name().is_some_and(|name| name == "journal.jsonl");
    let mut proof = Proof {
        run_dir: (path.is_dir() || of_run).then_some(beside),
        report: VerifyReport {
            file,
            entries: 0,
            size_bytes: 0,
            last: Head::start(),
            head: None,
            ended: false,
            blobs: 0,
            requests: 0,
            artifacts: 0,
            problems: Vec::new(),
            notes: Vec::new(),
        },
        seen_blobs: BTreeSet::new(),
        logs: BTreeSet::new(),
        spec: None,
        checkpoints: BTreeMap::new(),
        requests: RequestReader::default(),
        requests_whole: true,
    };
    proof.chain(Reader::open(path)?)?;
    Ok(proof.report)
}

struct Proof {
    run_dir: Option<PathBuf>,
    report: VerifyReport,
    seen_blobs: BTreeSet<String>,
    logs: BTreeSet<String>,
    /// What the run was last said to be.
    spec: Option<RunSpec>,
    /// The hashes of the files of checkpoints that were not deleted.
    checkpoints: BTreeMap<CheckpointId, String>,
    requests: RequestReader,
    requests_whole: bool,
}

impl Proof {
    fn chain(&mut self, mut reader: Reader<impl BufRead>) -> Result<(), ReadError> {
        let promised = self.read_head();
        let mut promise_met = promised.is_none();
        let mut broken = false;
        let mut before = reader.head();
        while let Some(next) = reader.next() {
            match next {
                Ok(entry) => {
                    if let Some(promised) = promised.as_ref().filter(|head| head.seq == Some(entry.seq)) {
                        promise_met = true;
                        if *promised != reader.head() {
                            let what = format!("the head names another entry {} than this", entry.seq);
                            self.report.problem(reader.lines(), "another head", what);
                        }
                    }
                    if let Event::RunForked { spec } = &entry.event {
                        self.parent(&entry, spec, &before);
                    }
                    self.entry(&entry);
                    before = reader.head();
                }
                Err(ReadError::Line { line, problem }) => {
                    broken = true;
                    self.report.problem(line, name_of(&problem), sentence(&problem));
                }
                Err(error) => return Err(error),
            }
        }
        self.report.entries = reader.lines();
        self.report.size_bytes = reader.whole_bytes();
        self.report.last = reader.head();
        if let Some(torn) = reader.torn() {
            let what = format!("the file ends in the middle of a line, after {} bytes of it", torn.size_bytes);
            self.report.problem(torn.line, "torn last line", what);
        }
        if let Some(spec) = self.spec.take() {
            self.run_json(&spec);
        }
        if !broken {
            self.end(promised.as_ref(), promise_met);
        }
        self.missing_logs();
        self.checkpoint_files();
        Ok(())
    }

    /// What can be said once the whole file is read.
    fn end(&mut self, promised: Option<&Head>, promise_met: bool) {
        let last = self.report.last.seq;
        if last.is_none() && promised.is_none() && self.report.problems.is_empty() {
            self.report.problem(None, "empty transcript", "there is not one entry");
        }
        match promised.and_then(|head| head.seq) {
            Some(promised) if !promise_met => {
                let end = last.map_or("before the first entry".to_owned(), |last| format!("with entry {last}"));
                let what = format!("the head says that entry {promised} was recorded, the file ends {end}");
                self.report.problem(self.report.entries + 1, "cut tail", what);
            }
            Some(_) | None if promised.is_some_and(|head| head.seq < last) => {
                self.report.notes.push("the head is behind: the run goes on, or was stopped hard".to_owned());
            }
            Some(_) | None => {}
        }
        if !self.report.ended {
            self.report.notes.push("the run has not ended".to_owned());
        }
    }

    fn read_head(&mut self) -> Option<Head> {
        let Some(dir) = &self.run_dir else {
            self.report.notes.push("no head beside a single file: a cut tail can't be noticed".to_owned());
            return None;
        };
        match Head::read(dir) {
            Ok(head) => {
                self.report.head = Some(head.clone());
                Some(head)
            }
            Err(error @ (HeadError::Missing | HeadError::Damaged | HeadError::Io(_))) => {
                self.report.problem(None, "no head", format!("{error}: a cut tail can't be noticed"));
                None
            }
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let line = entry.seq + 1;
        if self.report.ended && !may_follow_the_end(&entry.event) {
            let what = format!("`{}` follows the end of the run", entry.event.kind());
            self.report.problem(line, "impossible line", what);
        }
        self.report.ended = match &entry.event {
            Event::RunEnded { .. } => true,
            Event::RunResumed { .. } | Event::RunForked { .. } => false,
            _ => self.report.ended,
        };
        match &entry.event {
            // What a fork began with says what its parent was asked; `run.json` says what the fork is.
            Event::RunStarted { spec, .. } | Event::RunForked { spec } => self.spec = Some(spec.clone()),
            Event::ModelRequested { sha256, kept_bytes, rest, .. }
            | Event::SummaryRequested { sha256, kept_bytes, rest } => self.request(line, sha256, *kept_bytes, rest),
            Event::ModelAnswered { response, .. } | Event::SummaryAnswered { response, .. } => {
                drop(self.blob(line, response));
            }
            Event::CheckpointTaken { checkpoint } => {
                self.checkpoints.insert(checkpoint.id, checkpoint.sha256.clone());
            }
            Event::SessionOpened { log, .. } => drop(self.logs.insert(log.clone())),
            Event::ArtifactCollected { stored, size_bytes, sha256, .. } => {
                self.artifact(line, stored, *size_bytes, sha256);
            }
            Event::CheckpointDeleted { checkpoint } => drop(self.checkpoints.remove(checkpoint)),
            Event::ToolEnded { outcome, .. } => self.logs.extend(outcome.output.as_ref().map(|o| o.log.clone())),
            Event::CheckEnded { result } => self.logs.extend(result.outcome.output.as_ref().map(|o| o.log.clone())),
            _ => {}
        }
    }

    fn request(&mut self, line: u64, sha256: &str, kept_bytes: u64, rest: &BlobRef) {
        let Some(content) = self.blob(line, rest) else {
            self.requests_whole &= self.run_dir.is_none();
            return;
        };
        if !self.requests_whole {
            return;
        }
        if self.requests.next(sha256, kept_bytes, &content).is_some() {
            self.report.requests += 1;
        } else {
            self.requests_whole = false;
            self.report.problem(line, "damaged request", "what is stored of the request does not have its hash");
        }
    }

    /// The blob's content; None where it can't be had or there is no run's directory.
    fn blob(&mut self, line: u64, blob: &BlobRef) -> Option<Vec<u8>> {
        let dir = self.run_dir.as_ref()?.join("blobs");
        match blobs::read(&dir, blob) {
            Ok(content) => {
                self.report.blobs += u64::from(self.seen_blobs.insert(blob.sha256.clone()));
                Some(content)
            }
            Err(error) => {
                let name = match error {
                    BlobError::Missing(_) => "missing blob",
                    BlobError::Damaged(_) | BlobError::Io { .. } | BlobError::Full(_) => "damaged blob",
                };
                self.report.problem(line, name, error);
                None
            }
        }
    }

    fn artifact(&mut self, line: u64, stored: &str, size_bytes: u64, sha256: &str) {
        let Some(dir) = &self.run_dir else { return };
        let path = Path::new(stored);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return self.report.problem(line, "damaged artefact", format!("`{stored}` is not a path below artifacts"));
        }
        match hash_of_file(&dir.join("artifacts").join(path)) {
            Ok((size, hash)) if size == size_bytes && hash == sha256 => self.report.artifacts += 1,
            Ok(_) => self.report.problem(line, "changed artefact", format!("`{stored}` is not what was collected")),
            Err(error) => self.report.problem(line, "missing artefact", format!("`{stored}`: {error}")),
        }
    }

    fn run_json(&mut self, spec: &RunSpec) {
        let Some(dir) = &self.run_dir else { return };
        let Ok(bytes) = std::fs::read(dir.join("run.json")) else {
            return self.report.notes.push("run.json is missing; the transcript holds the same".to_owned());
        };
        let told = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let recorded = serde_json::to_value(spec).ok();
        if told.as_ref().and_then(|run| run.get("spec")) != recorded.as_ref() {
            self.report.problem(None, "edited run.json", "run.json does not say what the transcript says");
        }
    }

    /// The entries before a fork are its parent's, up to the one that it names.
    fn parent(&mut self, entry: &Entry, spec: &RunSpec, before: &Head) {
        // Written by hand or by a later version: then there is nothing to hold it against.
        let Some(parent) = &spec.parent else { return };
        if (Some(parent.seq), parent.hash.as_str()) != (before.seq, before.hash.as_str()) {
            let what = "the entries before the fork do not end with the one of its parent that it names";
            self.report.problem(entry.seq + 1, "another parent", what);
        }
    }

    fn checkpoint_files(&mut self) {
        let Some(dir) = &self.run_dir else { return };
        let (mut changed, mut missing) = (Vec::new(), Vec::new());
        for (id, sha256) in &self.checkpoints {
            match hash_of_file(&dir.join("checkpoints").join(format!("{id}.json"))) {
                Ok((_, found)) if found == *sha256 => {}
                Ok(_) => changed.push(format!("the file of checkpoint {id} is not what was recorded")),
                Err(_) => missing.push(format!("the file of checkpoint {id} is not there: it can't be restored")),
            }
        }
        changed.into_iter().for_each(|what| self.report.problem(None, "changed checkpoint", what));
        self.report.notes.extend(missing);
    }

    fn missing_logs(&mut self) {
        let Some(dir) = &self.run_dir else { return };
        let missing = self.logs.iter().filter(|log| !dir.join(log).exists());
        let notes: Vec<String> = missing.map(|log| format!("the session log {log} is not there")).collect();
        self.report.notes.extend(notes);
    }
}

/// A run that has ended is taken up again, or its checkpoints are seen to; everything else is done by a driver.
fn may_follow_the_end(event: &Event) -> bool {
    matches!(
        event,
        Event::RunResumed { .. }
            | Event::RunForked { .. }
            | Event::CheckpointTaken { .. }
            | Event::CheckpointDeleted { .. }
            | Event::RestoreStarted { .. }
            | Event::Noticed { .. }
            | Event::Other(_)
    )
}

fn name_of(problem: &ReadProblem) -> &'static str {
    match problem {
        ReadProblem::NotJson => "damaged line",
        ReadProblem::Layout => "not a transcript line",
        ReadProblem::Edited => "edited line",
        ReadProblem::Gap { .. } => "removed line",
        ReadProblem::Chain => "broken chain",
        ReadProblem::Time(_) | ReadProblem::Event(_) | ReadProblem::Beginning(_) => "impossible line",
        ReadProblem::Newer { .. } => "newer format",
        ReadProblem::TooLong => "endless line",
        ReadProblem::Io(_) => "unreadable line",
    }
}

fn sentence(problem: &ReadProblem) -> String {
    match problem {
        ReadProblem::Io(source) => format!("{problem}: {source}"),
        problem => problem.to_string(),
    }
}

fn hash_of_file(path: &Path) -> io::Result<(u64, String)> {
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut hasher = Sha256::new();
    let mut file = io::BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut size = 0;
    loop {
        let chunk = file.fill_buf()?;
        if chunk.is_empty() {
            return Ok((size, hex(&hasher.finalize())));
        }
        hasher.update(chunk);
        let length = chunk.len();
        size += length as u64;
        file.consume(length);
    }
}
