//! The runs under the state directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Blobs, RunLock, RunSummary};
use crate::domain::{FORMAT_MAJOR, FORMAT_MINOR, RunId, RunSpec};
use crate::telemetry::Redactor;

/// Why the store can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory can't be written.
    #[error("cannot write to the state directory {path}")]
    NotWritable {
        /// The directory.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No run begins like this.
    #[error("there is no run `{0}`")]
    NoSuchRun(String),
    /// There is no run at all.
    #[error("there are no runs yet")]
    NoRuns,
    /// More than one run begins like this.
    #[error("`{prefix}` fits {} runs: {}", .candidates.len(), .candidates.join(", "))]
    Ambiguous {
        /// As given.
        prefix: String,
        /// The ids that begin with it, newest first; at most ten.
        candidates: Vec<String>,
    },
    /// The run is driven.
    #[error("run {run} is driven by process {}", .pid.map_or("unknown".to_owned(), |pid| pid.to_string()))]
    Driven {
        /// The run.
        run: RunId,
        /// Who drives it.
        pid: Option<u32>,
    },
    /// The system says no.
    #[error("cannot read {path}")]
    Io {
        /// What could not be read.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// All runs of one state directory.
#[derive(Debug, Clone)]
pub struct RunStore {
    state_dir: PathBuf,
}

/// The directory of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    id: RunId,
    path: PathBuf,
}

/// Makes the id of a run: it sorts by `now`, and `random` (80 bits of it are used) tells apart what began together.
pub fn new_run_id(now: Timestamp, random: u128) -> RunId {
    let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
    RunId::new(ulid::Ulid::from_parts(milliseconds, random).to_string()).expect("a ULID is a run id")
}

impl RunDir {
    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The transcript.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.jsonl")
    }

    /// Where the guest writes raw logs.
    pub fn sessions(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// Where what was collected lies.
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// Where the report goes.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.md")
    }

    /// The report for programs.
    pub fn report_json(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// What the run would add to the project's runbook.
    pub fn runbook_patch(&self) -> PathBuf {
        self.path.join("runbook.patch")
    }

    /// The run's blobs, redacted by `redactor` on their way in.
    pub fn blobs(&self, redactor: Arc<Redactor>) -> Blobs {
        Blobs::new(self.path.join("blobs"), redactor)
    }
}

impl RunStore {
    /// The store below a state directory, which need not exist yet.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into() }
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Makes the directory of a new run, with its `run.json` and mode 0700.
    ///
    /// # Errors
    /// [`StoreError::NotWritable`].
    pub fn create(&self, spec: &RunSpec, redactor: &Redactor) -> Result<RunDir, StoreError> {
        let path = self.runs_dir().join(spec.run.as_str());
        self.fill(&path, spec, redactor)
            .map_err(|source| StoreError::NotWritable { path: self.state_dir.display().to_string(), source })?;
        Ok(RunDir { id: spec.run.clone(), path })
    }

    fn fill(&self, path: &Path, spec: &RunSpec, redactor: &Redactor) -> io::Result<()> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        DirBuilder::new().mode(0o700).recursive(true).create(self.runs_dir())?;
        private.create(path)?;
        for below in ["blobs", "sessions", "artifacts"] {
            private.create(path.join(below))?;
        }
        let mut spec = serde_json::to_value(spec)?;
        redactor.redact_value(&mut spec);
        let run = serde_json::json!({ "format_major": FORMAT_MAJOR, "format_minor": FORMAT_MINOR, "spec": spec });
        let mut temporary = tempfile::NamedTempFile::new_in(path)?;
        temporary.write_all(serde_json::to_string_pretty(&run)?.as_bytes())?;
        temporary.write_all(b"\n")?;
        temporary.as_file().sync_data()?;
        temporary.persist(path.join("run.json")).map_err(|error| error.error)?;
        File::open(self.runs_dir())?.sync_data()
    }

    /// The run whose id begins with `prefix` in any case, or the newest for `last`.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRun`], [`StoreError::NoRuns`], [`StoreError::Ambiguous`], [`StoreError::Io`].
    pub fn find(&self, prefix: &str) -> Result<RunDir, StoreError> {
        let all = self.ids()?;
        if prefix == "last" {
            return all.first().map(|id| self.run(id)).ok_or(StoreError::NoRuns);
        }
        let wanted = prefix.to_ascii_uppercase();
        let fitting: Vec<&RunId> = all.iter().filter(|id| id.as_str().starts_with(&wanted)).collect();
        match fitting.as_slice() {
            [] => Err(StoreError::NoSuchRun(prefix.to_owned())),
            [one] if !prefix.is_empty() => Ok(self.run(one)),
            many => Err(StoreError::Ambiguous {
                prefix: prefix.to_owned(),
                candidates: many.iter().take(10).map(ToString::to_string).collect(),
            }),
        }
    }

    /// The ids of all runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`]; a state directory that does not exist has no runs.
    pub fn ids(&self) -> Result<Vec<RunId>, StoreError> {
        let failed = |source| StoreError::Io { path: self.runs_dir().display().to_string(), source };
        let entries = match fs::read_dir(self.runs_dir()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            ids.extend(name.to_str().and_then(|name| RunId::new(name).ok()));
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// What lists show of each run, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`]; a run that can't be read is listed, saying so.
    pub fn list(&self) -> Result<Vec<RunSummary>, StoreError> {
        Ok(self.ids()?.iter().map(|id| RunSummary::read(&self.run(id))).collect())
    }

    /// The directory that a run has or would have.
    pub fn run(&self, id: &RunId) -> RunDir {
        RunDir { id: id.clone(), path: self.runs_dir().join(id.as_str()) }
    }

    /// Whether somebody drives the run.
    pub fn is_driven(&self, run: &RunId) -> bool {
        RunLock::holder(&self.runs_dir().join(run.as_str())).is_some()
    }

    /// Removes a run and all that belongs to it.
    ///
    /// # Errors
    /// [`StoreError::Driven`] while somebody drives it, [`StoreError::NotWritable`].
    pub fn remove(&self, run: &RunDir) -> Result<(), StoreError> {
        if let Some(pid) = RunLock::holder(&run.path) {
            return Err(StoreError::Driven { run: run.id.clone(), pid });
        }
        fs::remove_dir_all(&run.path)
            .map_err(|source| StoreError::NotWritable { path: run.path.display().to_string(), source })
    }

    fn runs_dir(&self) -> PathBuf {
        self.state_dir.join("runs")
    }
}
